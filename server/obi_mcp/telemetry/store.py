"""Where captured telemetry is kept: rows in memory until there are enough for a file, and files up to the bounds.

DuckDB is the engine (docs/decisions/0006-span-store.md): new rows are a table in its memory, full parts are Parquet
files, and a view joins both, so that queries see one table. Blocking; safe for several threads.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obi_mcp.errors import CallTimeout, ConfigError, InvalidArgument, ProgramFailed
from obi_mcp.telemetry.counts import Counts
from obi_mcp.telemetry.points import point_rows
from obi_mcp.telemetry.records import record_rows
from obi_mcp.telemetry.rows import Batch, Resources
from obi_mcp.telemetry.segments import Segments
from obi_mcp.telemetry.spans import span_rows
from obi_mcp.telemetry.tables import RESOURCES, SIGNALS, TABLES, Signal

if TYPE_CHECKING:
    from collections.abc import Iterator

    import duckdb

    from obi_mcp.telemetry.settings import CaptureSettings

_ROWS: dict[Signal, Any] = {"traces": span_rows, "metrics": point_rows, "logs": record_rows}
_MAX_SPILL_BYTES = 256 * 1024 * 1024
MAX_QUERY_ROWS = 100_000


@dataclass(frozen=True, slots=True)
class QueryResult:
    """Rows of a query; ``truncated``: there were more than asked for."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    truncated: bool


