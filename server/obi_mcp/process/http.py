"""GET over a unix socket, HTTP/1.1 with kept connections: as much of HTTP as ``kubectl proxy`` speaks to us.

No redirect is followed and nothing is decompressed; a body is read in pieces, by length, by chunks, or to its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

_MAX_HEAD_BYTES = 65_536
_PIECE_BYTES = 65_536


class BadAnswer(ValueError):
    """What came is not HTTP as we know it."""


class Gone(ConnectionError):
    """The connection was closed before an answer began: on a kept connection the request may be sent again."""


@dataclass(frozen=True, slots=True)
class Head:
    """The beginning of an answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]

    @property
    def is_json(self) -> bool:
        """Whether the body says that it is JSON."""
        return self.headers.get("content-type", "").partition(";")[0].strip() == "application/json"


class Connection:
    """One connection, one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.reusable = True
        """Whether another request may follow: the last answer was read to its end, and the other side keeps it."""

    @classmethod
    async def open(cls, path: str) -> Connection:
        """Raises: OSError when nobody listens there."""
        return cls(*await asyncio.open_unix_connection(path, limit=_MAX_HEAD_BYTES))

    async def get(self, target: str, *, accept: str) -> Head:
        """Sends a request for ``target`` and reads the head of the answer. Raises: Gone, BadAnswer, OSError."""
        self.reusable = False
        # kubectl proxy accepts the hosts localhost and 127.0.0.1 only.
        request = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\nUser-Agent: obi-mcp\r\n\r\n"
        try:
            self._writer.write(request.encode("ascii"))
            await self._writer.drain()
            text = await self._reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise BadAnswer("the answer ended within its head") from None
            raise Gone("closed before it answered") from None
        except (BrokenPipeError, ConnectionResetError):
            raise Gone("closed before it answered") from None
        except asyncio.LimitOverrunError:
            raise BadAnswer("the head of the answer is too long") from None
        return _parse_head(text)

    async def body(self, head: Head) -> AsyncIterator[bytes]:
        """The body in pieces. Raises: BadAnswer when it ends too early."""
        keeps = head.headers.get("connection", "").lower() != "close"
        try:
            if "chunked" in head.headers.get("transfer-encoding", "").lower():
                async for piece in self._chunks():
                    yield piece
            elif "content-length" in head.headers:
                async for piece in self._exactly(_number(head.headers["content-length"], 10)):
                    yield piece
            elif head.status not in {204, 304}:
                keeps = False
                while piece := await self._reader.read(_PIECE_BYTES):
                    yield piece
        except asyncio.IncompleteReadError:
            raise BadAnswer("the answer ended too early") from None
        self.reusable = keeps

    def close(self) -> None:
        """Closes it at once."""
        self.reusable = False
        self._writer.close()

    async def _chunks(self) -> AsyncIterator[bytes]:
        while True:
            line = await self._reader.readuntil(b"\r\n")
            size = _number(line.partition(b";")[0].strip().decode("latin-1"), 16)
            if size == 0:
                while await self._reader.readuntil(b"\r\n") != b"\r\n":
                    pass
                return
            async for piece in self._exactly(size):
                yield piece
            await self._reader.readexactly(2)

    async def _exactly(self, size: int) -> AsyncIterator[bytes]:
        while size:
            piece = await self._reader.read(min(size, _PIECE_BYTES))
            if not piece:
                raise BadAnswer("the answer ended too early")
            size -= len(piece)
            yield piece


def _parse_head(text: bytes) -> Head:
    lines = text.decode("latin-1").split("\r\n")
    words = lines[0].split(" ", 2)
    if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
        raise BadAnswer(f"no HTTP answer: {lines[0][:60]!r}")
    headers = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    return Head(int(words[1]), headers)


def _number(text: str, base: int) -> int:
    try:
        number = int(text, base)
    except ValueError:
        raise BadAnswer(f"no length: {text[:20]!r}") from None
    if number < 0:
        raise BadAnswer(f"no length: {text[:20]!r}")
    return number
