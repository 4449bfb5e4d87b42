"""Pipelines of real filters: what flows, what is cut, who is to blame, and that nothing is left."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.faults.place import PERL
from tests.unit.process.processes import descendants, nothing_left, wait_until

from obi_mcp.config import Limits, Settings
from obi_mcp.errors import Busy, ProgramFailed, ProgramMissing
from obi_mcp.policy.model import Access, Approved, Decision, Output
from obi_mcp.process import sandbox
from obi_mcp.process.launcher import SPARES
from obi_mcp.process.runner import Completed, Runner, TimedOut
from obi_mcp.redact import Redactor

REDACTOR = Redactor.load()
NO_KUBECONFIG = {"HOME": "/nowhere", "PATH": "/usr/bin:/bin"}


def approved(*filters: str, output: Output = Output(), members: frozenset[str] | None = None) -> Approved:  # noqa: B008
    """A line whose head was read by the server itself; filters as words separated by blanks."""
    decision = Decision("allow", "test", "a test", Access.READ_ONLY)
    return Approved(
        decision, (("kubectl",),), tuple(tuple(line.split()) for line in filters), None, output, members=members
    )


async def chunks(*data: bytes) -> AsyncIterator[bytes]:
    for chunk in data:
        yield chunk


async def endless(chunk: bytes) -> AsyncIterator[bytes]:
    while True:
        yield chunk
        await asyncio.sleep(0)


async def silent() -> AsyncIterator[bytes]:
    await asyncio.Event().wait()
    yield b""


def within(work: Callable[[Runner], Awaitable[None]], limits: Limits | None = None, path: str = "") -> None:
    """Runs ``work`` with a runner, whose programs come from ``path`` first; afterwards nothing may be left."""
    environ = {**NO_KUBECONFIG, "PATH": f"{path}:{NO_KUBECONFIG['PATH']}" if path else NO_KUBECONFIG["PATH"]}
    asyncio.run(asyncio.sleep(0))
    place = tempfile.mkdtemp(dir="/tmp")

    async def main() -> None:
        runner = Runner(Settings(limits=limits or Limits()), REDACTOR, environ=environ | {"XDG_RUNTIME_DIR": place})
        try:
            await work(runner)
            assert not runner.directory.root.exists() or not os.listdir(runner.directory.path("tmp"))
        finally:
            await runner.close()

    with nothing_left():
        asyncio.run(main())
        os.rmdir(place)


async def run(
    runner: Runner, line: Approved, *data: bytes, timeout_s: float = 30, max_bytes: int = 100_000
) -> Completed:
    return await runner.run(line, timeout_s=timeout_s, max_bytes=max_bytes, head_source=chunks(*data))


LINES = b"b 2\na 1\nb 2\nc token=abc\n"

FLOWS: list[tuple[tuple[str, ...], bytes, int]] = [
    ((), b"b 2\na 1\nb 2\nc token=[redacted]\n", 0),
    (("grep -c b",), b"2\n", 0),
    (("grep nothing",), b"", 1),
    (("sort", "uniq -c", "sort -rn", "head -n 1"), b"      2 b 2\n", 0),
    (("cut -d= -f2", "tail -n 1"), b"[redacted]\n", 0),
    (("tr a-z A-Z", "wc -l"), b"4\n", 0),
    (("grep abc",), b"", 1),
    (("head -n 1", "cut -c1"), b"b\n", 0),
]


@pytest.mark.parametrize(("filters", "printed", "code"), FLOWS, ids=[" | ".join(row[0]) or "none" for row in FLOWS])
def test_what_the_filters_print_comes_out(filters: tuple[str, ...], printed: bytes, code: int) -> None:
    async def work(runner: Runner) -> None:
        completed = await run(runner, approved(*filters), LINES[:9], LINES[9:])
        assert (completed.stdout, completed.exit_code, completed.truncated) == (printed, code, False)
        assert completed.failed is False

    within(work)


def test_what_filters_make_of_it_is_redacted_once_more() -> None:
    async def work(runner: Runner) -> None:
        completed = await run(runner, approved("tr X =", "cut -c1-100"), b"tokenXhunter2\n")
        assert completed.stdout == b"token=[redacted]\n"

    within(work)


def test_what_filters_say_of_errors_is_redacted() -> None:
    async def work(runner: Runner) -> None:
        completed = await run(runner, approved('jq error("password=hunter2")'), b"1\n")
        assert (completed.exit_code, b"hunter2" in completed.stderr) == (5, False)
        assert b"password=[redacted]" in completed.stderr

    within(work)


def test_a_bad_pattern_is_a_failure_and_says_so() -> None:
    async def work(runner: Runner) -> None:
        completed = await run(runner, approved("grep -E a)("), LINES)
        assert (completed.exit_code, completed.failed) == (2, True)
        assert b"grep" in completed.stderr

    within(work)


FAILURES: list[tuple[tuple[str, ...], int, bytes]] = [
    (("tr a",), 1, b"tr: missing operand"),
    (("uniq -f -1",), 1, b"uniq: -1: invalid number of fields to skip"),
    (("cut -f 0",), 1, b"cut:"),
    (("head -n x",), 1, b"head: invalid number of lines"),
    (("tr a", "wc -l"), 1, b"tr: missing operand"),
    (("sort", "tr a"), 1, b"tr: missing operand"),
]


@pytest.mark.parametrize(("filters", "code", "says"), FAILURES, ids=[" | ".join(row[0]) for row in FAILURES])
def test_a_filter_that_fails_at_once_is_to_blame_however_much_more_comes(
    filters: tuple[str, ...], code: int, says: bytes
) -> None:
    async def work(runner: Runner) -> None:
        for source in (chunks(LINES), endless(LINES)):
            completed = await runner.run(approved(*filters), timeout_s=30, max_bytes=1000, head_source=source)
            assert (completed.exit_code, completed.failed) == (code, True)
            assert says in completed.stderr

    within(work)


def test_sort_keeps_to_memory_and_says_when_that_is_not_enough() -> None:
    raw = Output(head="raw")
    block = b"".join(b"%08d %s\n" % (number * 7919 % 10_000, b"x" * 990) for number in range(1000))

    async def repeated(block: bytes, times: int) -> AsyncIterator[bytes]:
        for _ in range(times):
            yield block

    async def work(runner: Runner) -> None:
        line = approved("sort -r", "head -n 1", "cut -c1-8", output=raw)
        completed = await runner.run(line, timeout_s=60, max_bytes=1000, head_source=repeated(block, 100))
        assert (completed.stdout, completed.exit_code) == (b"00009991\n", 0)
        # What sort notes of each line counts too, so many short ones are too much sooner.
        many = repeated(b"\n" * 1_000_000, 12)
        completed = await runner.run(approved("sort", "wc -l"), timeout_s=60, max_bytes=1000, head_source=many)
        assert completed.exit_code == 2 and completed.failed
        assert b"sort: cannot create temporary file" in completed.stderr

    within(work)


@pytest.mark.skipif(not os.path.exists(PERL), reason="the double of a slow uniq needs Perl, and it is not here")
def test_a_filter_that_fails_slowly_is_not_ended_before_it_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ``sort`` does, it says why and closes its output before it ends; the one after it is done in between."""
    rules = sandbox._filter_rules  # Perl opens the null device as the file of what stands after -e
    monkeypatch.setattr(
        sandbox, "_filter_rules", lambda path: replace(rules(path), read=(os.devnull, *rules(path).read))
    )
    (tmp_path / "uniq").symlink_to(PERL)
    fails = 'print(STDERR"no~room");close(STDOUT);select(undef,undef,undef,0.4);exit(3)'

    async def work(runner: Runner) -> None:
        line = approved(f"uniq -e {fails}", "wc -l")
        completed = await runner.run(line, timeout_s=30, max_bytes=1000, head_source=endless(b"x\n" * 100_000))
        assert (completed.stdout, completed.stderr, completed.exit_code) == (b"0\n", b"no~room", 3)

    within(work, path=str(tmp_path))


