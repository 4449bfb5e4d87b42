"""OBI on this host: what the tools of the toolset ``local`` give without arguments."""

from __future__ import annotations

import json
import os
from pathlib import Path

from obi_mcp.agent.logs import Wanted
from obi_mcp.agent.proof import lives
from obi_mcp.agent.record import CONFIG, LOG, read_record
from obi_mcp.resources.spec import READ, ResourceSpec
from obi_mcp.toolsets.base import Services, ToolCall
from obi_mcp.toolsets.local.configuration import config_result
from obi_mcp.toolsets.local.desk import Desk
from obi_mcp.toolsets.local.looking import logs, status

_LINES = 100


def _desk(services: Services, caller: str) -> Desk:
    return Desk.of(services, ToolCall({}, caller), READ)


async def _config(services: Services, caller: str) -> str:
    desk = _desk(services, caller)
    text = await desk.own_config()
    if text is None:
        return json.dumps({"state": "absent"})
    result = await config_result(desk, text, all_values=False)
    return json.dumps(result.structured)


async def _health(services: Services, caller: str) -> str:
    desk = _desk(services, caller)
    return json.dumps((await desk.read("status", lambda: status(desk))).structured)


async def _logs(services: Services, caller: str) -> str:
    desk = _desk(services, caller)
    return json.dumps((await desk.read("logs", lambda: logs(desk, Wanted(_LINES)))).structured)


def _config_stamp(services: Services) -> object:
    return _file_stamp(_directory(services) / CONFIG)


def _health_stamp(services: Services) -> object:
    record = read_record(_directory(services))
    if record is None:
        return None
    return (record.phase, record.agent, record.restarts, lives(record.agent), lives(record.keeper))


def _log_stamp(services: Services) -> object:
    return _file_stamp(_directory(services) / LOG)


def _directory(services: Services) -> Path:
    return Path(services.effects.host.directory)


def _file_stamp(path: Path) -> object:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_ino, status.st_size, status.st_mtime_ns)


SPECS = (
    ResourceSpec(
        "obi://config/current",
        "OBI's configuration on this host",
        "Each value and its source; secrets masked.",
        _config,
        _config_stamp,
    ),
    ResourceSpec("obi://status/health", "OBI on this host", "What obi_get_status gives.", _health, _health_stamp),
    ResourceSpec("obi://logs/recent", "OBI's last log lines", "What obi_get_logs gives; untrusted.", _logs, _log_stamp),
)
