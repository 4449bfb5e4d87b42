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
