"""OBI's configuration: what the validator says, where, and whether recorded configurations are what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from obi_mcp.obi.config import MOST_FINDINGS, validate
from obi_mcp.obi.config_command import answer_validate
from obi_mcp.obi.config_text import MAX_BYTES, read_config

CASES = Path(__file__).parents[2] / "cases" / "obi-config"
VALIDATED: list[dict[str, Any]] = yaml.safe_load((CASES / "validated.yaml").read_text("utf-8"))
# What OBI v0.5.0 refused, and the key that is to blame; empty where the whole document is.
BAD = {
    "bad-loglevel": ("log_level", 3),
    "bad-network-source": ("network.source", 1),
    "bad-noexport": ("", 1),
    "bad-nofeature": ("", 1),
    "bad-otlp-endpoint": ("otel_metrics_export.endpoint", 2),
    "bad-printer": ("trace_printer", 2),
    "bad-type": ("prometheus_export.port", 3),
    "bad-unknown": ("promtheus_export", 2),
    "bad-yaml": ("", 2),
}
GOOD = ("chart-default", "net-full", "v1-app-prom", "v1-network", "v1-otlp", "v2")


LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{after}: &{after} [{', '.join([f'*{before}'] * 9)}]\n" for before, after in zip("abcdefg", "bcdefgh", strict=True)
)


def read(name: str) -> str:
    return (CASES / f"{name}.yaml").read_text("utf-8")


@pytest.mark.parametrize("case", VALIDATED, ids=lambda case: case["name"])
def test_a_finding_points_at_the_key(case: dict[str, Any]) -> None:
    found = validate(
        case["text"],
        environment=case.get("environment"),
        version=case.get("version"),
        mode=case.get("mode", "standalone"),
    )
    said = {severity: [] for severity in ("error", "warning")}  # type: dict[str, list[str]]
    for finding in found:
        said[finding.severity].append(f"{finding.line}:{finding.column} {finding.key}".rstrip())
    assert sorted(said["error"]) == sorted(case["errors"]), [str(finding) for finding in found]
    assert said["warning"] == case.get("warns", [])
    if "hint" in case:
        assert case["hint"] in [finding.hint for finding in found]


@pytest.mark.parametrize(("name", "blamed"), BAD.items())
def test_what_obi_refuses_is_refused_for_the_right_key(name: str, blamed: tuple[str, int]) -> None:
    first = next(finding for finding in validate(read(name)) if finding.severity == "error")
    assert (first.key, first.line) == blamed


@pytest.mark.parametrize("name", GOOD)
def test_recorded_configurations_are_valid(name: str) -> None:
    assert validate(read(name)) == ()


def test_a_typo_comes_before_its_consequence() -> None:
    errors = [finding for finding in validate(read("bad-unknown")) if finding.severity == "error"]
    assert [finding.key for finding in errors] == ["promtheus_export", ""]
    assert errors[0].hint == "did you mean prometheus_export?"


@pytest.mark.parametrize(
    "text",
    [
        LAUGHS,
        "a: " + "[" * 200 + "]" * 200,
        "# " + "x" * MAX_BYTES,
        "a: " + "[" * 200_000,
        "- " * 100_000,
        "a: " + "${A:-" * 40_000 + "\nb: [",
    ],
    ids=["a billion laughs", "deep", "long", "deeper than libyaml bears", "dashes", "open references"],
)  # fmt: skip
def test_no_text_costs_much(text: str) -> None:
    assert read_config(text).problems
    assert any(finding.severity == "error" for finding in validate(text))


@pytest.mark.parametrize(
    ("text", "arguments", "stdout", "code", "said"),
    [
        (read("v2"), {}, "configuration is valid\n", 0, ""),
        (read("v2"), {"version": "v0.5.0"}, "", 1, "OBI v0.5.0 does not read v2 documents"),
        (read("bad-unknown"), {}, "", 1, "did you mean prometheus_export?"),
        ("executable_path: x\ntrace_printer: text\n", {}, "configuration is valid\n", 0, "deprecated"),
        ("open_port: 80\n", {"mode": "receiver"}, "configuration is valid\n", 0, ""),
        (read("v2"), {"mode": "sidecar"}, "", 2, "expected standalone or receiver"),
    ],
)
def test_the_command_answers_as_obis_own(
    text: str, arguments: dict[str, str], stdout: str, code: int, said: str
) -> None:
    answer = answer_validate(text, mode=arguments.get("mode", "standalone"), version=arguments.get("version"))
    assert (answer.stdout, answer.exit_code) == (stdout, code)
    first, _, rest = answer.stderr.partition("\n")
    assert first == "obi-mcp: answered by obi-mcp's own validator"
    assert said in rest


def test_thousands_of_findings_are_counted() -> None:
    found = validate("".join(f"no_such_key_{index}: 1\n" for index in range(3000)))
    assert len(found) == MOST_FINDINGS + 1
    assert found[-1].message.startswith("2801 more")


def test_bytes_are_taken_as_well() -> None:
    assert validate(b"open_port: 80\ntrace_printer: text\n") == ()
    assert [finding.case for finding in validate(b"a: \xff\n")] == ["yaml.encoding"]


def test_the_answer_says_why_obi_was_not_asked() -> None:
    answer = answer_validate(read("v2"), why="the version of obi is not known")
    assert answer.stderr == "obi-mcp: answered by obi-mcp's own validator (the version of obi is not known)\n"
