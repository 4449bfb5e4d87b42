"""The keeper, with programs that print what a test wants OBI to print: how they fail, what they say, how they end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.local_host import LocalHost, local_host, real_agent, until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces and eBPF need root"),
]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[LocalHost]:
    with local_host(f"stand-in-{os.getpid()}", tmp_path, real_agent()) as made:
        yield made
        assert made.processes() == []


def stand_in(directory: Path, body: str) -> Path:
    """A program that prints what a test wants OBI to print; ``-config FILE`` are its arguments."""
    path = directory / "obi"
    path.write_text(f"#!{sys.executable}\nimport os, signal, sys, time\n{body}\n")
    path.chmod(0o755)
    return path


READY = "print('time=2026-11-21T12:00:00Z level=INFO msg=\"Flows agent successfully started\"', flush=True)\n"
QUIET = "network: {enable: true}\notel_metrics_export: {endpoint: 'http://127.0.0.1:4318'}\n"


def test_a_program_that_can_be_asked_has_its_word(host: LocalHost) -> None:
    host.binary = stand_in(host.directory, "print('validation failed: no such thing', file=sys.stderr); sys.exit(1)")
    rule = "{action: include, match: {process: {open_ports: '80'}}}"
    v2 = f"file_format: '1.0'\nextensions: {{obi: {{version: '2.0', capture: {{rules: [{rule}]}}}}}}\n"
    v2 += "meter_provider: {readers: [{pull: {exporter: {prometheus/development: {port: 9}}}}]}\n"

    async def scenario(version: str) -> list[Any]:
        host.settings = {"obi": {"version": version}}
        async with host.serve("read-only") as served:
            answer = await served.call("obi_validate_config", config=v2)
            return [one["message"] for one in answer.data["findings"] if "itself refuses" in one["message"]]

    (said,) = asyncio.run(scenario("0.12.0"))
    assert "no such thing" in said
    assert asyncio.run(scenario("0.10.0")) == []


def test_a_start_that_fails_says_why(host: LocalHost) -> None:
    said = (
        'time=x level=ERROR msg="Prometheus endpoint service ended unexpectedly" port=9490 '
        'error="listen tcp :9490: bind: address already in use"'
    )
    host.binary = stand_in(host.directory, f"print({said!r}); sys.exit(0)")

    async def scenario() -> None:
        async with host.serve() as served:
            failed = await served.call("obi_deploy_local", config=QUIET)
            assert failed.code == "program_failed"
            assert "the Prometheus port is taken on this host" in failed.message
            status = await served.call("obi_get_status")
            assert (status.data["state"], "pid" in status.data) == ("failed", False)
            assert "gave up: exit code 0" in status.data["why"]
            assert status.data["last_lines"] == [said]

    asyncio.run(scenario())


def test_a_log_that_grows_fast_stays_within_its_bound(host: LocalHost) -> None:
    line = "network_flow: transport=6 src.address=10.0.0.1 dst.address=10.0.0.2 src.port=1 dst.port=2 " + "a=b " * 200
    body = f"{READY}line = {line!r} + chr(10)\nfor n in range(30):\n    sys.stdout.write(line * 1000)\n"
    body += "sys.stdout.flush()\nprint('the last line', flush=True)\nsignal.pause()"
    host.binary = stand_in(host.directory, body)  # 30 MB, as fast as they are taken: far more than 100 MB a minute
    host.settings = {"local": {"log_bytes": 1_048_576}}

    async def scenario() -> None:
        async with host.serve() as served:
            made = await served.call("obi_deploy_local", config=QUIET)
            assert not made.is_error, made.text

            async def said() -> bool:
                return bool((await served.call("obi_get_logs", grep="the last line")).data["records"])

            await until(said, "all was taken")
            status = await served.call("obi_get_status")
            assert 0 < status.data["log_bytes"] <= 1_048_576
            flows = await served.call("obi_get_logs", kind="flow", tail=500)
            assert len(flows.data["records"]) == 500
            await served.call("obi_stop")

    asyncio.run(scenario())


def fill(path: Path) -> None:
    """Writes until there is no room."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 512):
            pass


def test_on_a_full_disk_nothing_starts_and_what_runs_goes_on(host: LocalHost) -> None:
    state = host.directory / "state"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "none", str(state)], check=True)
    body = f"{READY}signal.signal(signal.SIGUSR1, lambda *_: [print('y' * 1000, flush=True) for _ in range(2000)])\n"
    body += "while True:\n    signal.pause()"
    host.binary = stand_in(host.directory, body)

    async def scenario() -> None:
        async with host.serve() as served:
            filler = state / "filler"
            fill(filler)
            refused = await served.call("obi_deploy_local", config=QUIET)
            assert (refused.code, "No space left" in refused.message) == ("program_failed", True), refused.text
            filler.unlink()
            made = await served.call("obi_deploy_local", config=QUIET)
            assert not made.is_error, made.text
            os.kill(made.data["pid"], signal.SIGUSR1)

            async def lost() -> bool:
                return bool((host.agent / "agent.log").stat().st_size > 100_000)

            await until(lost, "the disk is full of log")
            status = await served.call("obi_get_status")
            assert (status.data["state"], status.data["pid"]) == ("running", made.data["pid"])
            assert not (await served.call("obi_stop")).is_error

    try:
        asyncio.run(scenario())
    finally:
        subprocess.run(["umount", "-l", str(state)], check=True)


def test_a_crash_loop_is_named(host: LocalHost) -> None:
    host.binary = stand_in(host.directory, f"{READY}os.kill(os.getpid(), signal.SIGSEGV)")

    async def scenario() -> None:
        async with host.serve() as served:
            await served.call("obi_deploy_local", config=QUIET)
            status = await served.call("obi_get_status")
            assert status.data["state"] in ("waiting", "running")
            assert status.data["restarts"] >= 1
            stopped = await served.call("obi_stop")
            assert not stopped.is_error, stopped.text

    asyncio.run(scenario())
