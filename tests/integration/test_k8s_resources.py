"""Resources of clusters against the sandbox, through a real MCP client of each generation."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from mcp import Client, StdioServerParameters
from mcp.shared.exceptions import MCPError
from mcp_types import ResourceTemplateReference, TextResourceContents
from tests.faults.api_server import Fault, api_server
from tests.faults.place import write_kubeconfig
from tests.integration.accounts import Administrator, account, remove
from tests.sandbox.api import pod_ready, wait_until
from tests.sandbox.contents import OBI_NAMESPACE, OBI_SELECTOR
from tests.sandbox.sandbox import Sandbox
from tests.unit.process.processes import descendants

from obi_mcp.policy.scope import DEFAULT_SELECTORS

pytestmark = [
    pytest.mark.integration,
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]
PATIENCE_S = 300.0
STREAMS = 3 * len(DEFAULT_SELECTORS)
STATUS = "obi://k8s/current/observability/status"
Heard = Callable[[str], Awaitable[None]]
"""Waits until the client has been told that a resource has changed."""


@dataclass
class Connected:
    """A client of one generation and its server."""

    client: Client
    mode: str
    audit: Path
    told: asyncio.Queue[str] = field(default_factory=asyncio.Queue)

    @asynccontextmanager
    async def subscribed(self, *uris: str) -> AsyncIterator[Heard]:
        """Subscribed as the generation does it."""
        if self.mode == "legacy":
            for uri in uris:
                await self.client.subscribe_resource(uri)
            yield self._queued
            for uri in uris:
                await self.client.unsubscribe_resource(uri)
            return
        async with self.client.listen(resource_subscriptions=list(uris)) as events:

            async def heard(uri: str) -> None:
                async for event in events:
                    if getattr(event, "uri", "") == uri:
                        return

            yield heard

    async def _queued(self, uri: str) -> None:
        while await self.told.get() != uri:
            pass

    async def text(self, uri: str) -> str:
        (content,) = (await self.client.read_resource(uri)).contents
        assert isinstance(content, TextResourceContents)
        return content.text

    async def refusal(self, uri: str) -> dict[str, Any]:
        with pytest.raises(MCPError) as refused:
            await self.client.read_resource(uri)
        return dict(refused.value.error.data)


Connect = Callable[..., AbstractAsyncContextManager[Connected]]


@pytest.fixture(autouse=True)
def whole(sandbox: Sandbox) -> Iterator[None]:
    """What was deleted is there again for the next test."""
    yield
    wait_until("every node has a ready pod of OBI's", lambda: ready(sandbox), within_s=PATIENCE_S)


def ready(sandbox: Sandbox) -> bool:
    pods = sandbox.api.pods(OBI_NAMESPACE, OBI_SELECTOR)
    nodes = sandbox.facts["nodes"]
    return len(pods) == len([*nodes["simulated"], *filter(None, [nodes["real"]])]) and all(
        pod_ready(pod) and "deletionTimestamp" not in pod["metadata"] for pod in pods
    )


@pytest.fixture
def connect(sandbox: Sandbox, programs_bin: Path, tmp_path: Path) -> Connect:
    @asynccontextmanager
    async def start(mode: str = "auto", kubeconfig: Path | None = None) -> AsyncIterator[Connected]:
        config = str(kubeconfig or sandbox.kubeconfig)
        audit = tmp_path / "audit.ndjson"
        environment = {
            "KUBECONFIG": config,
            "OBI_MCP_PROGRAMS__KUBECONFIG": config,
            "OBI_MCP_PROGRAMS__PATH": json.dumps([str(programs_bin)]),
            "OBI_MCP_AUDIT__FILE": str(audit),
            "OBI_MCP_TOOLSETS": '["kubernetes"]',
        }
        told: asyncio.Queue[str] = asyncio.Queue()

        async def hear(message: Any) -> None:
            if getattr(message, "method", "") == "notifications/resources/updated":
                told.put_nowait(str(message.params.uri))

        parameters = StdioServerParameters(command=sys.executable, args=["-m", "obi_mcp", "serve"], env=environment)
        async with (
            asyncio.timeout(PATIENCE_S),
            Client(parameters, mode=mode, message_handler=hear) as client,
        ):
            yield Connected(client, mode, audit, told)

    return start


def kubectls() -> set[int]:
    """Every kubectl that runs below this process."""
    return {pid for pid in descendants(os.getpid()) if name_of(pid) == "kubectl"}


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.02)


async def a_simulated_pod(sandbox: Sandbox) -> str:
    while not (found := [name for node, name in sandbox.pods_by_node().items() if node.startswith("kwok")]):
        await asyncio.sleep(0.02)  # the last one is being replaced
    return found[0]


async def is_told_of_pods(heard: Heard, sandbox: Sandbox) -> None:
    """Deletes simulated pods, and waits to be told. Three times: an older change may be told of once more."""
    for _ in range(3):
        pod = await a_simulated_pod(sandbox)
        answer = await asyncio.to_thread(
            sandbox.api.request, "DELETE", f"/api/v1/namespaces/observability/pods/{pod}?gracePeriodSeconds=0"
        )
        answer.require("delete a pod", 200, 202, 404)
        await heard(STATUS)


def lines_of(audit: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in audit.read_text().splitlines()]


def opened(audit: Path, begin: int = 0) -> int:
    """How many streams stood, not counting the first audit lines."""
    return sum(line["tool"] == "resources/subscribe" and not line["error"] for line in lines_of(audit)[begin:])


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_subscriber_is_told_of_a_pod_and_of_a_log_and_leaves_nothing(
    mode: str, connect: Connect, sandbox: Sandbox
) -> None:
    log = f"obi://k8s/{sandbox.facts['context']}/observability/pods/{sandbox.real_pod()}/logs"
    async with connect(mode) as server:
        async with server.subscribed(STATUS) as heard:
            await heard(STATUS)
            await until(lambda: opened(server.audit) == STREAMS)
            await until(lambda: len(kubectls()) == 1)  # one proxy, and whatever else the server began with is done
            await is_told_of_pods(heard, sandbox)
        async with server.subscribed(log) as heard:
            await heard(log)
            await asyncio.to_thread(sandbox.traffic)
            await heard(log)
        await until(lambda: not kubectls())
        lines = lines_of(server.audit)
        assert {(line["tool"], line["rule"], line["error"]) for line in lines} == {
            ("resources/subscribe", "kubectl.get", None),
            ("resources/subscribe", "kubectl.logs", None),
        }
        assert all(check["passed"] for line in lines for check in line["checks"])
        async with server.subscribed(STATUS) as heard:
            await heard(STATUS)
            assert kubectls()
            if mode == "legacy":
                return  # and goes without a word
    assert kubectls() == set()


class Relay:
    """Passes connections on to the API server, while it is up."""

    def __init__(self, sandbox: Sandbox) -> None:
        place = urlsplit(sandbox.api_server)
        self._host, self._port = str(place.hostname), place.port or 443
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def up(self) -> None:
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def down(self) -> None:
        """Cuts what is open, and takes nothing more."""
        if self._server is not None:
            self._server.close()
            for writer in self._writers:
                writer.transport.abort()
            await self._server.wait_closed()

    def kubeconfig(self, sandbox: Sandbox, path: Path) -> Path:
        config = yaml.safe_load(sandbox.kubeconfig.read_text())
        for entry in config["clusters"]:
            entry["cluster"] |= {"server": f"https://127.0.0.1:{self.port}", "tls-server-name": self._host}
        path.write_text(yaml.safe_dump(config))
        return path

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            other, onward = await asyncio.open_connection(self._host, self._port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, onward}
        await asyncio.gather(_copy(reader, onward), _copy(other, writer))
        self._writers -= {writer, onward}


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.close()


async def test_a_watch_comes_back_when_the_api_server_does(connect: Connect, sandbox: Sandbox, tmp_path: Path) -> None:
    relay = Relay(sandbox)
    await relay.up()
    try:
        async with connect(kubeconfig=relay.kubeconfig(sandbox, tmp_path / "relayed")) as server:
            async with server.subscribed(STATUS) as heard:
                await heard(STATUS)
                await relay.down()
                await heard(STATUS)  # it cannot be read now
                assert (await server.refusal(STATUS))["code"] == "cluster_unreachable"
                known = len(lines_of(server.audit))
                await relay.up()
                await heard(STATUS)  # it can again
                await until(lambda: opened(server.audit, known) >= STREAMS and len(kubectls()) == 1)
                os.kill(min(kubectls()), signal.SIGKILL)
                await is_told_of_pods(heard, sandbox)  # by another proxy
                assert json.loads(await server.text(STATUS))["workloads"][0]["name"] == "obi"
            await until(lambda: not kubectls())  # though the client has read by it, too
    finally:
        await relay.down()


@pytest.mark.parametrize(("status", "reason"), [(403, "Forbidden"), (410, "Expired")])
async def test_where_no_watch_is_possible_the_list_is_looked_at(
    status: int, reason: str, connect: Connect, sandbox: Sandbox, tmp_path: Path
) -> None:
    with api_server(sandbox) as double:
        double.fault = Fault("answers", status, reason, path="watch=1")
        write_kubeconfig(tmp_path / "refusing", double.address)
        async with connect(kubeconfig=tmp_path / "refusing") as server, server.subscribed(STATUS) as heard:
            await heard(STATUS)
            await until(lambda: opened(server.audit) >= 2 * STREAMS)
            await is_told_of_pods(heard, sandbox)


async def test_the_rights_of_the_lowest_level_are_enough(
    connect: Connect, sandbox: Sandbox, programs_bin: Path, tmp_path: Path
) -> None:
    administrator, real = Administrator(sandbox, programs_bin), sandbox.real_pod()
    log = f"obi://k8s/current/observability/pods/{real}/logs"
    made = account(administrator, tmp_path, "read-only", "observability", "--no-helm")
    try:
        async with connect(kubeconfig=made.kubeconfig) as server, server.subscribed(STATUS, log) as heard:
            await heard(STATUS)
            await heard(log)
            await is_told_of_pods(heard, sandbox)
            await asyncio.to_thread(sandbox.traffic)
            await heard(log)
            lines = lines_of(server.audit)
            # Each was opened once, so that these were watches: where only lists are possible, they are made again.
            assert len({line["command"] for line in lines}) == len(lines) == STREAMS + 1
            assert {line["error"] for line in lines} == {None}
    finally:
        remove(administrator, made)


async def test_reading_is_the_tools_own_call_and_so_is_its_refusal(connect: Connect, sandbox: Sandbox) -> None:
    real, context = sandbox.real_pod(), sandbox.facts["context"]
    async with connect() as server:
        listed = [one.uri for one in (await server.client.list_resources()).resources]
        assert listed[-1] == f"obi://k8s/{context}/observability/status"
        assert not server.audit.read_text()
        read = json.loads(await server.text(listed[-1]))
        called = await server.client.call_tool("obi_k8s_status", {"namespace": "observability"})
        assert read["nodes"] == (called.structured_content or {})["nodes"] == 4
        assert {pod["node"] for pod in read["pods"]} == set(sandbox.pods_by_node())
        logs = json.loads(await server.text(f"obi://k8s/current/observability/pods/{real}/logs"))
        assert {line["pod"] for line in logs["lines"]} == {real}
        denied = await server.refusal("obi://k8s/current/kube-system/pods/coredns-1/logs")
        assert (denied["code"], denied["decision"]["rule"]) == ("denied", "kubectl.logs") and denied["hint"]
        assert (await server.refusal("obi://k8s/theirs/observability/status"))["code"] == "denied"
        absent = await server.refusal("obi://k8s/current/observability/pods/obi-helper/logs")
        assert absent["code"] == "not_found"
        with pytest.raises(MCPError) as refused:
            async with server.subscribed("obi://k8s/theirs/observability/status"):
                pass
        assert refused.value.error.data["code"] == "denied"
        lines = lines_of(server.audit)
        assert [line["error"] for line in lines if line["tool"] == "obi_k8s_get_pod_logs"] == [
            None,
            "denied",
            "not_found",
        ]
        assert (lines[-1]["tool"], lines[-1]["error"]) == ("resources/subscribe", "denied")


async def test_completion_knows_the_context_the_namespace_and_the_pods(connect: Connect, sandbox: Sandbox) -> None:
    async with connect() as server:

        async def complete(word: str, begin: str) -> list[str]:
            ref = ResourceTemplateReference(uri="obi://k8s/{context}/{namespace}/pods/{pod}/logs")
            found = await server.client.complete(ref, {"name": word, "value": begin}, {"namespace": "observability"})
            return list(found.completion.values)

        assert await complete("context", "obi") == [sandbox.facts["context"]]
        assert (await complete("namespace", ""))[0] == "observability"
        real = sandbox.real_pod()
        while await complete("pod", real) != [real]:  # on a slow machine it is read on beside the answer
            pass
