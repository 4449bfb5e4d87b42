"""One stream of work on several processors: copies of this process answer a piece each, and the order stays.

Forked by hand, since importing ``multiprocessing`` takes longer than a thousand decisions. INVARIANT: this process has
one thread when the first copy is made.
"""

from __future__ import annotations

import gc
import os
import signal
import struct
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import BinaryIO

Work = Callable[[int, bytes], bytes]
"""The answer to a piece of work, which has a number of its own."""

_HEADER = struct.Struct("!QQ")


class Copies:
    """As many copies as there are processors, made when there is work for them. Each has one piece at a time, so that
    neither side waits for the other with a full pipe."""

    def __init__(self, work: Work, most: int | None = None) -> None:
        """``most`` None: as many as there are processors. With one, the work is done here."""
        self._work = work
        self._most = len(os.sched_getaffinity(0)) if most is None else most
        self._copies: list[_Copy] = []
        self._given: deque[tuple[_Copy, int, bytes]] = deque()
        self._count = 0

    @property
    def idle(self) -> bool:
        """Whether everything that was put has its answer."""
        return not self._given

    def put(self, number: int, piece: bytes) -> Iterator[bytes]:
        """Takes a piece; gives the answers that are due before."""
        if 1 < self._most > len(self._copies):
            self._grow()
        if not self._copies:
            yield self._work(number, piece)
            return
        if len(self._given) == len(self._copies):
            yield self._answer()
        copy = self._copies[self._count % len(self._copies)]
        self._count += 1
        copy.give(number, piece)
        self._given.append((copy, number, piece))

    def settle(self) -> Iterator[bytes]:
        """The answers to everything that was put."""
        while self._given:
            yield self._answer()

    def close(self) -> None:
        """Ends the copies."""
        for copy in self._copies:
            copy.end()

    def _grow(self) -> None:
        try:
            self._copies.append(_Copy(self._work, self._copies))
        except OSError:  # the host has no process or descriptor left: it goes on with those that there are
            self._most = len(self._copies)

    def _answer(self) -> bytes:
        copy, number, piece = self._given.popleft()
        answer = copy.take()
        # A copy that was ended from outside has answered nothing: what it had is done here.
        return self._work(number, piece) if answer is None else answer


class _Copy:
    """A fork of this process, and the two pipes to it."""

    def __init__(self, work: Work, others: list[_Copy]) -> None:
        with ExitStack() as opened:
            reading, giving = _pipe(opened)
            taking, answering = _pipe(opened)
            gc.freeze()  # what was made so far is shared as long as nobody walks over it
            self.pid = os.fork()
            opened.pop_all()
        if self.pid == 0:
            for fd in (giving, taking, *(fd for other in others for fd in other._descriptors())):
                os.close(fd)
            _answer_all(work, reading, answering)
        os.close(reading)
        os.close(answering)
        self._giving = giving
        self._taking = os.fdopen(taking, "rb")

    def give(self, number: int, piece: bytes) -> None:
        try:
            _write(self._giving, _HEADER.pack(number, len(piece)) + piece)
        except BrokenPipeError:
            pass  # it has ended: no answer comes

    def take(self) -> bytes | None:
        """Its answer; None when it has ended before it was whole."""
        found = _read(self._taking)
        return None if found is None else found[1]

    def end(self) -> None:
        os.close(self._giving)
        self._taking.close()
        os.waitpid(self.pid, 0)

    def _descriptors(self) -> tuple[int, int]:
        return self._giving, self._taking.fileno()


def _pipe(opened: ExitStack) -> tuple[int, int]:
    ends = os.pipe()
    for end in ends:
        opened.callback(os.close, end)
    return ends


def _answer_all(work: Work, reading: int, answering: int) -> None:
    """The life of a copy: until nobody gives it anything any more. Never returns."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # whoever made it says what an interruption means
        with open(reading, "rb") as pieces:
            while (found := _read(pieces)) is not None:
                answer = work(*found)
                _write(answering, _HEADER.pack(found[0], len(answer)) + answer)
        code = 0
    finally:
        os._exit(code)


def _read(stream: BinaryIO) -> tuple[int, bytes] | None:
    """The next number and what belongs to it; None at the end."""
    header = stream.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return None
    number, size = _HEADER.unpack(header)
    data = stream.read(size)
    return (number, data) if len(data) == size else None


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
