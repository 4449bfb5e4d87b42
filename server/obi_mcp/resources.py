"""Resources: what a client may read and subscribe to besides calling tools; each by the road that the tools take.

Both protocol generations are served: the older one subscribes by ``resources/subscribe`` and is told on its session,
the newer one listens to a bus that the SDK serves. Who looks is one task, which runs only while somebody is subscribed
and compares stamps (times and sizes of the agent's files, the last line of the audit log): a change becomes an update.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.server.mcpserver import MCPServer
from mcp.server.subscriptions import InMemorySubscriptionBus, ResourceUpdated
from mcp_types import EmptyResult, SubscribeRequestParams, UnsubscribeRequestParams
from mcp_types import Resource as McpResource

from obi_mcp.agent.logs import Wanted
from obi_mcp.agent.proof import lives
from obi_mcp.agent.record import CONFIG, LOG, read_record
from obi_mcp.audit import AuditEntry
from obi_mcp.errors import NotFound, ObiMcpError
from obi_mcp.policy.explain import as_json, effect_as_json, rules_at
from obi_mcp.toolsets.base import Services, ToolCall
from obi_mcp.toolsets.local.configuration import config_result
from obi_mcp.toolsets.local.desk import Desk
from obi_mcp.toolsets.local.looking import logs, status
from obi_mcp.toolsets.registry import enabled_toolsets
from obi_mcp.toolsets.run import plain_text

TOOL = "resources/read"
LOOK_EVERY_S = 0.5
_JSON = "application/json"
_LINES = 100


@dataclass(frozen=True, slots=True)
class ResourceSpec:
    """One resource. ``read`` gives its text; ``stamp`` changes when the text would. ``toolset``: needed for it."""

    uri: str
    title: str
    description: str
    read: Callable[[Services, str], Awaitable[str]]
    stamp: Callable[[Services], object]
    toolset: str = ""
    mime_type: str = _JSON

    def public(self) -> McpResource:
        """The resource as ``resources/list`` shows it."""
        name = self.uri.removeprefix("obi://")
        return McpResource(
            uri=self.uri, name=name, title=self.title, description=self.description, mime_type=self.mime_type
        )


def _desk(services: Services, caller: str) -> Desk:
    return Desk.of(services, ToolCall({}, caller), TOOL)


async def _config(services: Services, caller: str) -> str:
    desk = _desk(services, caller)
    text = await desk.own_config()
    if text is None:
        return json.dumps({"state": "absent"})
    result = await asyncio.to_thread(config_result, desk, text, all_values=False)
    return json.dumps(result.structured)


async def _health(services: Services, caller: str) -> str:
    desk = _desk(services, caller)
    return json.dumps((await desk.read("status", lambda: status(desk))).structured)


async def _logs(services: Services, caller: str) -> str:
    desk = _desk(services, caller)
    return json.dumps((await desk.read("logs", lambda: logs(desk, Wanted(_LINES)))).structured)


async def _rules(services: Services, caller: str) -> str:
    policy, access = services.effects.policy, services.settings.access
    services.audit.record(AuditEntry(TOOL, "obi://policy/rules", caller))
    commands = [as_json(policy, rule) for rule in rules_at(policy, access)]
    effects = [effect_as_json(rule) for rule in policy.effects.rules if rule.access <= access]
    return json.dumps({"access": access.label, "rules": [*commands, *effects]})


async def _audit(services: Services, caller: str) -> str:
    return "".join(f"{line}\n" for line in services.audit.recent)


def _config_stamp(services: Services) -> object:
    return _file_stamp(_directory(services) / CONFIG)


def _health_stamp(services: Services) -> object:
    record = read_record(_directory(services))
    if record is None:
        return None
    return (record.phase, record.agent, record.restarts, lives(record.agent), lives(record.keeper))


def _log_stamp(services: Services) -> object:
    return _file_stamp(_directory(services) / LOG)


def _audit_stamp(services: Services) -> object:
    return services.audit.recent[-1:]


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
        "local",
    ),
    ResourceSpec(
        "obi://status/health", "OBI on this host", "What obi_get_status gives.", _health, _health_stamp, "local"
    ),
    ResourceSpec(
        "obi://logs/recent", "OBI's last log lines", "What obi_get_logs gives; untrusted.", _logs, _log_stamp, "local"
    ),
    ResourceSpec(
        "obi://policy/rules", "What this server allows", "The rules at its access level.", _rules, lambda _: None
    ),
    ResourceSpec(
        "obi://audit/recent",
        "The last calls",
        "The last lines of the audit log, since this server started.",
        _audit,
        _audit_stamp,
        mime_type="application/x-ndjson",
    ),
)


def resource_specs(services: Services) -> Mapping[str, ResourceSpec]:
    """The resources that this server offers, by address."""
    names = {toolset.name for toolset in enabled_toolsets(services.settings)}
    return {spec.uri: spec for spec in SPECS if not spec.toolset or spec.toolset in names}


class Bus(InMemorySubscriptionBus):
    """The newer generation's listeners; says when the first comes, and how many there are."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.woken: Callable[[], None] = lambda: None

    def subscribe(self, listener: Callable[[Any], None]) -> Callable[[], None]:
        """Registers a listener."""
        leave = super().subscribe(listener)
        self.count += 1
        self.woken()

        def left() -> None:
            nonlocal leave
            leave()
            if leave is not _nothing:
                self.count -= 1
                leave = _nothing

        return left


