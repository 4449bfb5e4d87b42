"""Pipes between children and the event loop: whole chunks, no buffers of their own, nothing blocks."""

from __future__ import annotations

import asyncio
import fcntl
import os

CHUNK_BYTES = 65_536
_PIPE_BYTES = 262_144


def make_pipe() -> tuple[int, int]:
    """A pipe's ends (read, write), not inherited by anybody, larger than usual where the kernel lets it be."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    except OSError:
        pass  # this user's pipes have used up their share: the usual size will do
    return reader, writer


class PipeReader:
    """The end of a pipe that we read. Owns the descriptor."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd

    async def read(self) -> bytes:
        """What is there, at most 64 KiB; empty at the end."""
        while self._fd >= 0:
            try:
                return os.read(self._fd, CHUNK_BYTES)
            except BlockingIOError:
                await self._readable()
        return b""

    def close(self) -> None:
        """Closes it; whoever still writes to it gets SIGPIPE."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        ready = loop.create_future()
        loop.add_reader(self._fd, _wake, ready)
        try:
            await ready
        finally:
            loop.remove_reader(self._fd)


class PipeWriter:
    """The end of a pipe that we write. Owns the descriptor."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd

    async def write(self, data: bytes) -> None:
        """Writes all of it. Raises: BrokenPipeError when nobody reads any more."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:
                await self._writable()

    def close(self) -> None:
        """Closes it: the reader comes to its end."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    async def _writable(self) -> None:
        loop = asyncio.get_running_loop()
        ready = loop.create_future()
        loop.add_writer(self._fd, _wake, ready)
        try:
            await ready
        finally:
            loop.remove_writer(self._fd)


def memory_file(data: bytes) -> int:
    """A descriptor that reads ``data``: a child's standard input that needs nobody to feed it."""
    fd = os.memfd_create("stdin", os.MFD_CLOEXEC)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
