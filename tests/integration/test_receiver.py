"""The built-in receiver as its senders and the server meet it: a real SDK, real HTTP, real ends of processes."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from tests.bench.receiving import receive
from tests.unit.telemetry.messages import span, traces

from obi_mcp.errors import ConfigError, InvalidArgument, ProgramFailed
from obi_mcp.telemetry.receiver import Receiver
from obi_mcp.telemetry.settings import CaptureSettings

pytestmark = pytest.mark.integration

PROTOBUF, JSON = "application/x-protobuf", "application/json"
_WITHIN_S = 120.0


def within(settings: CaptureSettings, work: Callable[[Receiver], Awaitable[None]]) -> None:
    """Runs ``work`` with a receiver; no process and no folder of it is left."""

    async def main() -> None:
        async with Receiver(settings) as receiver:
            pid = receiver.pid
            await work(receiver)
        assert pid is not None and not Path(f"/proc/{pid}").exists()

    asyncio.run(main())
    assert settings.directory is None or not os.listdir(settings.directory)


def post(receiver: Receiver, path: str, body: bytes, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer. Names of headers have underscores for hyphens."""
    connection = http.client.HTTPConnection(receiver.endpoint.removeprefix("http://"), timeout=60)
    sent = {name.replace("_", "-"): value for name, value in headers.items() if name != "method"}
    try:
        connection.request(headers.get("method", "POST"), path, body, sent)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def wait_until(condition: Callable[[], bool]) -> None:
    """Waits for a condition. Raises: AssertionError when it does not come."""
    deadline = time.monotonic() + _WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.01)


def test_ten_thousand_spans_a_second_of_a_real_sdk_are_all_kept(tmp_path: Path) -> None:
    found = asyncio.run(receive(10_000, 3, CaptureSettings(directory=str(tmp_path))))

    assert (found.made, found.sent, found.failed) == (30_000, 30_000, 0)
    assert found.counts.traces.received == found.counts.traces.kept == 30_000
    assert found.counts.refused == {} and found.counts.reasons == {}


def test_spans_metrics_and_logs_of_a_real_sdk_can_be_asked_for(tmp_path: Path) -> None:
    async def work(receiver: Receiver) -> None:
        sending = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", SENDER), env={**receiver.environment, "PATH": os.environ["PATH"]}
        )
        assert await sending.wait() == 0
        counts = await receiver.counts()
        assert (counts.traces.kept, counts.logs.kept, counts.metrics.kept >= 2) == (3, 1, True)
        asked = await receiver.query(
            "SELECT c.name, p.name, c.http_status, c.service_name FROM spans c "
            "JOIN spans p ON c.parent_span_id = p.span_id AND c.trace_id = p.trace_id ORDER BY 1"
        )
        assert asked.rows == (("inner-0", "outer", 200, "shop"), ("inner-1", "outer", 200, "shop"))
        histogram = await receiver.query("SELECT count, buckets FROM points WHERE name = ?", ["took"])
        assert histogram.rows[0][0] == 2 and sum(histogram.rows[0][1]) == 2
        assert (await receiver.query("SELECT body, severity_text FROM records")).rows == (("it broke", "ERROR"),)
        with pytest.raises(InvalidArgument):
            await receiver.query("SELECT * FROM nothing")

    within(CaptureSettings(directory=str(tmp_path)), work)


SENDER = """
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

resource = Resource.create({"service.name": "shop"})
tracing = TracerProvider(resource=resource)
tracing.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
tracer = tracing.get_tracer("tests")
with tracer.start_as_current_span("outer"):
    for number in range(2):
        with tracer.start_as_current_span(f"inner-{number}", attributes={"http.response.status_code": 200}):
            pass
measuring = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())], resource=resource)
meter = measuring.get_meter("tests")
meter.create_counter("asked").add(5)
took = meter.create_histogram("took")
took.record(1)
took.record(700)
logging = LoggerProvider(resource=resource)
logging.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
record = LogRecord(timestamp=1, severity_number=SeverityNumber.ERROR, severity_text="ERROR", body="it broke")
logging.get_logger("tests").emit(record)
for provider in (tracing, measuring, logging):
    provider.shutdown()
"""

GOOD = traces(span(1)).SerializeToString()
HALF = traces(span(1), span(2, trace_id=b"")).SerializeToString()
GOOD_JSON = b"""{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "5b8efff798038103d269b633813fc60c",
 "spanId": "eee19b7ec3c1b174", "name": "a", "startTimeUnixNano": "5", "endTimeUnixNano": "6"}]}]}]}"""

