"""GET over a unix socket: every way a body can end, and every way an answer can be wrong."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from obi_mcp.process.http import BadAnswer, Connection, Gone

ANSWERS = [
    ("length", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello", True),
    ("no body", b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
    ("empty", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, b"", True),
    (
        "chunks",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nTrailer: x\r\n\r\n",
        200,
        b"hello!",
        True,
    ),
    ("to the end", b"HTTP/1.1 200 OK\r\n\r\nhello", 200, b"hello", False),
    ("not kept", b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi", False),
    (
        "a redirect is an answer",
        b"HTTP/1.1 302 Found\r\nLocation: http://x/\r\nContent-Length: 0\r\n\r\n",
        302,
        b"",
        True,
    ),
]
BROKEN = [
    ("closed at once", b"", Gone),
    ("within its head", b"HTTP/1.1 200 OK\r\nConten", BadAnswer),
    ("no HTTP", b"SSH-2.0-x\r\n\r\n", BadAnswer),
    ("too short", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", BadAnswer),
    ("no length", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", BadAnswer),
    ("a negative length", b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", BadAnswer),
    ("a bad chunk", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", BadAnswer),
    ("chunks cut", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe", BadAnswer),
    ("an endless head", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, BadAnswer),
]


async def ask(socket: Path, answer: bytes) -> tuple[int, bytes, bool, bytes]:
    """Status, body, whether the connection may be kept, and the request as it came."""
    requests = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(serve, str(socket))
    async with server:
        connection = await Connection.open(str(socket))
        try:
            head = await connection.get("/api/v1/pods?limit=5", accept="application/json")
            body = b"".join([piece async for piece in connection.body(head)])
            return head.status, body, connection.reusable, requests[0]
        finally:
            connection.close()


@pytest.mark.parametrize(
    ("answer", "status", "body", "kept"), [row[1:] for row in ANSWERS], ids=[r[0] for r in ANSWERS]
)
def test_a_body_ends_where_it_ends(tmp_path: Path, answer: bytes, status: int, body: bytes, kept: bool) -> None:
    got = asyncio.run(ask(tmp_path / "s", answer))
    assert got[:3] == (status, body, kept)
    assert got[3].startswith(b"GET /api/v1/pods?limit=5 HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n")


@pytest.mark.parametrize(("answer", "error"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_a_broken_answer_is_an_error(tmp_path: Path, answer: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        asyncio.run(ask(tmp_path / "s", answer))
