"""The toolset ``docker``: OBI in a container of a Docker engine. Off unless it is named."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Awaitable, Callable
from typing import Any

from obi_mcp import __version__
from obi_mcp.config import Settings
from obi_mcp.containers.address import engine_address
from obi_mcp.containers.model import DEFAULT_MEMORY_BYTES
from obi_mcp.errors import ConfigError
from obi_mcp.obi.log_lines import LEVELS
from obi_mcp.policy.model import Access
from obi_mcp.toolsets.base import SHARED, Schema, Services, ToolCall, ToolResult, Toolset, ToolSpec

MAX_CONFIG = 262_144
MAX_LINES = 1_000
_MIB = 1024 * 1024
_TEXT: Schema = {"type": "string", "minLength": 1, "maxLength": 512}
_NAME: Schema = {"type": "string", "maxLength": 64, "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]+$"}


class DockerToolset(Toolset):
    """``obi_docker_*``."""

    name = "docker"
    version = __version__

    def unavailable(self, settings: Settings) -> str | None:
        if importlib.util.find_spec("docker") is None:
            return "the package docker is not installed: pip install docker"
        try:
            engine_address(settings, os.environ)
        except ConfigError as error:
            return f"{error.message}; {error.hint}"
        return None

    def tools(self, settings: Settings) -> tuple[ToolSpec, ...]:
        return (_deploy(), _status(), _logs(), _stop(), _compose())


def _container() -> dict[str, Schema]:
    """What both the container and the Compose file are made from."""
    return {
        "config": {"type": "string", "maxLength": MAX_CONFIG, "description": "OBI's YAML."},
        "open_port": {**_TEXT, "description": "Without config: ports to watch."},
        "network": {"type": "boolean", "description": "Without config: network flows."},
        "otlp_endpoint": {**_TEXT, "description": "URL."},
        "image": {**_TEXT, "description": "Default: OBI's own."},
        "name": {**_NAME, "default": "obi"},
        "env": {"type": "object", "description": "OBI's variables."},
        "privileged": {"type": "boolean", "default": False},
        "capabilities": {"type": "array", "description": "Further ones, without CAP_."},
        "mounts": {"type": "array", "description": "Further host paths, read-only."},
        "memory_mib": {"type": "integer", "minimum": 0, "maximum": 16_384, "default": DEFAULT_MEMORY_BYTES // _MIB},
        "restart": {"type": "string", "enum": ["no", "on-failure", "unless-stopped"], "default": "unless-stopped"},
    }


def _deploy() -> ToolSpec:
    return ToolSpec(
        name="obi_docker_deploy",
        title="Run OBI in a container",
        description=(
            "Makes and starts OBI's container on the Docker engine, with the least capabilities for its "
            "configuration, and waits until OBI is ready or says why not. "
            "Use obi_deploy_local without Docker, obi_docker_stop before a second try."
        ),
        input_schema=_object(
            {
                **_container(),
                "replace": {
                    "type": "boolean",
                    "default": False,
                    "description": "The one of that name, if this comes up.",
                },
                "capture": {"type": "boolean", "default": False, "description": "Send to this server, for analysis."},
                "dry_run": {"type": "boolean", "default": False},
            }
        ),
        output_schema=_result(("plan",), container={"type": "object"}, ready={"type": "boolean"}),
        run=_later("deploy"),
        confirmed=True,
        needs=Access.NON_DESTRUCTIVE,
        reaches=Access.NON_DESTRUCTIVE,
    )


def _status() -> ToolSpec:
    return ToolSpec(
        name="obi_docker_status",
        title="OBI's containers",
        description=(
            "Shows OBI's containers on the Docker engine: state, restarts, how it ended and why, processor and memory "
            "against the limit, image and digest. Use obi_docker_logs for what it says."
        ),
        input_schema=_object({}),
        output_schema=_result(("containers",), engine={"type": "object"}, foreign={"type": "integer"}),
        run=_later("status"),
    )


def _logs() -> ToolSpec:
    return ToolSpec(
        name="obi_docker_logs",
        title="Log of OBI's container",
        description=(
            "Gives the last records of OBI's container: log lines, flows and spans, parsed and redacted. "
            "Use obi_docker_status for its state."
        ),
        input_schema=_object(
            {
                "name": {**_NAME, "description": "Default: the only one."},
                "tail": {"type": "integer", "minimum": 1, "maximum": MAX_LINES, "default": 50},
                "level": {"type": "string", "enum": list(LEVELS), "description": SHARED["level"]},
                "kind": {"type": "string", "enum": ["log", "flow", "span", "other"]},
                "grep": {**_TEXT, "description": SHARED["grep"]},
                "since": {**_TEXT, "description": "90s, 15m, 2h, or a time."},
            }
        ),
        output_schema=_result(("records",), container={"type": "string"}, more={"type": "boolean"}),
        run=_later("logs"),
    )


def _stop() -> ToolSpec:
    return ToolSpec(
        name="obi_docker_stop",
        title="Stop OBI's container",
        description="Stops OBI's container in good order and removes it, with its log and configuration.",
        input_schema=_object(
            {
                "name": {**_NAME, "description": "Default: the only one."},
                "remove": {"type": "boolean", "default": True},
            }
        ),
        output_schema=_result(("name",), removed={"type": "boolean"}, exit_code={"type": "integer"}),
        run=_later("stop"),
        confirmed=True,
        needs=Access.FULL,
        reaches=Access.FULL,
    )


def _compose() -> ToolSpec:
    return ToolSpec(
        name="obi_docker_generate_compose",
        aliases=("obi_docker_compose",),
        title="Write a Compose file for OBI",
        description=(
            "Writes a Docker Compose file with OBI's container and its configuration, judged by the policy; starts "
            "nothing. Use obi_docker_deploy to run it now."
        ),
        input_schema=_object(_container()),
        output_schema=_result(("compose",), notes={"type": "array"}),
        run=_later("generate_compose"),
        open_world=False,
    )


def _later(name: str) -> Callable[[Services, ToolCall], Awaitable[ToolResult]]:
    """The function of that name in ``docker_tools``, imported when it is first called: listing tools stays cheap."""

    async def run(services: Services, call: ToolCall) -> ToolResult:
        from obi_mcp.toolsets import docker_tools

        result: ToolResult = await getattr(docker_tools, name)(services, call)
        return result

    return run


def _object(properties: dict[str, Any]) -> Schema:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _result(required: tuple[str, ...], **more: Schema) -> Schema:
    kinds = {"plan": "object", "containers": "array", "records": "array", "name": "string", "compose": "string"}
    properties = {**{name: {"type": kinds[name]} for name in required}, **more, "code": {"type": "string"}}
    return {
        "type": "object",
        "properties": properties,
        "anyOf": [{"required": list(required)}, {"required": ["code", "message", "hint"]}],
    }
