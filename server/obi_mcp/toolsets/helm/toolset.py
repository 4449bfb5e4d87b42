"""The toolset itself: which tools there are."""

from __future__ import annotations

from obi_mcp import __version__
from obi_mcp.config import Settings
from obi_mcp.toolsets.base import Toolset, ToolSpec
from obi_mcp.toolsets.helm import change, generate, looking
from obi_mcp.toolsets.kubernetes.plan import Plans


class HelmToolset(Toolset):
    """``obi_helm_*``."""

    name = "helm"
    version = __version__

    def __init__(self) -> None:
        self._plans = Plans()

    def tools(self, settings: Settings) -> tuple[ToolSpec, ...]:
        return (
            generate.chart_spec(settings),
            generate.values_spec(settings),
            generate.template_spec(settings),
            looking.status_spec(),
            looking.history_spec(),
            change.install_spec(self._plans),
            change.upgrade_spec(self._plans),
            change.rollback_spec(self._plans),
            change.uninstall_spec(self._plans),
        )
