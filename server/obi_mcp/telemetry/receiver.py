"""The built-in OTLP receiver as the server holds it: starts its process, asks it, and ends it."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from obi_mcp.config import Settings
from obi_mcp.errors import CallTimeout, ConfigError, InvalidArgument, ObiMcpError, ProgramFailed
from obi_mcp.process.confinement import state_directory
from obi_mcp.telemetry.counts import Counts
from obi_mcp.telemetry.settings import CaptureSettings, unavailable
from obi_mcp.telemetry.store import MAX_QUERY_ROWS, QueryResult

_START = "import sys; sys.path[:] = sys.argv[1:]; from obi_mcp.telemetry.child import main; sys.exit(main())"
_READY_WITHIN_S = 60.0
_ANSWERS_WITHIN_S = 30.0
"""One query may wait for another."""
_ENDS_WITHIN_S = 5.0
_MAX_ANSWER_BYTES = 64 * 1024 * 1024
_ERRORS: Mapping[str, type[ObiMcpError]] = {
    error.code: error for error in (CallTimeout, ConfigError, InvalidArgument, ProgramFailed)
}

logger = logging.getLogger("obi_mcp.telemetry")


class Receiver:
    """One capture. Everything it took goes when it stops; its process ends when this one does, however it ends."""

    def __init__(self, settings: CaptureSettings | None = None) -> None:
        """Raises: ConfigError when the packages it needs are not installed."""
        if (missing := unavailable()) is not None:
            raise ConfigError(f"telemetry cannot be captured: {missing}")
        self.settings = settings or CaptureSettings()
        self._process: asyncio.subprocess.Process | None = None
        self._port = 0
        self._folder = ""
        self._last: Counts | None = None
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def endpoint(self) -> str:
        """The base address to which senders add ``/v1/traces``."""
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        return f"http://{host}:{self._port}"

    @property
    def environment(self) -> dict[str, str]:
        """What makes OBI, or any OpenTelemetry SDK, send here."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}

    @property
    def pid(self) -> int | None:
        """The receiver's process, None when it does not run."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process is not None else None

    async def start(self) -> str:
        """Listens, and gives the endpoint. A second call gives the same one.

        Raises: ConfigError when the port is taken or there is no place to write; ProgramFailed.
        """
        if self.pid is not None:
            return self.endpoint
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-B", "-c", _START, *filter(None, sys.path)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin", **_temporary_place()},
            cwd="/",
            start_new_session=True,
            limit=_MAX_ANSWER_BYTES,
        )
        self._tasks = [asyncio.create_task(self._log_errors())]
        try:
            ready = await asyncio.wait_for(self._greet(), _READY_WITHIN_S)
        except TimeoutError:
            await self.stop()
            raise ProgramFailed(f"the receiver did not answer within {_READY_WITHIN_S:g} s") from None
        except BaseException:
            await self.stop()
            raise
        self._port, self._folder = ready["port"], ready["folder"]
        self._tasks.append(asyncio.create_task(self._read_answers()))
        return self.endpoint

    async def counts(self) -> Counts:
        """All numbers as they are now; after ``stop`` those of the end. Raises: ProgramFailed when it has died."""
        if self._last is not None:
            return self._last
        return Counts.from_json(await self._ask({"do": "counts"}))

    async def query(
        self, sql: str, parameters: Sequence[Any] = (), *, max_rows: int = 10_000, timeout_s: float = 10.0
    ) -> QueryResult:
        """What ``SpanStore.query`` gives. Everything in it came from outside: redact it before it is shown.

        Raises: InvalidArgument, CallTimeout, ProgramFailed.
        """
        query = {"sql": sql, "parameters": list(parameters), "timeout_s": timeout_s}
        order = {"do": "query", "query": {**query, "max_rows": min(max_rows, MAX_QUERY_ROWS)}}
        answer = await self._ask(order, timeout_s + _ANSWERS_WITHIN_S)
        rows = tuple(tuple(row) for row in answer["rows"])
        return QueryResult(tuple(answer["columns"]), rows, answer["truncated"])

    async def stop(self) -> Counts | None:
        """Ends it and removes what it kept; gives the last counts, None where it never came up or had died."""
        process = self._process
        if process is None:
            return self._last
        if process.stdin is not None:
            process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), _ENDS_WITHIN_S)
        except TimeoutError:
            process.kill()
        for task in self._tasks:  # both end with the process's output
            await asyncio.wait((task,), timeout=_ENDS_WITHIN_S)
            task.cancel()
        await process.wait()
        if self._folder and os.path.exists(self._folder):  # it was killed
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)
        self._process = None
        self._fail_waiting()
        return self._last

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _greet(self) -> dict[str, Any]:
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(self.settings.as_json()).encode() + b"\n")
        line = await process.stdout.readline()
        if not line:
            code = await process.wait()
            raise ProgramFailed(f"the receiver ended at its start (exit code {code})", "the server's log says why")
        ready: dict[str, Any] = json.loads(line)
        if "error" in ready:
            raise _error(ready["error"])
        return ready

    async def _ask(self, order: dict[str, Any], timeout_s: float = _ANSWERS_WITHIN_S) -> dict[str, Any]:
        process = self._process
        if self.pid is None or process is None or process.stdin is None:
            raise self._gone()
        number = next(self._numbers)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            process.stdin.write(json.dumps({**order, "id": number}).encode() + b"\n")
            await process.stdin.drain()
            return await asyncio.wait_for(answer, timeout_s)
        except TimeoutError:
            raise CallTimeout(f"the receiver did not answer within {timeout_s:g} s") from None
        except (BrokenPipeError, ConnectionResetError):
            raise self._gone() from None
        finally:
            self._waiting.pop(number, None)

    async def _read_answers(self) -> None:
        process = self._process
        assert process is not None and process.stdout is not None
        while line := await process.stdout.readline():
            message = json.loads(line)
            if "counts" in message:
                self._last = Counts.from_json(message["counts"])
                continue
            waiting = self._waiting.get(message["id"])
            if waiting is None or waiting.done():
                continue
            if "error" in message:
                waiting.set_exception(_error(message["error"]))
            else:
                waiting.set_result(message["result"])
        self._fail_waiting()

    async def _log_errors(self) -> None:
        process = self._process
        assert process is not None and process.stderr is not None
        while block := await process.stderr.read(4096):
            for line in block.decode("utf-8", "replace").splitlines():
                logger.warning("receiver: %s", line[:1000])

    def _fail_waiting(self) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(self._gone())

    def _gone(self) -> ProgramFailed:
        code = self._process.returncode if self._process is not None else None
        how = f" (exit code {code})" if code is not None else ""
        return ProgramFailed(f"the receiver does not run{how}", "start a capture again; what it held is gone")


def capture_settings(settings: Settings, environ: Mapping[str, str]) -> CaptureSettings:
    """The operator's bounds; what is kept goes below the server's state directory where no other is set."""
    chosen = settings.capture
    return CaptureSettings(
        port=chosen.port,
        directory=chosen.directory or str(state_directory(environ) / "capture"),
        max_rows=chosen.max_rows,
        max_disk_bytes=chosen.max_disk_bytes,
    )


def _temporary_place() -> dict[str, str]:
    place = os.environ.get("TMPDIR", "")
    return {"TMPDIR": place} if place else {}


def _error(data: Mapping[str, Any]) -> ObiMcpError:
    kind = _ERRORS.get(data["code"], ProgramFailed)
    return kind(data["message"], data["hint"])
