"""What a few bytes would become in memory is told before they are read."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from tests.unit.telemetry.messages import logs, metrics, span, traces

from obi_mcp.telemetry.decoding import JSON, PROTOBUF, Encoding, Refusal, read_message
from obi_mcp.telemetry.extent import within_messages, within_nodes
from obi_mcp.telemetry.tables import SIGNALS, Signal


def inside(field: int, payload: bytes) -> bytes:
    """A length-delimited field."""
    size, spelled = len(payload), bytearray()
    while size > 0x7F:
        spelled.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes((field << 3 | 2, *spelled, size)) + payload


def gauge(points: int) -> Metric:
    made = Metric(name="m")
    for _ in range(points):
        made.gauge.data_points.add(time_unix_nano=5)
    return made


COUNTED: list[tuple[Signal, bytes, int]] = [
    # signal, body, how many messages it has on the way to its rows
    ("traces", b"", 0),
    ("traces", traces().SerializeToString(), 2),
    (
        "traces",
        traces(*(span(number, attributes={"a": 1, "b": [1, 2]}) for number in range(1, 11))).SerializeToString(),
        12,
    ),
    ("traces", b"\x0a\x00" * 7, 7),
    ("logs", logs().SerializeToString(), 2),
    ("metrics", metrics(gauge(5), gauge(0)).SerializeToString(), 2 + 2 + 1 + 5),
]


@pytest.mark.parametrize(("signal", "body", "count"), COUNTED, ids=range(len(COUNTED)))
def test_messages_are_counted_exactly(signal: Signal, body: bytes, count: int) -> None:
    assert within_messages(signal, body, count)
    assert count == 0 or not within_messages(signal, body, count - 1)


BOMBS: list[tuple[Signal, Encoding, bytes]] = [
    ("traces", PROTOBUF, b"\x0a\x00" * 60_000),
    ("traces", PROTOBUF, inside(1, inside(2, b"\x12\x00" * 60_000))),
    ("logs", PROTOBUF, inside(1, inside(2, b"\x12\x00" * 60_000))),
    ("metrics", PROTOBUF, inside(1, inside(2, inside(2, inside(5, b"\x0a\x00" * 60_000))))),
    ("traces", JSON, b'{"a": [' + b"[]," * 300_000 + b"[]]}"),
    ("traces", JSON, b'{"resourceSpans": [' + b"{}," * 300_000 + b"{}]}"),
]


@pytest.mark.parametrize(("signal", "encoding", "body"), BOMBS, ids=range(len(BOMBS)))
def test_a_body_that_would_become_too_much_is_refused(signal: Signal, encoding: Encoding, body: bytes) -> None:
    found = read_message(signal, encoding, body)
    assert isinstance(found, Refusal) and found.status == 413


def test_a_group_hides_nothing() -> None:
    with pytest.raises(ValueError, match="group"):
        within_messages("traces", b"\x0b\x0c" + b"\x0a\x00" * 60_000)
    found = read_message("traces", PROTOBUF, b"\x0b\x0c" + b"\x0a\x00" * 60_000)
    assert isinstance(found, Refusal) and found.status == 400


@given(st.sampled_from(SIGNALS), st.binary(max_size=200))
def test_no_bytes_break_the_count(signal: Signal, body: bytes) -> None:
    assert read_message(signal, PROTOBUF, body) is not None


@pytest.mark.parametrize(("data", "count"), [({}, 1), ([], 1), ({"a": [1, {"b": "c"}], "d": 2}, 3)])
def test_nodes_are_counted_exactly(data: Any, count: int) -> None:
    assert within_nodes(data, count) and not within_nodes(data, count - 1)
