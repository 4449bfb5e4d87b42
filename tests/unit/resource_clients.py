"""Clients of resources on both generations of the protocol, and what they ask for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp_types import TextResourceContents
from tests.unit.policy.policies import built_in
from tests.unit.recorded_road import RecordedRoad, services

from obi_mcp.app import ObiServer
from obi_mcp.audit import AuditLog
from obi_mcp.config import Audit, Settings
from obi_mcp.enforcer.effects import EffectRoad
from obi_mcp.policy.effects import Host
from obi_mcp.policy.scope import DEFAULT_SELECTORS, Scope
from obi_mcp.toolsets.base import Services

each_generation = pytest.mark.parametrize("mode", ["legacy", "auto"])
LOCAL = Settings(toolsets=("command", "local"))
CLUSTERS = Settings(toolsets=("command", "kubernetes"), scope=Scope(selectors=DEFAULT_SELECTORS[:1]))
TEXT = "network: {enable: true}\nprometheus_export: {port: 9090}\n"
STATUS = "obi://k8s/{context}/{namespace}/status"
LOGS = "obi://k8s/{context}/{namespace}/pods/{pod}/logs"
HERE = "obi://k8s/current/observability/status"
PODS, SETS, DEPLOYMENTS = (
    f"kubectl get {kind} -n obi -l '{DEFAULT_SELECTORS[0]}' -o json" for kind in ("pods", "daemonsets", "deployments")
)
PLACE = sorted([PODS, SETS, DEPLOYMENTS])


def local_services(directory: Path, settings: Settings = LOCAL, road: RecordedRoad | None = None) -> Services:
    """Services that keep their audit log and an agent's files in that directory."""
    audit = AuditLog(replace(settings, audit=Audit(f"{directory}/audit.ndjson")))
    effects = EffectRoad(settings, built_in(), audit, Host((), str(directory)))
    return replace(services(road or RecordedRoad(), settings), audit=audit, effects=effects)


def with_client(
    mode: str,
    made: Services,
    use: Callable[[Client], Awaitable[None]],
    heard: Callable[[Any], None] | None = None,
    after: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """A client and a server in this process, ended again.

    ``heard`` gets the notifications; ``after`` runs when the client has left and the server was not told to stop.
    """

    async def handler(message: Any) -> None:
        if heard is not None:
            heard(message)

    async def run() -> None:
        server = ObiServer(made)
        async with asyncio.timeout(120):
            async with Client(server, mode=mode, message_handler=handler) as client:
                await use(client)
            if after is not None:
                await after()
            await server.end_calls()
        made.agents.close()
        made.audit.close()

    asyncio.run(run())


async def until(holds: Callable[[], bool]) -> None:
    """Waits for a condition; ``with_client`` has the deadline."""
    while not holds():
        await asyncio.sleep(0.002)


async def text_of(client: Client, uri: str) -> str:
    """The one text of a resource."""
    (content,) = (await client.read_resource(uri)).contents
    assert isinstance(content, TextResourceContents)
    return content.text
