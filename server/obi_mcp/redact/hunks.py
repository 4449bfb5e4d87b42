"""Cuts a unified diff with all of its context down to a few lines around each change, once it has been redacted.

What is secret may be told by a line far above it, so programs are asked for the whole context. Line numbers are those
of the redacted text.
"""

from __future__ import annotations

import re
from collections import deque

CONTEXT_LINES = 3

_HEADER = re.compile(rb"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")


class HunkTrim:
    """Takes whole or partial lines in order; gives the same diff with less context."""

    def __init__(self) -> None:
        self._pending = b""
        self._inside = False
        self._before: deque[bytes] = deque(maxlen=CONTEXT_LINES)
        self._hunk: list[bytes] = []
        self._trailing = 0
        self._old = self._new = 1
        """The numbers of the next line."""

    def feed(self, data: bytes) -> bytes:
        """What may go on."""
        *lines, self._pending = (self._pending + data).split(b"\n")
        return b"".join(self._line(line + b"\n") for line in lines)

    def finish(self) -> bytes:
        """The rest."""
        rest, self._pending = self._pending, b""
        return (self._line(rest) if rest else b"") + self._close()

    def _line(self, line: bytes) -> bytes:
        if (header := _HEADER.match(line)) is not None:
            out = self._close()
            self._inside = True
            self._old, self._new = max(int(header[1]), 1), max(int(header[3]), 1)
            return out
        if not self._inside or line[:1] not in {b" ", b"+", b"-", b"\\"}:
            self._inside = False
            return self._close() + line
        return self._context(line) if line[:1] == b" " else self._change(line)

    def _change(self, line: bytes) -> bytes:
        if not self._hunk:
            self._hunk = [*self._before]
            self._before.clear()
        self._hunk.append(line)
        self._trailing = 0
        self._count(line)
        return b""

    def _context(self, line: bytes) -> bytes:
        out = b""
        if self._hunk:
            self._hunk.append(line)
            self._trailing += 1
            self._count(line)
            if self._trailing > 2 * CONTEXT_LINES:
                out = self._close()
            return out
        self._before.append(line)
        self._count(line)
        return out

    def _count(self, line: bytes) -> None:
        self._old += line[:1] in {b" ", b"-"}
        self._new += line[:1] in {b" ", b"+"}

    def _close(self) -> bytes:
        """The hunk so far with its header; the context that follows is what stands before the next one."""
        hunk, self._hunk = self._hunk, []
        surplus = max(self._trailing - CONTEXT_LINES, 0)
        kept = hunk[: len(hunk) - surplus]
        after = hunk[len(hunk) - surplus :]
        self._before = deque(after, maxlen=CONTEXT_LINES)
        self._trailing = 0
        if not kept:
            return b""
        old = sum(line[:1] in {b" ", b"-"} for line in kept)
        new = sum(line[:1] in {b" ", b"+"} for line in kept)
        old_start = self._old - old - len(after)
        new_start = self._new - new - len(after)
        header = f"@@ -{old_start - (not old)},{old} +{new_start - (not new)},{new} @@\n"
        return header.encode() + b"".join(kept)
