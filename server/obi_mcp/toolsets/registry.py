"""Every toolset there is. To add one: write its module, add it to this list."""

from __future__ import annotations

from obi_mcp.config import Settings
from obi_mcp.errors import ConfigError
from obi_mcp.toolsets.base import Toolset, ToolSpec
from obi_mcp.toolsets.command import CommandToolset
from obi_mcp.toolsets.docker import DockerToolset
from obi_mcp.toolsets.kubernetes.toolset import KubernetesToolset
from obi_mcp.toolsets.local.toolset import LocalToolset

ALWAYS_ON = "command"
ALL = "all"


def all_toolsets() -> tuple[Toolset, ...]:
    """The registry, in the order in which tools are listed."""
    return (
        CommandToolset(),
        LocalToolset(),
        KubernetesToolset(),
        DockerToolset(),
    )


def enabled_toolsets(settings: Settings) -> tuple[Toolset, ...]:
    """Those that ``settings.toolsets`` names, and the one that is always on, without those that are unavailable here.

    Raises: ConfigError for a name that is none.
    """
    known = all_toolsets()
    names = {toolset.name for toolset in known}
    if unknown := sorted(set(settings.toolsets) - names - {ALL}):
        raise ConfigError(
            f"there is no toolset {', '.join(unknown)}", f"use some of {', '.join(sorted(names))}, or {ALL}"
        )
    wanted = names if ALL in settings.toolsets else {*settings.toolsets, ALWAYS_ON}
    return tuple(toolset for toolset in known if toolset.name in wanted and not toolset.unavailable(settings))


def listed_tools(settings: Settings) -> tuple[ToolSpec, ...]:
    """The tools that a server with these settings offers: enabled, available, and within its access level."""
    return tuple(
        spec
        for toolset in enabled_toolsets(settings)
        for spec in toolset.tools(settings)
        if spec.needs <= settings.access
    )


def callable_tools(settings: Settings) -> dict[str, ToolSpec]:
    """The listed tools by every name under which they can be called."""
    return {name: spec for spec in listed_tools(settings) for name in (spec.name, *spec.aliases)}
