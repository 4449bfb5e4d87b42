"""Nothing outlives a call: killed, cancelled, timed out or disconnected, shown by looking at /proc."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio
import pytest
from tests.integration.conftest import Serve
from tests.sandbox.sandbox import Sandbox

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

LIMIT_S, CALL_S = 100.0, 300
"""What a condition may take to come about, and what a call may: far more, so that it does not end by itself."""


@pytest.fixture
def mark() -> str:
    """A label value that stands in the command lines of one call's processes and nowhere else."""
    return f"m{uuid.uuid4().hex[:12]}"


def endless(mark: str) -> str:
    """A command that waits for what never comes, with a filter behind it."""
    # The second label leaves the sandbox's impostor out, of which nothing may be waited for.
    selector = f"app.kubernetes.io/part-of=obi,app.kubernetes.io/instance=obi,mark!={mark}"
    return f"wait --for=condition=Never pod -l '{selector}' -n observability --timeout={CALL_S}s | grep {mark}"


def processes(mark: str) -> list[str]:
    """Command lines of running processes that carry the mark."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if any(mark.encode() in word for word in words):
                found.append(b" ".join(words).decode())
    return found


async def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come about"
        await anyio.sleep(0.02)


async def test_a_call_that_times_out_leaves_no_process(serve: Serve, mark: str) -> None:
    async with serve() as session:
        # kubectl's own waiting is clamped to end before the call's deadline, so a filter that never ends it is.
        outcome = await session.kubectl(f"version -o json | jq --arg mark {mark} 'def f: f; f'", timeout_s=1.5)
        assert outcome.is_error and outcome.code == "timeout", outcome.text
        assert processes(mark) == []


async def test_a_call_that_the_client_cancels_leaves_no_process(serve: Serve, mark: str) -> None:
    async with serve() as session:
        async with anyio.create_task_group() as group:
            group.start_soon(partial(session.kubectl, endless(mark), timeout_s=CALL_S))
            await until(lambda: len(processes(mark)) >= 2, "the start of the call")
            group.cancel_scope.cancel()
        await until(lambda: processes(mark) == [], "the end of the call's processes")
        after = await session.kubectl("version -o json")
        assert not after.is_error, after.text
        lines = [json.loads(line) for line in session.audit.read_text().splitlines()]
    assert "cancelled" in [line.get("error") for line in lines]


async def test_a_client_that_leaves_ends_the_server_and_its_processes(serve: Serve, mark: str) -> None:
    async with serve() as session, anyio.create_task_group() as group:
        group.start_soon(partial(session.kubectl, endless(mark), timeout_s=CALL_S))
        await until(lambda: len(processes(mark)) >= 2, "the start of the call")
        group.cancel_scope.cancel()
    await until(lambda: processes(mark) == [], "the end of the call's processes")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
async def test_a_server_that_is_killed_leaves_no_process(
    sandbox: Sandbox, programs_bin: Path, tmp_path: Path, mark: str, number: signal.Signals
) -> None:
    server = _start(sandbox, programs_bin, tmp_path)
    assert server.stdin is not None
    try:
        for message in _session(f"kubectl {endless(mark)}"):
            server.stdin.write(json.dumps(message).encode() + b"\n")
        server.stdin.flush()
        await until(lambda: len(processes(mark)) >= 2, "the start of the call")
        server.send_signal(number)
        await until(lambda: server.poll() is not None, "the end of the server")
        await until(lambda: processes(mark) == [], "the end of the call's processes")
    finally:
        server.kill()
        server.wait()
        server.stdin.close()


def _start(sandbox: Sandbox, programs_bin: Path, tmp_path: Path) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "OBI_MCP_PROGRAMS__KUBECONFIG": str(sandbox.kubeconfig),
        "OBI_MCP_PROGRAMS__PATH": json.dumps([str(programs_bin)]),
        "OBI_MCP_AUDIT__FILE": str(tmp_path / "audit.ndjson"),
        "OBI_MCP_LIMITS__TIMEOUT_S": str(CALL_S),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "obi_mcp", "serve"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
    )


def _session(command: str) -> list[dict[str, object]]:
    """The messages of an older client: initialize, initialized, one call."""
    hello = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    }
    call = {"name": "obi_kubectl", "arguments": {"command": command}}
    return [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call},
    ]
