"""The server's side of the launcher: start a child, hear of its end, end it with all that it started."""

from __future__ import annotations

import asyncio
import marshal
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from obi_mcp.errors import ProgramFailed
from obi_mcp.process.spare import MAX_MESSAGE_BYTES

_PACKAGE_ROOT = Path(__file__).resolve().parent.parent.parent
_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from obi_mcp.process.launcher import main; main(int(sys.argv[2]), int(sys.argv[3]))"
)
_SOCKET_BUFFER_BYTES = 1_048_576
_LEAVE_S = 5.0


@dataclass(frozen=True, slots=True)
class Rules:
    """Which files a child may use (Landlock). ``everything``: no others may even be read; else only writing is held."""

    read: tuple[str, ...] = ()
    execute: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    everything: bool = True
    network: bool = False
    stamp: str = ""
    """Changes when a listed file was replaced by another of the same name."""

    @property
    def key(self) -> str:
        """Equal rules have equal keys; the launcher makes each once."""
        return f"{hash(self):x}"


@dataclass(frozen=True, slots=True)
class Launch:
    """One child to start. ``path`` is the file, ``argv[0]`` what it is called; ``limits`` are rlimits: soft, hard."""

    path: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    limits: tuple[tuple[int, int, int], ...] = ()
    rules: Rules | None = None
    sockets: bool = True


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended. ``code`` is its exit code, or 128 + the signal's number; times in seconds, memory in KiB."""

    code: int
    signal: int = 0
    cpu_s: float = 0.0
    peak_kb: int = 0


@dataclass(slots=True, eq=False)
class Child:
    """A child that was started, or is about to be."""

    number: int
    program: str
    _ended: asyncio.Future[Ended]
    asked_to_end: bool = field(default=False)

    @property
    def ended(self) -> Ended | None:
        """How it ended; None while it lives, or when it never began."""
        if not self._ended.done() or self._ended.cancelled() or self._ended.exception():
            return None
        return self._ended.result()

    @property
    def gone(self) -> bool:
        """Whether nothing of it is left."""
        return self._ended.done()

    async def wait(self) -> Ended:
        """Raises: ProgramFailed when it could not be started."""
        return await asyncio.shield(self._ended)


async def settled(children: Iterable[Child]) -> None:
    """Waits until nothing of them is left. Cancelled, it leaves them as they are."""
    waiting = [child._ended for child in children if not child.gone]
    if waiting:
        await asyncio.wait(waiting)


@dataclass(frozen=True, slots=True)
class KernelFacts:
    """What holds children: the version of Landlock (0: none), and whether the seccomp filter fits this machine."""

    landlock: int
    seccomp: bool