def test_a_filter_that_has_enough_ends_the_head() -> None:
    async def work(runner: Runner) -> None:
        line = approved("head -n 2")
        completed = await runner.run(line, timeout_s=60, max_bytes=100, head_source=endless(b"x\n" * 1000))
        assert (completed.stdout, completed.exit_code, completed.truncated) == (b"x\nx\n", 0, False)

    within(work)


@pytest.mark.parametrize("filters", [(), ("tr x y",), ("tr x y", "grep y")])
def test_a_spent_budget_ends_everything(filters: tuple[str, ...]) -> None:
    async def work(runner: Runner) -> None:
        line = approved(*filters)
        completed = await runner.run(line, timeout_s=60, max_bytes=1000, head_source=endless(b"x" * 99 + b"\n"))
        assert (len(completed.stdout), completed.exit_code, completed.truncated) == (1000, 0, True)
        assert completed.cut is not None and "cut after 1000 bytes; at least" in completed.cut
        assert "give max_bytes up to 1000000" in completed.cut

    within(work)


def test_a_list_is_cut_between_items_and_stays_json() -> None:
    items = [{"metadata": {"uid": str(number)}, "text": "x" * 100} for number in range(100)]
    text = json.dumps({"apiVersion": "v1", "items": items, "kind": "List"}, indent=4).encode()

    async def work(runner: Runner) -> None:
        completed = await run(runner, approved(output=Output("json")), text, max_bytes=5_000)
        value = json.loads(completed.stdout)
        assert completed.truncated and 10 < len(value["items"]) < 50 and value["kind"] == "List"
        assert completed.cut is not None and "between two items" in completed.cut

    within(work)


