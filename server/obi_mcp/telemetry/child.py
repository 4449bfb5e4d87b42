"""The receiver's process: HTTP on loopback, the store, and orders by standard input.

It is a process of its own because decoding takes the interpreter's lock and the engine takes memory: neither may touch
the server's loop. It ends when its standard input does, so it never outlives the server.

Orders and answers are lines of JSON. The first line in has the settings; the first line out says where it listens.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from obi_mcp.errors import ConfigError, ObiMcpError
from obi_mcp.telemetry.folder import Folder
from obi_mcp.telemetry.service import MAX_REQUESTS, Service
from obi_mcp.telemetry.settings import CaptureSettings
from obi_mcp.telemetry.store import QueryResult, SpanStore

MAX_LINE_BYTES = 1024 * 1024
_GRACE_S = 2

Write = Callable[[dict[str, Any]], None]


def main() -> int:
    """Serves until standard input ends. Exit code 0, or 2 when it could not start; the first line says why."""
    os.umask(0o077)
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever prints by accident must not look like an answer
    write = _writer(answers)
    folder: Folder | None = None
    try:
        settings = CaptureSettings(**json.loads(sys.stdin.buffer.readline(MAX_LINE_BYTES)))
        listener = _listen(settings)
        folder = Folder.make(settings.directory)
        asyncio.run(_serve(settings, SpanStore(settings, folder.path), listener, write))
    except ObiMcpError as error:
        write({"error": _as_json(error)})
        return 2
    finally:
        if folder is not None:
            folder.remove()
    return 0


def _listen(settings: CaptureSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen(MAX_REQUESTS)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"the receiver cannot listen on {settings.host} port {settings.port}: {error.strerror}",
            "set capture.port to another one, or to 0 for one that is free",
        ) from None
    return listener


async def _serve(settings: CaptureSettings, store: SpanStore, listener: socket.socket, write: Write) -> None:
    import uvicorn

    with ThreadPoolExecutor(1, "store") as worker:
        service = Service(settings, store, worker)
        server = uvicorn.Server(
            uvicorn.Config(
                service,
                http="h11",
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                timeout_graceful_shutdown=_GRACE_S,
            )
        )
        write({"port": listener.getsockname()[1], "folder": str(store.directory)})
        orders = asyncio.create_task(_take_orders(store, write))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await asyncio.wait((orders, serving), return_when=asyncio.FIRST_COMPLETED)
        service.closing = True
        server.should_exit = True
        await serving
        orders.cancel()
        write({"counts": store.counts().as_json()})
    store.close()


async def _take_orders(store: SpanStore, write: Write) -> None:
    """Answers orders, several at once, until standard input ends or one says stop."""
    reader = asyncio.StreamReader(limit=MAX_LINE_BYTES)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(0, "rb", buffering=0))
    running: set[asyncio.Task[None]] = set()
    while line := await reader.readline():
        order = json.loads(line)
        if order["do"] == "stop":
            return
        task = asyncio.create_task(_obey(store, order, write))
        running.add(task)
        task.add_done_callback(running.discard)


async def _obey(store: SpanStore, order: dict[str, Any], write: Write) -> None:
    work: Awaitable[dict[str, Any]]
    match order["do"]:
        case "counts":
            work = asyncio.to_thread(lambda: store.counts().as_json())
        case _:
            work = asyncio.to_thread(lambda: _query_json(store.query(**order["query"])))
    try:
        write({"id": order["id"], "result": await work})
    except ObiMcpError as error:
        write({"id": order["id"], "error": _as_json(error)})


def _query_json(result: QueryResult) -> dict[str, Any]:
    return {"columns": result.columns, "rows": result.rows, "truncated": result.truncated}


def _as_json(error: ObiMcpError) -> dict[str, Any]:
    return {"code": error.code, "message": error.message, "hint": error.hint}


def _writer(descriptor: int) -> Write:
    """Writes whole lines; once nobody reads them any more, nothing."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)

    def write(message: dict[str, Any]) -> None:
        line = memoryview(json.dumps(message, default=str).encode() + b"\n")
        try:
            while line:
                line = line[os.write(descriptor, line) :]
        except OSError:
            pass  # the server has gone; standard input ends next

    return write
