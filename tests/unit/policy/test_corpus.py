"""Every line of the corpus is decided as expected, denials by the expected rule and at the expected place.

``given.ndjson`` came with the design. ``neighbours.ndjson`` has, for every rule, command lines near to what it allows:
``for`` is the rule that the line is about, ``rule`` and ``at`` what has to decide it.
"""

from __future__ import annotations

import json
import shlex
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

from tests.unit.policy.policies import built_in, over

from obi_mcp.command.parser import parse
from obi_mcp.policy.hard_names import HARD
from obi_mcp.policy.hints import is_command
from obi_mcp.policy.model import Access, Decision

CORPUS = Path(__file__).parents[2] / "corpus"


def lines_of(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (CORPUS / name).read_text("utf-8").splitlines() if line.strip()]


GIVEN = lines_of("given.ndjson")
NEIGHBOURS = lines_of("neighbours.ndjson")

# Why each technique of the given corpus has to be refused: the rule, or the beginning of it.
REFUSED_BY = {
    "rendered by kubectl before redaction": "kubectl.get",
    "exec": "hard.exec",
    "dry run that is not one": "kubectl.apply",
    "flag before the verb": ("syntax", "kubectl.delete.pod", "hard.cluster", "helm.uninstall"),
    "templating in a value": "helm.upgrade",
    "read through a document": "hard.file",
    "config map with items": "kubectl.apply",
    "unknown path": "kubectl.apply",
    "telemetry to a foreign endpoint": "kubectl.apply",
    "facts by describe": "kubectl.describe",
    "jq env": "filter.jq",
    "level": ("kubectl.delete", "kubectl.apply", "helm.uninstall"),
    "secrets": "hard.credentials",
    "secrets in a list": "hard.credentials",
    "secrets by name": "hard.credentials",
    "foreign selector": ("kubectl.get", "kubectl.logs"),
    "negated selector": "kubectl.get",
    "wider selector": "kubectl.get",
    "all": "hard.cluster",
    "namespace": "hard.cluster",
    "get all": "kubectl.get",
    "raw": "hard.raw",
    "raw traversal": "hard.raw",
    "raw port": "hard.raw",
    "kubeconfig": "hard.identity",
    "server": "hard.identity",
    "impersonation": "hard.identity",
    "verbose": "hard.root-flag",
    "credentials": "hard.credentials",
    "cp": "hard.exec",
    "debug": "hard.exec",
    "run": "hard.exec",
    "proxy": "hard.exec",
    "edit": "hard.exec",
    "underscores in flag names": "hard.identity",
    "glued shorthands": "hard.credentials",
    "two spaces": "hard.cluster",
    "file": ("hard.file",),
    "post renderer": "hard.file",
    "plugin": ("hard.helm", "syntax"),
    "chart URL": "helm.install",
    "chart OCI": "helm.install",
    "release and namespace": "helm.install",
    "xargs": "hard.program",
    "awk": "hard.program",
    "sed": "hard.program",
    "tee": "hard.program",
    "jq file operand": "syntax",
    "jq file option": "filter.jq",
    "jq import": "filter.jq",
    "grep file": "filter.grep",
    "sort output": "filter.sort",
    "sort program": "filter.sort",
    "head file": "filter.head",
    "wc file": "filter.wc",
    "redirect": "syntax",
    "separator": "syntax",
    "substitution": "syntax",
    "newline": "syntax",
    "assignment": "syntax",
    "path": "hard.program",
    "shell": "hard.program",
    "filter first": "hard.program",
    "kubectl as a filter": "hard.program",
    "endless": "hard.endless",
    "unknown flag": "syntax",
    "foreign image": "kubectl.apply",
    "foreign namespace": "kubectl.apply",
    "no scope label": "kubectl.apply",
    "command": "kubectl.apply",
    "host path": "kubectl.apply",
    "second document": "kubectl.apply",
    "inline secret": "kubectl.apply",
    "wildcard role": "kubectl.apply",
    "binding to cluster-admin": "kubectl.apply",
}


