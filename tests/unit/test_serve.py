"""``obi-mcp serve`` as a client starts it: the real policy and the real road, with no cluster and no programs."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from tests.unit.bare import bare_environment, bare_python

from obi_mcp.audit_chain import verify

GENERATIONS = ["legacy", "auto"]
each_generation = pytest.mark.parametrize("mode", GENERATIONS)


def environment(tmp_path: Path) -> dict[str, str]:
    return bare_environment(tmp_path, OBI_MCP_AUDIT__FILE=f"{tmp_path}/audit.log")


def with_server(
    mode: str, tmp_path: Path, use: Callable[[Client], Awaitable[None]], *flags: str
) -> list[dict[str, Any]]:
    """Uses a server through the official client; gives what it logged."""

    async def run() -> None:
        parameters = StdioServerParameters(
            command=bare_python(tmp_path),
            args=["-m", "obi_mcp", "serve", *flags],
            env=environment(tmp_path),
            cwd=tmp_path,
        )
        with (tmp_path / "log").open("w") as log:
            async with asyncio.timeout(300), Client(stdio_client(parameters, log), mode=mode) as client:
                await use(client)

    asyncio.run(run())
    return [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]


@each_generation
def test_a_session_ends_with_a_log_that_verifies_by_its_printed_head(mode: str, tmp_path: Path) -> None:
    async def use(client: Client) -> None:
        assert [tool.name for tool in (await client.list_tools()).tools][:4] == [
            "obi_kubectl",
            "obi_helm",
            "obi_command",
            "obi_explain_command",
        ]
        explained = await client.call_tool("obi_explain_command", {"command": "kubectl get pods -A"})
        assert explained.structured_content is not None
        assert explained.structured_content["effect"] == "narrow"
        for command, code in [
            ("kubectl get secrets -n observability", "denied"),
            ("kubectl get pods -A; id", "invalid_command"),
            ("helm list", "invalid_command"),
        ]:
            refused = await client.call_tool("obi_kubectl", {"command": command})
            assert refused.is_error
            assert refused.structured_content is not None
            assert refused.structured_content["code"] == code
            assert refused.structured_content["hint"]

    logged = with_server(mode, tmp_path, use)
    assert [line["message"] for line in logged] == ["serving", "stopping", "stopped"]
    assert all(set(line) >= {"time", "level", "logger", "message"} for line in logged)
    found = verify(tmp_path / "audit.log", logged[-1]["audit_head"])
    assert (found.good, found.lines) == (True, 4)
    lines = [json.loads(line) for line in (tmp_path / "audit.log").read_text().splitlines()]
    assert [(line["tool"], line["error"]) for line in lines] == [
        ("obi_explain_command", None),
        ("obi_kubectl", "denied"),
        ("obi_kubectl", "invalid_command"),
        ("obi_kubectl", "invalid_command"),
    ]
    assert {line["caller"] for line in lines} == {"mcp/0.1.0"}


@each_generation
def test_a_program_that_is_not_there_is_said_when_it_is_needed(mode: str, tmp_path: Path) -> None:
    async def use(client: Client) -> None:
        result = await client.call_tool("obi_kubectl", {"command": "kubectl get pods -A"})
        assert result.is_error
        assert result.structured_content is not None
        assert result.structured_content["code"] == "program_missing"

    with_server(mode, tmp_path, use)


def test_a_caller_cannot_raise_its_level(tmp_path: Path) -> None:
    async def use(client: Client) -> None:
        command = {"command": "kubectl rollout restart ds/obi -n observability"}
        allowed = await client.call_tool("obi_explain_command", command)
        assert allowed.structured_content is not None
        assert allowed.structured_content["effect"] == "allow"
        lowered = await client.call_tool("obi_explain_command", {**command, "access": "read-only"})
        assert lowered.structured_content is not None
        assert lowered.structured_content["effect"] == "deny"
        raised = await client.call_tool("obi_explain_command", {**command, "access": "full"})
        assert raised.is_error

    with_server("auto", tmp_path, use, "--access", "non-destructive")


@contextmanager
def server(tmp_path: Path, *flags: str, **more: str) -> Iterator[subprocess.Popen[bytes]]:
    made = subprocess.Popen(
        [bare_python(tmp_path), "-m", "obi_mcp", "serve", *flags],
        env={**environment(tmp_path), **more},
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield made
    finally:
        made.kill()
        made.communicate()


def ask(made: subprocess.Popen[bytes], method: str, params: dict[str, Any]) -> dict[str, Any]:
    assert made.stdin is not None
    assert made.stdout is not None
    made.stdin.write(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode() + b"\n")
    made.stdin.flush()
    answer: dict[str, Any] = json.loads(made.stdout.readline())
    return answer


HELLO = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_server_prints_the_head_and_gives_the_log_back(number: signal.Signals, tmp_path: Path) -> None:
    with server(tmp_path) as first:
        assert ask(first, "initialize", HELLO)["result"]["serverInfo"]["name"] == "obi-mcp"
        with server(tmp_path) as second:
            assert second.wait(300) == 1
            assert second.stderr is not None
            assert "is held by another server" in second.stderr.read().decode()
        first.send_signal(number)
        assert first.wait(300) == 0
        assert first.stderr is not None
        assert first.stdout is not None
        assert first.stdout.read() == b""
        last = json.loads(first.stderr.read().splitlines()[-1])
        assert (last["message"], last["audit_head"]) == ("stopped", "0" * 64)
    with server(tmp_path) as third:
        assert "result" in ask(third, "initialize", HELLO)


REFUSED_STARTS: list[tuple[str, list[str], dict[str, str], str]] = [
    ("a wrong policy", ["--policy", "rules-that-are-none"], {}, "rules-that-are-none"),
    ("a wrong setting", [], {"OBI_MCP_LIMITS__TIMEOUT_S": "soon"}, "limits.timeout_s must be a number"),
    ("an unknown setting", [], {"OBI_MCP_ACESS": "full"}, "did you mean OBI_MCP_ACCESS?"),
]


@pytest.mark.parametrize(("what", "flags", "more", "said"), REFUSED_STARTS, ids=[row[0] for row in REFUSED_STARTS])
def test_a_wrong_configuration_stops_the_start(
    what: str, flags: list[str], more: dict[str, str], said: str, tmp_path: Path
) -> None:
    with server(tmp_path, *flags, **more) as made:
        assert made.wait(300) == 2
        assert made.stderr is not None
        text = made.stderr.read().decode()
        assert said in text
        assert "Traceback" not in text


def test_the_server_starts_when_no_cluster_answers(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: gone\n"
        "clusters: [{name: gone, cluster: {server: 'https://127.0.0.1:1'}}]\n"
        "contexts: [{name: gone, context: {cluster: gone, user: gone}}]\nusers: [{name: gone, user: {}}]\n"
    )
    with server(tmp_path, "--kubeconfig", str(kubeconfig)) as made:
        assert "result" in ask(made, "initialize", HELLO)
