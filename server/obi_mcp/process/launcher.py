"""The launcher: a small process of one thread that starts the server's children, ends them, and reaps them.

Why not the server itself: between fork and exec each child gets a death signal, limits, Landlock and seccomp. Code
between fork and exec is safe in a process of one thread and cheap in a small one; and a few spares wait, already
forked, so that starting a child costs no fork at all (docs/decisions/0001-children.md).

When the server goes, however it goes, its end of the sockets closes: then every group is killed, and the private
directory is removed. When the launcher is killed, its children's death signal takes them along.

Two SOCK_SEQPACKET sockets carry marshalled messages: orders, which the spares read themselves, each with the
descriptors of the child's streams; and control, on which the server ends children and hears of their end.
"""

from __future__ import annotations

import gc
import marshal
import os
import select
import signal
import socket
import sys
import time
from collections import deque

from obi_mcp.process import kernel
from obi_mcp.process.spare import MAX_MESSAGE_BYTES, Desk, become_child

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself is a tenth of what a spare would have to copy
    from typing import Any

SPARES = 3
_LAST_GRACE_S = 2.0
_REMEMBERED = 4096
"""Children that have ended and may yet be asked to, because the server has not read of it."""


class Launcher:
    """The children by the server's number, the spares, and the deadlines of those that were told to end."""

    def __init__(self, control: socket.socket, orders: socket.socket, wakeup: int) -> None:
        self._control = control
        self._wakeup = wakeup
        self._taken, taken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._desk = Desk(control, orders, taken)
        self._pids: dict[int, int] = {}
        self._numbers: dict[int, int] = {}
        self._spares: set[int] = set()
        self._kill_at: dict[int, float] = {}
        self._early_ends: dict[int, float] = {}
        self._ended: deque[int] = deque(maxlen=_REMEMBERED)
        self._directory = ""
        self._tell({"ready": {"landlock": kernel.landlock_abi(), "seccomp": self._desk.seccomp is not None}})

    def run(self) -> None:
        """Serves until the server closes its ends."""
        poll = select.poll()
        for source in (self._control.fileno(), self._wakeup, self._taken):
            poll.register(source, select.POLLIN)
        while True:
            self._fork_spares()
            ready = {source for source, _ in poll.poll(self._timeout_ms())}
            if self._wakeup in ready:
                os.read(self._wakeup, 4096)
            self._note_taken()
            if self._control.fileno() in ready and not self._receive():
                self._end_everything()
                return
            self._reap()
            self._kill_overdue()

    def _fork_spares(self) -> None:
        while len(self._spares) < SPARES:
            try:
                pid = os.fork()
            except OSError:
                return  # tried again after the next event; the server's deadline ends the waiting
            if pid == 0:
                become_child(self._desk)
            self._spares.add(pid)

    def _note_taken(self) -> None:
        try:
            lines = os.read(self._taken, 65_536).splitlines()
        except BlockingIOError:
            return
        for line in lines:
            number, pid = map(int, line.split())
            self._spares.discard(pid)
            self._pids[number] = pid
            self._numbers[pid] = number
            if number in self._early_ends:
                self._end([number], self._early_ends.pop(number))

    def _receive(self) -> bool:
        try:
            data = self._control.recv(MAX_MESSAGE_BYTES)
        except ConnectionResetError:
            return True  # the server left without reading all; what it had sent before comes next, and then the end
        if not data:
            return False
        message = marshal.loads(data)
        match message["do"]:
            case "end":
                self._end(message["ids"], message["grace_s"])
            case "rules":
                self._make_rules(message["rules"])
            case "own":
                self._directory = message["directory"]
        return True

    def _make_rules(self, rules: dict[str, Any]) -> None:
        """For the spares to come; those that wait already make it themselves."""
        key = rules.pop("key")
        try:
            self._desk.rulesets[key] = kernel.landlock_ruleset(**rules)
        except OSError:
            pass  # the spare that needs it fails the same way, and says so

    def _end(self, numbers: list[int], grace_s: float) -> None:
        for number in numbers:
            if number in self._pids:
                self._signal(self._pids[number], signal.SIGTERM if grace_s > 0 else signal.SIGKILL)
                self._kill_at[number] = time.monotonic() + grace_s
            elif number not in self._ended:
                self._early_ends[number] = grace_s

    def _kill_overdue(self) -> None:
        now = time.monotonic()
        for number in [number for number, at in self._kill_at.items() if at <= now]:
            self._signal(self._pids[number], signal.SIGKILL)
            del self._kill_at[number]

    def _signal(self, pid: int, number: int) -> None:
        try:
            os.killpg(pid, number)
        except (ProcessLookupError, PermissionError):
            pass

    def _reap(self) -> None:
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            # It said which order it took before it ran, so it is known from here on, however short its life was.
            self._note_taken()
            # What it left in its group goes while the group's number cannot yet be anybody else's.
            self._signal(ended.si_pid, signal.SIGKILL)
            _, status, usage = os.wait4(ended.si_pid, 0)
            self._spares.discard(ended.si_pid)
            number = self._numbers.pop(ended.si_pid, None)
            if number is not None:
                self._kill_adopted()
                del self._pids[number]
                self._ended.append(number)
                self._kill_at.pop(number, None)
                cpu_s = round(usage.ru_utime + usage.ru_stime, 3)
                self._tell({"ended": number, "status": status, "cpu_s": cpu_s, "peak_kb": usage.ru_maxrss})

    def _kill_adopted(self) -> None:
        """Ends what left its group and outlived the one that started it: it became our child, and is nobody's."""
        try:
            with open(f"/proc/self/task/{self._desk.launcher}/children", encoding="ascii") as file:
                children = {int(pid) for pid in file.read().split()}
        except OSError:
            return  # a kernel without CONFIG_PROC_CHILDREN
        for pid in children - self._numbers.keys() - self._spares:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def _end_everything(self) -> None:
        deadline = time.monotonic() + _LAST_GRACE_S
        while time.monotonic() < deadline:
            self._note_taken()
            for pid in (*self._numbers, *self._spares):
                self._signal(pid, signal.SIGKILL)
            self._reap()
            self._kill_adopted()
            if not self._numbers and not self._spares:
                break
            select.select([], [], [], 0.002)
        if self._directory:
            import shutil

            shutil.rmtree(self._directory, ignore_errors=True)

    def _timeout_ms(self) -> float | None:
        if not self._kill_at:
            return None
        return max(min(self._kill_at.values()) - time.monotonic(), 0) * 1000 + 1

    def _tell(self, message: dict[str, Any]) -> None:
        try:
            self._control.send(marshal.dumps(message))
        except OSError:
            pass  # nobody listens any more; the next read says so


def main(control: int, orders: int) -> None:
    """The launcher's life. The arguments are the descriptors of its ends of the sockets."""
    os.umask(0o077)
    kernel.adopt_orphans()
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    gc.freeze()
    with socket.socket(fileno=control) as ours, socket.socket(fileno=orders) as theirs:
        ours.set_inheritable(False)
        theirs.set_inheritable(False)
        Launcher(ours, theirs, reader).run()
    sys.exit(0)
