"""Every toolset there is, each imported when it is switched on. To add one: write its module, add it to this table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module

from obi_mcp.config import Settings
from obi_mcp.errors import ConfigError, InvalidArgument
from obi_mcp.toolsets.base import Toolset, ToolSpec

ALWAYS_ON = "command"
ALL = "all"

TOOLSETS = {
    "command": ("obi_mcp.toolsets.command", "CommandToolset"),
    "local": ("obi_mcp.toolsets.local.toolset", "LocalToolset"),
    "kubernetes": ("obi_mcp.toolsets.kubernetes.toolset", "KubernetesToolset"),
    "helm": ("obi_mcp.toolsets.helm.toolset", "HelmToolset"),
    "docker": ("obi_mcp.toolsets.docker", "DockerToolset"),
}
"""Module and class by name, in the order in which tools are listed."""


def all_toolsets(names: Iterable[str] = TOOLSETS) -> tuple[Toolset, ...]:
    """The toolsets of these names, in the registry's order; by default every one."""
    wanted = set(names)
    return tuple(_toolset(module, kind) for name, (module, kind) in TOOLSETS.items() if name in wanted)


def _toolset(module: str, kind: str) -> Toolset:
    made: Toolset = getattr(import_module(module), kind)()
    return made


def enabled_toolsets(settings: Settings) -> tuple[Toolset, ...]:
    """Those that ``settings.toolsets`` names, and the one that is always on, without those that are unavailable here.

    Raises: ConfigError for a name that is none.
    """
    return tuple(toolset for toolset in _wanted(settings) if not toolset.unavailable(settings))


def left_out(settings: Settings) -> Mapping[str, str]:
    """Toolsets that the settings name and that cannot be offered here, each with the reason. Raises: ConfigError."""
    reasons = ((toolset.name, toolset.unavailable(settings)) for toolset in _wanted(settings))
    return {name: reason for name, reason in reasons if reason}


def _wanted(settings: Settings) -> tuple[Toolset, ...]:
    if unknown := sorted(set(settings.toolsets) - TOOLSETS.keys() - {ALL}):
        raise ConfigError(
            f"there is no toolset {', '.join(unknown)}", f"use some of {', '.join(sorted(TOOLSETS))}, or {ALL}"
        )
    return all_toolsets(TOOLSETS if ALL in settings.toolsets else {*settings.toolsets, ALWAYS_ON})


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
    return by_name(listed_tools(settings))


def by_name(specs: Iterable[ToolSpec]) -> dict[str, ToolSpec]:
    """The tools by every name under which they can be called."""
    return {name: spec for spec in specs for name in (spec.name, *spec.aliases)}


def switched_off(name: str, settings: Settings) -> InvalidArgument | None:
    """Why a tool that there is cannot be called with these settings; None where there is no tool of that name."""
    for toolset in all_toolsets():
        for spec in toolset.tools(settings):
            if name in (spec.name, *spec.aliases):
                return _why_off(spec, toolset, settings)
    return None


def _why_off(spec: ToolSpec, toolset: Toolset, settings: Settings) -> InvalidArgument:
    name = toolset.name
    off = name not in settings.toolsets and ALL not in settings.toolsets and name != ALWAYS_ON
    switched = f"--toolsets {','.join(dict.fromkeys((*settings.toolsets, name)))}"
    if not off and (reason := toolset.unavailable(settings)):
        message = f"{spec.name} is of the toolset {name}, which cannot be offered here: {reason}"
        return InvalidArgument(message, "obi-mcp doctor says which toolsets are left out, and why")
    if spec.needs > settings.access:
        also = f", and the toolset {name}, which is switched off" if off else ""
        return InvalidArgument(
            f"{spec.name} needs the access level {spec.needs.label}; this is {settings.access.label}{also}",
            f"--access {spec.needs.label}{f' {switched}' if off else ''}, or the same in the configuration",
        )
    return InvalidArgument(f"{spec.name} is of the toolset {name}, which is switched off", switched)
