"""OBI's Kubernetes objects as typed Python: what is asked for becomes a set of objects, and the set becomes text."""

from __future__ import annotations

from obi_mcp.obi.manifests.install import Environment, Install
from obi_mcp.obi.manifests.objects import installed_objects
from obi_mcp.obi.manifests.render import Format, render
from obi_mcp.obi.manifests.sidecar import Sidecar, sidecar_patch

__all__ = ["Environment", "Format", "Install", "Sidecar", "installed_objects", "render", "sidecar_patch"]