class Children:
    """All children of one event loop. The launcher is started with the first, and again if it was killed."""

    def __init__(self, directory: str = "") -> None:
        """``directory``: removed by the launcher when the server is gone."""
        self._directory = directory
        self._control: socket.socket | None = None
        self._orders: socket.socket | None = None
        self._launcher: subprocess.Popen[bytes] | None = None
        self._living: dict[int, Child] = {}
        self._known_rules: set[str] = set()
        self._outbox: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._facts: asyncio.Future[KernelFacts] | None = None
        self._attached = False
        self._last = 0
        self._closed = False

    def launch(self, launch: Launch, *, stdin: int, stdout: int, stderr: int) -> Child:
        """Starts a child. The descriptors stay the caller's, who may close them at once.

        Raises: ProgramFailed when the launcher cannot be started, or the argument vector is too long.
        """
        self.start()
        self._last += 1
        child = Child(self._last, launch.argv[0], asyncio.get_running_loop().create_future())
        rules = _as_json(launch.rules) if launch.rules else None
        if launch.rules is not None and launch.rules.key not in self._known_rules:
            self._known_rules.add(launch.rules.key)
            self._tell({"do": "rules", "rules": rules})
        order = {
            "id": child.number,
            "path": launch.path,
            "argv": launch.argv,
            "env": dict(launch.env),
            "cwd": launch.cwd,
            "limits": launch.limits,
            "rules": rules,
            "sockets": launch.sockets,
        }
        self._order(order, (stdin, stdout, stderr))
        self._living[child.number] = child
        return child

    def end(self, children: Iterable[Child], *, grace_s: float = 1.0) -> None:
        """TERM to the groups of those that live, KILL after ``grace_s`` seconds (0: at once). Does not wait."""
        living = [child for child in children if child.number in self._living]
        for child in living:
            child.asked_to_end = True
        if living:
            self._tell({"do": "end", "ids": [child.number for child in living], "grace_s": grace_s})

    async def facts(self) -> KernelFacts:
        """What the kernel offers, for ``doctor``. Raises: ProgramFailed."""
        self.start()
        if self._facts is None:  # INVARIANT: start() made it
            raise ProgramFailed("the launcher did not start")
        return await asyncio.shield(self._facts)

    async def close(self) -> None:
        """Ends all children at once, and the launcher. Nothing of either is left afterwards."""
        self._closed = True
        if self._control is None or self._launcher is None:
            return
        launcher = self._launcher
        self._disconnect("the server is closing")
        await asyncio.to_thread(_leave, launcher)

    def start(self) -> None:
        """Starts the launcher if it does not run: about 20 ms, which need not be waited for. Raises: ProgramFailed."""
        self.start_launcher()
        if self._control is not None and not self._attached:
            loop = asyncio.get_running_loop()
            self._attached = True
            self._facts = loop.create_future()
            loop.add_reader(self._control.fileno(), self._receive)

    def start_launcher(self) -> None:
        """The launcher alone, before there is an event loop: it looks after the private directory from then on.

        Raises: ProgramFailed.
        """
        if self._control is not None:
            return
        if self._closed:
            raise ProgramFailed("the server is closing")
        control, its_control = _socket_pair()
        orders, its_orders = _socket_pair()
        with its_control, its_orders:
            ends = (its_control.fileno(), its_orders.fileno())
            command = [sys.executable, "-I", "-S", "-B", "-c", _START, str(_PACKAGE_ROOT), *map(str, ends)]
            try:
                self._launcher = subprocess.Popen(
                    command,
                    pass_fds=ends,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    env={"LC_ALL": "C.UTF-8"},
                    cwd="/",
                    start_new_session=True,
                )
            except OSError as error:
                control.close()
                orders.close()
                raise ProgramFailed(f"the launcher cannot be started: {error}") from None
        self._control, self._orders = control, orders
        if self._directory:
            self._tell({"do": "own", "directory": self._directory})

    def _tell(self, message: dict[str, Any]) -> None:
        if self._control is None:
            return
        try:
            self._control.send(marshal.dumps(message))
        except BlockingIOError:  # INVARIANT: control messages are few and small, the launcher reads them at once
            self._disconnect("it does not listen")
        except OSError:
            pass  # it is gone: the reader is told so, and every child with it

    def _order(self, order: dict[str, Any], descriptors: tuple[int, ...]) -> None:
        data = marshal.dumps(order)
        if len(data) > MAX_MESSAGE_BYTES:
            raise ProgramFailed(
                f"the command has {len(data)} bytes with its environment, the most is {MAX_MESSAGE_BYTES}",
                "send documents on standard input",
            )
        # Kept open until they have been sent, so that the caller may close its own at once.
        self._outbox.append((data, tuple(os.dup(descriptor) for descriptor in descriptors)))
        self._flush()

    def _flush(self) -> None:
        orders = self._orders
        while self._outbox and orders is not None:
            data, descriptors = self._outbox[0]
            try:
                socket.send_fds(orders, [data], list(descriptors))
            except BlockingIOError:
                asyncio.get_running_loop().add_writer(orders.fileno(), self._flush)
                return
            except OSError:
                pass  # it is gone: the reader is told so, and every child with it
            self._outbox.popleft()
            _close_all(descriptors)
        if orders is not None:
            asyncio.get_running_loop().remove_writer(orders.fileno())

    def _receive(self) -> None:
        while self._control is not None:
            try:
                data = self._control.recv(MAX_MESSAGE_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                launcher = self._launcher
                self._disconnect("the launcher was ended from outside")
                if launcher is not None:
                    asyncio.get_running_loop().run_in_executor(None, _leave, launcher)
                return
            self._heard(marshal.loads(data))

    def _heard(self, message: dict[str, Any]) -> None:
        if "ready" in message and self._facts is not None and not self._facts.done():
            self._facts.set_result(KernelFacts(**message["ready"]))
        elif "failed" in message:
            child = self._living[message["failed"]]
            reason = os.strerror(message["errno"]) if message["errno"] else "its confinement could not be made"
            _fail(child._ended, ProgramFailed(f"{child.program} could not be started ({message['step']}): {reason}"))
        elif "ended" in message:
            child = self._living.pop(message["ended"])
            if not child._ended.done():
                child._ended.set_result(_ended(message))

    def _disconnect(self, why: str) -> None:
        control, orders, self._control, self._orders = self._control, self._orders, None, None
        if control is None or orders is None:
            return
        if self._attached:
            self._attached = False
            loop = asyncio.get_running_loop()
            loop.remove_reader(control.fileno())
            loop.remove_writer(orders.fileno())
        control.close()
        orders.close()
        for _, descriptors in self._outbox:
            _close_all(descriptors)
        self._outbox.clear()
        self._known_rules.clear()
        for child in self._living.values():
            if not child._ended.done():
                child._ended.set_result(Ended(128 + signal.SIGKILL, signal.SIGKILL))
        self._living.clear()
        if self._facts is not None and not self._facts.done():
            _fail(self._facts, ProgramFailed(f"the launcher is gone: {why}"))


def _socket_pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER_BYTES)
    ours.setblocking(False)
    return ours, theirs


def _as_json(rules: Rules) -> dict[str, Any]:
    return {
        "key": rules.key,
        "read": rules.read,
        "execute": rules.execute,
        "write": rules.write,
        "everything": rules.everything,
        "network": rules.network,
    }


def _ended(message: dict[str, Any]) -> Ended:
    status = message["status"]
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    code = 128 + number if number else os.waitstatus_to_exitcode(status)
    return Ended(code, number, message["cpu_s"], message["peak_kb"])


def _fail(future: asyncio.Future[Any], error: ProgramFailed) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # whoever waits is told; nobody waiting is no mistake


def _close_all(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _leave(launcher: subprocess.Popen[bytes]) -> None:
    """Waits for the launcher, which leaves by itself when its socket has closed."""
    try:
        launcher.wait(_LEAVE_S)
    except subprocess.TimeoutExpired:
        launcher.kill()
        launcher.wait()
