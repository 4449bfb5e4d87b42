"""MCP over standard input and output: serves one client until it leaves or the server is told to stop.

The SDK reads standard input in a thread that cannot be cancelled, so a stop never waits for it: the children are ended,
the audit log is closed, and the process leaves with ``os._exit``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import signal
import threading
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

from mcp.server.mcpserver import MCPServer

CLOSE_TIMEOUT_S = 10.0
"""How long children may take to end after TERM and KILL before the server leaves without having seen it."""

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

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
    try:
        code = await _serve(server)
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await close()
    except TimeoutError:
        logger.error("not everything that ran had ended when the server left", extra={"waited_s": CLOSE_TIMEOUT_S})
    finally:
        try:
            finish()
        finally:
            os._exit(code)  # INVARIANT: the loop never unwinds, for that would wait for the thread that reads


async def _serve(server: MCPServer[Any]) -> int:
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[str] = loop.create_future()

    def ask_to_stop(reason: str) -> None:
        if not stop.done():
            stop.set_result(reason)

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, ask_to_stop, f"signal {signal.Signals(number).name}")
    # The SDK diverts descriptor 1 while it serves; the duplicate stays on the client's pipe.
    watched = os.dup(1)
    watcher = threading.Thread(
        target=_wait_for_reader_to_go,
        args=(watched, lambda: loop.call_soon_threadsafe(ask_to_stop, "standard output was closed")),
        daemon=True,
    )
    watcher.start()
    serving = asyncio.ensure_future(server.run_stdio_async())
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