class SpanStore:
    """One capture's spans, metric points and log records. ``directory`` is its own, empty and on a disk."""

    def __init__(self, settings: CaptureSettings, directory: Path) -> None:
        self.directory = directory
        self._settings = settings
        self._segments = Segments(directory)
        self._resources = Resources()
        self._counts = Counts()
        self._fresh: dict[Signal, int] = dict.fromkeys(SIGNALS, 0)
        self._lock = threading.Lock()
        self._engine = _engine(settings, directory)
        self._engine.execute(f"CREATE TABLE resources({RESOURCES.definition})")
        for signal in SIGNALS:
            self._engine.execute(f"CREATE TABLE fresh_{signal}({TABLES[signal].definition})")
            self._make_view(signal)

    def take(self, signal: Signal, message: Any) -> Batch:
        """Keep what a request holds. The batch says how many were rejected and why; its rows are taken already."""
        with self._lock:
            batch: Batch = _ROWS[signal](message, self._resources)
            counts = self._counts.of(signal)
            rejected = sum(batch.rejected.values())
            counts.received += len(batch.rows) + rejected
            counts.rejected += rejected
            for reason, number in batch.rejected.items():
                self._counts.explain(reason, number)
            self._counts.requests += 1
            if batch.rows:
                self._insert(signal, batch)
            return batch

    def refuse(self, status: int) -> None:
        """Count a request that was not taken."""
        with self._lock:
            self._counts.refuse(status)

    def counts(self) -> Counts:
        """A copy of all numbers as they are now."""
        with self._lock:
            self._counts.resources_left_out = self._resources.left_out
            self._counts.disk_bytes = self._segments.bytes
            return Counts.from_json(self._counts.as_json())

    def query(
        self, sql: str, parameters: Sequence[Any] = (), *, max_rows: int = 10_000, timeout_s: float = 10.0
    ) -> QueryResult:
        """The rows of one SELECT over ``spans``, ``points``, ``records`` and ``resources``; ``?`` takes a parameter.

        Raises: InvalidArgument for SQL that is wrong or no SELECT; CallTimeout; ProgramFailed when memory ran out.
        """
        import duckdb

        most = min(max_rows, MAX_QUERY_ROWS)
        with self._lock, self._engine.cursor() as cursor:
            self._refuse_writing(sql)
            try:
                with _deadline(cursor, timeout_s):
                    cursor.execute(sql, list(parameters))
                    columns = tuple(column[0] for column in cursor.description or ())
                    rows = cursor.fetchmany(most + 1)
            except duckdb.InterruptException:
                raise CallTimeout(f"the query took more than {timeout_s:g} s", "ask for a shorter window") from None
            except duckdb.OutOfMemoryException as error:
                raise ProgramFailed(f"the query needs too much memory: {error}", "ask for a shorter window") from None
            except duckdb.Error as error:
                raise InvalidArgument(f"the query is wrong: {error}") from None
        return QueryResult(columns, tuple(rows[:most]), len(rows) > most)

    def close(self) -> None:
        """Let go of memory and files; the directory stays for its owner to remove."""
        with self._lock:
            self._engine.close()

    def _refuse_writing(self, sql: str) -> None:
        import duckdb

        try:
            statements = duckdb.extract_statements(sql)
        except duckdb.Error as error:
            raise InvalidArgument(f"the query cannot be read: {error}") from None
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise InvalidArgument("a query is one SELECT")

    def _insert(self, signal: Signal, batch: Batch) -> None:
        import duckdb

        counts = self._counts.of(signal)
        try:
            self._append("resources", self._resources.take_new())
            self._append(f"fresh_{signal}", batch.rows)
        except duckdb.Error as error:
            counts.lost += len(batch.rows)
            self._counts.explain(f"not stored: {type(error).__name__}", len(batch.rows))
            return
        self._counts.resources = self._resources.known
        self._fresh[signal] += len(batch.rows)
        counts.kept += len(batch.rows)
        if self._fresh[signal] >= self._settings.segment_rows:
            self._roll(signal)
        while counts.kept > self._settings.max_rows and self._drop_oldest(signal):
            self._make_view(signal)

    def _append(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        if rows:
            with self._engine.appender(table) as appender:
                appender.append_rows(rows)

    def _roll(self, signal: Signal) -> None:
        """Turn the rows in memory into a file; what cannot be written is lost, and counted."""
        path = self._segments.new_path(signal)
        rows = self._fresh[signal]
        reason = self._write(signal, path)
        while reason is not None and self._drop_oldest(None):  # the disk is full: the oldest make place
            reason = self._write(signal, path)
        if reason is None:
            self._segments.add(signal, path, rows)
        else:
            counts = self._counts.of(signal)
            counts.lost += rows
            counts.kept -= rows
            self._counts.explain(f"not written to disk: {reason}", rows)
        self._engine.execute(f"TRUNCATE fresh_{signal}")
        self._fresh[signal] = 0
        while self._segments.bytes > self._settings.max_disk_bytes and self._drop_oldest(None):
            pass
        for each in SIGNALS:
            self._make_view(each)

    def _write(self, signal: Signal, path: Path) -> str | None:
        """Why the file could not be written, None when it was."""
        import duckdb

        try:
            self._engine.execute(f"COPY fresh_{signal} TO '{path}' (FORMAT parquet, COMPRESSION zstd)")
        except duckdb.Error as error:
            path.unlink(missing_ok=True)
            return type(error).__name__
        return None

    def _drop_oldest(self, signal: Signal | None) -> bool:
        dropped = self._segments.drop_oldest(signal)
        if dropped is None:
            return False
        counts = self._counts.of(dropped.signal)
        counts.dropped += dropped.rows
        counts.kept -= dropped.rows
        return True

    def _make_view(self, signal: Signal) -> None:
        parts = [f"SELECT * FROM fresh_{signal}"]
        files = ", ".join(f"'{segment.path}'" for segment in self._segments.of(signal))
        if files:
            parts.insert(0, f"SELECT * FROM read_parquet([{files}])")
        self._engine.execute(f"CREATE OR REPLACE VIEW {TABLES[signal].name} AS {' UNION ALL '.join(parts)}")


def _engine(settings: CaptureSettings, directory: Path) -> duckdb.DuckDBPyConnection:
    """An engine that reads and writes nothing but ``directory``, whatever a query says."""
    import duckdb

    if not hasattr(duckdb.DuckDBPyConnection, "appender"):
        raise ConfigError(f"DuckDB {duckdb.__version__} has no appender", "install duckdb 2.0 or newer")
    engine = duckdb.connect(
        ":memory:",
        config={
            "memory_limit": f"{settings.engine_memory_bytes // (1024 * 1024)}MiB",
            "threads": 2,
            "preserve_insertion_order": False,
            "temp_directory": str(directory / "spill"),
            "max_temp_directory_size": f"{_MAX_SPILL_BYTES // (1024 * 1024)}MiB",
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        },
    )
    engine.execute(f"SET allowed_directories = ['{directory}']")
    engine.execute("SET enable_external_access = false")
    engine.execute("SET lock_configuration = true")
    return engine


@contextmanager
def _deadline(cursor: duckdb.DuckDBPyConnection, timeout_s: float) -> Iterator[None]:
    timer = threading.Timer(timeout_s, cursor.interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
