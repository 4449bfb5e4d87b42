"""OBI's Kubernetes objects as typed Python: what is asked for becomes a set of objects, and the set becomes text.

What can be asked is there at once; what makes the objects is loaded when it is first used, since a server that only
lists its tools would wait for a hundred classes.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from obi_mcp.obi.manifests.install import Environment, Format, Install

if TYPE_CHECKING:
    from obi_mcp.obi.manifests.objects import installed_objects
    from obi_mcp.obi.manifests.render import render
    from obi_mcp.obi.manifests.sidecar import Sidecar, sidecar_patch

__all__ = ["Environment", "Format", "Install", "Sidecar", "installed_objects", "render", "sidecar_patch"]

_MADE_BY = {"installed_objects": "objects", "render": "render", "Sidecar": "sidecar", "sidecar_patch": "sidecar"}

if not TYPE_CHECKING:  # else every misspelled name would have a type

    def __getattr__(name: str) -> Any:
        if name not in _MADE_BY:
            raise AttributeError(f"{__name__} has no {name}")
        return getattr(import_module(f"{__name__}.{_MADE_BY[name]}"), name)
