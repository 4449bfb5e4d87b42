"""Structured logs on standard error: one JSON object per line, written by a thread of its own.

A client that does not read our standard error fills the pipe; whoever writes to it then waits. So the event loop never
writes there itself.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import threading
import time
from datetime import UTC, datetime

from obi_mcp.redact import Redactor

MAX_WAITING_LINES = 4096
LAST_LINES_S = 1.0
"""How long the last lines may take when nobody reads standard error."""
_STANDARD = frozenset(vars(logging.makeLogRecord({})))


class StderrWriter:
    """Writes lines to a file descriptor from a daemon thread.

    When the reader does not read, lines are lost and counted; the next one that gets through says how many.
    """

    def __init__(self, fd: int = 2) -> None:
        self._fd = fd
        self._lines: queue.Queue[bytes] = queue.Queue(MAX_WAITING_LINES)
        self._lost = 0
        self._started = False

    def write(self, line: bytes) -> bool:
        """Queues one line (no newline at its end). False: it was lost because the reader does not read."""
        if not self._started:  # not before: the kernel confines the server while it has one thread
            self._started = True
            threading.Thread(target=self._run, name="stderr", daemon=True).start()
        try:
            self._lines.put_nowait(line + b"\n")
        except queue.Full:
            self._lost += 1
            return False
        if self._lost:
            report = render_line("warning", "obi_mcp.log", "log lines were lost", {"lines": self._lost})
            try:
                self._lines.put_nowait(report + b"\n")
            except queue.Full:
                return True  # the next line that gets through says it
            self._lost = 0
        return True

    def flush(self, timeout_s: float = LAST_LINES_S) -> bool:
        """Waits until everything is written, or ``timeout_s`` seconds. True: everything is."""
        deadline = time.monotonic() + timeout_s
        with self._lines.all_tasks_done:
            while self._lines.unfinished_tasks:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._lines.all_tasks_done.wait(left)
        return True

    def _run(self) -> None:
        while True:
            data = self._lines.get()
            try:
                while data:
                    data = data[os.write(self._fd, data) :]
            except OSError:
                pass  # nobody can be told that standard error is closed
            finally:
                self._lines.task_done()


class JsonHandler(logging.Handler):
    """A logging handler that renders records as JSON lines without secrets; ``extra`` fields become keys."""

    def __init__(self, writer: StderrWriter, redactor: Redactor) -> None:
        super().__init__()
        self._writer = writer
        self._redactor = redactor

    def emit(self, record: logging.LogRecord) -> None:
        facts = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            facts["exception"] = logging.Formatter().formatException(record.exc_info)
        # At debug the SDK narrates every message, a caller's command lines among them.
        safe = {key: self._redactor.text(str(fact)) if isinstance(fact, str) else fact for key, fact in facts.items()}
        line = render_line(record.levelname.lower(), record.name, self._redactor.text(record.getMessage()), safe)
        self._writer.write(self._redactor.data(line))


def render_line(level: str, logger: str, message: str, facts: dict[str, object]) -> bytes:
    """One log line as JSON: time (UTC), level, logger, message, then the facts."""
    head = {"time": utc_now(), "level": level, "logger": logger, "message": message}
    return json.dumps({**head, **facts}, ensure_ascii=True, default=str).encode("ascii")


def utc_now() -> str:
    """The time in UTC as RFC 3339 with milliseconds: ``2026-01-31T12:00:00.123Z``."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def start_logging(level: str, writer: StderrWriter) -> None:
    """Sends every logger's records of at least ``level`` to ``writer``, and nothing anywhere else."""
    root = logging.getLogger()
    root.handlers[:] = [JsonHandler(writer, Redactor.load())]
    root.setLevel(level.upper())
    # These narrate every message at debug or info; an operator who asks for info asks about us.
    quiet = max(root.level, logging.WARNING) if root.level > logging.DEBUG else root.level
    for name in ("mcp", "mcp_types", "client", "asyncio"):
        logging.getLogger(name).setLevel(quiet)
