"""One hundred credentials, in every dress in which programs print them: as data, YAML, JSON, a diff, a description."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable

import pytest
from tests.unit import planted

from obi_mcp.policy.yaml_writer import to_yaml
from obi_mcp.redact import HunkTrim, Redactor

REDACTOR = Redactor.load()
INSIDE = [plant for plant in planted.plants() if plant.place not in {"argument", "environment"}]


def diffed(text: str) -> bytes:
    lines = text.splitlines()
    body = "".join(f"{'+' if number % 7 == 3 else ' '}{line}\n" for number, line in enumerate(lines))
    stream, hunks = REDACTOR.stream(diff=True), HunkTrim()
    data = f"--- LIVE/x\n+++ MERGED/x\n@@ -1,{len(lines)} +1,{len(lines)} @@\n{body}".encode()
    return hunks.feed(stream.feed(data)) + hunks.feed(stream.finish()) + hunks.finish()


def replaced(text: str) -> bytes:
    """Every line was another before: what took its place follows it."""
    lines = text.splitlines()
    body = "".join(f"-{line}\n+{line}\n" for line in lines)
    stream = REDACTOR.stream(diff=True)
    return stream.feed(f"@@ -1,{len(lines)} +1,{len(lines)} @@\n{body}".encode()) + stream.finish()


DRESSES: dict[str, Callable[[str], bytes | str]] = {
    "alone": REDACTOR.text,
    "indented": lambda text: REDACTOR.text(textwrap.indent(text, "      ")),
    "with other line ends": lambda text: REDACTOR.text(text.replace("\n", "\r\n")),
    "a value of JSON data": lambda text: json.dumps(REDACTOR.value({"a": text})),
    "an item of JSON data": lambda text: json.dumps(REDACTOR.value({"a": ["x", text, "y"]})),
    "JSON text": lambda text: REDACTOR.text(json.dumps({"a": text, "b": 1})),
    "JSON text with indents": lambda text: REDACTOR.text(json.dumps({"a": text, "b": 1}, indent=4)),
    "JSON in JSON": lambda text: REDACTOR.text(json.dumps({"a": json.dumps({"b": text})})),
    "JSON in JSON data": lambda text: json.dumps(REDACTOR.value({"a": json.dumps({"b": text})})),
    "a quoted string of YAML": lambda text: REDACTOR.text(f"a:\n  b: {json.dumps(text)}\n"),
    "a block of YAML": lambda text: REDACTOR.text(f"a: |\n{textwrap.indent(text, '  ')}\nb: c\n"),
    "an annotation that holds the whole object": lambda text: json.dumps(
        REDACTOR.value({"kubectl.kubernetes.io/last-applied-configuration": json.dumps({"data": {"x": text}})})
    ),
    "a string with YAML's own escapes": lambda text: REDACTOR.text(
        f'a: "\\e\\L{json.dumps(json.dumps({"x": text}))[1:-1]}"\n'
    ),
    "a line of a log": lambda text: REDACTOR.text(f"time=2026 level=INFO msg={json.dumps(text)} x=y"),
    "a diff": diffed,
}


@pytest.mark.parametrize("dress", DRESSES, ids=list(DRESSES))
def test_no_planted_credential_comes_through(dress: str) -> None:
    assert [leak for plant in INSIDE for leak in planted.found(DRESSES[dress](plant.text), [plant])] == []


WHOLES: dict[str, Callable[[str], bytes | str]] = {
    "YAML": REDACTOR.text,
    "a diff": diffed,
    "a diff of all lines": replaced,
    "a block of YAML": lambda text: REDACTOR.text(f"a: |\n{textwrap.indent(text, '  ')}b: c\n"),
    "JSON text": lambda text: REDACTOR.text(json.dumps({"a": text})),
}


@pytest.mark.parametrize("dress", WHOLES, ids=list(WHOLES))
def test_none_comes_through_of_a_whole_workload(dress: str) -> None:
    shown = WHOLES[dress](to_yaml(planted.daemon_set()))
    assert planted.found(shown) == []


@pytest.mark.parametrize("indent", [None, 4])
def test_none_comes_through_of_objects_as_data_and_as_text(indent: int | None) -> None:
    for body in planted.objects():
        text = json.dumps(body, indent=indent)
        assert planted.found(json.dumps(REDACTOR.value(body))) == []
        assert planted.found(REDACTOR.text(text)) == []
        assert json.loads(REDACTOR.text(text))["metadata"]["name"] == planted.NAME


def test_there_are_a_hundred_and_each_is_found_where_it_stands() -> None:
    plants = planted.plants()
    secrets = [secret for plant in plants for secret in plant.secrets]
    assert len(plants) == 100 and len(set(secrets)) == len(secrets)
    assert [plant.kind for plant in plants if len(planted.found(plant.text, [plant])) < len(plant.secrets)] == []


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_a_hunk_has_three_lines_of_context_whatever_the_chunks(size: int) -> None:
    lines = [f"{mark}{number}" for number, mark in enumerate(" " * 9 + "-+" + " " * 5 + "+" + " " * 20 + "-" + " " * 9)]
    data = ("diff -u a b\n--- a\n+++ b\n@@ -1,45 +1,45 @@\n" + "\n".join(lines) + "\n").encode()
    trim = HunkTrim()
    out = b"".join(trim.feed(data[at : at + size]) for at in range(0, len(data), size)) + trim.finish()
    assert out.decode().splitlines() == [
        *("diff -u a b", "--- a", "+++ b"),
        *("@@ -7,12 +7,13 @@", *lines[6:20]),
        *("@@ -33,7 +34,6 @@", *lines[34:41]),
    ]
