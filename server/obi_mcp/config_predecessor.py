"""A configuration file of the TypeScript obi-mcp where this server's is expected: taken as far as it goes, and said.

Its server read none. What its users have: the form that its source describes (``toolsets: {local: {enabled: true}}``),
its entry in an MCP client's file (``mcpServers``), and OBI's configuration in a form of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from obi_mcp.config_values import Given, Origin
from obi_mcp.config_yaml import Entry, read_mapping
from obi_mcp.errors import ConfigError

_OBIS = frozenset({"network", "export", "attributes"})


@dataclass(frozen=True, slots=True)
class Taken:
    """The settings that such a file gives, and one sentence for each thing that moved or did not."""

    given: Mapping[str, Given]
    notices: tuple[str, ...]


def taken(text: str, path: str, entries: Sequence[Entry]) -> Taken | None:
    """What such a file says in today's settings; None for any other file.

    Raises: ConfigError for OBI's own configuration, which is no server's.
    """
    keys = {entry.key: entry.value for entry in entries}
    if "export" in keys and set(keys) <= _OBIS:
        raise ConfigError(
            f"{path} is OBI's configuration as the TypeScript obi-mcp wrote it, and no server's",
            f"`obi-mcp config migrate {path}` writes it in OBI's own form, for config_path of obi_deploy_local",
        )
    if "mcpServers" not in keys and not isinstance(keys.get("toolsets"), Mapping):
        return None
    from obi_mcp.obi.migration import migrate

    moved = migrate(text, source="ts-obi-mcp")
    if moved.problem is not None:
        raise ConfigError(f"{path}: {moved.problem}", "docs/migration.md has the way to this server")
    settings = _of_client(moved.text) if "mcpServers" in keys else _of_server(moved.text, path)
    origin = Origin("file", path)
    notices = [
        f"{path} is a file of the TypeScript obi-mcp; `obi-mcp config migrate {path}` writes it in today's form",
        *(f"taken: {key} is {json.dumps(value)}" for key, value in settings.items()),
        *(f"left out: {one.key}{f' (line {one.line})' if one.line else ''}: {one.reason}" for one in moved.unmoved),
        "it had no access levels: access is what --access, OBI_MCP_ACCESS or a file of today's form says",
    ]
    return Taken({key: Given(value, origin, is_text=False) for key, value in settings.items()}, tuple(notices))


def _of_server(text: str, path: str) -> dict[str, Any]:
    return {entry.key: entry.value for entry in read_mapping(text, path, sections=frozenset())}


def _of_client(text: str) -> dict[str, Any]:
    """The settings in the arguments and variables of the first entry that is this server's."""
    entry = next(iter(json.loads(text)["mcpServers"].values()), None)
    if entry is None:
        return {}
    settings: dict[str, Any] = {"toolsets": entry["args"][-1].split(",")}
    if level := entry["env"].get("OBI_MCP_LOG_LEVEL"):
        settings["log_level"] = level
    return settings
