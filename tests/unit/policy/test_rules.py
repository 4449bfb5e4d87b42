"""The rule language: closed schemas, rules that fit the grammars, and which rule is chosen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.policy.policies import built_in, over

from obi_mcp.policy.flags import seconds
from obi_mcp.policy.forms import FORMS
from obi_mcp.policy.model import Access
from obi_mcp.policy.rule import Rule

SCHEMA = Path(__file__).parents[3] / "policy" / "schema"


def objects(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every place of a schema that describes an object."""
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield path, schema
        for key, value in schema.items():
            yield from objects(value, f"{path}/{key}")
    elif isinstance(schema, list):
        for index, value in enumerate(schema):
            yield from objects(value, f"{path}/{index}")


@pytest.mark.parametrize("name", ["rule", "scope"])
def test_every_object_of_the_schemas_is_closed(name: str) -> None:
    schema = json.loads((SCHEMA / f"{name}.schema.json").read_text("utf-8"))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    found = dict(objects(schema))
    assert found
    for path, place in found.items():
        assert place.get("additionalProperties") is False, f"{name}{path} is open"


def test_the_schema_and_the_code_know_the_same_forms() -> None:
    schema = json.loads((SCHEMA / "rule.schema.json").read_text("utf-8"))
    assert set(schema["$defs"]["rule"]["properties"]["operands"]["enum"]) == {*FORMS, "filter"}


def test_no_rule_allows_a_flag_that_is_always_denied() -> None:
    """A rule that names such a flag would promise what is never given."""
    from obi_mcp.policy.hard import _FLAGS, forbidden_root_flags

    forbidden = forbidden_root_flags(built_in().grammars)
    promised = {
        (rule.id, name)
        for rule in built_in().index.rules
        if rule.operands != "filter"
        for name in rule.flags.allow
        if name in _FLAGS or name in forbidden[rule.program]
    }
    assert promised == set()


def test_every_command_that_changes_something_needs_more_than_read_only() -> None:
    writes = {
        "apply",
        "create",
        "replace",
        "delete",
        "patch",
        "set",
        "label",
        "annotate",
        "scale",
        "install",
        "upgrade",
    }
    reads = [
        rule.id
        for rule in built_in().index.rules
        if rule.command and rule.command[0] in {*writes, "rollback", "uninstall"} and rule.access is Access.READ_ONLY
    ]
    assert reads == []


def test_a_rule_without_a_level_or_an_example_cannot_be_made() -> None:
    with pytest.raises(KeyError):
        Rule.from_data({"id": "kubectl.x", "program": "kubectl", "operands": "none", "because": "none of it"})


# Which of several rules of one command decides.
CHOSEN = [
    ("kubectl get pods", {}, "kubectl.get"),
    ("kubectl get nodes", {}, "kubectl.get.facts"),
    ("kubectl get ev --field-selector involvedObject.kind=Pod,involvedObject.name=a", {}, "kubectl.get.events"),
    ("kubectl get --raw /api/v1/namespaces/obi/pods/a:1/proxy/metrics", {}, "kubectl.get.raw"),
    ("kubectl get pods -n shop", {"instrumented_namespaces": ["shop"]}, "kubectl.get.status"),
    ("kubectl get pods,ds -n shop", {"instrumented_namespaces": ["shop"]}, "kubectl.get"),
    ("kubectl get pods -A", {"instrumented_namespaces": ["shop"]}, "kubectl.get"),
    ("kubectl get ev -n shop", {"instrumented_namespaces": ["shop"]}, "kubectl.get.status"),
    ("kubectl delete pod a", {}, "kubectl.delete.pod"),
    ("kubectl delete pod a b", {}, "kubectl.delete"),
    ("kubectl delete pod a --grace-period=5", {}, "kubectl.delete"),
]


@pytest.mark.parametrize(("command", "scope", "rule"), CHOSEN, ids=[command for command, _, _ in CHOSEN])
def test_the_rule_that_decides(command: str, scope: dict[str, Any], rule: str) -> None:
    decision = over(scope).decide(command, access=Access.FULL)
    assert (decision.allowed, decision.rule) == (True, rule), decision.reason


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30s", 30), ("1m30s", 90), ("1h", 3600), ("250ms", 0.25), ("1.5s", 1.5), (".5s", 0.5), ("7", 7), ("0", 0),
        ("+2s", 2), ("-1s", -1), ("", -1), ("s", -1), ("1x", -1), ("1s ", -1), ("١", -1), ("1d", -1), ("1s-1s", -1),
    ],
)  # fmt: skip
def test_durations_are_read_as_go_reads_them(text: str, expected: float) -> None:
    assert seconds(text) == expected


def test_the_page_about_the_language_names_everything_in_it() -> None:
    page = (SCHEMA.parent / "README.md").read_text("utf-8")
    definitions = json.loads((SCHEMA / "rule.schema.json").read_text("utf-8"))["$defs"]
    targets = definitions["targets"]["properties"]
    words = {
        *definitions["rule"]["properties"],
        *definitions["rule"]["properties"]["operands"]["enum"],
        *definitions["rule"]["properties"]["output"]["items"]["enum"],
        *targets,
        *targets["confine"]["items"]["enum"],
        *targets["matches"]["enum"],
        *definitions["flags"]["properties"],
        *definitions["words"]["properties"],
        *definitions["example"]["oneOf"][1]["properties"],
    }
    assert sorted(word for word in words if word not in page) == []
