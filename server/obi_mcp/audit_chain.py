"""The chain of the audit log: each line carries the SHA-256 of the line before. Finds the first line that is not as it
was written.

The chain is not keyed: whoever can rewrite the whole file and its head can make a new one. A head that was noted
elsewhere (it is printed when the server stops) is what shows that, and a tail that was cut off.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from obi_mcp.errors import AuditError

GENESIS = "0" * 64
"""What the first line carries in place of a hash."""

RECOVERED = "recovered"
"""The event of the line that follows one which a crash tore."""

BEGAN = "began"
"""The outcome of the line that a write has before it is made; its last line has the same ``call``."""

_MOST_NAMED = 20


@dataclass(frozen=True, slots=True)
class Head:
    """The hash of the last line and its number."""

    hash: str = GENESIS
    sequence: int = 0

    def as_bytes(self) -> bytes:
        """As it stands in ``FILE.head``: of one length, so that one write replaces it."""
        return f"{self.hash} {self.sequence:012d}\n".encode("ascii")


@dataclass(frozen=True, slots=True)
class Verification:
    """What ``verify`` found. ``line`` counts from 1; ``problem`` None: every line is as it was written."""

    lines: int
    head: Head
    line: int | None = None
    problem: str | None = None
    notices: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        return self.problem is None


def line_hash(line: bytes) -> str:
    """SHA-256 of a line's bytes without its newline, in hex."""
    return hashlib.sha256(line).hexdigest()


def head_path(file: Path) -> Path:
    """Where the head is kept: beside the log."""
    return file.with_name(file.name + ".head")


def read_head(file: Path) -> Head | None:
    """The head kept beside the log, or None where there is none. Raises: AuditError when it is not a head."""
    path = head_path(file)
    try:
        text = path.read_text(encoding="ascii")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise AuditError(f"{path} cannot be read: {error}") from error
    words = text.split()
    if not words:
        return None
    if len(words) != 2 or not is_hash(words[0]) or not words[1].isdigit():
        raise AuditError(f"{path} is not the head of an audit log", "give the head that was printed with --head")
    return Head(words[0], int(words[1]))


def is_hash(word: str) -> bool:
    """Whether a word is a SHA-256 in lower-case hex."""
    return len(word) == 64 and all(letter in "0123456789abcdef" for letter in word)


class _Chain:
    """Walks the lines and keeps what the next one has to carry."""

    def __init__(self) -> None:
        self.hash = GENESIS
        self.sequence = 0
        self.number = 0
        self.torn: int | None = None
        self.notices: list[str] = []
        self.begun: dict[str, tuple[int, str]] = {}

    def problem_of(self, line: bytes) -> tuple[int, str] | None:
        """The number of the bad line and what is wrong with it, or None. Call for each line in order."""
        self.number += 1
        entry = _parse(line)
        if entry is None:
            if self.torn is not None:
                return (self.torn, "is not a line of the audit log")
            self.torn = self.number
            self.hash = line_hash(line)
            return None
        if (problem := self._compare(entry)) is not None:
            return problem
        self.torn = None
        self.sequence += 1
        self.hash = line_hash(line)
        self._note_write(entry)
        return None

    def unfinished(self) -> list[str]:
        """What is to be said of writes that began and have no end: the server was ended in them, or they run now."""
        told = [
            f"line {number} began a write that has no end here (the server was killed in it, or it runs now): {command}"
            for number, command in list(self.begun.values())[:_MOST_NAMED]
        ]
        more = len(self.begun) - len(told)
        return [*told, f"and {more} more writes without an end"] if more else told

    def _note_write(self, entry: dict[str, Any]) -> None:
        call = entry.get("call")
        if not isinstance(call, str):
            return
        if entry.get("outcome") == BEGAN:
            self.begun[call] = (self.number, str(entry.get("command", ""))[:200])
        else:
            self.begun.pop(call, None)

    def _compare(self, entry: dict[str, Any]) -> tuple[int, str] | None:
        if self.torn is not None:
            if entry.get("event") != RECOVERED or entry.get("prev") != self.hash:
                return (self.torn, "is not a line of the audit log: it was changed or cut")
            self.notices.append(f"line {self.torn} was torn by a crash, as line {self.number} says")
        expected = self.sequence + 1
        if (what := _wrong_number(entry.get("seq"), expected)) is not None:
            return (self.number, what)
        if entry.get("prev") == self.hash:
            return None
        if self.number == 1:
            return (1, "does not begin the chain: it carries the hash of a line that is not here")
        return (self.number - 1, f"was changed: line {self.number} carries another hash of it")


def _wrong_number(sequence: object, expected: int) -> str | None:
    if not isinstance(sequence, int) or isinstance(sequence, bool):
        return "has no sequence number"
    if sequence > expected:
        return f"has number {sequence} where {expected} belongs: {sequence - expected} before it missing or moved"
    if sequence < expected:
        return f"has number {sequence} where {expected} belongs: it is repeated or out of order"
    return None


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def read_lines(file: Path) -> Iterator[bytes]:
    """The lines without their newlines; a last one that has none is given too. Raises: AuditError."""
    try:
        with file.open("rb") as stream:
            for line in stream:
                yield line.removesuffix(b"\n")
    except OSError as error:
        raise AuditError(f"the audit log {file} cannot be read: {error}") from error


def verify(file: Path, head: str | None = None) -> Verification:
    """Whether every line is as it was written, and the last one is the one that ``head`` names.

    ``head`` None: the one kept beside the file; a log that is being written may be ahead of it.
    Raises: AuditError when the file cannot be read or ``head`` is no hash.
    """
    if head is not None and not is_hash(head):
        raise AuditError(
            f"{head!r} is no head: 64 letters of 0-9a-f are", "it is the word printed when the server stops"
        )
    kept = read_head(file) if head is None else None  # INVARIANT: before the lines, so that a writer can only be ahead
    wanted = head or (kept.hash if kept else None)
    chain = _Chain()
    seen_at: int | None = 0 if wanted == GENESIS else None
    for line in read_lines(file):
        if (problem := chain.problem_of(line)) is not None:
            number, what = problem
            return Verification(chain.number, Head(chain.hash, chain.sequence), number, what, tuple(chain.notices))
        if chain.torn is None and chain.hash == wanted:
            seen_at = chain.number
    at = Head(chain.hash, chain.sequence)
    bad, problem_at_end = _judge_end(chain, wanted, seen_at, strict=head is not None)
    chain.notices += chain.unfinished()
    return Verification(chain.number, at, bad, problem_at_end, tuple(chain.notices))


def _judge_end(
    chain: _Chain, wanted: str | None, seen_at: int | None, *, strict: bool
) -> tuple[int | None, str | None]:
    last = chain.number
    if chain.torn is not None:
        return (chain.torn, "is not a whole line: it was torn by a crash, changed or cut")
    if wanted is None:
        chain.notices.append("no head is kept beside the file: a tail that was cut off would not show")
        return (None, None)
    if seen_at is None:
        return (last or None, "is not the line that the head names: the tail was cut off, or this line was changed")
    if seen_at < last:
        if strict:
            return (seen_at + 1, f"came after the head that was given, which is line {seen_at}")
        chain.notices.append(f"the head kept beside the file is line {seen_at}; the log is being written, or a crash")
    return (None, None)
