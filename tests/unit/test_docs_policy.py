"""``docs/policy.md`` is true: its commands give what it shows, its rule loads, its hard denials are the code's."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.documentation import ROOT, run_cli, transcripts

from obi_mcp.policy.hard_names import HARD
from obi_mcp.policy.model import Access

DOCUMENT = ROOT / "docs" / "policy.md"
_FILE = re.compile(r"<!-- file: (?P<path>\S+) -->\n```yaml\n(?P<text>.*?)```", re.DOTALL)
_HARD = re.compile(r"<!-- generated: hard denials -->\n(?P<table>.*?)<!-- end -->", re.DOTALL)


@pytest.fixture
def operator_directory(tmp_path: Path) -> Path:
    """The directory that the document describes."""
    for found in _FILE.finditer(DOCUMENT.read_text(encoding="utf-8")):
        path = tmp_path / "policy" / found["path"]
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        path.write_text(found["text"], encoding="utf-8")
    return tmp_path / "policy"


def hard_denial_rows() -> Iterator[str]:
    yield "| rule | because |"
    yield "| --- | --- |"
    for denial in HARD.values():
        yield f"| `{denial.id}` | {denial.because} |"


def test_every_command_prints_what_the_document_shows(operator_directory: Path) -> None:
    shown = transcripts(DOCUMENT)
    assert len(shown) >= 4
    for one in shown:
        words = [str(operator_directory) if word == "DIR" else word for word in shlex.split(one.command)]
        done = run_cli(words)
        assert (done.returncode, done.stderr) == (one.exit_code if one.exit_code is not None else 0, ""), one.command
        for line in one.output:
            assert line in done.stdout.splitlines(), one.command


def test_the_operators_rule_is_loaded_and_its_examples_are_run(operator_directory: Path) -> None:
    builtin = run_cli(["obi-mcp", "policy", "test"])
    extended = run_cli(["obi-mcp", "policy", "test", str(operator_directory)])
    assert extended.returncode == 0
    rules, examples = (int(number) for number in re.findall(r"\d+", builtin.stdout)[:2])
    assert extended.stdout.startswith(f"{rules + 1} rules, {examples + 4} examples, 0 failures")


def test_a_rule_whose_example_fails_is_told(operator_directory: Path) -> None:
    rule = next((operator_directory / "rules").iterdir())
    text = rule.read_text(encoding="utf-8")
    rule.write_text(text.replace("configmap grafana -n shop", "configmap obi -n observability"), encoding="utf-8")
    assert run_cli(["obi-mcp", "policy", "test", str(operator_directory)]).returncode == 1
    assert run_cli(["obi-mcp", "policy", "check", "--policy", str(operator_directory), "helm list"]).returncode == 2


def test_the_list_of_hard_denials_is_that_of_the_code() -> None:
    found = _HARD.search(DOCUMENT.read_text(encoding="utf-8"))
    assert found is not None
    assert found["table"].splitlines() == list(hard_denial_rows())


@pytest.mark.parametrize("rule", sorted(HARD))
def test_every_hard_denial_is_explained(rule: str) -> None:
    done = run_cli(["obi-mcp", "policy", "explain", rule])
    assert done.returncode == 0
    assert done.stdout.splitlines()[:2] == [
        f"{rule}: always denied, whatever the level and the configuration",
        HARD[rule].because,
    ]


def test_the_table_of_levels_names_every_level() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert re.findall(r"^\| `(read-only|non-destructive|full)` \|", text, re.MULTILINE) == [one.label for one in Access]
