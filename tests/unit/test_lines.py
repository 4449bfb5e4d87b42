"""Lines on the client's streams: what is split, what is refused, what goes first, and who waits for whom."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

import pytest

from obi_mcp.lines import MAX_UNREAD_BYTES, LineReader, LineWriter, TooLong

CALL = b'{"method":"tools/call","id":1,"params":{}}'
CALL_THAT_TALKS = b'{"method":"tools/call","params":{"arguments":{"command":"x \\"method\\":\\"ping\\""}}}'
LIST = b'{"jsonrpc":"2.0","id":2,"method":"tools/list"}'
PING = b'{"id":"a","method": "ping"}'
DONE = b'{"method":"notifications/initialized"}'
CANCEL = b'{"method":"notifications/cancelled","params":{"requestId":1}}'


def read(data: bytes, *, at_once: bool, most: int = 1000) -> tuple[list[str], list[TooLong]]:
    """All lines of the data, written in one piece or byte by byte, and what was refused."""
    refused: list[TooLong] = []

    async def run() -> list[str]:
        reading, writing = os.pipe()
        pieces = [data] if at_once else [data[at : at + 1] for at in range(len(data))]
        for piece in pieces:
            os.write(writing, piece)
        os.close(writing)
        try:
            return [line async for line in LineReader(reading, refused.append, max_bytes=most)]
        finally:
            os.close(reading)

    return asyncio.run(run()), refused


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"one\ntwo\n", ["one", "two"]),
        (b"one\r\n\n  \ntwo", ["one\r", "two"]),
        (b"\xff\xfe\n\x00\n", ["\ufffd\ufffd", "\x00"]),
        ("é\n".encode(), ["é"]),
    ],
)
def test_lines_are_what_stands_between_newlines(data: bytes, lines: list[str], at_once: bool) -> None:
    assert read(data, at_once=at_once) == (lines, [])


@pytest.mark.parametrize("at_once", [True, False])
def test_a_line_that_is_too_long_is_refused_and_the_next_is_read(at_once: bool) -> None:
    long = b"a" * 600 + b"b" * 2000
    lines, refused = read(b"first\n" + long + b"\nlast\n", at_once=at_once)
    assert lines == ["first", "last"]
    assert [(line.begin[:600], line.end, line.size) for line in refused] == [(b"a" * 512, b"b" * 512, 2600)]


ORDERS = [
    ("a list before calls that wait", [CALL, CALL, LIST], [LIST, CALL, CALL]),
    ("two keep their order", [CALL, LIST, PING], [LIST, PING, CALL]),
    ("never before anything else", [DONE, CALL, LIST, CANCEL, CALL, PING], [DONE, LIST, CALL, CANCEL, PING, CALL]),
    ("what a call says is no method", [CALL, CALL_THAT_TALKS], [CALL, CALL_THAT_TALKS]),
]


@pytest.mark.parametrize(("sent", "read_as"), [row[1:] for row in ORDERS], ids=[row[0] for row in ORDERS])
def test_quick_questions_do_not_wait_behind_calls(sent: list[bytes], read_as: list[bytes]) -> None:
    lines, _ = read(b"\n".join(sent) + b"\n", at_once=True, most=10_000)
    assert [line.encode() for line in lines] == read_as


def with_writer(use: Callable[[LineWriter, int], Awaitable[None]]) -> None:
    """Uses a writer and the reading end of its pipe."""

    async def run() -> None:
        reading, writing = os.pipe()
        await use(LineWriter(writing), reading)

    asyncio.run(run())


def test_what_is_written_arrives_in_order_and_drain_waits_for_it() -> None:
    async def use(writer: LineWriter, reading: int) -> None:
        for number in range(1000):
            await writer.write(f"{number}\n")
        assert await asyncio.to_thread(writer.drain, 20)
        assert os.read(reading, 100_000) == b"".join(b"%d\n" % number for number in range(1000))

    with_writer(use)


def test_a_client_that_does_not_read_makes_the_writer_wait_and_nobody_else() -> None:
    async def use(writer: LineWriter, reading: int) -> None:
        piece = "x" * 1_000_000
        writing = asyncio.ensure_future(write_many(writer, piece, 12))
        rounds = 0
        while writer._bytes <= MAX_UNREAD_BYTES:
            await asyncio.sleep(0)
            rounds += 1
        assert not writing.done() and not writer.drain(0.01)
        left = 12 * len(piece)
        while left:
            left -= len(await asyncio.to_thread(os.read, reading, 1 << 20))
        await writing
        assert writer.drain(20)

    with_writer(use)


async def write_many(writer: LineWriter, piece: str, times: int) -> None:
    for _ in range(times):
        await writer.write(piece)
        await asyncio.sleep(0)


def test_a_reader_that_is_gone_is_an_error_of_the_next_write() -> None:
    async def use(writer: LineWriter, reading: int) -> None:
        os.close(reading)
        with pytest.raises(BrokenPipeError):
            await write_many(writer, "x", 10**9)
        assert not writer.drain(20)

    with_writer(use)
