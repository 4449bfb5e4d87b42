"""Resources on both generations of the protocol: listed, read, subscribed to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError
from mcp_types import TextResourceContents
from tests.unit.policy.policies import built_in
from tests.unit.recorded_road import RecordedRoad, services

from obi_mcp.agent.record import CONFIG
from obi_mcp.app import ObiServer
from obi_mcp.audit import AuditLog
from obi_mcp.config import Audit, Settings
from obi_mcp.enforcer.effects import EffectRoad
from obi_mcp.policy.effects import Host
from obi_mcp.resources import SPECS
from obi_mcp.toolsets.base import Services

each_generation = pytest.mark.parametrize("mode", ["legacy", "auto"])
LOCAL = Settings(toolsets=("command", "local"))
TEXT = "network: {enable: true}\nprometheus_export: {port: 9090}\n"


def local_services(directory: Path, settings: Settings = LOCAL) -> Services:
    audit = AuditLog(replace(settings, audit=Audit(f"{directory}/audit.ndjson")))
    effects = EffectRoad(settings, built_in(), audit, Host((), str(directory)))
    return replace(services(RecordedRoad(), settings), audit=audit, effects=effects)


def with_client(
    mode: str,
    made: Services,
    use: Callable[[Client], Awaitable[None]],
    heard: Callable[[Any], None] | None = None,
) -> None:
    async def handler(message: Any) -> None:
        if heard is not None:
            heard(message)

    async def run() -> None:
        server = ObiServer(made)
        async with asyncio.timeout(20), Client(server, mode=mode, message_handler=handler) as client:
            await use(client)
        made.agents.close()
        made.audit.close()

    asyncio.run(run())


async def text_of(client: Client, uri: str) -> str:
    (content,) = (await client.read_resource(uri)).contents
    assert isinstance(content, TextResourceContents)
    return content.text


@each_generation
def test_resources_are_listed_by_toolset_and_read(mode: str, tmp_path: Path) -> None:
    made = local_services(tmp_path)
    (tmp_path / CONFIG).write_text(f"# password=hunter2secret\n{TEXT}")

    async def use(client: Client) -> None:
        assert [one.uri for one in (await client.list_resources()).resources] == [spec.uri for spec in SPECS]
        config = json.loads(await text_of(client, "obi://config/current"))
        assert config["values"]["prometheus_export.port"] == {"value": 9090, "source": "file", "line": 3}
        assert "hunter2secret" not in json.dumps(config)
        rules = json.loads(await text_of(client, "obi://policy/rules"))
        assert {"kubectl.get", "local.read"} <= {rule["id"] for rule in rules["rules"]}
        assert "local.start" not in {rule["id"] for rule in rules["rules"]}
        assert json.loads(await text_of(client, "obi://status/health"))["state"] == "absent"
        assert json.loads(await text_of(client, "obi://logs/recent"))["records"] == []
        lines = [json.loads(line) for line in (await text_of(client, "obi://audit/recent")).splitlines()]
        assert [line["command"].partition(" ")[0] for line in lines] == [
            "config-read",
            "obi://policy/rules",
            "agent-read",
            "agent-read",
        ]
        with pytest.raises(MCPError, match="was not found") as refused:
            await client.read_resource("obi://config/other")
        assert refused.value.error.data["code"] == "not_found"

    with_client(mode, made, use)


def test_without_the_toolset_its_resources_are_not_there(tmp_path: Path) -> None:
    async def use(client: Client) -> None:
        listed = [one.uri for one in (await client.list_resources()).resources]
        assert listed == ["obi://policy/rules", "obi://audit/recent"]

    with_client("auto", local_services(tmp_path, Settings(toolsets=("command",))), use)


def test_the_older_generation_is_told_of_changes_until_it_leaves(tmp_path: Path) -> None:
    made = local_services(tmp_path)
    heard: asyncio.Queue[str] = asyncio.Queue()

    def hear(message: Any) -> None:
        if getattr(message, "method", "") == "notifications/resources/updated":
            heard.put_nowait(str(message.params.uri))

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

    with_client("legacy", made, use, hear)


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


def test_the_sdk_still_has_the_one_private_attribute_that_we_use(tmp_path: Path) -> None:
    made = local_services(tmp_path)
    low = ObiServer(made)._lowlevel_server
    made.audit.close()
    for method in ("resources/subscribe", "resources/unsubscribe", "subscriptions/listen"):
        assert low.get_request_handler(method) is not None
