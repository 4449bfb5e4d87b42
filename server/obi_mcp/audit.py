"""The audit log: one JSON line per call, each carrying the hash of the one before, to a file or standard error.

How much survives what: every line is one ``write``, so it survives the end of this process; it is also put on the disk
(``fsync``) when the call could change something, and when the log is closed, so it survives the end of the machine.
A line that a crash tore is kept as it is, and the next line says so (event ``recovered``). A log that is shorter than
its head says was cut: the server does not start on it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import stat
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from obi_mcp.audit_chain import BEGAN, GENESIS, RECOVERED, Head, head_path, line_hash, read_head
from obi_mcp.config import Settings
from obi_mcp.errors import AuditError
from obi_mcp.log import StderrWriter, utc_now
from obi_mcp.policy.model import Access, Check, CheckResult, Decision

MAX_COMMAND = 65_536
"""Characters of a command that are kept; a longer one is no command, and was refused before it was read."""

RECENT = 100
"""Lines that stay in memory for ``recent``."""

_TAIL = 4 * 1024 * 1024
"""Bytes at the end of the file that hold its last two lines whatever they are."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One call. ``error`` is the code of the refusal or failure; ``exit_code`` that of the program, where one ran.

    ``bytes`` counts what the caller got. ``results``: the checks that were made; without them those of the decision are
    listed as not made.

    A write has two lines with the same ``call``: one with the ``outcome`` ``began`` before anything is written, which
    survives whatever ends the server in the middle, and the one that says how it ended.

    ``confirmed_by``: through what a person confirmed it, where the operator wants that; the client's claim.
    """

    tool: str
    command: str
    caller: str
    decision: Decision | None = None
    results: tuple[CheckResult, ...] = ()
    exit_code: int | None = None
    error: str | None = None
    duration_ms: int = 0
    bytes: int = 0
    stdin: str | None = None
    call: str | None = None
    outcome: str | None = None
    confirmed_by: str | None = None


class _Sink(Protocol):
    """Where lines go, and where the chain stood when it was opened."""

    head: Head

    def append(self, line: bytes, head: Head, *, durable: bool) -> None:
        """Writes one line. Raises: OSError."""

    def close(self) -> None: ...


class AuditLog:
    """The log of one server. Opening it takes the lock on the file; a second server is refused.

    Raises: AuditError when the file cannot be opened, is held by another, or is not as its head says.
    """

    def __init__(
        self, settings: Settings, redact: Callable[[str], str] | None = None, *, stderr: StderrWriter | None = None
    ) -> None:
        self._redact = redact or (lambda text: text)
        file = settings.audit.file
        self._sink: _Sink = _File(Path(file)) if file else _Stderr(stderr or StderrWriter())
        self._head = self._sink.head
        self._broken: str | None = None
        self._recent: deque[str] = deque(maxlen=RECENT)
        if isinstance(self._sink, _File) and self._sink.torn_bytes:
            self._append({"event": RECOVERED, "torn_bytes": self._sink.torn_bytes}, durable=True)

    @property
    def head(self) -> str:
        """The hash of the last line: what ``obi-mcp audit verify FILE --head`` takes."""
        return self._head.hash

    @property
    def recent(self) -> tuple[str, ...]:
        """The last lines that this server wrote, oldest first."""
        return tuple(self._recent)

    def ensure_writable(self) -> None:
        """Call before anything runs. Raises: AuditError when an earlier line could not be written."""
        if self._broken:
            raise AuditError(
                f"the audit log cannot be written: {self._broken}", "make room for it and restart the server"
            )

    def record(self, entry: AuditEntry) -> None:
        """Writes the line of one call. Raises: AuditError when it cannot be written; nothing runs after that."""
        self.ensure_writable()
        decision = entry.decision
        changes = decision is not None and decision.allowed and decision.access not in (None, Access.READ_ONLY)
        self._append(self._fields(entry), durable=changes)

    def begin(self, entry: AuditEntry) -> str:
        """Writes the line of a write that begins now, before it does; gives the ``call`` that its last line must have.

        Raises: AuditError when it cannot be written; then nothing may be.
        """
        call = secrets.token_hex(6)
        self.record(replace(entry, call=call, outcome=BEGAN))
        return call

    def close(self) -> str:
        """Puts the log on the disk, gives the lock back, and gives the head. Later calls do nothing."""
        self._sink.close()
        self._broken = self._broken or "it is closed"
        return self.head

    def _fields(self, entry: AuditEntry) -> dict[str, Any]:
        decision = entry.decision
        fields: dict[str, Any] = {
            "tool": entry.tool,
            "caller": self._redact(entry.caller),
            "command": self._redact(entry.command[:MAX_COMMAND]),
            "effect": decision.effect if decision else None,
            "access": decision.access.label if decision and decision.access is not None else None,
            "rule": decision.rule if decision else None,
            "checks": _checks(entry),
            "exit_code": entry.exit_code,
            "error": entry.error,
            "duration_ms": entry.duration_ms,
            "bytes": entry.bytes,
        }
        if entry.call is not None:
            fields["call"] = entry.call
        if entry.outcome is not None:
            fields["outcome"] = entry.outcome
        if entry.confirmed_by is not None:
            fields["confirmed_by"] = entry.confirmed_by
        if entry.stdin is not None:
            document = entry.stdin.encode("utf-8", "surrogatepass")
            fields["stdin_bytes"] = len(document)
            fields["stdin_sha256"] = hashlib.sha256(document).hexdigest()
        return fields

    def _append(self, fields: dict[str, Any], *, durable: bool) -> None:
        sequence = self._head.sequence + 1
        record = {"time": utc_now(), "seq": sequence, **fields, "prev": self._head.hash}
        line = json.dumps(record, ensure_ascii=True, separators=(",", ":")).encode("ascii")
        head = Head(line_hash(line), sequence)
        try:
            self._sink.append(line, head, durable=durable)
        except OSError as error:
            self._broken = str(error)
            self.ensure_writable()
        self._head = head
        self._recent.append(line.decode("ascii"))


def _checks(entry: AuditEntry) -> list[dict[str, Any]]:
    made: list[tuple[Check, bool | None]] = [(result.check, result.passed) for result in entry.results]
    if not made and entry.decision:
        made = [(check, None) for check in entry.decision.checks]
    return [
        {"kind": check.kind, "target": check.target, "namespace": check.namespace, "passed": passed}
        for check, passed in made
    ]


class _Stderr:
    """Lines on standard error, among the logs; the chain begins anew with every start."""

    def __init__(self, writer: StderrWriter) -> None:
        self.head = Head()
        self._writer = writer

    def append(self, line: bytes, head: Head, *, durable: bool) -> None:
        # A client that does not read our standard error must not stop the server: what is lost shows as a gap in the
        # chain. Who needs every line names a file.
        self._writer.write(line)

    def close(self) -> None:
        self._writer.flush()


class _File:
    """A locked file, and its head beside it."""

    def __init__(self, path: Path) -> None:
        self.torn_bytes = 0
        self._path = path
        self._fd = self._open(path, os.O_APPEND)
        try:
            self._lock()
            self._head_fd = self._open(head_path(path), 0)
            self.head = self._continue(read_head(path) or Head())
        except BaseException:
            os.close(self._fd)
            raise
        self._closed = False

    def append(self, line: bytes, head: Head, *, durable: bool) -> None:
        _write_all(self._fd, line + b"\n")
        os.pwrite(self._head_fd, head.as_bytes(), 0)
        if durable:
            os.fsync(self._fd)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            for fd in (self._fd, self._head_fd):
                with contextlib.suppress(OSError):  # a pipe or a full disk: nothing is left to try
                    os.fsync(fd)
                os.close(fd)

    def _open(self, path: Path, extra: int) -> int:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | extra, 0o600)
        except OSError as error:
            raise AuditError(
                f"the audit log {path} cannot be opened: {error.strerror}",
                "name a file in a directory that exists and may be written: --audit-file, audit.file",
            ) from error
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise AuditError(
                f"the audit log {path} is not a regular file", "name one, or leave it out for standard error"
            )
        return fd

    def _lock(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise AuditError(
                f"the audit log {self._path} is held by another server",
                "stop that one, or give this one a file of its own with --audit-file",
            ) from error

    def _continue(self, kept: Head) -> Head:
        """Where the chain goes on. The head is written after its line, so a crash leaves it one line behind at most."""
        size = os.fstat(self._fd).st_size
        *whole, rest = os.pread(self._fd, _TAIL, max(0, size - _TAIL)).split(b"\n")
        ends = [line_hash(line) for line in whole[-2:]]
        if size <= _TAIL and len(whole) < 2:
            ends.insert(0, GENESIS)
        if kept.hash not in ends:
            raise self._cut(f"does not end with the line that {head_path(self._path).name} names")
        if rest:
            if kept.hash != ends[-1]:
                raise self._cut("ends in the middle of a line that was whole once")
            _write_all(self._fd, b"\n")
            return self._keep_torn(rest, kept)
        return kept if kept.hash == ends[-1] else self._step(kept, whole[-1])

    def _step(self, kept: Head, line: bytes) -> Head:
        """The head after the one line that a crash left without its head."""
        try:
            entry = json.loads(line)
        except ValueError:
            return self._keep_torn(line, kept)  # a second crash, before the first one was written down
        if entry.get("prev") != kept.hash or entry.get("seq") != kept.sequence + 1:
            raise self._cut("has a last line that does not follow the one before it")
        head = Head(line_hash(line), kept.sequence + 1)
        os.pwrite(self._head_fd, head.as_bytes(), 0)
        return head

    def _keep_torn(self, torn: bytes, kept: Head) -> Head:
        self.torn_bytes = len(torn)
        return Head(line_hash(torn), kept.sequence)

    def _cut(self, what: str) -> AuditError:
        return AuditError(
            f"the audit log {self._path} {what}: it was cut, changed or moved",
            "look with `obi-mcp audit verify`, then move the file and its head away together",
        )


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
