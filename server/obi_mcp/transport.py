"""MCP over standard input and output: serves one client until it leaves or the server is told to stop.

Standard input is read in a thread that cannot be cancelled, so a stop never waits for it: the children are ended, the
audit log is closed, and the process leaves with ``os._exit``.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import re
import select
import signal
import threading
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

from mcp.server.mcpserver import MCPServer
from mcp.server.stdio import stdio_server
from mcp_types import INVALID_REQUEST

from obi_mcp.lines import LineReader, LineWriter, TooLong
from obi_mcp.repeated import RepeatedLists

CLOSE_TIMEOUT_S = 10.0
"""How long children may take to end after TERM and KILL before the server leaves without having seen it."""

LAST_ANSWERS_S = 1.0
"""How long a client that reads may take to read the last answers."""

LEAVING_S = 2.0
"""How long the session may take to end when the client has closed its end; one that reads no answers keeps it open."""

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_ID = rb'"id"\s*:\s*(-?\d{1,18}|"[^"\\\\]{1,100}")'
_ID_FIRST = re.compile(rb'\s*\{\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?' + _ID)
_ID_LAST = re.compile(_ID + rb'\s*(?:,\s*"jsonrpc"\s*:\s*"2\.0"\s*)?\}\s*\Z')

logger = logging.getLogger("obi_mcp.transport")


def serve_stdio(
    server: MCPServer[Any], *, close: Callable[[], Awaitable[None]], finish: Callable[[], None]
) -> NoReturn:
    """Serves until the client closes either stream or a stop signal comes, then ends the process.

    ``close`` ends whatever runs; ``finish`` puts the audit log away and writes the last log lines. The exit code is 0,
    or 1 when the serving itself failed.
    """
    asyncio.run(_serve_and_leave(server, close, finish))
    raise AssertionError("the process has left")


async def _serve_and_leave(
    server: MCPServer[Any], close: Callable[[], Awaitable[None]], finish: Callable[[], None]
) -> None:
    code = 1
    streams = _Streams.take()
    try:
        code = await _serve(server, streams)
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await close()
    except TimeoutError:
        logger.error("not everything that ran had ended when the server left", extra={"waited_s": CLOSE_TIMEOUT_S})
    finally:
        try:
            streams.writer.drain(LAST_ANSWERS_S)
            finish()
        finally:
            os._exit(code)  # INVARIANT: the loop never unwinds, for that would wait for the thread that reads


class _Streams:
    """The client's two streams, on descriptors of their own: 0 and 1 are nobody's while the server runs."""

    def __init__(self, reading: int, writing: int) -> None:
        self.writing = writing
        self.writer = LineWriter(writing)
        self.answers = RepeatedLists(self.writer)
        self.reader = LineReader(reading, self._refuse, answered=self.answers.answer)

    @classmethod
    def take(cls) -> _Streams:
        """Takes them from 0 and 1, which lead to nothing and to standard error from then on."""
        reading, writing = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3) for fd in (0, 1))
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        return cls(reading, writing)

    def _refuse(self, line: TooLong) -> None:
        """Answers a message that is too long to be read, as far as it can be told which one it was."""
        logger.warning("a message was too long", extra={"bytes": line.size})
        found = _ID_FIRST.match(line.begin) or _ID_LAST.search(line.end)
        error = {"code": INVALID_REQUEST, "message": f"a message of {line.size:,} bytes is too long"}
        answer = {"jsonrpc": "2.0", "id": json.loads(found[1]) if found else None, "error": error}
        self.writer.put(json.dumps(answer).encode() + b"\n")


async def serve_lines(server: MCPServer[Any], reader: LineReader, writer: LineWriter | RepeatedLists) -> None:
    """Serves one client whose messages are these lines. Returns when there are no more."""
    # The SDK has no public way to serve its stdio transport on streams of one's own. Besides this, only
    # resources/serving.py uses its private attributes; every test of serve fails where the SDK changes this one.
    inner = server._lowlevel_server
    streams: Any = (reader, writer)  # of an async file it uses iteration, write and flush
    async with stdio_server(*streams) as (incoming, outgoing):
        await inner.run(incoming, outgoing, inner.create_initialization_options())


async def _serve(server: MCPServer[Any], streams: _Streams) -> int:
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[str] = loop.create_future()

    def ask_to_stop(reason: str) -> None:
        if not stop.done():
            stop.set_result(reason)

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, ask_to_stop, f"signal {signal.Signals(number).name}")
    watcher = threading.Thread(
        target=_wait_for_reader_to_go,
        args=(streams.writing, lambda: loop.call_soon_threadsafe(ask_to_stop, "standard output was closed")),
        daemon=True,
    )
    watcher.start()
    streams.reader.ended.add_done_callback(lambda _: loop.call_later(LEAVING_S, ask_to_stop, "the client left"))
    serving = asyncio.ensure_future(serve_lines(server, streams.reader, streams.answers))
    ends: set[asyncio.Future[Any]] = {serving, stop}
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    return _outcome(serving, stop)


def _outcome(serving: asyncio.Future[None], stop: asyncio.Future[str]) -> int:
    if not serving.done():
        logger.info("stopping", extra={"reason": stop.result()})
        return 0
    error = serving.exception()
    if error is None or _is_broken_pipe(error):
        logger.info("stopping", extra={"reason": "the client left"})
        return 0
    logger.error("serving failed", exc_info=error)
    return 1


def _is_broken_pipe(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(_is_broken_pipe(inner) for inner in error.exceptions)
    return isinstance(error, BrokenPipeError | ConnectionResetError)


def _wait_for_reader_to_go(fd: int, tell: Callable[[], object]) -> None:
    """Returns when nobody holds the other end of a pipe or socket any more; for a file or terminal, never."""
    poll = select.poll()
    poll.register(fd, 0)  # errors and hang-ups only: they cannot be masked
    poll.poll()
    tell()
