"""The keeper with programs that behave as a test wants: started, started again, given up, ended."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from obi_mcp.agent import launcher
from obi_mcp.agent.keeper import Manner
from obi_mcp.agent.keeping import end_agent, kept
from obi_mcp.agent.launcher import AgentLauncher
from obi_mcp.agent.proof import lives, proof_of
from obi_mcp.agent.record import LOG, Record, read_record, write_record
from obi_mcp.errors import ProgramFailed
from obi_mcp.policy.effects import AgentCheck, AgentEnd, AgentSignal, AgentStart, ApprovedEffect, ProcessProof
from obi_mcp.policy.model import Access, Decision

ALLOWED = Decision("allow", "test", "a test", Access.FULL)
QUICK = Manner(1_048_576, first_backoff_s=0.02, most_backoff_s=0.05, most_restarts=3)
CONFIG = "a: 1\n"
WITHIN_S = 120.0


class Host:
    """A directory with a program of a test's own, and a launcher for it."""

    def __init__(self, directory: Path, body: str, manner: Manner = QUICK) -> None:
        self.directory = directory
        self.binary = directory / "obi"
        self.binary.write_text(f"#!{sys.executable} -IS\nimport os, signal, sys, time\n{body}\n")
        self.binary.chmod(0o755)
        self.config = directory / "config.yaml"
        self.config.write_text(CONFIG)
        self.launcher = AgentLauncher(directory, [str(self.binary)], manner)

    @property
    def record(self) -> Record:
        found = read_record(self.directory)
        assert found is not None
        return found

    async def start(self, **changes: Any) -> ProcessProof:
        effect = AgentStart(str(self.binary), str(self.config), CONFIG, (("OTEL_X", "1"),))
        return await self.launcher.start(ApprovedEffect(replace(effect, **changes), ALLOWED, Access.FULL))

    async def end(self, grace_s: float = 5.0) -> Record | None:
        effect = ApprovedEffect(AgentEnd(str(self.directory)), ALLOWED, Access.FULL)
        return await end_agent(effect, grace_s=grace_s)

    async def until(self, phase: str) -> Record:
        deadline = time.monotonic() + WITHIN_S
        while self.record.phase != phase or (phase in ("failed", "stopped") and lives(self.record.keeper)):
            assert time.monotonic() < deadline, f"{phase} was not reached: {self.record}"
            await asyncio.sleep(0.01)
        return self.record


@asynccontextmanager
async def host(directory: Path, body: str, manner: Manner = QUICK) -> AsyncIterator[Host]:
    made = Host(directory, body, manner)
    try:
        yield made
    finally:
        try:
            if kept(read_record(directory)):
                await made.end(0)
        finally:
            made.launcher.close()


PAUSE = "print('hello', flush=True)\nwhile True: signal.pause()"


