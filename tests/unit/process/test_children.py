"""Children: how they are confined, and that nothing of them is left, however they, the launcher or the server end."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.unit.process.processes import alive, descendants, nothing_left, wait_until

from obi_mcp.errors import ProgramFailed
from obi_mcp.process.children import Child, Children, Ended, Launch, Rules, settled
from obi_mcp.process.kernel import landlock_abi

ROOT = Path(__file__).parents[3]
EVERYWHERE = Rules(read=("/",), execute=("/",), network=True)
NO_LANDLOCK = landlock_abi() == 0
Limits = tuple[tuple[int, int, int], ...]


def shell(script: str, *, rules: Rules | None = None, sockets: bool = True, limits: Limits = ()) -> Launch:
    env = {"PATH": "/usr/bin:/bin", "MARK": "é"}
    return Launch("/bin/sh", ("sh", "-c", script), env, "/", limits, rules, sockets)


def python(script: str, *, rules: Rules | None = None, sockets: bool = True) -> Launch:
    real = os.path.realpath(sys.executable)
    return Launch(real, (real, "-I", "-S", "-c", script), {}, "/", (), rules, sockets)


def within(work: Callable[[Children], Awaitable[None]], children: Children | None = None) -> None:
    """Runs ``work`` with children of its own; afterwards no process and no descriptor may be left."""
    asyncio.run(asyncio.sleep(0))  # whatever the first loop of a process opens for good

    async def main() -> None:
        made = children or Children()
        try:
            await work(made)
        finally:
            await made.close()

    with nothing_left():
        asyncio.run(main())


async def run(children: Children, launch: Launch, stdin: bytes = b"") -> tuple[bytes, Ended]:
    """What it printed on both streams, and how it ended."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as data:
        data.write(stdin)
        data.seek(0)
        child = children.launch(launch, stdin=data.fileno(), stdout=out.fileno(), stderr=out.fileno())
        ended = await child.wait()
        out.seek(0)
        return out.read(), ended


def start(children: Children, launch: Launch, out: int) -> Child:
    null = os.open(os.devnull, os.O_RDONLY)
    try:
        return children.launch(launch, stdin=null, stdout=out, stderr=out)
    finally:
        os.close(null)


async def said(path: Path) -> list[int]:
    """The process ids that a script has written to a file, once it has written them all (a line ``.``)."""
    await asyncio.to_thread(
        wait_until, lambda: path.exists() and path.read_text().endswith(".\n"), f"{path} is written"
    )
    return [int(word) for word in path.read_text().split()[:-1]]


@pytest.mark.parametrize(
    ("script", "printed", "code", "ended_by"),
    [
        ("cat; echo out; echo err >&2; exit 3", b"in\nout\nerr\n", 3, 0),
        ("kill -9 $$", b"", 137, 9),
        ("kill -TERM $$", b"", 143, 15),
        (
            "echo $MARK; env | grep -v '^PWD=\\|^_=\\|^SHLVL=\\|^OLDPWD=' | sort",
            "é\nMARK=é\nPATH=/usr/bin:/bin\n".encode(),
            0,
            0,
        ),
        ("pwd", b"/\n", 0, 0),
        ("ls /proc/self/fd | wc -l", b"4\n", 0, 0),
        (
            "ps -o sid= -p $$ | tr -d ' ' > /dev/null; [ $(cut -d' ' -f6 /proc/$$/stat) = $$ ] && echo own session",
            b"own session\n",
            0,
            0,
        ),
        ("grep NoNewPrivs /proc/self/status", b"NoNewPrivs:\t1\n", 0, 0),
        (
            "grep 'SigIgn\\|SigBlk' /proc/self/status",
            b"SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n",
            0,
            0,
        ),
        ("umask", b"0077\n", 0, 0),
    ],
)
def test_a_child_gets_what_was_ordered_and_nothing_else(script: str, printed: bytes, code: int, ended_by: int) -> None:
    async def work(children: Children) -> None:
        out, ended = await run(children, shell(script), b"in\n")
        assert (out, ended.code, ended.signal) == (printed, code, ended_by)

    within(work)


