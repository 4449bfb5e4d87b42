"""Requests become rows with every value in its column, and what is not valid is counted by its reason."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, SeverityNumber
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric, NumberDataPoint
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from tests.unit.telemetry.messages import START_NS, logs, metrics, pairs, span, traces, value

from obi_mcp.telemetry import rows
from obi_mcp.telemetry.attributes import MAX_JSON, TOO_LONG
from obi_mcp.telemetry.points import point_rows
from obi_mcp.telemetry.records import record_rows
from obi_mcp.telemetry.rows import Resources
from obi_mcp.telemetry.spans import span_rows
from obi_mcp.telemetry.tables import POINTS, RECORDS, SPANS, Table


def named(table: Table, row: tuple[Any, ...]) -> dict[str, Any]:
    """The row's values by column, without those that are NULL."""
    assert len(row) == len(table.columns)
    return {name: value for (name, _), value in zip(table.columns, row, strict=True) if value is not None}


def test_a_span_keeps_all_that_analysis_asks_for() -> None:
    sent = span(
        1,
        parent_span_id=b"\0\0\0\0\0\0\0\2",
        status=Status(code=Status.STATUS_CODE_ERROR, message="broke"),
        events=[Span.Event(time_unix_nano=5, name="exception", attributes=pairs({"exception.type": "E"}))],
        links=[Span.Link(trace_id=b"\1" * 16, span_id=b"\2" * 8)],
        attributes={
            "http.request.method": "GET",
            "http.route": "/items",
            "http.response.status_code": 503,
            "url.path": "/items",
            "server.address": "shop",
            "server.port": "8080",
            "client.address": "10.0.0.1",
            "db.system": "redis",
        },
    )
    batch = span_rows(traces(sent, resource={"service.name": "shop", "k8s.namespace.name": "demo"}), Resources())

    (row,) = batch.rows
    found = named(SPANS, row)
    attributes = json.loads(found.pop("attributes"))
    assert attributes["http.response.status_code"] == 503 and len(attributes) == 8
    assert found == {
        "trace_id": f"{1:032x}",
        "span_id": f"{1:016x}",
        "parent_span_id": f"{2:016x}",
        "start_ns": START_NS + 1,
        "duration_ns": 1_000_000,
        "resource_id": 0,
        "service_name": "shop",
        "service_namespace": "demo",
        "scope": "tests",
        "name": "GET /items",
        "kind": "server",
        "status": "error",
        "status_message": "broke",
        "http_method": "GET",
        "http_route": "/items",
        "http_status": 503,
        "url_path": "/items",
        "server_address": "shop",
        "server_port": 8080,
        "client_address": "10.0.0.1",
        "db_system": "redis",
        "events": '[{"time_ns":5,"name":"exception","attributes":{"exception.type":"E"}}]',
        "links": f'[{{"trace_id":"{"01" * 16}","span_id":"{"02" * 8}"}}]',
    }


ODD_SPANS: list[tuple[dict[str, Any], dict[str, Any] | None]] = [
    # fields, columns that they give; None: rejected
    ({"trace_id": b""}, None),
    ({"trace_id": bytes(16)}, None),
    ({"trace_id": b"x" * 15}, None),
    ({"span_id": b""}, None),
    ({"span_id": bytes(8)}, None),
    ({"start_time_unix_nano": 0}, None),
    ({"start_time_unix_nano": 1 << 63}, None),
    ({"end_time_unix_nano": (1 << 64) - 1}, None),
    ({"end_time_unix_nano": 1}, {"duration_ns": 0}),
    ({"end_time_unix_nano": 0}, {"duration_ns": 0}),
    ({"parent_span_id": bytes(8)}, {}),
    ({"kind": 99}, {"kind": "unspecified"}),
    ({"name": "n" * 5000}, {"name": "n" * 1024}),
    ({"attributes": {"http.response.status_code": "200"}}, {"http_status": 200}),
    ({"attributes": {"http.response.status_code": "two"}}, {}),
    ({"attributes": {"http.response.status_code": 1 << 40}}, {}),
    ({"attributes": {"http.response.status_code": True}}, {}),
    ({"attributes": {"http.method": "GET"}}, {"http_method": "GET"}),
    ({"attributes": {"big": "x" * MAX_JSON}}, {"attributes": TOO_LONG}),
]


@pytest.mark.parametrize(("fields", "expected"), ODD_SPANS, ids=range(len(ODD_SPANS)))
def test_an_odd_span_is_kept_as_far_as_it_goes_or_rejected(
    fields: dict[str, Any], expected: dict[str, Any] | None
) -> None:
    batch = span_rows(traces(span(1, **fields)), Resources())
    if expected is None:
        assert (batch.rows, sum(batch.rejected.values())) == ([], 1)
    else:
        found = named(SPANS, batch.rows[0])
        assert {name: found.get(name) for name in expected} == expected and not batch.rejected
        assert "http_status" in expected or "http_status" not in found


VALUES: list[tuple[Any, Any]] = [
    ("text", "text"),
    (5, 5),
    (True, True),
    (1.5, 1.5),
    (math.nan, "nan"),
    (-math.inf, "-inf"),
    (b"\0\xff", "00ff"),
    ([1, "a", [2]], [1, "a", [2]]),
    ({"a": {"b": 1}}, {"a": {"b": 1}}),
]


@pytest.mark.parametrize(("sent", "expected"), VALUES, ids=range(len(VALUES)))
def test_every_kind_of_attribute_becomes_json(sent: Any, expected: Any) -> None:
    (row,) = span_rows(traces(span(1, attributes={"a": sent})), Resources()).rows
    assert json.loads(named(SPANS, row)["attributes"]) == {"a": expected}


