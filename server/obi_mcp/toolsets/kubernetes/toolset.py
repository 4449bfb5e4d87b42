"""The toolset itself: which tools there are."""

from __future__ import annotations

from obi_mcp import __version__
from obi_mcp.config import Settings
from obi_mcp.toolsets.base import Toolset, ToolSpec
from obi_mcp.toolsets.kubernetes import change, deploy, fleet, generate, logs, metrics, preflight, status, verify
from obi_mcp.toolsets.kubernetes.plan import Plans


class KubernetesToolset(Toolset):
    """``obi_k8s_*``."""

    name = "kubernetes"
    version = __version__

    def __init__(self) -> None:
        self._plans = Plans()

    def tools(self, settings: Settings) -> tuple[ToolSpec, ...]:
        return (
            generate.daemonset_spec(settings),
            generate.sidecar_spec(settings),
            preflight.spec(),
            status.spec(),
            verify.spec(),
            fleet.spec(),
            logs.all_spec(),
            logs.one_spec(),
            metrics.spec(),
            deploy.deploy_spec(settings, self._plans),
            change.config_spec(self._plans),
            change.upgrade_spec(self._plans),
            deploy.undeploy_spec(self._plans),
        )