def test_what_the_server_inherited_is_not_passed_on() -> None:
    # By the system call: the C library hides 32 and 33, and a CI runner is known to have them ignored.
    number = {"x86_64": 13, "aarch64": 134}.get(os.uname().machine)
    if number is None:
        pytest.skip("no number of rt_sigaction for this machine")
    script = f"""
import asyncio, ctypes, signal
libc = ctypes.CDLL(None)
for signum in (2, 32, 33, 34, 64):
    assert libc.syscall({number}, signum, (ctypes.c_uint64 * 4)(1, 0, 0, 0), None, ctypes.c_size_t(8)) == 0
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGTERM])
from tests.unit.process.test_children import Children, run, shell
async def main():
    children = Children()
    print((await run(children, shell("grep 'SigIgn\\|SigBlk' /proc/self/status")))[0].decode(), end="")
    await children.close()
asyncio.run(main())
"""
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout == "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"


def test_limits_hold() -> None:
    limits = ((resource.RLIMIT_NOFILE, 9, 9), (resource.RLIMIT_CORE, 0, 0), (resource.RLIMIT_FSIZE, 0, 0))

    async def work(children: Children) -> None:
        out, _ = await run(children, Launch("/bin/cat", ("cat", "/proc/self/limits"), {}, "/", limits))
        assert out == b""  # not a byte may be written to a file
        reading, writing = os.pipe()
        with open(reading, "rb") as pipe:
            start(children, Launch("/bin/cat", ("cat", "/proc/self/limits"), {}, "/", limits), writing)
            os.close(writing)
            lines = (await asyncio.to_thread(pipe.read)).decode().splitlines()
        rows = {line[:25].strip(): line[25:].split()[:2] for line in lines}
        assert rows["Max open files"] == ["9", "9"] and rows["Max core file size"] == ["0", "0"]

    within(work)


@pytest.mark.skipif(NO_LANDLOCK, reason="this kernel has no Landlock")
def test_landlock_leaves_only_what_is_listed(tmp_path: Path) -> None:
    (tmp_path / "may").mkdir()
    (tmp_path / "may" / "read").write_text("yes")
    (tmp_path / "must-not").write_text("canary")
    libraries = ("/lib", "/lib64", "/usr/lib")
    programs = ("/bin/cat", "/bin/sh", "/usr/bin/touch", *libraries)
    listed = Rules(read=(*libraries, str(tmp_path / "may")), execute=programs)
    writing = Rules(read=libraries, execute=programs, write=(str(tmp_path / "may"),))
    loose = Rules(write=(str(tmp_path / "may"),), everything=False, network=True)
    cases = [
        (listed, f"cat {tmp_path}/may/read", 0, b"yes"),
        (listed, f"cat {tmp_path}/must-not", 1, b"Permission denied"),
        (listed, f"cat {tmp_path}/may/../must-not", 1, b"Permission denied"),
        (listed, f"touch {tmp_path}/may/new", 1, b"Permission denied"),
        (listed, "/usr/bin/id", 126, b"Permission denied"),
        (writing, f"echo x > {tmp_path}/may/new && cat {tmp_path}/may/new", 0, b"x"),
        (writing, f"touch {tmp_path}/new", 1, b"Permission denied"),
        (loose, f"cat {tmp_path}/must-not && /usr/bin/id -u > {tmp_path}/may/id", 0, b"canary"),
        (loose, f"touch {tmp_path}/new", 1, b"Permission denied"),
    ]

    async def work(children: Children) -> None:
        for rules, script, code, text in cases:
            out, ended = await run(children, shell(script, rules=rules))
            assert (script, ended.code) == (script, code) and text in out

    within(work)


