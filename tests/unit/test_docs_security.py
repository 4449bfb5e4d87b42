"""``SECURITY.md`` and ``docs/threat-model.md`` are true: each test that a promise names is there, each count right."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from tests.unit.documentation import ROOT

SECURITY, MODEL = ROOT / "SECURITY.md", ROOT / "docs" / "threat-model.md"
DOCUMENTS = (SECURITY, MODEL)
_PATH = re.compile(r"`((?:tests|docs|server|policy)/[\w./*-]+)`")
_LINK = re.compile(r"\]\((?!https?:)([^)#]+)\)")
_TEST = re.compile(r"^(?:async )?def test_", re.M)
_WALL = re.compile(r"^\| (\w[\w ]*) \|.*\| ([\d,]+) \|$", re.M)
LAYERS = {
    "lex": "lex",
    "parse": "parse",
    "hard denials": "hard",
    "rules": "rule",
    "documents": "document",
    "checks": "check",
}


def rows(document: Path, heading: str) -> list[str]:
    """The rows of the first table below a heading, without its head."""
    section = document.read_text("utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("| ")][2:]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_that_is_named_is_there(document: Path) -> None:
    text = document.read_text("utf-8")
    named = [ROOT / path for path in _PATH.findall(text)] + [document.parent / path for path in _LINK.findall(text)]
    assert len(named) > 10
    assert [str(path) for path in named if not path.exists()] == []


@pytest.mark.parametrize(
    ("document", "heading"),
    [(SECURITY, "What is promised"), (MODEL, "Promises, and the test that holds each")],
    ids=["SECURITY.md", "threat-model.md"],
)
def test_every_promise_names_a_test_that_tests(document: Path, heading: str) -> None:
    promises = rows(document, heading)
    assert len(promises) >= 10
    for promise in promises:
        files = [ROOT / path for path in _PATH.findall(promise.rpartition(" | ")[2])]
        assert files, promise
        for file in files:
            assert file.suffix != ".py" or _TEST.search(file.read_text("utf-8")), f"{file} holds no test"


def test_the_security_policy_links_the_threat_model_and_says_how_to_report() -> None:
    text = SECURITY.read_text("utf-8")
    assert "](docs/threat-model.md)" in text
    assert "\n## Reporting\n" in text and "\n## What is not promised\n" in text


def test_the_counts_of_the_corpus_are_right() -> None:
    text = MODEL.read_text("utf-8")
    corpus = ROOT / "tests" / "corpus"
    lines = [json.loads(line) for line in (corpus / "attacks.ndjson").read_text("utf-8").splitlines()]
    layers = Counter(line.get("layer") for line in lines)
    shown = {wall: int(count.replace(",", "")) for wall, count in _WALL.findall(text)}
    assert shown == {wall: layers[layer] for wall, layer in LAYERS.items()}
    others = sum(len((corpus / name).read_text("utf-8").splitlines()) for name in ("given.ndjson", "neighbours.ndjson"))
    assert f"{others:,} given and neighbouring lines" in text
    assert f"{layers[None]:,} further lines in it are allowed" in text
