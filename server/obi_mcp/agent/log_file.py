"""The agent's log on the disk: four files that together never take more than they may, turned at line ends.

A full disk loses lines, never the agent: what could not be written is counted, and the next line says how much.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

KEEPER = "obi-mcp.keeper"
"""The component that the keeper's own lines name."""

FILES = 4
"""The current file and three older ones."""


def log_files(path: Path) -> tuple[Path, ...]:
    """Those that may be there, oldest first."""
    return (*(path.with_name(f"{path.name}.{number}") for number in range(FILES - 1, 0, -1)), path)


class LogFile:
    """Written by the keeper alone."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        """``max_bytes``: of all files together. Raises: OSError."""
        self._path = path
        self._each = max_bytes // FILES
        self._descriptor = self._open()
        self._size = os.fstat(self._descriptor).st_size
        self._at_line_end = True
        self.lost_bytes = 0
        self._lost_unsaid = 0

    def write(self, data: bytes) -> None:
        """Appends what the agent printed."""
        for whole in self._parts(data):
            part = whole
            while part:
                room = self._each - self._size
                if len(part) <= room:
                    self._append(part)
                    break
                if self._at_line_end or room <= 0:
                    self._turn()
                    continue
                end = part.find(b"\n", 0, room) + 1 or room  # the line that the file ends with, as far as it fits
                self._append(part[:end])
                part = part[end:]

    def note(self, level: str, message: str) -> None:
        """Appends a line of the keeper's own."""
        self.write((b"" if self._at_line_end else b"\n") + _line(level, message))

    def close(self) -> None:
        os.close(self._descriptor)

    def _parts(self, data: bytes) -> Iterator[bytes]:
        """Pieces that end with a line, as far as lines end, and fit a file."""
        while data:
            end = data.rfind(b"\n", 0, self._each) + 1 or min(len(data), self._each)
            yield data[:end]
            data = data[end:]

    def _append(self, part: bytes) -> None:
        if self._lost_unsaid and self._at_line_end:
            # After what may be half a line.
            lost = b"\n" + _line("WARN", f"{self._lost_unsaid} bytes of the log were lost here: no room on the disk")
            if self._written(lost) == len(lost):
                self._lost_unsaid = 0
        written = self._written(part)
        if written < len(part):
            self.lost_bytes += len(part) - written
            self._lost_unsaid += len(part) - written
        self._at_line_end = part.endswith(b"\n")  # of what was lost, too

    def _written(self, data: bytes) -> int:
        try:
            written = os.write(self._descriptor, data)
        except OSError:
            return 0
        self._size += written
        return written

    def _turn(self) -> None:
        os.close(self._descriptor)
        files = log_files(self._path)
        for older, newer in pairwise(files):
            try:
                os.replace(newer, older)
            except OSError:
                pass  # it is not there yet
        self._descriptor = self._open()
        self._size = os.fstat(self._descriptor).st_size
        self._at_line_end = True

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _line(level: str, message: str) -> bytes:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return f'time={now} level={level} msg="{message}" component={KEEPER}\n'.encode("utf-8", "replace")
