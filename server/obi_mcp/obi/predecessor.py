"""Configurations of the TypeScript obi-mcp: its own form of OBI's configuration, its toolsets, and its client entry.

Its server knew three sections (``network``, ``attributes.kubernetes``, ``export.otlp``), wrote them into the file that
OBI reads, and dropped the rest; OBI itself reads neither ``export`` nor ``network.allowed_attributes``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from obi_mcp.obi.config_text import read_config
from obi_mcp.obi.edit import merge_patch
from obi_mcp.obi.keys import known_keys
from obi_mcp.obi.migrated import Migration, Unmoved
from obi_mcp.obi.renaming import migrate_environment

_SECTIONS = frozenset({"network", "attributes", "export"})
# Its toolset for clusters had helm's tools, too.
_TOOLSETS = {"local": ("local",), "kubernetes": ("kubernetes", "helm"), "docker": ("docker",)}
_LEVELS = {"debug": "debug", "info": "info", "warn": "warning", "warning": "warning", "error": "error"}
_FLOWS = "obi_network_flow_bytes"


def is_predecessors(data: Mapping[str, Any]) -> bool:
    """Whether a text is one of its three."""
    if "mcpServers" in data or isinstance(data.get("toolsets"), Mapping):
        return True
    network = data.get("network")
    own = "export" in data or (isinstance(network, Mapping) and "allowed_attributes" in network)
    return own and set(data) <= _SECTIONS


def migrate_predecessor(text: str, environment: Mapping[str, str]) -> Migration:
    """Its OBI configuration as OBI's v1, its other two as this server's."""
    read = read_config(text)
    data = read.data or {}
    lines = {path: place[0] for path, place in read.places.items()}
    variables, left = migrate_environment(environment)
    if "mcpServers" in data:
        made, unmoved = _client(data, lines)
        return Migration(made, (*unmoved, *left), (), None, "ts-obi-mcp", "obi-mcp", variables)
    if "toolsets" in data:
        made, unmoved = _server(data, lines)
        return Migration(made, (*unmoved, *left), (), None, "ts-obi-mcp", "obi-mcp", variables)
    patch, notes = _patch(data)
    unmoved = _dropped(data, lines, patch)
    new = merge_patch(text, patch).text
    return Migration(new, (*unmoved, *left), tuple(notes), None, "ts-obi-mcp", "obi-v1", variables)


def _patch(data: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """What its sections are in OBI's."""
    patch: dict[str, Any] = {}
    notes: list[str] = []
    network = data.get("network")
    if isinstance(network, Mapping):
        patch["network"] = {"enable": network.get("enable", True)}
        if "allowed_attributes" in network:
            patch["network"]["allowed_attributes"] = None
            patch["attributes"] = {"select": {_FLOWS: {"include": network["allowed_attributes"]}}}
            notes.append(f"network.allowed_attributes is attributes.select.{_FLOWS}.include now")
    export = data.get("export")
    if "export" in data:
        patch["export"] = None
    otlp = export.get("otlp") if isinstance(export, Mapping) else None
    if isinstance(otlp, Mapping) and otlp.get("endpoint"):
        # Its own default was gRPC; OBI's goes by the port.
        to = {"endpoint": otlp["endpoint"], "protocol": otlp.get("protocol", "grpc")}
        patch |= {"otel_metrics_export": to, "otel_traces_export": dict(to)}
        notes.append("export.otlp is otel_metrics_export and otel_traces_export now: OBI never read it")
    return patch, notes


def _dropped(data: Mapping[str, Any], lines: Mapping[Any, int], patch: dict[str, Any]) -> tuple[Unmoved, ...]:
    """What neither its server nor OBI reads: taken out of the text, and listed."""
    found = []
    known = {"network": {"enable", "allowed_attributes", "cidrs"}, "attributes": {"kubernetes"}, "export": {"otlp"}}
    for section, keys in known.items():
        below = data.get(section)
        for key in below if isinstance(below, Mapping) else ():
            if key in keys or known_keys().of((section, key)) is not None:
                continue
            reason = "neither the TypeScript server nor OBI reads it"
            found.append(Unmoved(f"{section}.{key}", reason, lines.get((section, key))))
            if section != "export":
                patch.setdefault(section, {})[key] = None
    otlp = data["export"].get("otlp") if isinstance(data.get("export"), Mapping) else None
    for key in otlp if isinstance(otlp, Mapping) else ():
        if key not in ("endpoint", "protocol"):
            reason = "OBI takes it from OTEL_EXPORTER_OTLP_ variables" if key == "headers" else "it was never read"
            found.append(Unmoved(f"export.otlp.{key}", reason, lines.get(("export", "otlp", key))))
    return tuple(found)


def _server(data: Mapping[str, Any], lines: Mapping[Any, int]) -> tuple[str, tuple[Unmoved, ...]]:
    names: list[str] = []
    unmoved: list[Unmoved] = []
    for name, entry in data["toolsets"].items():
        path: tuple[str, ...] = ("toolsets", str(name))
        enabled = not isinstance(entry, Mapping) or entry.get("enabled", True)
        if name not in _TOOLSETS:
            unmoved.append(Unmoved(".".join(path), "there is no such toolset here", lines.get(path)))
        elif enabled:
            names += _TOOLSETS[name]
        if isinstance(entry, Mapping) and entry.get("options"):
            reason = "its options were never read; see docs/configuration.md for today's settings"
            unmoved.append(Unmoved(f"toolsets.{name}.options", reason, lines.get((*path, "options"))))
    unmoved += [Unmoved(str(key), "it was never read", lines.get((str(key),))) for key in data if key != "toolsets"]
    return f"toolsets: [{', '.join(['command', *names])}]\n", tuple(unmoved)


def _client(data: Mapping[str, Any], lines: Mapping[Any, int]) -> tuple[str, tuple[Unmoved, ...]]:
    """The entry in an MCP client's file: the command, the toolsets, the log level."""
    unmoved: list[Unmoved] = []
    servers: dict[str, Any] = {}
    for name, entry in data["mcpServers"].items():
        path = ("mcpServers", str(name))
        if not isinstance(entry, Mapping) or "obi" not in f"{name} {entry.get('command')} {entry.get('args')}".lower():
            unmoved.append(
                Unmoved(".".join(path), "it is the entry of another server: leave it as it is", lines.get(path))
            )
            continue
        given = entry.get("env")
        env = {}
        for variable, value in given.items() if isinstance(given, Mapping) else ():
            if variable == "LOG_LEVEL" and str(value).lower() in _LEVELS:
                env["OBI_MCP_LOG_LEVEL"] = _LEVELS[str(value).lower()]
            else:
                unmoved.append(
                    Unmoved(
                        f"mcpServers.{name}.env.{variable}",
                        "nothing reads it here",
                        lines.get((*path, "env", variable)),
                    )
                )
        servers[str(name)] = {
            "command": "obi-mcp",
            "args": ["serve", "--toolsets", "command,local,kubernetes,helm,docker"],
            "env": env,
        }
    return json.dumps({"mcpServers": servers}, indent=2) + "\n", tuple(unmoved)
