"""The keeper: a small process that lives as long as the agent does, whatever becomes of the server.

It holds the pipe that the agent prints to (whoever writes a bounded log has to, since OBI cannot be told to turn its
file), starts the agent again when it dies, and ends it when told to over a socket in the private directory. It is the
agent's parent, so the pid that it signals is never another's.

It is forked by the agent launcher, before which the server had confined nothing; it takes a session of its own and no
death signal. One thread, no asyncio, no imports later than its start.
"""

from __future__ import annotations

import fcntl
import os
import re
import resource
import select
import signal
import socket
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from obi_mcp.agent.log_file import LogFile
from obi_mcp.agent.proof import proof_of
from obi_mcp.agent.record import LOCK, LOG, SOCKET, Exit, Phase, Record, write_record
from obi_mcp.policy.effects import digest
from obi_mcp.process import kernel

GRACE_S = 12.0
"""OBI ends within its own shutdown_timeout of 10 s (8.5 s were seen with probes in place)."""

_CHUNK = 65_536
_KEPT_LINES, _KEPT_LINE = 12, 400
_FIRST_LINES = 60
_FLOW = b"network_flow"
_STOP = b"stop"
_VERSION = re.compile(
    rb'(?:OpenTelemetry eBPF Instrumentation|Grafana Beyla)",? ?"?Version"?[=:]"?(v?[0-9][0-9A-Za-z.+-]{0,60})'
)


@dataclass(frozen=True, slots=True)
class Manner:
    """How the agent is kept. ``settle_s``: an agent that gives up within it on its first start will do so again.

    ``steady_s``: one that ran so long had started well, and the counting begins anew.
    """

    log_bytes: int
    first_backoff_s: float = 1.0
    most_backoff_s: float = 30.0
    most_restarts: int = 5
    settle_s: float = 5.0
    steady_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """The agent to keep. ``digest``: SHA-256 of the configuration that was judged; another is not started."""

    directory: Path
    binary: str
    config_path: str
    digest: str
    environment: dict[str, str] = field(default_factory=dict)


