"""The tables of a capture, as queries see them. Times are UTC nanoseconds since 1970.

``resources`` has one row for each different sender; the other tables name it in ``resource_id``. ``attributes`` and
the like are JSON texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Signal = Literal["traces", "metrics", "logs"]
SIGNALS: tuple[Signal, ...] = ("traces", "metrics", "logs")


@dataclass(frozen=True, slots=True)
class Table:
    """A table's name, and its columns with their types, in the order in which rows have them."""

    name: str
    columns: tuple[tuple[str, str], ...]

    @property
    def definition(self) -> str:
        """The part of CREATE TABLE in parentheses."""
        return ", ".join(f"{name} {kind}" for name, kind in self.columns)


SPANS = Table(
    "spans",
    (
        ("trace_id", "VARCHAR"),  # 32 hexadecimal digits
        ("span_id", "VARCHAR"),  # 16 hexadecimal digits
        ("parent_span_id", "VARCHAR"),  # NULL: a root
        ("start_ns", "BIGINT"),
        ("duration_ns", "BIGINT"),  # 0 where the end is before the start
        ("resource_id", "INTEGER"),
        ("service_name", "VARCHAR"),
        ("service_namespace", "VARCHAR"),
        ("scope", "VARCHAR"),
        ("name", "VARCHAR"),
        ("kind", "VARCHAR"),  # unspecified internal server client producer consumer
        ("status", "VARCHAR"),  # unset ok error
        ("status_message", "VARCHAR"),
        ("http_method", "VARCHAR"),
        ("http_route", "VARCHAR"),
        ("http_status", "INTEGER"),
        ("url_path", "VARCHAR"),
        ("server_address", "VARCHAR"),
        ("server_port", "INTEGER"),
        ("client_address", "VARCHAR"),
        ("db_system", "VARCHAR"),
        ("db_operation", "VARCHAR"),
        ("rpc_system", "VARCHAR"),
        ("rpc_method", "VARCHAR"),
        ("messaging_system", "VARCHAR"),
        ("attributes", "VARCHAR"),
        ("events", "VARCHAR"),  # NULL: none
        ("links", "VARCHAR"),  # NULL: none
    ),
)

POINTS = Table(
    "points",
    (
        ("time_ns", "BIGINT"),
        ("start_ns", "BIGINT"),  # NULL: unknown
        ("resource_id", "INTEGER"),
        ("service_name", "VARCHAR"),
        ("service_namespace", "VARCHAR"),
        ("scope", "VARCHAR"),
        ("name", "VARCHAR"),
        ("unit", "VARCHAR"),
        ("kind", "VARCHAR"),  # gauge sum histogram exponential_histogram summary
        ("temporality", "VARCHAR"),  # cumulative delta, NULL where there is none
        ("monotonic", "BOOLEAN"),
        ("attributes", "VARCHAR"),
        ("value", "DOUBLE"),  # of gauges and sums
        ("count", "BIGINT"),
        ("sum", "DOUBLE"),
        ("min", "DOUBLE"),
        ("max", "DOUBLE"),
        ("bounds", "DOUBLE[]"),  # of histograms: upper bounds, one fewer than buckets
        ("buckets", "BIGINT[]"),
        ("detail", "VARCHAR"),  # of exponential histograms and summaries: the rest, JSON
    ),
)

RECORDS = Table(
    "records",
    (
        ("time_ns", "BIGINT"),
        ("resource_id", "INTEGER"),
        ("service_name", "VARCHAR"),
        ("service_namespace", "VARCHAR"),
        ("scope", "VARCHAR"),
        ("severity", "INTEGER"),  # 1 trace … 9 info … 17 error … 24
        ("severity_text", "VARCHAR"),
        ("event_name", "VARCHAR"),
        ("body", "VARCHAR"),  # a text, or JSON where it is none
        ("trace_id", "VARCHAR"),
        ("span_id", "VARCHAR"),
        ("attributes", "VARCHAR"),
    ),
)

RESOURCES = Table(
    "resources",
    (
        ("resource_id", "INTEGER"),
        ("service_name", "VARCHAR"),
        ("service_namespace", "VARCHAR"),
        ("attributes", "VARCHAR"),
    ),
)

TABLES: dict[Signal, Table] = {"traces": SPANS, "metrics": POINTS, "logs": RECORDS}
