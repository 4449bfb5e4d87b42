"""The toolset itself: which tools there are."""

from __future__ import annotations

from obi_mcp import __version__
from obi_mcp.config import Settings
from obi_mcp.toolsets.base import Services, ToolSpec
from obi_mcp.toolsets.kubernetes import generate, logs, metrics, preflight, status, verify


class KubernetesToolset:
    """``obi_k8s_*``."""

    name = "kubernetes"
    version = __version__

    def unavailable(self, settings: Settings) -> str | None:
        return None

    def tools(self, settings: Settings) -> tuple[ToolSpec, ...]:
        return (
            generate.daemonset_spec(settings),
            generate.sidecar_spec(settings),
            preflight.spec(),
            status.spec(),
            verify.spec(),
            logs.all_spec(),
            logs.one_spec(),
            metrics.spec(),
        )

    async def initialize(self, services: Services) -> None:
        return None

    async def shutdown(self) -> None:
        return None