def test_what_is_nested_without_end_is_cut() -> None:
    nested: Any = 1
    for _ in range(30):
        nested = [nested]
    (row,) = span_rows(traces(span(1, attributes={"a": nested})), Resources()).rows
    assert "nested too deep" in named(SPANS, row)["attributes"]


def number(**more: Any) -> NumberDataPoint:
    return NumberDataPoint(**{"time_unix_nano": START_NS, "as_int": 3, **more})


def metric(**data: Any) -> Metric:
    """A metric named m, from plain data."""
    made = Metric(name="m", unit="By")
    for kind, fields in data.items():
        points = fields.pop("data_points")
        target = getattr(made, kind)
        for name, field in fields.items():
            setattr(target, name, field)
        for point in points:
            target.data_points.add(**{"time_unix_nano": START_NS, **point})
        target.SetInParent()
    return made


METRICS: list[tuple[Metric, dict[str, Any] | None]] = [
    (metric(gauge={"data_points": [{"as_double": 1.5}]}), {"kind": "gauge", "value": 1.5}),
    (
        metric(sum={"aggregation_temporality": 2, "is_monotonic": True, "data_points": [{"as_int": 7}]}),
        {"kind": "sum", "value": 7.0, "temporality": "cumulative", "monotonic": True},
    ),
    (metric(gauge={"data_points": [{"as_int": 1, "flags": 1}]}), {"kind": "gauge"}),
    (
        metric(
            histogram={
                "aggregation_temporality": 1,
                "data_points": [
                    {"count": 3, "sum": 6.0, "min": 1.0, "explicit_bounds": [1.0, 2.0], "bucket_counts": [1, 1, 1]}
                ],
            }
        ),
        {
            "kind": "histogram",
            "temporality": "delta",
            "count": 3,
            "sum": 6.0,
            "min": 1.0,
            "bounds": [1.0, 2.0],
            "buckets": [1, 1, 1],
        },
    ),
    (metric(histogram={"data_points": [{"explicit_bounds": [1.0], "bucket_counts": [1]}]}), None),
    (metric(histogram={"data_points": [{"explicit_bounds": [2.0, 1.0], "bucket_counts": [1, 1, 1]}]}), None),
    (metric(histogram={"data_points": [{"count": 1 << 63}]}), None),
    (
        metric(summary={"data_points": [{"count": 2, "sum": 3.0}]}),
        {"kind": "summary", "count": 2, "sum": 3.0, "detail": '{"quantiles":[]}'},
    ),
    (metric(gauge={"data_points": [{"time_unix_nano": 0}]}), None),
    (Metric(name="m"), None),
]


@pytest.mark.parametrize(("sent", "expected"), METRICS, ids=range(len(METRICS)))
def test_a_metric_point_has_the_columns_of_its_kind(sent: Metric, expected: dict[str, Any] | None) -> None:
    batch = point_rows(metrics(sent), Resources())
    if expected is None:
        assert (batch.rows, sum(batch.rejected.values())) == ([], 1)
        return
    found = named(POINTS, batch.rows[0])
    shared = {"time_ns", "resource_id", "service_name", "service_namespace", "scope", "name", "unit", "attributes"}
    assert {name: found[name] for name in found.keys() - shared} == expected


def test_an_exponential_histogram_keeps_its_buckets() -> None:
    sent = metric(exponential_histogram={"aggregation_temporality": 2, "data_points": [{"count": 3, "scale": 1}]})
    sent.exponential_histogram.data_points[0].positive.bucket_counts.extend([1, 2])
    (row,) = point_rows(metrics(sent), Resources()).rows
    found = named(POINTS, row)
    assert json.loads(found["detail"])["positive"] == {"offset": 0, "counts": [1, 2]} and found["count"] == 3


RECORDS_SENT: list[tuple[LogRecord, dict[str, Any] | None]] = [
    (
        LogRecord(
            time_unix_nano=5,
            severity_number=SeverityNumber.SEVERITY_NUMBER_ERROR,
            severity_text="ERROR",
            body=value("broke"),
            trace_id=b"\1" * 16,
        ),
        {"time_ns": 5, "severity": 17, "severity_text": "ERROR", "body": "broke", "trace_id": "01" * 16},
    ),
    (LogRecord(observed_time_unix_nano=6, body=value({"a": 1})), {"time_ns": 6, "body": '{"a":1}'}),
    (LogRecord(body=value("without a time")), None),
]


@pytest.mark.parametrize(("sent", "expected"), RECORDS_SENT, ids=range(len(RECORDS_SENT)))
def test_a_log_record_has_its_time_and_body(sent: LogRecord, expected: dict[str, Any] | None) -> None:
    batch = record_rows(logs(sent), Resources())
    if expected is None:
        assert (batch.rows, sum(batch.rejected.values())) == ([], 1)
    else:
        found = named(RECORDS, batch.rows[0])
        assert {name: found[name] for name in expected} == expected


def test_each_sender_is_kept_once_and_no_more_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_RESOURCES", 2)
    resources = Resources()
    names = ["a", "b", "a", "c", "c"]
    found = [span_rows(traces(span(1), resource={"service.name": name}), resources).rows[0] for name in names]

    assert [named(SPANS, row)["resource_id"] for row in found] == [0, 1, 0, -1, -1]
    assert [named(SPANS, row)["service_name"] for row in found] == names
    assert ([row[1] for row in resources.take_new()], resources.left_out) == (["a", "b"], 2)
    assert resources.take_new() == []
