"""Clients that subscribe to resources, of both generations of the protocol: told of changes, until they leave."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError
from tests.unit.recorded_road import REFUSED, RecordedRoad, services
from tests.unit.resource_clients import (
    CLUSTERS,
    PLACE,
    PODS,
    SETS,
    TEXT,
    each_generation,
    local_services,
    until,
    with_client,
)

from obi_mcp.agent.record import CONFIG
from obi_mcp.enforcer.watching import Contexts


def test_the_older_generation_is_told_of_changes_until_it_leaves(tmp_path: Path) -> None:
    made = local_services(tmp_path)
    heard: asyncio.Queue[str] = asyncio.Queue()

    async def use(client: Client) -> None:
        capabilities = client.server_capabilities
        assert capabilities.resources is not None
        assert capabilities.resources.subscribe is True
        with pytest.warns(MCPDeprecationWarning):
            await client.subscribe_resource("obi://config/current")
        (tmp_path / CONFIG).write_text(TEXT)
        assert await heard.get() == "obi://config/current"
        with pytest.warns(MCPDeprecationWarning):
            await client.unsubscribe_resource("obi://config/current")

    with_client("legacy", made, use, hearing(heard))


def hearing(heard: asyncio.Queue[str]) -> Callable[[Any], None]:
    def hear(message: Any) -> None:
        if getattr(message, "method", "") == "notifications/resources/updated":
            heard.put_nowait(str(message.params.uri))

    return hear


def test_the_newer_generation_listens(tmp_path: Path) -> None:
    made = local_services(tmp_path)

    async def use(client: Client) -> None:
        async with client.listen(resource_subscriptions=["obi://logs/recent"]) as events:
            await asyncio.sleep(0)
            (tmp_path / "agent.log").write_text("time=x level=INFO msg=hello\n")
            async for event in events:
                assert getattr(event, "uri", "") == "obi://logs/recent"
                break

    with_client("auto", made, use)


@pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")
@pytest.mark.parametrize("leaves", [True, False], ids=["unsubscribes", "disconnects"])
def test_a_watch_lasts_as_long_as_its_subscriber_of_the_older_generation(leaves: bool) -> None:
    road = RecordedRoad(known=Contexts("a"))
    heard: asyncio.Queue[str] = asyncio.Queue()
    uri, same = "obi://k8s/a/obi/status", "obi://k8s/current/obi/status"

    async def use(client: Client) -> None:
        await client.subscribe_resource(uri)
        await client.subscribe_resource(uri)
        assert await heard.get() == uri  # it stands
        await client.subscribe_resource(same)
        assert sorted(road.open) == PLACE  # once, however many want it
        road.streams[PODS].put_nowait(True)
        assert {await heard.get(), await heard.get()} == {uri, same}
        if leaves:
            await client.unsubscribe_resource(same)
            await client.unsubscribe_resource(uri)
            await until(lambda: not road.open)
            return
        assert road.open

    with_client("legacy", services(road, CLUSTERS), use, hearing(heard), after=lambda: until(lambda: not road.open))
    assert {call.tool for call in road.calls} == {"resources/subscribe"}


def test_a_watch_lasts_as_long_as_its_listeners_of_the_newer_generation() -> None:
    road = RecordedRoad(known=Contexts("a"))
    uri, log = "obi://k8s/a/obi/status", "obi://k8s/a/obi/pods/obi-1/logs"

    async def use(client: Client) -> None:
        async with client.listen(resource_subscriptions=[uri]) as events:
            assert getattr(await anext(events), "uri", "") == uri
            async with client.listen(resource_subscriptions=[uri, log]) as more:
                assert getattr(await anext(more), "uri", "") == log
                assert sorted(road.open) == sorted([*PLACE, "kubectl logs obi-1 -n obi"])
                road.streams["kubectl logs obi-1 -n obi"].put_nowait(True)
                assert getattr(await anext(more), "uri", "") == log
            await until(lambda: len(road.open) == len(PLACE))
            road.streams[SETS].put_nowait(True)
            assert getattr(await anext(events), "uri", "") == uri
        await until(lambda: not road.open)

    with_client("auto", services(road, CLUSTERS), use)


REFUSALS = [
    ("obi://k8s/b/obi/status", "denied"),
    ("obi://k8s/a/o b/status", "invalid_argument"),
    ("obi://nothing", "not_found"),
]


@pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")
@each_generation
@pytest.mark.parametrize(("uri", "code"), REFUSALS)
def test_what_may_not_be_read_cannot_be_subscribed_to(mode: str, uri: str, code: str) -> None:
    road = RecordedRoad(known=Contexts("a"), decisions={SETS: REFUSED})
    made = services(road, CLUSTERS)

    async def use(client: Client) -> None:
        async def subscribe() -> None:
            if mode == "legacy":
                await client.subscribe_resource(uri)
                return
            async with client.listen(resource_subscriptions=[uri]):
                pass

        with pytest.raises(MCPError) as refused:
            await subscribe()
        assert refused.value.error.data["code"] == code
        assert road.open == []

    with_client(mode, made, use)
    assert [entry.error for entry in made.audit.entries] == (["denied"] if code == "denied" else [])  # type: ignore[attr-defined]