def test_what_is_not_obis_reaches_no_filter() -> None:
    items = [{"metadata": {"uid": uid, "name": f"canary-{uid}"}} for uid in ("theirs", "ours", "")]
    text = json.dumps({"apiVersion": "v1", "items": items, "kind": "List"}).encode()
    output = Output("json", confine=True)

    async def work(runner: Runner) -> None:
        completed = await run(
            runner, approved("grep -o canary-[a-z]*", output=output, members=frozenset({"ours"})), text
        )
        assert (completed.stdout, completed.dropped) == (b"canary-ours\n", 2)
        with pytest.raises(ProgramFailed, match="did not print the JSON"):
            await run(runner, approved("grep canary", output=output), b"canary-text\n")

    within(work)


def test_raw_answers_are_untouched_and_never_cut_short() -> None:
    async def work(runner: Runner) -> None:
        line = approved(output=Output("raw"))
        assert (await run(runner, line, b"token=abc\n")).stdout == b"token=abc\n"
        with pytest.raises(ProgramFailed, match="more than the server reads"):
            await run(runner, line, b"x" * 2000, max_bytes=1000)

    within(work)


def test_the_deadline_ends_everything_and_keeps_what_had_come() -> None:
    async def source() -> AsyncIterator[bytes]:
        yield b"first token=abc\n" * 10
        async for chunk in silent():
            yield chunk

    async def work(runner: Runner) -> None:
        for line in (approved(), approved("cut -c1-100")):
            with pytest.raises(TimedOut, match=r"did not finish within 0\.3 s") as caught:
                await runner.run(line, timeout_s=0.3, max_bytes=1000, head_source=source())
            partial = caught.value.partial
            assert partial.stdout in {b"first token=[redacted]\n" * 10, b""} and partial.exit_code == 124

    within(work)


@pytest.mark.parametrize("filters", [(), ("grep x",), ("sort", "uniq", "head -n 3")])
def test_cancelled_it_leaves_nothing(filters: tuple[str, ...]) -> None:
    async def work(runner: Runner) -> None:
        others = descendants(os.getpid())
        await run(runner, approved("wc -l"), b"")

        def idle() -> bool:
            """The launcher and its spares are there, and nothing else."""
            return len(descendants(os.getpid(), beside=others)) == 1 + SPARES

        await asyncio.to_thread(wait_until, idle, "the spares are there")
        for source in (silent(), endless(b"x\n")):
            task = asyncio.create_task(
                runner.run(approved(*filters), timeout_s=60, max_bytes=10**9, head_source=source)
            )
            if filters:
                await asyncio.to_thread(wait_until, lambda: _named(filters) > 0, "the filters run")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert _named(filters) == 0
        await asyncio.to_thread(wait_until, idle, "only spares are left")

    within(work)


def test_cancelled_again_while_it_ends_its_processes_it_ends_them_all_the_same() -> None:
    async def work(runner: Runner) -> None:
        for _ in range(5):
            task = asyncio.create_task(
                runner.run(approved("sort", "uniq"), timeout_s=60, max_bytes=100, head_source=silent())
            )
            await asyncio.to_thread(wait_until, lambda: _named(("sort", "uniq")) == 2, "the filters run")
            for _ in range(3):
                task.cancel()
                await asyncio.sleep(0)
            with pytest.raises(asyncio.CancelledError):
                await task
            assert _named(("sort", "uniq")) == 0 and not os.listdir(runner.directory.path("tmp"))

    within(work)