ANSWERS: list[tuple[str, bytes, dict[str, str], int]] = [
    ("/v1/traces", GOOD, {"Content_Type": PROTOBUF}, 200),
    ("/v1/traces", gzip.compress(GOOD), {"Content_Type": PROTOBUF, "Content_Encoding": "gzip"}, 200),
    ("/v1/traces", GOOD_JSON, {"Content_Type": JSON}, 200),
    ("/v1/traces", b"", {"Content_Type": PROTOBUF}, 200),
    ("/v1/metrics", b"{}", {"Content_Type": JSON}, 200),
    ("/v1/logs", b"{}", {"Content_Type": JSON}, 200),
    ("/v1/traces", b"{", {"Content_Type": JSON}, 400),
    ("/v1/traces", b"\xff\xff", {"Content_Type": PROTOBUF}, 400),
    ("/v1/traces", b"no gzip", {"Content_Type": PROTOBUF, "Content_Encoding": "gzip"}, 400),
    ("/v1/profiles", GOOD, {"Content_Type": PROTOBUF}, 404),
    ("/", GOOD, {"Content_Type": PROTOBUF}, 404),
    ("/v1/traces", b"", {"method": "GET"}, 405),
    ("/v1/traces", bytes(60_000), {"Content_Type": PROTOBUF}, 413),
    ("/v1/traces", gzip.compress(bytes(200_000)), {"Content_Type": PROTOBUF, "Content_Encoding": "gzip"}, 413),
    ("/v1/traces", GOOD, {"Content_Type": "text/plain"}, 415),
    ("/v1/traces", GOOD, {"Content_Type": PROTOBUF, "Content_Encoding": "br"}, 415),
    ("/v1/traces", GOOD, {"Content_Type": PROTOBUF, "Host": "obi.example:4318"}, 421),
    ("/v1/traces", bytes(40_000), {"Content_Type": PROTOBUF}, 429),
]


def test_every_request_has_the_answer_that_otlp_gives_it_and_is_counted(tmp_path: Path) -> None:
    bounds = CaptureSettings(
        directory=str(tmp_path), max_body_bytes=50_000, max_decoded_bytes=100_000, max_pending_bytes=30_000
    )

    async def work(receiver: Receiver) -> None:
        refused: dict[str, int] = {}
        for path, body, headers, status in ANSWERS:
            found, said, content = await asyncio.to_thread(post, receiver, path, body, **headers)
            assert found == status, (path, headers, content)
            if status == 200:
                assert (said["content-type"], content) in ((PROTOBUF, b""), (JSON, b"{}"))
                continue
            refused[str(status)] = refused.get(str(status), 0) + 1
            if headers.get("Content_Type") == JSON:
                assert json.loads(content).keys() == {"code", "message"}
            assert ("retry-after" in said) == (status == 429) and ("allow" in said) == (status == 405)
        counts = await receiver.counts()
        assert (counts.refused, counts.requests, counts.traces.kept) == (refused, 6, 3)

    within(bounds, work)


def test_a_request_that_is_half_valid_says_how_much_was_not_taken(tmp_path: Path) -> None:
    async def work(receiver: Receiver) -> None:
        _, _, content = await asyncio.to_thread(post, receiver, "/v1/traces", HALF, Content_Type=PROTOBUF)
        answer = ExportTraceServiceResponse.FromString(content)
        assert answer.partial_success.rejected_spans == 1 and "trace id" in answer.partial_success.error_message
        as_json = GOOD_JSON.replace(b"5b8efff798038103d269b633813fc60c", b"")
        _, _, content = await asyncio.to_thread(post, receiver, "/v1/traces", as_json, Content_Type=JSON)
        assert json.loads(content)["partialSuccess"]["rejectedSpans"] == "1"
        counts = (await receiver.counts()).traces
        assert (counts.received, counts.rejected, counts.kept) == (3, 2, 1)

    within(CaptureSettings(directory=str(tmp_path)), work)


def test_a_body_that_does_not_come_is_given_up(tmp_path: Path) -> None:
    async def work(receiver: Receiver) -> None:
        host, _, port = receiver.endpoint.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head = f"POST /v1/traces HTTP/1.1\r\nHost: {host}\r\nContent-Type: {PROTOBUF}\r\nContent-Length: 10\r\n\r\nhalf"
        writer.write(head.encode())
        assert (await reader.readline()).startswith(b"HTTP/1.1 408")
        writer.close()
        assert (await receiver.counts()).refused == {"408": 1}

    within(CaptureSettings(directory=str(tmp_path), body_within_s=0.1), work)