class KeeperRefused(Exception):
    """The agent was not started. ``number``: the errno behind it, or 0."""

    def __init__(self, reason: str, number: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.number = number


class Keeper:
    """One agent, kept until it is told to end or will not run."""

    def __init__(self, wanted: Wanted, manner: Manner) -> None:
        """Takes the directory and opens the log. Raises: KeeperRefused, OSError."""
        self._wanted = wanted
        self._manner = manner
        self._lock = _locked(wanted.directory)
        self._log = LogFile(wanted.directory / LOG, manner.log_bytes)
        self._socket = _listen(wanted.directory)
        self._out = -1
        self._pid = 0
        self._born = 0.0
        self._head: list[bytes] = []
        self._tail: deque[bytes] = deque(maxlen=_KEPT_LINES)
        self._open_line = b""
        self._stop_at: float | None = None
        self._asked: list[socket.socket] = []
        self._failures = 0
        self._record = Record(
            phase="starting",
            binary=wanted.binary,
            config_path=wanted.config_path,
            digest=wanted.digest,
            environment=wanted.environment,
            keeper=proof_of(os.getpid()),
            agent=proof_of(0),
            started_at=time.time(),
        )
        write_record(wanted.directory, self._record)

    @property
    def agent(self) -> int:
        """The agent's pid; 0 between two starts."""
        return self._pid

    def start(self) -> None:
        """Starts the agent for the first time. Raises: KeeperRefused when it cannot be executed."""
        try:
            self._spawn()
        except KeeperRefused as error:
            self._put("failed", why=error.reason)
            self._finish("failed")
            raise

    def run(self, wakeup: int) -> None:
        """Until the agent has ended for good. ``wakeup``: readable when a signal came."""
        while True:
            self._wait(wakeup)
            self._reap()
            if self._stop_at is not None:
                self._end_overdue()
                if not self._pid:
                    self._finish("stopped")
                    return
            elif not self._pid and self._record.phase == "failed":
                self._finish("failed")
                return
            elif not self._pid and time.time() >= self._record.next_start:
                self._again()

    # --- starting ---

    def _spawn(self) -> None:
        path = Path(self._wanted.config_path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise KeeperRefused(f"{path} cannot be read: {error}", getattr(error, "errno", 0) or 0) from None
        if digest(text) != self._wanted.digest:
            raise KeeperRefused(f"{path} is not the configuration that was judged")
        reading, writing = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(reading, False)
        try:
            self._pid = _execute(self._wanted, writing)
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        self._out = reading
        self._born = time.monotonic()
        self._head.clear()
        self._log.note("INFO", f"started {self._wanted.binary} as pid {self._pid}")
        self._put("running", agent=proof_of(self._pid), started_at=time.time(), next_start=0.0)

    def _again(self) -> None:
        try:
            self._spawn()
        except KeeperRefused as error:
            self._put("failed", why=error.reason)

    # --- watching ---

    def _wait(self, wakeup: int) -> None:
        poll = select.poll()
        for source in (self._out, wakeup, self._socket.fileno()):
            if source >= 0:
                poll.register(source, select.POLLIN)
        ready = {source for source, _ in poll.poll(self._timeout_ms())}
        if wakeup in ready:
            for number in os.read(wakeup, 4096):
                if number in (signal.SIGTERM, signal.SIGINT):
                    self._stop(GRACE_S)
        if self._socket.fileno() in ready:
            self._hear()
        if self._out in ready:
            self._read()

    def _timeout_ms(self) -> float | None:
        if self._stop_at is not None:
            return max(0.0, self._stop_at - time.monotonic()) * 1000 + 1
        if not self._pid and self._record.phase == "waiting":
            return max(0.0, self._record.next_start - time.time()) * 1000 + 1
        return None if self._pid else 1

    def _read(self) -> None:
        try:
            data = os.read(self._out, _CHUNK)
        except BlockingIOError:
            return
        if not data:
            os.close(self._out)
            self._out = -1
            return
        lost, known = self._log.lost_bytes, len(self._head)
        self._log.write(data)
        self._remember(data)
        version = _VERSION.search(data) if not self._record.version else None
        if version is not None:
            self._record = self._record.with_(version=version[1].decode("ascii"))
        if len(self._head) > known or (not lost and self._log.lost_bytes):
            self._put(self._record.phase)

    def _remember(self, data: bytes) -> None:
        """The first and the last lines in memory: what a start and an end have to say must not hang on the disk."""
        *lines, self._open_line = (self._open_line[-_KEPT_LINE:] + data).split(b"\n")
        self._tail.extend(line[:_KEPT_LINE] for line in lines[-_KEPT_LINES:] if line)
        if len(self._head) < _FIRST_LINES:
            said = [line[:_KEPT_LINE] for line in lines[:_FIRST_LINES] if line and not line.startswith(_FLOW)]
            self._head = [*self._head, *said][:_FIRST_LINES]

    def _reap(self) -> None:
        if not self._pid:
            return
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        if not pid:
            return
        while self._out >= 0 and select.select([self._out], [], [], 0)[0]:
            self._read()
        if self._out >= 0:  # somebody else holds the other end: a child of the agent's
            os.close(self._out)
            self._out = -1
        _kill_group(self._pid, signal.SIGKILL)
        self._pid = 0
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        code = 128 + number if number else os.waitstatus_to_exitcode(status)
        ended = Exit(code, number, time.time(), round(time.monotonic() - self._born, 1))
        self._log.note("INFO" if self._stop_at is not None else "WARN", f"the agent ended: {ended}")
        self._ended(ended)

    def _ended(self, ended: Exit) -> None:
        record, manner = self._record, self._manner
        exits = (*record.exits[-9:], ended)
        if self._stop_at is not None:
            self._put(record.phase, exits=exits)
            return
        self._failures = 0 if ended.uptime_s >= manner.steady_s else self._failures + 1
        why = ""
        if not ended.signal and not record.restarts and ended.uptime_s < manner.settle_s:
            why = f"it gave up: {ended}"
        elif self._failures > manner.most_restarts:
            why = f"it crashed {self._failures} times in a row, the last time with {ended}"
        if why:
            self._log.note("ERROR", f"not started again: {why}")
            self._put("failed", exits=exits, why=why)
            return
        pause_s = min(manner.first_backoff_s * 2 ** max(0, self._failures - 1), manner.most_backoff_s)
        self._log.note("WARN", f"started again in {pause_s:g} s")
        self._put("waiting", exits=exits, next_start=time.time() + pause_s, restarts=record.restarts + 1)

    # --- ending ---

    def _hear(self) -> None:
        caller, _ = self._socket.accept()
        caller.settimeout(1.0)
        try:
            words = caller.recv(100).split()
            grace_s = float(words[1]) if len(words) > 1 else GRACE_S
        except (OSError, ValueError):
            caller.close()
            return
        if words[:1] != [_STOP]:
            caller.close()
            return
        self._asked.append(caller)  # closed when all is over: who asked waits for that
        self._stop(min(max(grace_s, 0.0), 60.0))

    def _stop(self, grace_s: float) -> None:
        if self._stop_at is None:
            self._log.note("INFO", "told to end the agent")
            if self._pid:
                os.kill(self._pid, signal.SIGTERM)
        self._stop_at = time.monotonic() + grace_s

    def _end_overdue(self) -> None:
        if self._pid and self._stop_at is not None and time.monotonic() >= self._stop_at:
            self._log.note("WARN", "it did not end in time and was killed")
            _kill_group(self._pid, signal.SIGKILL)

    def _finish(self, phase: Phase) -> None:
        self._put(phase, agent=proof_of(0))
        (self._wanted.directory / SOCKET).unlink(missing_ok=True)
        self._socket.close()
        self._log.close()
        os.close(self._lock)
        for caller in self._asked:
            caller.close()

    def _put(self, phase: Phase, **changes: object) -> None:
        self._record = self._record.with_(
            phase=phase,
            first_lines=tuple(line.decode("utf-8", "replace") for line in self._head),
            last_lines=tuple(line.decode("utf-8", "replace") for line in self._tail),
            lost_bytes=self._log.lost_bytes,
            **changes,
        )
        try:
            write_record(self._wanted.directory, self._record)
        except OSError:
            pass  # a full disk: what it says of this agent is older than the truth, and its pids are checked anyway


def _locked(directory: Path) -> int:
    descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise KeeperRefused("another agent is kept in this directory already") from None
    return descriptor


def _listen(directory: Path) -> socket.socket:
    path = directory / SOCKET
    path.unlink(missing_ok=True)  # INVARIANT: the lock is held, so nobody listens there
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    folder = os.open(directory, os.O_PATH | os.O_CLOEXEC)
    try:
        made.bind(f"/proc/self/fd/{folder}/{SOCKET}")  # a socket's path has 107 bytes at most
    finally:
        os.close(folder)
    made.listen(8)
    return made


def _execute(wanted: Wanted, output: int) -> int:
    """Forks and executes the agent in a process group of its own. Raises: KeeperRefused."""
    failed, failing = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            os.setpgid(0, 0)
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            kernel.default_signals()
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            os.chdir("/")
            os.execve(wanted.binary, [wanted.binary, "-config", wanted.config_path], wanted.environment)
        except OSError as error:
            os.write(failing, str(error.errno).encode())
        finally:
            os._exit(127)
    os.close(failing)
    said = os.read(failed, 16)
    os.close(failed)
    if said:
        os.waitpid(pid, 0)
        number = int(said)
        raise KeeperRefused(f"{wanted.binary} cannot be executed: {os.strerror(number)}", number)
    return pid


def _kill_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        pass
