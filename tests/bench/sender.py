"""``python -m tests.bench.sender ENDPOINT RATE SECONDS``: a real OpenTelemetry SDK that sends spans at a steady rate.

Prints one line of JSON: how many spans were ended, how many of them the receiver has said to have, how many an export
was refused for, and how long it took. The rest the SDK dropped itself, because it did not get the processor.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, Status, StatusCode

_TICK_S = 0.01
_ROUTES = ("/cart", "/checkout", "/items", "/items/{id}", "/users/{id}/orders")


class CountingExporter(SpanExporter):
    """The OTLP exporter, with a count of the spans that it gave up."""

    def __init__(self, endpoint: str) -> None:
        self._exporter = OTLPSpanExporter(f"{endpoint}/v1/traces", compression=Compression.Gzip, timeout=20)
        self.sent = 0
        self.failed = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            self.sent += len(spans)
        else:
            self.failed += len(spans)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]


def send(endpoint: str, rate: float, seconds: float) -> dict[str, float]:
    """The counts. Ends ``rate`` spans a second, evenly, each a request with attributes like OBI's."""
    exporter = CountingExporter(endpoint)
    provider = TracerProvider(
        resource=Resource.create({"service.name": "shop", "service.namespace": "demo"}), shutdown_on_exit=False
    )
    # A queue of several seconds, so that nothing is dropped before it is sent: what is measured is the receiver.
    provider.add_span_processor(
        BatchSpanProcessor(exporter, max_queue_size=100_000, schedule_delay_millis=100, max_export_batch_size=1024)
    )
    tracer = provider.get_tracer("tests.bench")
    draw = random.Random(1)
    started, made = time.monotonic(), 0
    while (elapsed := time.monotonic() - started) < seconds:
        due = min(int(elapsed * rate), int(seconds * rate)) - made
        for _ in range(due):
            _span(tracer, draw)
        made += due
        time.sleep(_TICK_S)
    rest = int(seconds * rate) - made
    for _ in range(rest):
        _span(tracer, draw)
    spent = time.monotonic() - started
    provider.force_flush(60_000)
    provider.shutdown()
    return {"made": made + rest, "sent": exporter.sent, "failed": exporter.failed, "seconds": spent}


def _span(tracer: object, draw: random.Random) -> None:
    route = _ROUTES[draw.randrange(len(_ROUTES))]
    status = 500 if draw.random() < 0.01 else 200
    now = time.time_ns()
    attributes = {
        "http.request.method": "GET",
        "http.route": route,
        "url.path": route.replace("{id}", str(draw.randrange(1000))),
        "http.response.status_code": status,
        "server.address": "shop",
        "server.port": 8080,
        "client.address": "10.0.0.7",
    }
    span = tracer.start_span(  # type: ignore[attr-defined]
        f"GET {route}",
        kind=SpanKind.SERVER,
        attributes=attributes,
        start_time=now - int(draw.lognormvariate(15, 1)),
    )
    if status == 500:
        span.set_status(Status(StatusCode.ERROR))
    span.end(now)


if __name__ == "__main__":
    print(json.dumps(send(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]))))
