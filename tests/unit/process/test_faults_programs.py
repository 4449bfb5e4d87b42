"""Faults of the programs themselves: what the caller gets, to the word, and that nothing is left. docs/faults.md.

kubectl is a double (``tests/faults/place.py``); the road to it is the real one.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator
from typing import Any

import pytest
from tests.faults.place import API_VERSIONS, PERL, Call, Place, on_the_road, place
from tests.unit.process.processes import descendants, wait_until

pytestmark = pytest.mark.skipif(not os.path.exists(PERL), reason="the kubectl double needs Perl, and it is not here")


@pytest.fixture
def at() -> Iterator[Place]:
    with place() as made:
        yield made


Expected = dict[str, Any]


def fits(structured: dict[str, Any], expected: Expected, what: str = "") -> None:
    """Every expected field is there: texts as regular expressions, everything else as it is."""
    for name, value in expected.items():
        got = structured.get(name)
        if isinstance(value, str):
            assert isinstance(got, str) and re.search(value, got, re.S), (what, name, structured)
        else:
            assert got == value, (what, name, structured)


HANG = "sleep 1000 while 1"
SHORT_S = (0.3, 2.0, 10.0, 60.0)
DEAF = "$SIG{TERM} = $SIG{INT} = $SIG{HUP} = 'IGNORE'; " + HANG
LATE = {
    "code": "^timeout$",
    "message": r"^the command did not finish within [\d.]+ s, and its processes have been ended$",
    "hint": r"^ask for less \(a selector, --tail, --since\), or give timeout_s up to 300$",
}
FAULTS: list[tuple[str, str, Expected]] = [
    ("hangs", HANG, LATE),
    ("hangs and does not hear TERM", DEAF, LATE),
    (
        "hangs with something printed",
        f"print qq(v1\\ntoken=hunter2\\n); {HANG}",
        {**LATE, "stdout": r"^v1\ntoken=\[redacted\]\n$"},
    ),
    ("hangs having closed its output", f"close STDOUT; close STDERR; {HANG}", LATE),
    ("is stopped", "kill 'STOP', $$; sleep 1000", LATE),
    ("is ended by TERM", "kill 'TERM', $$; sleep 9", {"exit_code": 143, "stdout": "^$"}),
    ("is ended by KILL", "kill 'KILL', $$; sleep 9", {"exit_code": 137, "stdout": "^$"}),
    ("crashes", "kill 'SEGV', $$; sleep 9", {"exit_code": 139, "stdout": "^$"}),
    ("crashes after half a line", "print 'apps/v'; kill 'SEGV', $$; sleep 9", {"exit_code": 139, "stdout": "^apps/v$"}),
    (
        "prints bytes that are no UTF-8",
        r"print qq(\xff\xfe a\x80b \xc3\x28\n\x00\x1b[31mred\n)",
        {"exit_code": 0, "stdout": "\ufffd", "stripped": 6},
    ),
    ("says nothing and fails", "exit 7", {"exit_code": 7, "stdout": "^$", "stderr": "^$"}),
    (
        "prints without end to standard error",
        "my $line = 'e' x 999; print STDERR qq($line\\n) for 1 .. 5000; exit 3",
        {"exit_code": 3, "stderr": "bytes left out"},
    ),
    (
        "leaves a process behind that left its group",
        "unless (fork) { require POSIX; POSIX::setsid(); sleep 1000 } print qq(v1\\n)",
        {"exit_code": 0, "stdout": "^v1$"},
    ),
]


@pytest.mark.parametrize(("behaviour", "expected"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS])
def test_a_kubectl_that(at: Place, behaviour: str, expected: Expected) -> None:
    async def use(call: Call) -> None:
        at.behave("exit 0")
        await call(API_VERSIONS)  # the launcher is there, and knows which kubectl this is
        at.behave(behaviour)
        late = expected.get("code") == "^timeout$"
        result = await call(API_VERSIONS, **({"timeout_s": SHORT_S[0]} if late else {}))
        for timeout_s in SHORT_S[1:]:
            if late and "stdout" in expected and not result.structured.get("stdout"):
                # It had not come so far; a slow machine needs more.
                result = await call(API_VERSIONS, timeout_s=timeout_s)
        fits(result.structured, expected)
        assert result.is_error is late
        at.behave("print qq(v1\\n)")
        assert (await call(API_VERSIONS)).structured["stdout"] == "v1\n", "the next call is none the worse"

    on_the_road(at, use)


def test_every_exit_code_is_the_callers_to_see(at: Place) -> None:
    async def use(call: Call) -> None:
        for first in range(0, 256, 16):
            codes = range(first, first + 16)
            commands = [f"{API_VERSIONS} --request-timeout={code + 1}s" for code in codes]
            results = await asyncio.gather(*(call(command, timeout_s=300) for command in commands))
            assert [result.structured["exit_code"] for result in results] == list(codes)
            assert not any(result.is_error for result in results)

    at.behave("my ($s) = map { /request-timeout=(\\d+)s/ ? $1 : () } @ARGV; exit $s - 1")
    on_the_road(at, use)


def test_200_mb_cost_a_bounded_amount_of_memory_and_say_what_was_cut(at: Place) -> None:
    async def use(call: Call) -> None:
        at.behave("my $block = ('x' x 999 . qq(\\n)) x 100; print $block for 1 .. 2000")
        result = await call(API_VERSIONS)
        fits(result.structured, {"truncated": True, "cut": r"^the output was cut after \d+ bytes; at least \d+ bytes"})
        assert len(result.structured["stdout"]) <= 100_000

    on_the_road(at, use)


def test_a_kubectl_that_is_deleted_while_the_server_runs(at: Place) -> None:
    async def use(call: Call) -> None:
        assert (await call(API_VERSIONS)).structured["exit_code"] == 0
        at.kubectl.rename(at.kubectl.with_name("elsewhere"))
        gone = await call(API_VERSIONS)
        fits(
            gone.structured,
            {
                "code": "^program_missing$",
                "message": f"^kubectl is no longer at {at.kubectl}: No such file or directory$",
                "hint": "^restart the server when it is back$",
            },
        )
        at.kubectl.with_name("elsewhere").rename(at.kubectl)
        assert (await call(API_VERSIONS)).structured["exit_code"] == 0

    on_the_road(at, use)


def test_a_kubectl_that_may_not_be_run_any_more(at: Place) -> None:
    async def use(call: Call) -> None:
        assert (await call(API_VERSIONS)).structured["exit_code"] == 0
        at.kubectl.chmod(0o644)
        fits(
            (await call(API_VERSIONS)).structured,
            {"code": "^program_failed$", "message": r"^kubectl could not be started \(exec\): Permission denied$"},
        )

    on_the_road(at, use)


def test_another_kubectl_in_its_place_is_asked_for_its_version_first(at: Place) -> None:
    async def use(call: Call) -> None:
        assert (await call(API_VERSIONS)).structured["exit_code"] == 0
        text = at.kubectl.read_text()
        at.kubectl.write_text(text.replace('"gitVersion":"v1.', '"gitVersion":"v9.'))
        fits(
            (await call(API_VERSIONS)).structured,
            {"code": "^program_missing$", "message": r"is 9\.\S+, and the policy's grammar describes 1\."},
        )

    on_the_road(at, use)


def test_a_launcher_that_is_killed_ends_its_calls_and_the_next_starts_another(at: Place) -> None:
    async def use(call: Call) -> None:
        at.behave("print qq(v1\\n)")
        await call(API_VERSIONS)
        at.behave(HANG)
        running = asyncio.ensure_future(call(API_VERSIONS))
        launcher = next(pid for pid in descendants(os.getpid()) if is_launcher(pid))
        await asyncio.to_thread(wait_until, lambda: doubles(at) == 1, "kubectl runs")
        os.kill(launcher, 9)
        ended = (await running).structured
        assert ended["exit_code"] == 137
        await asyncio.to_thread(wait_until, lambda: doubles(at) == 0, "kubectl has died with it")
        at.behave("print qq(v1\\n)")
        assert (await call(API_VERSIONS)).structured["stdout"] == "v1\n"

    on_the_road(at, use)


def is_launcher(pid: int) -> bool:
    return b"obi_mcp.process.launcher" in command_line(pid) and os.getpgid(pid) == pid and parent(pid) == os.getpid()


def parent(pid: int) -> int:
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])


def command_line(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except OSError:
        return b""


def doubles(at: Place) -> int:
    """How many kubectls of this place run."""
    return sum(str(at.kubectl).encode() in command_line(pid) for pid in descendants(os.getpid()))
