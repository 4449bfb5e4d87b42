"""Beyla's configuration and the TypeScript obi-mcp's: what they become, and that nothing is lost without a word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from obi_mcp.obi.config import validate
from obi_mcp.obi.migration import detect, migrate

CASES = Path(__file__).parents[2] / "cases" / "obi-config"
RENAMED: list[dict[str, Any]] = yaml.safe_load((CASES / "renamed.yaml").read_text("utf-8"))


@pytest.mark.parametrize("case", RENAMED, ids=lambda case: case["name"])
def test_what_is_renamed_stays_where_it_was(case: dict[str, Any]) -> None:
    assert detect(case["text"]) == case["source"]
    made = migrate(case["text"], environment=case.get("environment"))
    assert (made.source, made.target, made.problem) == (case["source"], case["target"], None)
    assert made.text == case["gives"]
    left = [f"{entry.key} {entry.line}" if entry.line else entry.key for entry in made.unmoved]
    assert left == case["unmoved"]
    assert all(entry.reason for entry in made.unmoved)
    assert dict(made.environment) == case.get("variables", {})


@pytest.mark.parametrize(
    "case", [case for case in RENAMED if case["target"] == "obi-v1"], ids=lambda case: case["name"]
)
def test_obi_reads_every_key_of_the_result(case: dict[str, Any]) -> None:
    found = validate(migrate(case["text"]).text)
    assert [str(finding) for finding in found if finding.rule in ("unknown-key", "beyla", "yaml", "value")] == []


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("open_port: 80\n", "v1"),
        ("file_format: '1.0'\n", "v2"),
        ("discovery: {survey: [{exe_path: x}]}\n", "beyla"),
        ("network: {enable: true}\n", "v1"),
        ("network: {enable: true}\nexport: {otlp: {endpoint: x}}\n", "ts-obi-mcp"),
        ("export: {otlp: {}}\nopen_port: 80\n", "v1"),
        ("[1]", None),
    ],
)
def test_a_text_is_taken_for_what_it_is(text: str, origin: str | None) -> None:
    assert detect(text) == origin


def test_a_key_that_stays_behind_has_its_line() -> None:
    made = migrate("open_port: 80\n# a comment\nservice_name: shop\nhealth_check:\n  port: 8081\n")
    assert [(entry.key, entry.line) for entry in made.unmoved] == [("service_name", 3), ("health_check.port", 5)]


def test_what_cannot_be_changed_in_place_is_said() -> None:
    made = migrate("a: &a {otlp: {cloud_zone: x}}\ngrafana: *a\nexecutable_name: x\n", source="beyla")
    assert made.problem is None or "cannot" in made.problem
