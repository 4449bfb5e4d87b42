"""What may be written to a cluster: every object judged by a closed schema (``policy/manifest/*.yaml``)."""

from __future__ import annotations

from obi_mcp.policy.manifest.findings import Judgement, Mode, Need
from obi_mcp.policy.manifest.judge import ENVIRONMENT_FILE, SCHEMA_FILES, ManifestPolicy

__all__ = ["ENVIRONMENT_FILE", "SCHEMA_FILES", "Judgement", "ManifestPolicy", "Mode", "Need"]
