"""The files of the manifest check: valid by their schema, the same compiled, refused where they mean nothing."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from tests.unit.policy.manifest_cases import manifest_policy, policy_files

from obi_mcp.errors import PolicyError
from obi_mcp.policy.manifest import ManifestPolicy
from obi_mcp.policy.shipped import shipped_policy


@pytest.mark.parametrize("name", sorted(policy_files()))
def test_the_schema_files_are_valid(name: str) -> None:
    schema = "env-names" if name.startswith("obi/") else "manifest"
    text = (shipped_policy() / "schema" / f"{schema}.schema.json").read_text(encoding="utf-8")
    Draft202012Validator(json.loads(text)).validate(policy_files()[name])


def test_the_schema_survives_being_compiled_to_json() -> None:
    again = ManifestPolicy.from_data(json.loads(json.dumps(policy_files())))
    assert again.kinds == manifest_policy().kinds
    assert again.environment == manifest_policy().environment


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ("no-such-predicate", "no predicate"),
        ({"use": "no-such-type"}, "no type"),
        ({"fields": {"x": {"is": "nothing", "of": 1}}}, "no predicate"),
        ({"list": "bool", "check": ["nothing"]}, "no predicate"),
    ],
)
def test_a_schema_that_names_nothing_stops_the_start(node: Any, message: str) -> None:
    files = copy.deepcopy(policy_files())
    files["manifest/core.yaml"]["kinds"]["ConfigMap"]["fields"]["data"] = node
    with pytest.raises(PolicyError, match=message):
        ManifestPolicy.from_data(files)


def test_a_directory_without_the_names_of_the_environment_stops_the_start() -> None:
    with pytest.raises(PolicyError, match="env-names"):
        ManifestPolicy.from_data({"manifest/core.yaml": {}})


def test_a_definition_given_twice_stops_the_start() -> None:
    files = {**policy_files(), "manifest/again.yaml": {"types": {"status": "bool"}}}
    with pytest.raises(PolicyError, match="defined twice"):
        ManifestPolicy.from_data(files)
