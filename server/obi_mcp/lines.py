"""Lines on standard input and output, read and written by a thread each, so that the event loop never waits for either.

The SDK's own reader and writer hop to a thread for every line, and read a line of any length into memory.
"""

from __future__ import annotations

import asyncio
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

MAX_LINE_BYTES = 8 << 20
"""More than the largest arguments of a call, however they are escaped."""

MAX_WAITING_BYTES = 16 << 20
"""Read ahead before the client has to wait."""

MAX_UNREAD_BYTES = 4 << 20
"""Written ahead before the server has to wait for the client."""

_CHUNK_BYTES = 1 << 18
_KEPT_BYTES = 512
# A request that only asks what there is, or whether anybody is there, need not wait behind calls that have not begun.
_CALL = re.compile(rb'"method"\s*:\s*"tools/call"')
_QUICK = re.compile(rb'"method"\s*:\s*"(?:ping|[a-z]+/list|resources/templates/list)"')


@dataclass(frozen=True, slots=True)
class TooLong:
    """A line that was not kept: its beginning and end, and how long it was."""

    begin: bytes
    end: bytes
    size: int


class LineReader:
    """The lines of a descriptor, as text, in order; but a quick request goes before calls that still wait here."""

    def __init__(
        self,
        fd: int,
        refused: Callable[[TooLong], None],
        *,
        answered: Callable[[bytes], bool] = lambda _: False,
        max_bytes: int = MAX_LINE_BYTES,
    ) -> None:
        """``refused`` is told, on the event loop, of a line of more than ``max_bytes``. ``answered`` is asked, in the
        thread that reads, whether a line has its answer already and need not be given on. Needs a running loop."""
        self._fd = fd
        self._refused = refused
        self._answered = answered
        self._max = max_bytes
        self._loop = asyncio.get_running_loop()
        self._changed = threading.Condition()
        self._lines: deque[tuple[bytes, bool]] = deque()
        self._bytes = 0
        self._at_end = False
        self._waiter: asyncio.Future[None] | None = None
        self.ended: asyncio.Future[None] = self._loop.create_future()
        """Done when there is nothing more to read."""
        threading.Thread(target=self._run, name="stdin", daemon=True).start()

    def __aiter__(self) -> LineReader:
        return self

    async def __anext__(self) -> str:
        while True:
            with self._changed:
                if self._lines:
                    line, _ = self._lines.popleft()
                    self._bytes -= len(line)
                    self._changed.notify()
                    return line.decode("utf-8", "replace")
                if self._at_end:
                    raise StopAsyncIteration
            self._waiter = self._loop.create_future()
            await self._waiter

    def _run(self) -> None:
        splitter = _Splitter(self._max)
        while data := _read(self._fd):
            self._take(splitter.feed(data))
        self._take(splitter.finish())
        self._at_end = True
        _soon(self._loop, self._wake)
        _soon(self._loop, self._end)

    def _take(self, lines: list[bytes | TooLong]) -> None:
        """Lines that came together are ordered before the first of them is given on."""
        with self._changed:
            for line in lines:
                if isinstance(line, TooLong):
                    _soon(self._loop, self._refused, line)
                elif line.strip() and not self._answered(line):
                    self._put(line)
        _soon(self._loop, self._wake)

    def _put(self, line: bytes) -> None:
        while self._bytes > MAX_WAITING_BYTES:
            _soon(self._loop, self._wake)
            self._changed.wait()
        self._bytes += len(line)
        is_call = _CALL.search(line) is not None
        at = len(self._lines)
        if not is_call and _QUICK.search(line):
            while at and self._lines[at - 1][1]:
                at -= 1
        self._lines.insert(at, (line, is_call))

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


class _Splitter:
    """Bytes into lines; of a line that is too long only its ends are kept."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._line = bytearray()
        self._begin = b""
        self._dropped = 0

    def feed(self, data: bytes) -> list[bytes | TooLong]:
        *whole, rest = data.split(b"\n")
        lines: list[bytes | TooLong] = []
        for part in whole:
            self._add(part)
            lines.append(self._take())
        self._add(rest)
        return lines

    def finish(self) -> list[bytes | TooLong]:
        """What came after the last newline."""
        return [self._take()] if self._line else []

    def _add(self, part: bytes) -> None:
        self._line += part
        if len(self._line) > self._most:
            self._begin = self._begin or bytes(self._line[:_KEPT_BYTES])
            self._dropped += len(self._line) - _KEPT_BYTES
            del self._line[:-_KEPT_BYTES]

    def _take(self) -> bytes | TooLong:
        line, self._line = bytes(self._line), bytearray()
        if not self._begin:
            return line
        begin, self._begin = self._begin, b""
        dropped, self._dropped = self._dropped, 0
        return TooLong(begin, line, dropped + len(line))


class LineWriter:
    """Writes to a descriptor from a thread. A client that does not read makes ``write`` wait, and nobody else."""

    def __init__(self, fd: int) -> None:
        """Needs a running loop."""
        self._fd = fd
        self._loop = asyncio.get_running_loop()
        self._changed = threading.Condition()
        self._pieces: deque[bytes] = deque()
        self._bytes = 0
        self._error: OSError | None = None
        self._waiter: asyncio.Future[None] | None = None
        threading.Thread(target=self._run, name="stdout", daemon=True).start()

    @property
    def is_behind(self) -> bool:
        """Whether more is unread than the client may leave."""
        return self._bytes > MAX_UNREAD_BYTES

    async def write(self, text: str) -> None:
        """Takes it. Raises: OSError when an earlier piece could not be written (BrokenPipeError: nobody reads)."""
        self.put(text.encode("utf-8", "replace"))
        while self.is_behind and self._error is None:
            self._waiter = self._loop.create_future()
            if self.is_behind and self._error is None:
                await self._waiter
        if self._error is not None:
            raise self._error

    def put(self, data: bytes) -> None:
        """Takes it without waiting."""
        with self._changed:
            if self._error is None:
                self._pieces.append(data)
                self._bytes += len(data)
                self._changed.notify_all()

    async def flush(self) -> None:
        """What was taken is on its way."""

    def drain(self, timeout_s: float) -> bool:
        """Waits until everything is written, or the reader is gone, or so many seconds. True: everything is."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while self._bytes and self._error is None:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)
            return self._error is None

    def _run(self) -> None:
        while self._error is None:
            with self._changed:
                while not self._pieces:
                    self._changed.wait()
                data = b"".join(self._pieces)
                self._pieces.clear()
            error = _write_all(self._fd, data)
            with self._changed:
                self._bytes -= len(data)
                self._error = error
                self._changed.notify_all()
            _soon(self._loop, self._wake)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _soon(loop: asyncio.AbstractEventLoop, work: Callable[..., object], *arguments: object) -> None:
    """Has the event loop do it; where that has ended, nobody wants it any more."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(work, *arguments)


def _read(fd: int) -> bytes:
    """What is there; empty at the end, and where it cannot be read."""
    try:
        return os.read(fd, _CHUNK_BYTES)
    except OSError:
        return b""


def _write_all(fd: int, data: bytes) -> OSError | None:
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except OSError as error:
        return error
    return None
