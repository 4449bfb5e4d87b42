"""The store keeps within its bounds, loses nothing without a number, and lets a query do nothing but read."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.telemetry.messages import START_NS, logs, span, traces, value

from obi_mcp.errors import CallTimeout, InvalidArgument, ObiMcpError, ProgramFailed
from obi_mcp.telemetry.counts import Counts, SignalCounts
from obi_mcp.telemetry.settings import CaptureSettings
from obi_mcp.telemetry.store import SpanStore


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Any]:
    """Makes a store with these bounds; closed afterwards."""
    made: list[SpanStore] = []

    def store(**bounds: int) -> SpanStore:
        directory = tmp_path / "capture"
        directory.mkdir()
        made.append(SpanStore(CaptureSettings(**bounds), directory))  # type: ignore[arg-type]
        return made[-1]

    yield store
    for one in made:
        one.close()


def send(store: SpanStore, numbers: range) -> None:
    """One request of spans with these numbers."""
    store.take("traces", traces(*(span(number) for number in numbers)))


def kept(store: SpanStore) -> list[int]:
    """Numbers of the spans that are kept."""
    rows = store.query("SELECT start_ns FROM spans ORDER BY 1").rows
    return [row[0] - START_NS for row in rows]


def balanced(counts: SignalCounts) -> bool:
    return counts.received == counts.rejected + counts.lost + counts.dropped + counts.kept


def test_rows_in_memory_and_in_files_are_one_table(make: Any) -> None:
    store: SpanStore = make(max_rows=1000)  # a file for every 125 rows
    for first in range(1, 301, 60):
        send(store, range(first, first + 60))
    store.take("logs", logs())

    assert kept(store) == list(range(1, 301))
    assert len(list(store.directory.glob("traces-*.parquet"))) == 1
    assert store.query(
        "SELECT service_name, count(*) FROM spans JOIN resources USING (service_name) GROUP BY 1"
    ).rows == (("shop", 300),)
    assert store.counts().traces == SignalCounts(received=300, kept=300)


def test_the_oldest_are_dropped_and_counted(make: Any) -> None:
    store: SpanStore = make(max_rows=800)  # a file for every 100 rows
    for first in range(1, 2001, 50):
        send(store, range(first, first + 50))

    counts = store.counts()
    assert balanced(counts.traces) and counts.traces.received == 2000 and counts.traces.lost == 0
    assert 700 <= counts.traces.kept <= 800
    assert kept(store) == list(range(2001 - counts.traces.kept, 2001))
    assert len(list(store.directory.glob("*.parquet"))) <= 8


def test_the_bytes_on_disk_are_bounded_over_all_signals(make: Any) -> None:
    store: SpanStore = make(max_rows=800, max_disk_bytes=30_000)
    store.take("logs", logs(*(record(number) for number in range(1, 101))))
    for first in range(1, 2001, 100):
        send(store, range(first, first + 100))

    counts = store.counts()
    assert counts.disk_bytes <= 30_000 and counts.disk_bytes == sum(
        path.stat().st_size for path in store.directory.glob("*.parquet")
    )
    assert counts.traces.dropped and balanced(counts.traces)
    assert counts.logs == SignalCounts(received=100, dropped=100)  # they were the oldest


def record(number: int) -> Any:
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

    return LogRecord(time_unix_nano=number, body=value(f"line {number}"))


def test_what_cannot_be_written_is_lost_with_a_number_and_the_store_goes_on(make: Any) -> None:
    store: SpanStore = make(max_rows=800)
    send(store, range(1, 51))
    shutil.rmtree(store.directory)
    send(store, range(51, 151))

    counts = store.counts()
    assert counts.traces == SignalCounts(received=150, lost=150)
    assert list(counts.reasons.values()) == [150] and "not written to disk" in next(iter(counts.reasons))

    store.directory.mkdir()
    send(store, range(1, 151))
    assert store.counts().traces == SignalCounts(received=300, lost=150, kept=150)
    assert kept(store) == list(range(1, 151))


def test_rejected_spans_are_counted_by_their_reason(make: Any) -> None:
    store: SpanStore = make()
    batch = store.take("traces", traces(span(1), span(2, trace_id=b""), span(3, span_id=b"")))

    assert sum(batch.rejected.values()) == 2
    counts = store.counts()
    assert counts.traces == SignalCounts(received=3, rejected=2, kept=1)
    assert set(counts.reasons.values()) == {1} and counts.requests == 1
    assert Counts.from_json(counts.as_json()) == counts


def test_text_of_every_kind_comes_back_as_it_was(make: Any) -> None:
    store: SpanStore = make(max_rows=800)
    names = ["plain", "quote'\"", "new\nline", "ünïcode ✓", "nul\0inside", "'; DROP TABLE spans; --", ""]
    store.take("traces", traces(*(span(number, name=name) for number, name in enumerate(names, 1))))
    send(store, range(100, 250))  # into a file

    found = store.query("SELECT name FROM spans WHERE start_ns < ? ORDER BY start_ns", [START_NS + 50]).rows
    assert [row[0] for row in found] == names


QUERIES_REFUSED = [
    "DELETE FROM spans",
    "DROP TABLE resources",
    "INSERT INTO resources VALUES (1, '', '', '')",
    "CREATE TABLE x AS SELECT 1",
    "SELECT 1; SELECT 2",
    "",
    "SELEC",
    "SELECT * FROM nothing",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text('/etc/hostname')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM glob('/etc/*')",
    "COPY spans TO '/tmp/obi-mcp-stolen.csv'",
    "ATTACH '/tmp/obi-mcp-other.db'",
    "SET enable_external_access = true",
    "PRAGMA enable_external_access = true",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SELECT * FROM 'http://127.0.0.1:1/x.parquet'",
    "SELECT getenv('HOME')",
    "EXPLAIN ANALYZE DELETE FROM spans",
    "WITH gone AS (DELETE FROM spans RETURNING *) SELECT * FROM gone",
]


def test_a_query_can_only_read_what_was_captured(make: Any) -> None:
    store: SpanStore = make()
    send(store, range(1, 11))
    for sql in QUERIES_REFUSED:
        with pytest.raises(InvalidArgument):
            store.query(sql)
    assert kept(store) == list(range(1, 11))
    assert not list(Path("/tmp").glob("obi-mcp-stolen*")) and not list(Path("/tmp").glob("obi-mcp-other*"))


def test_a_query_is_bounded_in_rows_time_and_memory(make: Any) -> None:
    store: SpanStore = make(engine_memory_bytes=64 * 1024 * 1024)
    send(store, range(1, 101))

    short = store.query("SELECT start_ns FROM spans", max_rows=10)
    assert (len(short.rows), short.truncated) == (10, True)
    assert store.query("SELECT 1 AS one").columns == ("one",)
    with pytest.raises(CallTimeout):
        store.query(
            "SELECT count(*) FROM range(1000000000) a, range(1000) b WHERE a.range % 7 = b.range", timeout_s=0.1
        )
    with pytest.raises(ObiMcpError) as caught:
        store.query("SELECT list(a.range || 'text that takes place') FROM range(50000000) a")
    assert isinstance(caught.value, ProgramFailed | CallTimeout)
    assert len(kept(store)) == 100  # it goes on


def test_queries_and_spans_may_come_at_once(make: Any) -> None:
    store: SpanStore = make(max_rows=800)
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            for _ in range(20):
                store.query("SELECT quantile_cont(duration_ns, 0.95) FROM spans")
        except BaseException as error:  # a thread has nobody else to tell
            failures.append(error)

    askers = [threading.Thread(target=ask) for _ in range(3)]
    for asker in askers:
        asker.start()
    for first in range(1, 2001, 50):
        send(store, range(first, first + 50))
    for asker in askers:
        asker.join()
    assert not failures and balanced(store.counts().traces)


def test_percentiles_are_exact(make: Any) -> None:
    store: SpanStore = make(max_rows=10_000)
    spans = (span(number, end_time_unix_nano=START_NS + number + number * 10) for number in range(1, 1002))
    store.take("traces", traces(*spans))
    assert store.query("SELECT quantile_cont(duration_ns, [0, 0.5, 0.99, 1]) FROM spans").rows == (
        ([10.0, 5010.0, 9910.0, 10010.0],),
    )