def _named(filters: tuple[str, ...]) -> int:
    """How many of our descendants are these filters."""
    names = {line.split()[0] for line in filters}
    count = 0
    for pid in descendants(os.getpid()):
        try:
            count += Path(f"/proc/{pid}/comm").read_text().strip() in names
        except (FileNotFoundError, ProcessLookupError):
            continue
    return count


def test_closing_the_server_ends_what_runs() -> None:
    async def work(runner: Runner) -> None:
        task = asyncio.create_task(runner.run(approved("grep x"), timeout_s=60, max_bytes=1000, head_source=silent()))
        await asyncio.to_thread(wait_until, lambda: _named(("grep",)) > 0, "the filter runs")
        await runner.close()
        assert _named(("grep",)) == 0
        with pytest.raises(ProgramFailed, match="the server is closing"):
            await run(runner, approved("wc -l"), b"")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    within(work)


def test_a_server_that_runs_nothing_leaves_nothing() -> None:
    place = tempfile.mkdtemp(dir="/tmp")
    runner = Runner(Settings(), REDACTOR, environ={"XDG_RUNTIME_DIR": place})
    assert os.listdir(place) == []
    asyncio.run(runner.close())
    os.rmdir(place)


def test_more_calls_than_places_wait_and_too_many_are_told_so() -> None:
    async def work(runner: Runner) -> None:
        gate = asyncio.Event()

        async def gated() -> AsyncIterator[bytes]:
            await gate.wait()
            yield b"x\n"

        def call() -> asyncio.Task[Completed]:
            return asyncio.create_task(runner.run(approved("wc -l"), timeout_s=60, max_bytes=100, head_source=gated()))

        running = [call() for _ in range(5)]
        await asyncio.sleep(0)
        with pytest.raises(Busy, match="2 commands are running and 3 are waiting"):
            await call()
        gate.set()
        assert [completed.stdout for completed in await asyncio.gather(*running)] == [b"1\n"] * 5
        assert (await run(runner, approved("wc -l"), b"")).stdout == b"0\n"

    within(work, Limits(max_children=2, max_waiting=3))


def test_a_hundred_calls_at_once_all_succeed() -> None:
    async def work(runner: Runner) -> None:
        calls = [run(runner, approved("grep -c x", "tr 0-9 a-j"), b"x\n" * number) for number in range(1, 101)]
        done = await asyncio.gather(*calls)
        digits = str.maketrans("abcdefghij", "0123456789")
        assert [int(completed.stdout.decode().translate(digits)) for completed in done] == list(range(1, 101))

    within(work)


def test_filters_have_no_files_and_no_memory_without_end() -> None:
    async def work(runner: Runner) -> None:
        # The policy lets no such operand through; the sandbox does not either.
        completed = await run(runner, approved("cut -c1-9 /etc/passwd"), b"")
        facts = await runner.kernel()
        assert facts.landlock == 0 or (completed.exit_code, completed.stdout) == (1, b"")
        completed = await run(runner, approved("grep -E " + "(" * 4 + "x{1,250}" + "){1,250}" * 4), LINES)
        assert completed.failed and completed.stdout == b""

    within(work)


def test_a_stage_that_is_not_installed_is_named() -> None:
    async def work(runner: Runner) -> None:
        with pytest.raises(ProgramMissing, match="yq is not installed"):
            await run(runner, approved("yq ."), b"")

    within(work)


def test_an_error_of_the_source_is_the_callers() -> None:
    async def source() -> AsyncIterator[bytes]:
        yield b"x\n"
        raise ProgramFailed("the pod does not answer")

    async def work(runner: Runner) -> None:
        for line in (approved(), approved("wc -l")):
            with pytest.raises(ProgramFailed, match="the pod does not answer"):
                await runner.run(line, timeout_s=60, max_bytes=100, head_source=source())

    within(work)


def test_progress_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("obi_mcp.process.pipeline._PROGRESS_S", 0.0)
    told: list[Any] = []

    async def tell(received: int) -> None:
        told.append(received)

    async def work(runner: Runner) -> None:
        await runner.run(approved(), timeout_s=60, max_bytes=100, head_source=chunks(b"x\n", b"y\n"), progress=tell)
        assert told

    within(work)
