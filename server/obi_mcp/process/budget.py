"""The output budget: what a caller gets of an output, cut where a reader would cut it, and what is said of the rest."""

from __future__ import annotations

from typing import Protocol

_RESERVED_BYTES = 256
"""Left for what closes a List that is cut between its items."""


class Sink(Protocol):
    """Takes output in pieces."""

    async def put(self, piece: bytes) -> bool:
        """False: no more is wanted."""


class Budget:
    """Keeps at most ``max_bytes``. ``whole``: a piece is an item, kept whole or not at all (save the first)."""

    def __init__(self, max_bytes: int, *, whole: bool = False) -> None:
        self._max = max_bytes
        self._whole = whole
        self._kept = bytearray()
        self._pieces = 0
        self.seen = 0
        self.spent = False

    async def put(self, piece: bytes) -> bool:
        """Keeps what there is room for."""
        self.add(piece)
        return not self.spent

    def add(self, piece: bytes) -> None:
        """``put`` for those who do not wait."""
        self.seen += len(piece)
        if self.spent or not piece:
            return
        room = self._max - len(self._kept)
        if self._whole:
            room -= _RESERVED_BYTES
        if len(piece) <= max(room, 0):
            self._kept += piece
            self._pieces += 1
            return
        self.spent = True
        if not self._whole or self._pieces < 2:  # not even the first item fits
            self._kept += piece[: self._max - len(self._kept)]
            self._whole = False

    def close(self, end: bytes) -> bytes:
        """What was kept. ``end`` closes a List that was cut between items; other text is cut at the end of a line."""
        if not self.spent:
            return bytes(self._kept)
        if self._whole:
            return bytes(self._kept + end[: self._max - len(self._kept)])
        cut = self._kept.rfind(b"\n") + 1
        if cut < len(self._kept) // 2:  # one long line: cut it, but not within a character
            return bytes(self._kept).decode("utf-8", "ignore").encode()
        return bytes(self._kept[:cut])

    def describe_cut(self, kept: int, *, complete: bool, most: int) -> str:
        """One sentence: how much is missing, and how to ask for less. ``complete``: nothing more would have come."""
        missing = self.seen - kept
        amount = f"{missing} bytes were" if complete else f"at least {missing} bytes were"
        items = " between two items" if self._whole else ""
        more = f", or give max_bytes up to {most}" if kept < most // 2 else ""
        return (
            f"the output was cut{items} after {kept} bytes; {amount} left out; ask for less: a name, -l, --tail=N,"
            f" -o name, | head -n N, | jq '…'{more}"
        )


class Tail:
    """The beginning and the end of something long: what programs say on standard error."""

    def __init__(self, most: int) -> None:
        self._half = most // 2
        self._start = bytearray()
        self._end = bytearray()
        self._left_out = 0

    def add(self, data: bytes) -> None:
        """Keeps the first and the last half of ``most`` bytes."""
        room = self._half - len(self._start)
        self._start += data[:room]
        self._end += data[max(room, 0) :]
        surplus = len(self._end) - self._half
        if surplus > 0:
            self._left_out += surplus
            del self._end[:surplus]

    def text(self) -> bytes:
        """Both, and between them how much is missing."""
        if not self._left_out:
            return bytes(self._start + self._end)
        # Whole lines only: of a line that is cut, the name that makes its value secret may be what is missing.
        start = bytes(self._start[: self._start.rfind(b"\n") + 1])
        end = bytes(self._end[self._end.find(b"\n") + 1 :]) if b"\n" in self._end else b""
        left_out = self._left_out + len(self._start) + len(self._end) - len(start) - len(end)
        return start + f"… {left_out} bytes left out …\n".encode() + end