def _nothing() -> None:
    return None


class Resources:
    """The resources of one server, and who wants to hear of their changes."""

    def __init__(self, services: Services, bus: Bus) -> None:
        self._services = services
        self._bus = bus
        self._specs = resource_specs(services)
        self._sessions: dict[tuple[int, str], Any] = {}
        self._watching: asyncio.Task[None] | None = None
        bus.woken = self._watch

    def listed(self) -> list[McpResource]:
        """For ``resources/list``."""
        return [spec.public() for spec in self._specs.values()]

    async def read(self, uri: str, caller: str) -> tuple[str, str]:
        """The text of a resource and its type. Raises: NotFound for an address that is none; ObiMcpError."""
        spec = self._specs.get(uri)
        if spec is None:
            raise NotFound(uri[:200], None, f"resources: {', '.join(self._specs)}")
        try:
            return plain_text(await spec.read(self._services, caller)), spec.mime_type
        except ObiMcpError as error:
            if not error.audited:
                self._services.audit.record(AuditEntry(TOOL, uri, caller, error=error.code))
            raise

    # --- subscriptions ---

    def serve_subscriptions(self, server: MCPServer[Any]) -> None:
        """Has the older generation's two methods served.

        The SDK's high-level server has no public way for it: this is the one place that uses its private attribute,
        and ``tests/unit/test_resources.py`` fails when that goes.
        """
        low: Server[Any] = server._lowlevel_server
        low.add_request_handler("resources/subscribe", SubscribeRequestParams, self._subscribe)
        low.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, self._unsubscribe)

    async def _subscribe(self, context: ServerRequestContext[Any], params: SubscribeRequestParams) -> EmptyResult:
        uri = str(params.uri)
        if uri in self._specs:
            self._sessions[id(context.session), uri] = context.session
            self._watch()
        return EmptyResult()

    async def _unsubscribe(self, context: ServerRequestContext[Any], params: UnsubscribeRequestParams) -> EmptyResult:
        self._sessions.pop((id(context.session), str(params.uri)), None)
        return EmptyResult()

    def _watch(self) -> None:
        if self._watching is None or self._watching.done():
            # At once, so that no change between the subscription and the first look is lost: a few files are looked at.
            stamps = self._stamps()
            self._watching = asyncio.get_running_loop().create_task(self._look(stamps))

    async def _look(self, stamps: dict[str, object]) -> None:
        while self._sessions or self._bus.count:
            await asyncio.sleep(LOOK_EVERY_S)
            now = await asyncio.to_thread(self._stamps)
            for uri in self._specs:
                if now[uri] != stamps[uri]:
                    await self._tell(uri)
            stamps = now

    def _stamps(self) -> dict[str, object]:
        return {uri: spec.stamp(self._services) for uri, spec in self._specs.items()}

    async def _tell(self, uri: str) -> None:
        for key, session in list(self._sessions.items()):
            if key[1] == uri:
                try:
                    await session.send_resource_updated(uri)
                except Exception:  # the client has gone, in whatever way its transport says that
                    self._sessions.pop(key, None)
        with contextlib.suppress(Exception):
            await self._bus.publish(ResourceUpdated(uri))
