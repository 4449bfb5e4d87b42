"""What the real jq and text filters can do with command lines that the policy would never let through: nothing.

The last wall alone: no policy, the product's runner and launcher, the pinned programs.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from tests.faults.place import REDACTOR
from tests.unit.process.processes import descendants, wait_until
from tests.unit.process.test_faults_programs import command_line

from obi_mcp.config import Programs, Settings
from obi_mcp.policy.model import Access, Approved, Decision, Output
from obi_mcp.process.kernel import landlock_abi
from obi_mcp.process.runner import Completed, Runner

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(landlock_abi() == 0, reason="this kernel offers no Landlock"),
]
SECRET = "canary-of-a-file"


def with_runner(programs: Path, use: Callable[[Runner], Awaitable[None]]) -> None:
    async def main() -> None:
        runner = Runner(Settings(programs=Programs(path=(str(programs),))), REDACTOR)
        try:
            await use(runner)
        finally:
            await runner.close()

    asyncio.run(main())


async def run(runner: Runner, *argv: str, source: AsyncIterator[bytes] | None = None) -> Completed:
    line = Approved(Decision("allow", "test", "a test", Access.READ_ONLY), (("kubectl",),), (argv,), None, Output())
    return await runner.run(line, timeout_s=120, max_bytes=10_000, head_source=source or once(b"{}\n"))


async def once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield b"{}\n"
        await asyncio.sleep(0)


READING: list[tuple[str, ...]] = [
    ("jq", "-n", "-R", "[inputs]", "FILE"),
    ("jq", "-n", "--rawfile", "x", "FILE", "$x"),
    ("jq", "-n", "--slurpfile", "x", "FILE", "$x"),
    ("jq", "-n", "-f", "FILE"),
    ("jq", "-n", "-L", "FOLDER", 'import "data" as $d; $d'),
    ("jq", "-n", "-L", "/etc", 'include "passwd"; 1'),
    ("grep", "-r", "", "FOLDER"),
    ("grep", "-f", "FILE", "-e", "canary"),
    ("head", "FILE"),
    ("tail", "-n", "5", "FILE"),
    ("sort", "FILE"),
    ("sort", "--files0-from=FILE"),
    ("uniq", "FILE"),
    ("wc", "-c", "FILE"),
    ("cut", "-c1-99", "FILE"),
    ("head", "-c", "100", "/proc/self/environ"),
    ("head", "-c", "100", "/etc/passwd"),
    ("grep", "-c", "", "/dev/shm"),
]


@pytest.mark.parametrize("argv", READING, ids=" ".join)
def test_no_filter_reads_a_file(programs_bin: Path, tmp_path: Path, argv: tuple[str, ...]) -> None:
    for name in ("file.json", "data.json"):
        (tmp_path / name).write_text(f'"{SECRET}"\n')
    words = [word.replace("FILE", f"{tmp_path}/file.json").replace("FOLDER", str(tmp_path)) for word in argv]

    async def use(runner: Runner) -> None:
        completed = await run(runner, *words)
        assert SECRET.encode() not in completed.stdout + completed.stderr
        assert b"root:" not in completed.stdout
        assert completed.exit_code != 0, completed.stdout

    with_runner(programs_bin, use)


def test_a_filter_has_no_variables_of_the_servers(programs_bin: Path) -> None:
    async def use(runner: Runner) -> None:
        completed = await run(runner, "jq", "-nc", "env | keys")
        assert completed.stdout == b'["LC_ALL","MALLOC_ARENA_MAX"]\n'

    with_runner(programs_bin, use)


@pytest.mark.parametrize("argv", [("sort", "-o", "FILE"), ("uniq", "-", "FILE"), ("sort", "-T", "FOLDER")])
def test_no_filter_writes_a_file(programs_bin: Path, tmp_path: Path, argv: tuple[str, ...]) -> None:
    words = [word.replace("FILE", f"{tmp_path}/file").replace("FOLDER", str(tmp_path)) for word in argv]

    async def use(runner: Runner) -> None:
        completed = await run(runner, *words, source=once(b"\n" * 12_000_000))
        assert completed.exit_code != 0
        assert list(tmp_path.iterdir()) == []

    with_runner(programs_bin, use)


def test_a_running_filter_is_held_by_every_layer(programs_bin: Path) -> None:
    async def use(runner: Runner) -> None:
        running = asyncio.ensure_future(run(runner, "jq", "select(false)", source=endless()))
        await asyncio.to_thread(wait_until, lambda: bool(filters()), "jq runs")
        (pid,) = filters()
        facts = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        assert (facts["NoNewPrivs"], facts["Seccomp"]) == ("1", "2")
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert f"{512 << 20}" in limits
        opened = {os.readlink(f"/proc/{pid}/fd/{number}").partition(":")[0] for number in os.listdir(f"/proc/{pid}/fd")}
        assert opened == {"pipe"}, "no file and no socket is open"
        running.cancel()
        await asyncio.wait([running])

    with_runner(programs_bin, use)


def filters() -> list[int]:
    return [pid for pid in descendants(os.getpid()) if command_line(pid).startswith(b"jq\0select")]
