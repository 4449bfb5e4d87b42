"""Metric points of an OTLP request as rows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from obi_mcp.telemetry.attributes import MAX_TEXT, attributes_of, json_text
from obi_mcp.telemetry.rows import Batch, Resources, Sender, nanoseconds

if TYPE_CHECKING:
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    from opentelemetry.proto.metrics.v1.metrics_pb2 import (
        ExponentialHistogramDataPoint,
        HistogramDataPoint,
        Metric,
        NumberDataPoint,
        SummaryDataPoint,
    )

TEMPORALITIES = (None, "delta", "cumulative")
NO_RECORDED_VALUE = 1
"""The flag of a point that says only that its series has ended."""
_MAX_COUNT = (1 << 63) - 1
_MAX_BUCKETS = 1024
_NO_DATA = "a metric without data that we read"
_NO_TIME = "a metric point without a time between 1970 and 2262"
_NO_SHAPE = "a histogram whose counts, bounds and buckets do not fit together"

_Value = tuple[Any, ...]
"""value, count, sum, min, max, bounds, buckets, detail"""


def point_rows(request: ExportMetricsServiceRequest, resources: Resources) -> Batch:
    """One row for each point, in the order of ``tables.POINTS``."""
    batch = Batch()
    for group in request.resource_metrics:
        sender = resources.sender(group.resource)
        for scope in group.scope_metrics:
            for metric in scope.metrics:
                _add_metric(batch, metric, sender, scope.scope.name[:MAX_TEXT])
    return batch


def _add_metric(batch: Batch, metric: Metric, sender: Sender, scope: str) -> None:
    kind = metric.WhichOneof("data")
    if kind is None:
        batch.reject(_NO_DATA)
        return
    data: Any = getattr(metric, kind)
    temporality = TEMPORALITIES[data.aggregation_temporality % 3] if kind not in ("gauge", "summary") else None
    monotonic = data.is_monotonic if kind == "sum" else None
    for point in data.data_points:
        time_ns = nanoseconds(point.time_unix_nano)
        value = _VALUES[kind](point)
        if time_ns is None:
            batch.reject(_NO_TIME)
        elif value is None:
            batch.reject(_NO_SHAPE)
        else:
            head = (time_ns, nanoseconds(point.start_time_unix_nano), sender.resource_id, sender.service_name)
            about = (sender.service_namespace, scope, metric.name[:MAX_TEXT], metric.unit[:MAX_TEXT], kind)
            batch.rows.append(
                (*head, *about, temporality, monotonic, json_text(attributes_of(point.attributes)), *value)
            )


def _number(point: NumberDataPoint) -> _Value:
    kind = point.WhichOneof("value")
    value = float(getattr(point, kind)) if kind and not point.flags & NO_RECORDED_VALUE else None
    return (value, None, None, None, None, None, None, None)


def _histogram(point: HistogramDataPoint) -> _Value | None:
    bounds, buckets = list(point.explicit_bounds), list(point.bucket_counts)
    fits = len(buckets) == len(bounds) + 1 <= _MAX_BUCKETS or (not bounds and not buckets)
    if not fits or point.count > _MAX_COUNT or any(bucket > _MAX_COUNT for bucket in buckets):
        return None
    if any(low >= high for low, high in itertools.pairwise(bounds)) or any(map(math.isnan, bounds)):
        return None
    return (None, *_totals(point), bounds, buckets, None)


def _exponential(point: ExponentialHistogramDataPoint) -> _Value | None:
    longest = max(len(point.positive.bucket_counts), len(point.negative.bucket_counts))
    if point.count > _MAX_COUNT or longest > _MAX_BUCKETS:
        return None
    detail = {
        "scale": point.scale,
        "zero_count": point.zero_count,
        "zero_threshold": point.zero_threshold,
        "positive": {"offset": point.positive.offset, "counts": list(point.positive.bucket_counts)},
        "negative": {"offset": point.negative.offset, "counts": list(point.negative.bucket_counts)},
    }
    return (None, *_totals(point), None, None, json_text(detail))


def _summary(point: SummaryDataPoint) -> _Value | None:
    if point.count > _MAX_COUNT:
        return None
    quantiles = [[value.quantile, value.value] for value in point.quantile_values if math.isfinite(value.value)]
    return (None, point.count, point.sum, None, None, None, None, json_text({"quantiles": quantiles}))


def _totals(point: HistogramDataPoint | ExponentialHistogramDataPoint) -> Iterator[Any]:
    yield point.count
    yield point.sum if point.HasField("sum") else None
    yield point.min if point.HasField("min") else None
    yield point.max if point.HasField("max") else None


_VALUES: dict[str, Any] = {
    "gauge": _number,
    "sum": _number,
    "histogram": _histogram,
    "exponential_histogram": _exponential,
    "summary": _summary,
}