def test_rules_that_change_hold_for_spares_that_wait_already(tmp_path: Path) -> None:
    async def work(children: Children) -> None:
        for number in range(8):
            (tmp_path / str(number)).write_text("x")
            rules = Rules(
                read=("/lib", "/lib64", "/usr/lib", str(tmp_path / str(number))), execute=("/bin/cat", "/lib", "/lib64")
            )
            launch = Launch(
                "/bin/cat", ("cat", str(tmp_path / str(number)), str(tmp_path / str(number - 1))), {}, "/", (), rules
            )
            out, ended = await run(children, launch)
            assert NO_LANDLOCK or (out[:1], ended.code) == (b"x", 1)

    within(work)


@pytest.mark.parametrize(
    "attempt",
    [
        "import socket; socket.socket()",
        "import socket; socket.socket(socket.AF_UNIX)",
        "import socket; socket.socketpair()",
        "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
        "import ctypes; libc = ctypes.CDLL(None, use_errno=True); assert libc.ptrace(0, 0, 0, 0) == 0, libc",
    ],
)
def test_filters_get_no_sockets(attempt: str) -> None:
    async def work(children: Children) -> None:
        _, allowed = await run(children, python(attempt))
        assert allowed.code == 0
        out, refused = await run(children, python(attempt, sockets=False))
        assert refused.code == 1 and (b"Operation not permitted" in out or b"AssertionError" in out)

    within(work)


@pytest.mark.parametrize(
    ("launch", "says"),
    [
        (Launch("/nowhere/kubectl", ("kubectl",), {}, "/"), "kubectl could not be started (exec): No such file"),
        (Launch("/etc/passwd", ("jq",), {}, "/"), "jq could not be started (exec): Permission denied"),
        (Launch("/bin/true", ("true",), {}, "/nowhere"), "true could not be started (confine): No such file"),
        (
            Launch("/bin/true", ("true",), {}, "/", ((resource.RLIMIT_NOFILE, 9, 5),)),
            "true could not be started (confine)",
        ),
    ],
)
def test_what_cannot_be_started_says_why(launch: Launch, says: str) -> None:
    async def work(children: Children) -> None:
        with pytest.raises(ProgramFailed) as caught:
            await run(children, launch)
        assert caught.value.message.startswith(says)
        assert (await run(children, shell("echo still here")))[0] == b"still here\n"

    within(work)


def test_a_command_that_is_too_long_is_refused() -> None:
    async def work(children: Children) -> None:
        with pytest.raises(ProgramFailed, match="bytes with its environment"):
            await run(children, shell("x" * 300_000))

    within(work)


def test_many_children_at_once_are_all_told_apart() -> None:
    async def work(children: Children) -> None:
        outcomes = await asyncio.gather(
            *(run(children, shell(f"echo {number}; exit {number}")) for number in range(60))
        )
        assert [(int(out), ended.code) for out, ended in outcomes] == [(number, number) for number in range(60)]

    within(work)


@pytest.mark.parametrize(
    "script",
    [
        "echo $$ > {file}; echo . >> {file}; exec sleep 1000",
        "trap '' TERM; echo $$ > {file}; echo . >> {file}; while :; do sleep 1000; done",
        "sleep 1000 & echo $$ $! > {file}; echo . >> {file}; wait",
        "(trap '' TERM; sleep 1000) & echo $$ $! > {file}; echo . >> {file}; wait",
        "setsid sleep 1000 & echo $$ $! > {file}; echo . >> {file}; wait",
        "(setsid sh -c 'echo $$ > {file}; exec sleep 1000' &) ; echo $$ >> {file}.x; "
        "while ! [ -s {file} ]; do sleep 0.01; done; echo . >> {file}; exec sleep 1000",
        "echo $$ > {file}; echo . >> {file}; kill -STOP $$; exec sleep 1000",
    ],
    ids=[
        "plain",
        "deaf",
        "with a child",
        "with a deaf child",
        "with a child that left",
        "with an orphan that left",
        "stopped",
    ],
)
def test_ended_it_is_gone_with_all_that_it_started(script: str, tmp_path: Path) -> None:
    file = tmp_path / "pids"

    async def work(children: Children) -> None:
        with open(os.devnull, "wb") as null:
            child = start(children, shell(script.format(file=file)), null.fileno())
            pids = await said(file)
            assert all(map(alive, pids))
            children.end([child], grace_s=0.2)
            await settled([child])
        assert child.asked_to_end and child.ended is not None and child.ended.signal
        await asyncio.to_thread(wait_until, lambda: not any(map(alive, pids)), "all of it is gone")

    within(work)