def test_an_agent_outlives_its_launcher_and_ends_when_told(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with host(tmp_path, PAUSE) as one:
            proof = await one.start()
            record = await one.until("running")
            assert (record.agent.pid, record.agent.started) == (proof.pid, proof.started)
            assert os.getsid(record.keeper.pid) == record.keeper.pid
            held = {os.readlink(f"/proc/{record.keeper.pid}/fd/{stream}") for stream in range(3)}
            assert held == {os.devnull}
            one.launcher.close()
            assert lives(record.agent)
            with pytest.raises(ProgramFailed, match="another agent is kept in this directory already"):
                await one.start()
            ended = await one.end()
            assert ended is not None
            assert (ended.phase, ended.exits[-1].signal) == ("stopped", signal.SIGTERM)
            assert not lives(record.agent)
            assert not (tmp_path / "keeper.sock").exists()

    asyncio.run(scenario())


def test_one_that_does_not_end_is_killed_after_its_grace(tmp_path: Path) -> None:
    body = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('ready', flush=True)\nwhile True: signal.pause()"

    async def scenario() -> None:
        async with host(tmp_path, body) as one:
            await one.start()
            while not one.record.first_lines:
                await asyncio.sleep(0.01)
            ended = await one.end(0.05)
            assert ended is not None
            assert ended.exits[-1].signal == signal.SIGKILL

    asyncio.run(scenario())


def test_a_crash_loop_is_given_up_and_named(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with host(tmp_path, "print('about to crash', flush=True)\nos.kill(os.getpid(), signal.SIGSEGV)") as one:
            await one.start()
            record = await one.until("failed")
            assert record.why.startswith("it crashed 4 times in a row, the last time with signal 11")
            assert (record.restarts, len(record.exits), record.last_lines) == (3, 4, ("about to crash",) * 4)
            text = (tmp_path / LOG).read_text()
            assert text.count("about to crash") == 4
            assert "not started again: it crashed 4 times" in text

    asyncio.run(scenario())


def test_one_that_gives_up_at_once_is_not_started_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with host(tmp_path, "print('wrong configuration'); sys.exit(255)") as one:
            await one.start()
            record = await one.until("failed")
            assert (record.restarts, record.why.split(" after")[0]) == (0, "it gave up: exit code 255")
            assert record.last_lines == ("wrong configuration",)

    asyncio.run(scenario())


def test_one_that_waits_to_be_started_again_can_be_stopped(tmp_path: Path) -> None:
    manner = replace(QUICK, first_backoff_s=3000.0, most_backoff_s=3000.0)

    async def scenario() -> None:
        async with host(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)", manner) as one:
            await one.start()
            record = await one.until("waiting")
            assert (record.restarts, record.next_start > time.time()) == (1, True)
            ended = await one.end()
            assert ended is not None
            assert ended.phase == "stopped"

    asyncio.run(scenario())


REFUSED: list[tuple[dict[str, str], str]] = [
    ({"binary": "/bin/sh"}, "'/bin/sh' is not the program that was found at the start"),
    ({"config_path": "/etc/passwd"}, "/etc/passwd is not in"),
    ({"config": "another: 1\n"}, "is not the configuration that was judged"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED, ids=[row[1][:20] for row in REFUSED])
def test_the_launcher_itself_refuses_what_it_was_not_made_for(
    tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    async def scenario() -> None:
        async with host(tmp_path, PAUSE) as one:
            with pytest.raises(ProgramFailed, match=message):
                await one.start(**changes)

    asyncio.run(scenario())


def test_the_launcher_takes_only_variables_of_an_agents(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with host(tmp_path, PAUSE) as one:
            effect = AgentStart(str(one.binary), str(one.config), CONFIG, (("LD_PRELOAD", "/x"),))
            with pytest.raises(ProgramFailed, match="LD_PRELOAD is no variable of an agent's"):
                await one.launcher.start(ApprovedEffect(effect, ALLOWED, Access.FULL))

    asyncio.run(scenario())


ASKED: list[tuple[str, float, tuple[int, str, str] | str]] = [
    # what the program does, how long it may take, what it says
    (
        "print('configuration is valid', sys.argv[1:3], open(sys.argv[3]).read())",
        WITHIN_S,
        (0, "configuration is valid ['config', 'validate'] a: 1\n\n", ""),
    ),
    ("print('validation failed: x', file=sys.stderr); sys.exit(1)", WITHIN_S, (1, "", "validation failed: x\n")),
    ("time.sleep(1000)", 0.3, "gave no answer within 0.3 s and was ended"),
]


@pytest.mark.parametrize(("body", "within_s", "wanted"), ASKED)
def test_the_program_itself_is_asked_about_a_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, within_s: float, wanted: tuple[int, str, str] | str
) -> None:
    start = launcher.START.replace(
        "import main;", f"import main; import obi_mcp.process.agent_launcher as own; own.CHECK_S = {within_s};"
    )
    monkeypatch.setattr(launcher, "START", start)

    async def scenario() -> None:
        async with host(tmp_path, body) as one:
            effect = ApprovedEffect(AgentCheck(str(one.binary), "v0.12.0", CONFIG), ALLOWED, Access.FULL)
            if isinstance(wanted, str):
                with pytest.raises(ProgramFailed, match=wanted):
                    await one.launcher.check(effect)
            else:
                answer = await one.launcher.check(effect)
                assert (answer.exit_code, answer.stdout, answer.stderr) == wanted
            await one.start()  # it still starts and reaps
            assert one.record.keeper.pid

    asyncio.run(scenario())


def test_a_program_that_cannot_be_executed_is_said(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with host(tmp_path, PAUSE) as one:
            one.binary.write_bytes(b"\x7fELF nothing")
            with pytest.raises(ProgramFailed, match="cannot be executed: Exec format error"):
                await one.start()
            assert one.record.phase == "failed"

    asyncio.run(scenario())


def test_only_a_process_that_is_the_one_that_was_meant_is_signalled(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with host(tmp_path, PAUSE) as one:
            own = proof_of(os.getpid())
            for seen, message in ((own, "does not run OBI"), (replace(own, started=own.started + 1), None)):
                effect = ApprovedEffect(AgentSignal(seen, seen), ALLOWED, Access.FULL)
                if message is None:
                    assert await one.launcher.signal(effect) is False
                else:
                    with pytest.raises(ProgramFailed, match=message):
                        await one.launcher.signal(effect)

    asyncio.run(scenario())


def test_a_record_that_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    assert read_record(tmp_path) is None
    for text in ("", "[]", "{", '{"phase": "running"}', '{"phase": 1, "agent": 3}'):
        (tmp_path / "agent.json").write_text(text)
        assert read_record(tmp_path) is None
    nothing = ProcessProof()
    record = Record("running", "/obi", "/c", "d", {"A": "b"}, nothing, proof_of(os.getpid()), 1.0)
    write_record(tmp_path, record)
    assert read_record(tmp_path) == record
    assert lives(record.agent)
    assert not lives(replace(record.agent, boot="another"))
    assert not lives(replace(record.agent, started=record.agent.started + 1))
    assert not lives(ProcessProof(1, 1, record.agent.boot))
