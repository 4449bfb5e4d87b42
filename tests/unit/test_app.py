"""The MCP server by the official client, on both generations of the protocol, and as a process on its streams."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.shared.exceptions import MCPError
from mcp_types import Implementation, TextContent
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS
from tests.unit.recorded_road import NARROWED, REFUSED, RecordedRoad, services

from obi_mcp import __version__
from obi_mcp.app import ObiServer
from obi_mcp.config import Settings
from obi_mcp.enforcer.model import Answer
from obi_mcp.errors import Denied, ProgramMissing
from obi_mcp.policy.model import Access
from obi_mcp.toolsets.registry import listed_tools

ROOT = Path(__file__).parents[2]
GENERATIONS = ["legacy", "auto"]
GOOD = {"command": "kubectl get pods"}

each_generation = pytest.mark.parametrize("mode", GENERATIONS)


def with_client(
    mode: str, use: Callable[[Client], Awaitable[None]], road: RecordedRoad | None = None, **settings: Any
) -> None:
    async def run() -> None:
        server = ObiServer(services(road or RecordedRoad(), Settings(**settings)))
        info = Implementation(name="test\x1b[31m", version="7")
        async with asyncio.timeout(120), Client(server, mode=mode, client_info=info) as client:
            await use(client)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("toolsets", "told", "untold"),
    [
        (
            ("command",),
            ["Start with obi_kubectl `kubectl get pods -A`"],
            ["obi_k8s_status", "obi_get_status", "it gives a plan"],
        ),
        (
            ("kubernetes",),
            ["Start with obi_k8s_status (a cluster) or obi_kubectl", "it gives a plan"],
            ["obi_get_status"],
        ),
        (("local",), ["Start with obi_get_status (this host) or obi_kubectl"], ["it gives a plan"]),
        (("all",), ["obi_k8s_status (a cluster) or obi_get_status (this host) or obi_kubectl", "it gives a plan"], []),
    ],
)
def test_the_instructions_name_only_what_is_offered(
    toolsets: tuple[str, ...], told: list[str], untold: list[str]
) -> None:
    said = str(ObiServer(services(RecordedRoad(), Settings(toolsets=toolsets))).instructions)
    assert all(text in said for text in told) and not any(text in said for text in untold)


@each_generation
def test_the_client_is_told_what_this_is(mode: str) -> None:
    async def use(client: Client) -> None:
        assert client.server_info is not None
        assert (client.server_info.name, client.server_info.version) == ("obi-mcp", __version__)
        assert "Access level: non-destructive" in str(client.instructions)
        versions = HANDSHAKE_PROTOCOL_VERSIONS if mode == "legacy" else MODERN_PROTOCOL_VERSIONS
        assert client.protocol_version in versions

    with_client(mode, use, access=Access.NON_DESTRUCTIVE)


@each_generation
@pytest.mark.parametrize("level", list(Access))
def test_tools_are_listed_as_they_are_defined(mode: str, level: Access) -> None:
    async def use(client: Client) -> None:
        listed = (await client.list_tools()).tools
        shown = [tool.model_dump(by_alias=True, mode="json", exclude_none=True) for tool in listed]
        assert shown == [spec.public(level) for spec in listed_tools(Settings(access=level))]

    with_client(mode, use, access=level)


@each_generation
def test_an_answer_is_data_that_fits_the_schema_and_a_short_text(mode: str) -> None:
    async def use(client: Client) -> None:
        result = await client.call_tool("obi_kubectl", GOOD)  # the client validates it against the output schema
        assert result.structured_content is not None
        assert result.structured_content["stdout"] == "obi-1 1/1 Running\n"
        assert result.structured_content["decision"] == NARROWED.as_json()
        (text,) = result.content
        assert isinstance(text, TextContent)
        assert text.text.startswith("exit 0, 82 ms")
        assert not result.is_error

    road = RecordedRoad()
    with_client(mode, use, road)
    assert [call.caller for call in road.calls] == ["test[31m/7"]


@each_generation
def test_a_denial_is_a_tool_error_with_its_decision(mode: str) -> None:
    async def use(client: Client) -> None:
        result = await client.call_tool("obi_kubectl", GOOD)
        assert result.is_error
        assert result.structured_content == {
            "code": "denied",
            "message": "secrets are never read",
            "hint": "kubectl get configmaps -A",
            "decision": REFUSED.as_json(),
        }

    with_client(mode, use, RecordedRoad(answers={"kubectl get pods": Denied(REFUSED)}))


@each_generation
@pytest.mark.parametrize(
    "arguments", [None, {}, {"command": None}, {**GOOD, "namespce": "x"}, {"command": "x" * 10_000_000}]
)
def test_bad_arguments_are_tool_errors_and_nothing_runs(mode: str, arguments: dict[str, Any] | None) -> None:
    async def use(client: Client) -> None:
        result = await client.call_tool("obi_kubectl", arguments)
        assert result.is_error
        assert result.structured_content is not None
        assert result.structured_content["code"] == "invalid_argument"

    road = RecordedRoad()
    with_client(mode, use, road)
    assert road.calls == []


@each_generation
def test_a_tool_that_is_none_is_an_error_of_the_protocol(mode: str) -> None:
    async def use(client: Client) -> None:
        with pytest.raises(MCPError, match="Unknown tool: obi_secrets"):
            await client.call_tool("obi_secrets", {})

    with_client(mode, use)


@each_generation
def test_progress_reaches_the_caller_who_asked(mode: str) -> None:
    heard: list[tuple[float, float | None, str | None]] = []

    async def use(client: Client) -> None:
        async def hear(progress: float, total: float | None, message: str | None) -> None:
            heard.append((progress, total, message))

        await client.call_tool("obi_kubectl", GOOD, progress_callback=hear)
        await client.call_tool("obi_kubectl", GOOD)

    with_client(mode, use)
    assert heard == [(1, 3, "checked"), (3, 3, "done")]


@each_generation
def test_a_cancelled_call_ends_and_the_server_goes_on(mode: str) -> None:
    road = RecordedRoad()

    async def use(client: Client) -> None:
        call = asyncio.ensure_future(client.call_tool("obi_kubectl", {"command": "kubectl wait"}))
        await road.started.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        async with asyncio.timeout(120):
            while not road.cancelled:
                await asyncio.sleep(0)
        assert not (await client.call_tool("obi_kubectl", GOOD)).is_error

    with_client(mode, use, road)
    assert road.cancelled == ["kubectl wait"]


@each_generation
def test_calls_run_side_by_side(mode: str) -> None:
    road = RecordedRoad()

    async def use(client: Client) -> None:
        waiting = asyncio.ensure_future(client.call_tool("obi_kubectl", {"command": "kubectl wait"}))
        await road.started.wait()
        results = await asyncio.gather(*(client.call_tool("obi_kubectl", GOOD) for _ in range(100)))
        assert not any(result.is_error for result in results)
        assert (await client.list_tools()).tools
        waiting.cancel()

    with_client(mode, use, road)


@pytest.mark.parametrize("lines", [1, 40_000], ids=["short", "long"])
def test_however_long_an_answer_is_it_is_redacted_once_more(lines: int) -> None:
    road = RecordedRoad(answers={GOOD["command"]: Answer("xyz\n" * lines + "token=hunter2\n", "", 0, NARROWED, 82)})

    async def use(client: Client) -> None:
        result = await client.call_tool("obi_kubectl", GOOD)
        assert result.structured_content is not None
        assert result.structured_content["stdout"] == "xyz\n" * lines + "token=[redacted]\n"

    with_client("auto", use, road)


@each_generation
@pytest.mark.parametrize("failing", [False, True])
def test_warming_up_begins_once_and_delays_and_fails_nobody(mode: str, failing: bool) -> None:
    begun: list[bool] = []

    async def warm() -> None:
        begun.append(True)
        if failing:
            raise ProgramMissing("kubectl is not there")
        await asyncio.Event().wait()

    async def run() -> None:
        server = ObiServer(services(RecordedRoad(), Settings()), warm=warm)
        async with asyncio.timeout(120), Client(server, mode=mode) as client:
            for _ in range(3):
                assert (await client.list_tools()).tools
            assert begun == [True]
            await server.end_calls()

    asyncio.run(run())


# --- as a process ---


@contextmanager
def process(**options: Any) -> Iterator[subprocess.Popen[bytes]]:
    made = subprocess.Popen(
        [sys.executable, "-m", "tests.unit.recorded_server"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}/server"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )
    try:
        yield made
    finally:
        made.kill()
        made.wait()
        for stream in (made.stdin, made.stdout, made.stderr):
            if stream is not None:
                stream.close()


def send(server: subprocess.Popen[bytes], *messages: dict[str, Any]) -> None:
    assert server.stdin is not None
    for message in messages:
        server.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
    server.stdin.flush()


def receive(server: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert server.stdout is not None
    message: dict[str, Any] = json.loads(server.stdout.readline())
    return message


INITIALIZE = {
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}


def start_waiting_call(server: subprocess.Popen[bytes]) -> None:
    """Shakes hands and leaves one call running: the server has said that it runs once a later answer came."""
    send(server, INITIALIZE)
    assert receive(server)["result"]["serverInfo"]["name"] == "obi-mcp"
    send(
        server,
        {"method": "notifications/initialized"},
        {"id": 2, "method": "tools/call", "params": {"name": "obi_kubectl", "arguments": {"command": "kubectl wait"}}},
        {"id": 3, "method": "tools/call", "params": {"name": "obi_kubectl", "arguments": GOOD}},
    )
    assert receive(server)["id"] == 3


ENDS: list[tuple[str, Callable[[subprocess.Popen[bytes]], object]]] = [
    ("TERM", lambda server: server.send_signal(signal.SIGTERM)),
    ("INT", lambda server: server.send_signal(signal.SIGINT)),
    ("HUP", lambda server: server.send_signal(signal.SIGHUP)),
    ("the end of standard input", lambda server: server.stdin.close() if server.stdin else None),
    ("a closed standard output", lambda server: server.stdout.close() if server.stdout else None),
]


@pytest.mark.parametrize(("what", "end"), ENDS, ids=[row[0] for row in ENDS])
def test_the_server_leaves_cleanly_while_a_call_runs(
    what: str, end: Callable[[subprocess.Popen[bytes]], object]
) -> None:
    with process() as server:
        start_waiting_call(server)
        end(server)
        assert server.wait(120) == 0
        assert server.stderr is not None
        last = server.stderr.read().decode().splitlines()[-1]
        assert last == "finished: cancelled ['kubectl wait'], closed True"


def test_standard_output_carries_the_protocol_only() -> None:
    with process() as server:
        start_waiting_call(server)
        send(server, {"method": "notifications/cancelled", "params": {"requestId": 2}}, {"id": 4, "method": "ping"})
        assert receive(server) == {"jsonrpc": "2.0", "id": 4, "result": {}}
        assert server.stdin is not None
        server.stdin.close()
        assert server.stdout is not None
        assert server.stdout.read() == b""
        assert server.wait(120) == 0
        assert server.stderr is not None
        assert "finished: cancelled ['kubectl wait'], closed True" in server.stderr.read().decode()


def test_a_line_that_is_no_message_does_not_end_the_server() -> None:
    with process() as server:
        send(server, INITIALIZE)
        receive(server)
        assert server.stdin is not None
        server.stdin.write(b"this is no JSON\n\xff\xfe\n[]\n")
        send(server, {"id": 9, "method": "ping"})
        assert receive(server)["id"] == 9


@each_generation
def test_the_official_client_speaks_to_the_process(mode: str) -> None:
    async def use() -> None:
        parameters = StdioServerParameters(
            command=sys.executable,
            args=["-m", "tests.unit.recorded_server"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT}/server"},
        )
        with open(os.devnull, "w", encoding="utf-8") as quiet:
            async with asyncio.timeout(120), Client(stdio_client(parameters, quiet), mode=mode) as client:
                assert len((await client.list_tools()).tools) == len(listed_tools(Settings()))
                result = await client.call_tool("obi_explain_command", GOOD)
                assert result.structured_content == NARROWED.as_json()

    asyncio.run(use())
