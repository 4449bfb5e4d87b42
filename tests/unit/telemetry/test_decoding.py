"""Bodies become messages within their bounds, or a refusal with the right status."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from google.protobuf import json_format
from tests.unit.telemetry.messages import span, traces

from obi_mcp.telemetry.decoding import JSON, PROTOBUF, Encoding, Refusal, decompressed, encoding_of, read_message

BOMB = gzip.compress(bytes(1_000_000), mtime=0)

CONTENT_TYPES: list[tuple[str, Encoding | None]] = [
    ("application/x-protobuf", PROTOBUF),
    ("application/json", JSON),
    ("Application/JSON; charset=utf-8", JSON),
    ("text/plain", None),
    ("application/jsonp", None),
    ("", None),
]

COMPRESSED = [
    # body, content encoding, what comes of it
    (b"plain", "", b"plain"),
    (b"plain", "identity", b"plain"),
    (gzip.compress(b"a" * 100, mtime=0), "gzip", b"a" * 100),
    (gzip.compress(b"a", mtime=0) + gzip.compress(b"b", mtime=0), "GZIP", b"ab"),
    (gzip.compress(b"a" * 101, mtime=0), "gzip", 413),
    (BOMB, "gzip", 413),
    (gzip.compress(b"a" * 60, mtime=0) * 2, "gzip", 413),
    (gzip.compress(b"", mtime=0) * 100, "gzip", 400),
    (gzip.compress(b"a" * 100, mtime=0)[:-4], "gzip", 400),
    (b"no gzip", "gzip", 400),
    (b"", "gzip", 400),
    (b"x", "br", 415),
    (b"x", "gzip, gzip", 415),
]


@pytest.mark.parametrize(("text", "expected"), CONTENT_TYPES)
def test_a_content_type_names_an_encoding_or_none(text: str, expected: Encoding | None) -> None:
    assert encoding_of(text) == expected


@pytest.mark.parametrize(("body", "encoding", "expected"), COMPRESSED)
def test_no_more_is_decompressed_than_is_allowed(body: bytes, encoding: str, expected: bytes | int) -> None:
    found = decompressed(body, encoding, 100)
    assert (found.status if isinstance(found, Refusal) else found) == expected


def test_both_encodings_give_the_same_message() -> None:
    sent = traces(span(7, parent_span_id=b"parent-1", attributes={"http.route": "/ä", "n": 3, "on": True}))
    as_json: dict[str, Any] = json_format.MessageToDict(sent, use_integers_for_enums=True)
    written = as_json["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    written |= {"traceId": f"{7:032x}", "spanId": f"{7:016X}", "parentSpanId": b"parent-1".hex()}

    assert read_message("traces", PROTOBUF, sent.SerializeToString()) == sent
    assert read_message("traces", JSON, json.dumps(as_json).encode()) == sent


BROKEN: list[tuple[Encoding, bytes]] = [
    (PROTOBUF, b"\xff\xff\xff"),
    (PROTOBUF, b'{"resourceSpans": []}'),
    (PROTOBUF, b"\x0a\x05\x0a\x03\xc3\x28\x00"),
    (JSON, b""),
    (JSON, b"[]"),
    (JSON, b"{"),
    (JSON, b"\xff"),
    (JSON, b'{"resourceSpans": 5}'),
    (JSON, b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "zz"}]}]}]}'),
    (JSON, b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": 5}]}]}]}'),
    (JSON, b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"name": "\\ud800"}]}]}]}'),
    (JSON, b'{"resourceSpans": ' + b"[" * 100_000),
    (JSON, b'{"a":' * 5_000 + b"1" + b"}" * 5_000),
]


@pytest.mark.parametrize(("encoding", "body"), BROKEN, ids=range(len(BROKEN)))
def test_a_body_that_cannot_be_read_is_refused_whole(encoding: Encoding, body: bytes) -> None:
    found = read_message("traces", encoding, body)
    assert isinstance(found, Refusal) and found.status == 400 and found.message


def test_unknown_fields_of_newer_senders_are_passed_over() -> None:
    body = b'{"resourceSpans": [{"new": 1, "scopeSpans": []}], "later": {"deep": [1]}}'
    assert not isinstance(read_message("traces", JSON, body), Refusal)
