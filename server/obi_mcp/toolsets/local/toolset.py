"""The tools of ``local`` as they are listed. Every word here is in every ``tools/list``: short, or left out."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

from obi_mcp import __version__
from obi_mcp.config import Settings
from obi_mcp.obi.log_lines import LEVELS
from obi_mcp.policy.model import Access
from obi_mcp.toolsets.base import SHARED, Schema, Services, ToolCall, ToolResult, Toolset, ToolSpec
from obi_mcp.toolsets.local.bounds import MAX_CONFIG, MOST_LINES

_TEXT = "string"


class LocalToolset(Toolset):
    """OBI on this host: status, start, stop, configuration, log."""

    name = "local"
    version = __version__

    def unavailable(self, settings: Settings) -> str | None:
        return None if sys.platform == "linux" else "OBI runs on Linux, and this host does not"

    def tools(self, settings: Settings) -> tuple[ToolSpec, ...]:
        return (_status(), _deploy(), _stop(), _get_config(), _update_config(), _validate(), _migrate(), _logs())


def _status() -> ToolSpec:
    return ToolSpec(
        name="obi_get_status",
        title="Status of OBI on this host",
        description="Whether OBI runs on this host: version, use, exporters, last errors. For a cluster use "
        "obi_k8s_status.",
        input_schema=_takes(),
        output_schema=_gives(state=_TEXT, pid="integer"),
        run=_later("looking", "run_status"),
        open_world=False,
    )


def _deploy() -> ToolSpec:
    return ToolSpec(
        name="obi_deploy_local",
        aliases=("obi_local_deploy",),
        title="Start OBI on this host",
        description="Checks kernel, rights and configuration, starts OBI and waits until it is ready. Give config, or "
        "what to look at. To change it later use obi_update_config.",
        input_schema=_takes(
            config=_config("OBI's configuration (YAML)"),
            config_path=_text(),
            open_port=_text("The application's: 8080,9000-9010", pattern=r"^[0-9]{1,5}([-,][0-9]{1,5})*$"),
            executable_name=_text("The application's", maxLength=200, pattern="^[A-Za-z0-9._/-]+$"),
            network={"type": "boolean", "description": "Network flows, too"},
            otlp_endpoint=_text("http://127.0.0.1:4318"),
            capture={"type": "boolean", "description": "Send to this server"},
            env=_ENV,
            timeout_s={"type": "number", "minimum": 1, "maximum": 120, "default": 20, "description": "Wait so long"},
            dry_run={"type": "boolean", "description": "Start nothing"},
        ),
        output_schema=_gives(pid="integer", ready="boolean", findings="array"),
        run=_later("deploy", "run_deploy"),
        confirmed=True,
        needs=Access.NON_DESTRUCTIVE,
        reaches=Access.NON_DESTRUCTIVE,
        open_world=False,
    )


def _stop() -> ToolSpec:
    return ToolSpec(
        name="obi_stop",
        aliases=("obi_local_stop",),
        title="Stop OBI on this host",
        description="Ends the OBI that this server started, or another shown to be OBI.",
        input_schema=_takes(
            pid={"type": "integer", "minimum": 2, "description": "Another OBI process"},
            timeout_s={"type": "number", "minimum": 0, "maximum": 60, "default": 12, "description": "Until KILL"},
        ),
        output_schema=_gives(pid="integer", how=_TEXT),
        run=_later("ending", "run_stop"),
        confirmed=True,
        needs=Access.FULL,
        reaches=Access.FULL,
        open_world=False,
    )


def _get_config() -> ToolSpec:
    return ToolSpec(
        name="obi_get_config",
        title="OBI's configuration in use",
        description="The configuration of OBI on this host: each value and its source.",
        input_schema=_takes(defaults={"type": "boolean", "description": "Defaults, too"}),
        output_schema=_gives(path=_TEXT, text=_TEXT, values="object"),
        run=_later("configuration", "run_get"),
        open_world=False,
    )


def _update_config() -> ToolSpec:
    return ToolSpec(
        name="obi_update_config",
        title="Change OBI's configuration",
        description="Merges a change into the configuration of OBI on this host and restarts it. A change that OBI "
        "does not take is undone.",
        input_schema=_takes(
            ("patch",),
            patch={"type": "object", "description": "JSON merge patch"},
            restart={"type": "string", "enum": ["auto", "never"], "default": "auto", "description": "If it runs"},
            dry_run={"type": "boolean", "description": "Write nothing"},
        ),
        output_schema=_gives(changed="boolean", diff=_TEXT, restarted="boolean"),
        run=_later("configuration", "run_update"),
        confirmed=True,
        needs=Access.NON_DESTRUCTIVE,
        reaches=Access.NON_DESTRUCTIVE,
        open_world=False,
    )


def _validate() -> ToolSpec:
    return ToolSpec(
        name="obi_validate_config",
        title="Validate OBI's configuration",
        description="Names what is wrong with a configuration of OBI: line, key, nearest key, what OBI would do. "
        "Without arguments: the one in use.",
        input_schema=_takes(
            config=_config("YAML, v1 or v2"),
            config_path=_text(),
            env=_ENV,
            program={"type": "string", "enum": ["obi", "beyla"], "description": "Default: the installed one"},
        ),
        output_schema=_gives(valid="boolean", findings="array"),
        run=_later("configuration", "run_validate"),
        open_world=False,
    )


def _migrate() -> ToolSpec:
    return ToolSpec(
        name="obi_migrate_config",
        title="Migrate OBI's configuration",
        description="Rewrites a configuration (v1 to v2, Beyla to OBI) and lists what cannot move.",
        input_schema=_takes(
            config=_config("YAML"),
            config_path=_text(),
            source={"type": "string", "enum": ["auto", "v1", "beyla", "ts-obi-mcp"], "description": "What it is"},
            env=_ENV,
        ),
        output_schema=_gives(text=_TEXT, unmoved="array"),
        run=_later("configuration", "run_migrate"),
        open_world=False,
    )


def _logs() -> ToolSpec:
    return ToolSpec(
        name="obi_get_logs",
        title="Log of OBI on this host",
        description="The last lines of OBI's log on this host as records, flows and spans in it.",
        input_schema=_takes(
            level={"type": "string", "enum": list(LEVELS), "description": SHARED["level"]},
            kind={"type": "string", "enum": ["log", "flow", "span", "other"], "description": "Only these"},
            since=_text("Like 15m, or a time"),
            grep=_text(SHARED["grep"], minLength=1, maxLength=200),
            tail={"type": "integer", "minimum": 1, "maximum": MOST_LINES, "default": 50, "description": "Lines"},
        ),
        output_schema=_gives(records="array", more="boolean"),
        run=_later("looking", "run_logs"),
        open_world=False,
    )


def _later(module: str, function: str) -> Callable[[Services, ToolCall], Awaitable[ToolResult]]:
    """What the tool does, imported when it is first called: listing tools stays cheap."""

    async def run(services: Services, call: ToolCall) -> ToolResult:
        result: ToolResult = await getattr(import_module(f"obi_mcp.toolsets.local.{module}"), function)(services, call)
        return result

    return run


# --- schemas ---

_ENV: Schema = {"type": "object"}


def _takes(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    made: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**made, "required": list(required)} if required else made


def _gives(**types: str) -> Schema:
    """The fields that an answer has at least when all went well; a refusal has code, message and hint instead."""
    return {"type": "object", "properties": {name: {"type": kind} for name, kind in types.items()}}


def _text(description: str = "", **words: Any) -> Schema:
    said = {"description": description} if description else {}
    return {"type": "string", **said, **({"maxLength": 4096} | words)}


def _config(description: str) -> Schema:
    return {"type": "string", "description": description, "maxLength": MAX_CONFIG}
