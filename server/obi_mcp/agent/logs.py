"""The agent's log as records: the last of it, the lines since a moment, by level, kind and text.

Files are read from their end in pieces, so that a log of any size costs what is asked for; what a caller searches for
is a literal text, never a regular expression of Python's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from obi_mcp.agent.log_file import log_files
from obi_mcp.agent.record import LOG
from obi_mcp.errors import InvalidArgument
from obi_mcp.obi.log_lines import LogRecord, parse_line, severity

_PIECE = 262_144
MAX_SCANNED_BYTES = 64 * 1024 * 1024
_LONGEST_LINE = 16_384
_LOG_STARTS = ("time=", "level=", "{")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class Wanted:
    """``since``: an aware time; ``level``: this and worse, for log lines; ``kind``: log, flow, span, other."""

    tail: int = 50
    level: str | None = None
    kind: str | None = None
    text: str | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """``records``: the last that fit, oldest first. ``matched`` and ``scanned`` count lines; ``more``: older ones that
    would fit were left out."""

    records: tuple[LogRecord, ...]
    scanned: int
    more: bool


def read_log(directory: Path, wanted: Wanted) -> Found:
    """The records of the log in ``directory``; none where there is no log. Raises: OSError for one that may not be
    read."""
    kept: list[LogRecord] = []
    scanned = 0
    for line in _backwards(directory / LOG):
        scanned += 1
        if not _may_fit(line, wanted):
            continue
        record = parse_line(line)
        if wanted.since is not None and record.time and _before(record.time, wanted.since):
            break
        if not _fits(record, wanted):
            continue
        if len(kept) == wanted.tail:
            return Found(tuple(reversed(kept)), scanned, True)
        kept.append(record)
    return Found(tuple(reversed(kept)), scanned, False)


def parse_since(text: str, now: datetime | None = None) -> datetime:
    """``90s``, ``15m``, ``2h``, ``1d``, or a time like ``2026-11-21T12:00:00Z``. Raises: InvalidArgument."""
    number, unit = text[:-1], text[-1:]
    if unit in _UNITS and number.isdigit() and len(number) < 8:
        return (now or datetime.now(UTC)) - timedelta(seconds=int(number) * _UNITS[unit])
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidArgument(f"since is {text[:60]!r}", "give it like 90s, 15m, 2h, or 2026-11-21T12:00:00Z") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _may_fit(line: str, wanted: Wanted) -> bool:
    """Whether a line is worth reading: flows are most of a log, and taking one apart costs a hundred looks."""
    if wanted.since is not None and line.startswith(_LOG_STARTS):
        return True  # its time says when to stop
    if wanted.text is not None and wanted.text not in line:
        return False
    return (wanted.level is None and wanted.kind != "log") or line.startswith(_LOG_STARTS)


def _fits(record: LogRecord, wanted: Wanted) -> bool:
    if wanted.kind is not None and record.kind != wanted.kind:
        return False
    if wanted.level is not None and (record.kind != "log" or severity(record.level) < severity(wanted.level)):
        return False
    return wanted.text is None or wanted.text in record.text


def _before(time: str, since: datetime) -> bool:
    try:
        return datetime.fromisoformat(time) < since
    except (ValueError, TypeError):
        return False


def _backwards(path: Path) -> Iterator[str]:
    """Lines from the last to the first, over all files, up to ``MAX_SCANNED_BYTES``."""
    left = MAX_SCANNED_BYTES
    rest = b""
    for file in reversed(log_files(path)):
        try:
            descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue
        try:
            at = os.fstat(descriptor).st_size
            while at > 0 and left > 0:
                size = min(_PIECE, at)
                at -= size
                left -= size
                piece = os.pread(descriptor, size, at) + rest
                first, *lines = piece.split(b"\n")
                rest = first[-_PIECE:]
                yield from (_text(line) for line in reversed(lines) if line)
        finally:
            os.close(descriptor)
    if rest and left > 0:
        yield _text(rest)


def _text(line: bytes) -> str:
    return line[:_LONGEST_LINE].decode("utf-8", "replace")
