"""What may be written to a cluster: every object judged by a closed schema (``policy/manifest/*.yaml``)."""

from __future__ import annotations

from obi_mcp.policy.manifest.change import judge_before, judge_change
from obi_mcp.policy.manifest.findings import Judgement, Mode, Need
from obi_mcp.policy.manifest.judge import ENVIRONMENT_FILE, SCHEMA_FILES, ManifestPolicy
from obi_mcp.policy.manifest.sidecar import judge_sidecar

__all__ = [
    "ENVIRONMENT_FILE",
    "SCHEMA_FILES",
    "Judgement",
    "ManifestPolicy",
    "Mode",
    "Need",
    "judge_before",
    "judge_change",
    "judge_sidecar",
]