def test_what_a_child_leaves_behind_goes_when_it_ends_by_itself(tmp_path: Path) -> None:
    file = tmp_path / "pids"

    async def work(children: Children) -> None:
        _, ended = await run(
            children, shell(f"sleep 1000 & echo $! > {file}; setsid sleep 1000 & echo $! . >> {file}; exit 4")
        )
        pids = await said(file)
        assert ended.code == 4
        await asyncio.to_thread(wait_until, lambda: not any(map(alive, pids)), "what it left is gone")

    within(work)


def test_a_child_may_be_ended_before_it_has_begun() -> None:
    async def work(children: Children) -> None:
        with open(os.devnull, "wb") as null:
            started = [start(children, shell("exec sleep 1000"), null.fileno()) for _ in range(10)]
            children.end(started, grace_s=0)
            await settled(started)
        assert [child.ended.signal if child.ended else 0 for child in started] == [signal.SIGKILL] * 10

    within(work)


def test_when_the_launcher_is_killed_its_children_die_and_the_next_has_a_new_one(tmp_path: Path) -> None:
    file = tmp_path / "pids"
    waited: list[int] = []

    async def work(children: Children) -> None:
        with open(os.devnull, "wb") as null:
            child = start(children, shell(f"echo $$ . > {file}; echo . >> {file}; exec sleep 1000"), null.fileno())
            await asyncio.to_thread(wait_until, lambda: file.exists() and file.read_text().endswith(".\n"), "it runs")
            waited.append(int(file.read_text().split()[0]))
            launcher = next(pid for pid in descendants(os.getpid()) if waited[0] in descendants(pid))
            os.kill(launcher, signal.SIGKILL)
            assert (await child.wait()).signal == signal.SIGKILL
            await asyncio.to_thread(wait_until, lambda: not alive(waited[0]), "the child is gone")
        assert (await run(children, shell("echo again")))[0] == b"again\n"

    within(work)


SERVER = """
import asyncio, os, sys
sys.path.insert(0, {server!r})
from obi_mcp.process.children import Children, Launch

async def main():
    children = Children({directory!r})
    null = os.open(os.devnull, os.O_RDWR)
    for script in sys.argv[1:]:
        launch = Launch("/bin/sh", ("sh", "-c", script), {{"PATH": "/usr/bin:/bin"}}, "/")
        children.launch(launch, stdin=null, stdout=null, stderr=null)
    await asyncio.sleep(1000)

asyncio.run(main())
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_when_the_server_is_gone_everything_is(how: signal.Signals, tmp_path: Path) -> None:
    directory = tmp_path / "private"
    (directory / "deep").mkdir(parents=True)
    script = (
        "trap '' TERM INT; setsid sleep 1000 & echo $! > {0}; echo $$ >> {0}; echo . >> {0}; "
        "while :; do sleep 1000; done"
    )
    files = [tmp_path / "one", tmp_path / "two"]
    code = SERVER.format(server=str(ROOT / "server"), directory=str(directory))
    server = subprocess.Popen(
        [sys.executable, "-c", code, *(script.format(file) for file in files)], stderr=subprocess.DEVNULL
    )
    try:
        pids = [pid for file in files for pid in asyncio.run(said(file))]
        below = descendants(server.pid)
        assert set(pids) <= below and all(map(alive, pids))
    finally:
        server.send_signal(how)
        server.wait()
    wait_until(lambda: not any(map(alive, below)), "every process below the server is gone")
    wait_until(lambda: not directory.exists(), "the private directory is gone")


def test_what_the_kernel_offers_is_known() -> None:
    async def work(children: Children) -> None:
        facts = await children.facts()
        assert facts.landlock == landlock_abi() and facts.seccomp is True

    within(work)
