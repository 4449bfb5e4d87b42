"""Broken configurations: the right key and line, what was meant, and what OBI does of it as real runs showed."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from tests.unit.obi.broken import CASES, Broken, load

from obi_mcp.obi.config import validate
from obi_mcp.obi.finding import ConfigFinding

BROKEN = load()
RUNS: dict[str, dict[str, dict[str, Any]]] = json.loads((CASES / "broken-runs.json").read_text("utf-8"))
# What a program says at the end when something that it needed was in what it had dropped or taken literally.
CONSEQUENCES = (
    "at least one of 'network' or 'application' features must be enabled",
    "missing at least one of BEYLA_NETWORK_METRICS",
    "you need to define at least one exporter",
    "invalid value for trace_printer: '${",
)
NEVER_RUN = {"documented", "unknown"}


def first(case: Broken) -> ConfigFinding:
    found = validate(case.text, environment=case.environment, version=case.version, program=case.program)
    # That a key is deprecated is said of it besides.
    return next(finding for finding in found if finding.rule != "deprecated")


@pytest.mark.parametrize("case", BROKEN, ids=lambda case: case.name)
def test_the_first_finding_names_the_key_the_line_and_the_effect(case: Broken) -> None:
    finding = first(case)
    effect = finding.effect
    assert effect is not None
    said = (finding.key, finding.line, finding.case, finding.nearest, effect.does, effect.evidence)
    assert said == (case.key, case.line, case.case, case.near, case.does, case.mark), str(finding)
    assert bool(effect.source) == (effect.evidence != "unknown")
    assert effect.program == case.program


@pytest.mark.parametrize("case", [case for case in BROKEN if case.mark not in NEVER_RUN], ids=lambda case: case.name)
def test_the_claim_is_what_the_real_program_did(case: Broken) -> None:
    ran = RUNS[case.program][case.name]
    effect = first(case).effect
    assert effect is not None
    consequence = ran["outcome"] == "exits" and any(words in ran["says"] for words in CONSEQUENCES)
    match effect.does:
        case "exits" | "ends":
            assert ran["outcome"] == effect.does
            assert effect.says in ran["says"]
        case "without":
            assert ran["outcome"] == "starts"
            assert effect.says in ran["says"]
        case "ignored" | "starts":
            assert ran["outcome"] == "starts" or consequence, ran


def test_there_are_enough_of_them() -> None:
    assert len({case.name for case in BROKEN}) == len(BROKEN) >= 60
    assert Counter(case.mark for case in BROKEN)["recorded"] >= 60


def test_most_of_the_claims_are_not_guesses() -> None:
    assert Counter(case.mark for case in BROKEN)["unknown"] <= len(BROKEN) // 10


# Refused later, when the exporters are made and the log level is set, which that recording does not reach.
LATER = ("log_level", "otel_metrics_export.endpoint", "otel_metrics_export.protocol")
# A fraction is cut, and what is left can be below a bound; what a version does not read is not judged.
UNSAID = ("value.fraction", "version.key")


def test_values_of_every_key_are_refused_as_obi_refuses_them() -> None:
    """``values-runs.json``: whether OBI v0.5.0's own reading and checking took a document with that value."""
    recorded: dict[str, dict[str, bool]] = json.loads((CASES / "values-runs.json").read_text("utf-8"))
    mistaken = []
    for key, values in recorded.items():
        for value, taken in values.items():
            found = validate(with_value(key, json.loads(value)), version="v0.5.0")
            effects = [finding.effect for finding in found if finding.effect is not None]
            unsaid = any(effect.does == "unknown" for effect in effects) or any(each.case in UNSAID for each in found)
            if taken == any(effect.does == "exits" for effect in effects) and key not in LATER and not unsaid:
                mistaken.append(f"{key}: {value}")
    assert mistaken == []
    assert sum(len(values) for values in recorded.values()) > 1500


def with_value(key: str, value: Any) -> str:
    """A document that OBI takes, with one value put into it; ``record/values.py`` asks OBI about the same."""
    document: dict[str, Any] = {"open_port": 8080, "trace_printer": "text", "prometheus_export": {"port": 9090}}
    document["network"] = {"enable": True, "agent_ip": "10.0.0.1"}
    for part in reversed(key.split(".")):
        name, lists = part.replace("*", "x").replace("[]", ""), part.count("[]")
        for _ in range(lists):
            value = [value]
        value = {name: value}
    return json.dumps(_merged(document, value))


def _merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    for key, value in other.items():
        below = one.get(key)
        one[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return one