def test_a_full_disk_costs_the_oldest_and_then_what_comes_and_both_are_counted(tmp_path: Path) -> None:
    def batch(first: int) -> bytes:
        return traces(*(span(number) for number in range(first, first + 1000))).SerializeToString()

    async def work(receiver: Receiver) -> None:
        for first in range(1, 30_001, 1000):
            status, _, _ = await asyncio.to_thread(post, receiver, "/v1/traces", batch(first), Content_Type=PROTOBUF)
            assert status == 200
        counts = (await receiver.counts()).traces
        assert counts.received == 30_000 == counts.rejected + counts.lost + counts.dropped + counts.kept
        assert counts.dropped > 0 and counts.kept > 0
        assert (await receiver.query("SELECT count(*) FROM spans")).rows == ((counts.kept,),)

    with small_disk(tmp_path / "disk", "64k") as place:
        within(CaptureSettings(directory=str(place), max_rows=40_000), work)


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    """A file system of that size."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_port_in_use_and_a_place_that_cannot_be_written_are_said(tmp_path: Path) -> None:
    async def work(receiver: Receiver) -> None:
        port = int(receiver.endpoint.rpartition(":")[2])
        taken = Receiver(CaptureSettings(port=port, directory=str(tmp_path)))
        with pytest.raises(ConfigError, match=f"port {port}: Address already in use"):
            await taken.start()
        nowhere = Receiver(CaptureSettings(directory="/proc/nowhere"))
        with pytest.raises(ConfigError, match="no place for captured telemetry in /proc/nowhere"):
            await nowhere.start()
        assert await taken.stop() is None and await nowhere.stop() is None
        assert await receiver.start() == receiver.endpoint  # a second start is none

    within(CaptureSettings(directory=str(tmp_path)), work)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "localhost.example", "127.0.0.1.nip.example", ""])
def test_an_address_that_others_reach_is_refused_with_the_reason(host: str) -> None:
    with pytest.raises(ConfigError, match="takes telemetry from anybody"):
        CaptureSettings(host=host)


def test_when_the_receiver_is_killed_the_server_says_so_and_nothing_is_left(tmp_path: Path) -> None:
    async def work(receiver: Receiver) -> None:
        assert receiver.pid is not None
        os.kill(receiver.pid, signal.SIGKILL)
        with pytest.raises(ProgramFailed, match="the receiver does not run"):
            await receiver.query("SELECT 1")
        assert await receiver.stop() is None

    async def main() -> None:
        receiver = Receiver(CaptureSettings(directory=str(tmp_path)))
        await receiver.start()
        await work(receiver)

    asyncio.run(main())
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_when_the_server_ends_the_receiver_ends(tmp_path: Path, number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", SERVER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        pid = int(server.stdout.readline())
        assert os.listdir(tmp_path)
        server.send_signal(number)
    wait_until(lambda: not Path(f"/proc/{pid}").exists() and not os.listdir(tmp_path))


SERVER = """
import asyncio, sys
from obi_mcp.telemetry.receiver import Receiver
from obi_mcp.telemetry.settings import CaptureSettings

async def main():
    receiver = Receiver(CaptureSettings(directory=sys.argv[1]))
    await receiver.start()
    print(receiver.pid, flush=True)
    await asyncio.sleep(1000)

asyncio.run(main())
"""


def test_what_a_killed_capture_left_is_swept_by_the_next(tmp_path: Path) -> None:
    left = tmp_path / "obi-mcp-capture-old"
    left.mkdir()
    (left / "lock").touch()
    (left / "traces-1.parquet").touch()

    async def work(receiver: Receiver) -> None:
        assert not left.exists()
        async with Receiver(CaptureSettings(directory=str(tmp_path))):  # and one that lives is let be
            assert len(os.listdir(tmp_path)) == 2

    within(CaptureSettings(directory=str(tmp_path)), work)


def test_without_the_packages_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from obi_mcp.telemetry import settings

    monkeypatch.setattr(settings, "REQUIRED", ("duckdb", "obi_mcp_nowhere.proto"))
    with pytest.raises(ConfigError, match=r"not installed \(obi_mcp_nowhere.proto\).*obi-mcp\[analysis\]"):
        Receiver()


def test_an_ipv6_loopback_address_works(tmp_path: Path) -> None:
    async def work(receiver: Receiver) -> None:
        assert receiver.endpoint.startswith("http://[::1]:")
        found: Any = await asyncio.to_thread(post, receiver, "/v1/traces", GOOD, Content_Type=PROTOBUF)
        assert found[0] == 200

    within(CaptureSettings(host="::1", directory=str(tmp_path)), work)