@cache
def decided(command: str, stdin: str | None, access: str, scope: str) -> Decision:
    return over(json.loads(scope)).decide(command, stdin=stdin, access=Access.parse(access))


def decide(line: dict[str, Any]) -> Decision:
    """Each line is asked about by several tests, and decided once."""
    return decided(line["command"], line.get("stdin"), line["access"], json.dumps(line.get("scope", {})))


def test_the_given_corpus_is_decided_as_expected() -> None:
    wrong = []
    for line in GIVEN:
        decision = decide(line)
        rules = REFUSED_BY[line["technique"]] if line["expect"] == "deny" else decision.rule
        known = (rules,) if isinstance(rules, str) else rules
        if decision.effect != line["expect"] or decision.rule not in (known or ()):
            wrong.append((line["command"], decision.effect, decision.rule, decision.reason))
    assert wrong == []


def test_neighbours_are_decided_by_the_expected_rule_at_the_expected_place() -> None:
    wrong = []
    for line in NEIGHBOURS:
        decision = decide(line)
        at = decision.at.as_json() if decision.at else None
        if (decision.effect, decision.rule, at) != (line["expect"], line["rule"], line.get("at")):
            wrong.append((line["for"], line["command"], decision.effect, decision.rule, at, decision.reason))
    assert wrong == []


def test_neighbours_are_not_lines_of_the_given_corpus() -> None:
    given = {(line["command"], line.get("stdin"), line["access"]) for line in GIVEN}
    assert [line for line in NEIGHBOURS if (line["command"], line.get("stdin"), line["access"]) in given] == []


def test_every_rule_has_three_allowed_and_five_denied_neighbours() -> None:
    counts = Counter((line["for"], line["expect"] != "deny") for line in NEIGHBOURS)
    few = [
        rule.id
        for rule in built_in().index.rules
        if counts[(rule.id, True)] < 3 or counts[(rule.id, False)] < 5  # what the project promises
    ]
    assert few == []


def test_an_allowed_neighbour_is_allowed_by_the_rule_that_it_is_about() -> None:
    wrong = [
        line["command"]
        for line in NEIGHBOURS
        if line["expect"] != "deny" and not line["for"].startswith("filter.") and line["rule"] != line["for"]
    ]
    assert wrong == []


def test_every_hard_denial_refuses_something_in_the_corpus() -> None:
    met = {decide(line).rule for line in (*GIVEN, *NEIGHBOURS)}
    assert sorted(set(HARD) - met) == []


def test_a_hint_that_is_a_command_is_allowed_at_the_same_level() -> None:
    wrong = []
    for line in (*GIVEN, *NEIGHBOURS):
        decision = decide(line)
        if decision.allowed or not decision.hint:
            # What is refused has a way out, and what is allowed needs none.
            wrong += [(line["command"], decision.hint)] if decision.allowed == bool(decision.hint) else []
        elif is_command(decision.hint):
            answer = over(line.get("scope", {})).decide(decision.hint, access=Access.parse(line["access"]))
            wrong += [] if answer.allowed else [(decision.hint, answer.reason)]
    assert wrong == []


def test_a_narrower_level_never_allows_more() -> None:
    wrong = []
    for line in (*GIVEN, *NEIGHBOURS):
        allowed = [decide({**line, "access": level.label}).allowed for level in Access]
        wrong += [] if allowed == sorted(allowed) else [line["command"]]
    assert wrong == []


def test_what_would_run_is_read_again_as_the_same_command() -> None:
    """INVARIANT of ``Command.argv``: the program reads the vector as it was judged."""
    wrong = []
    for line in (*GIVEN, *NEIGHBOURS):
        decision = decide(line)
        if decision.allowed and decision.pipeline:
            text = " | ".join(shlex.join(argv) for argv in decision.pipeline.argv())
            if parse(text, built_in().grammars).argv() != decision.pipeline.argv():
                wrong.append(text)
    assert wrong == []
