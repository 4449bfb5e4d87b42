"""The grammar files: their format, and the facts about the programs that the policy was designed on."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

POLICY = Path(__file__).resolve().parents[2] / "policy"
FILES = ("kubectl", "helm", "obi", "filters")
FLAG_LINE = re.compile(r'^\s*"[^"]+": \{("short": "[A-Za-z]", )?"type": "[^{}]*\},?$')


def load(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((POLICY / "grammar" / f"{name}.json").read_text(encoding="utf-8"))
    return loaded


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = json.loads((POLICY / "schema" / "grammar.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def commands(tree: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every command below a node, with its path."""
    for name, command in tree.get("commands", {}).items():
        yield f"{path} {name}", command
        yield from commands(command, f"{path} {name}")


def command(path: str) -> dict[str, Any]:
    """The node of one command line without flags."""
    program, *names = path.split()
    node = load(program)
    for name in names:
        node = node["commands"][name]
    return node


def flag_tables(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every table of flags in a file."""
    for key, value in node.items():
        if key in {"flags", "local", "persistent"}:
            yield value
        elif isinstance(value, dict):
            yield from flag_tables(value)


@pytest.mark.parametrize("name", FILES)
def test_a_grammar_follows_the_schema(name: str, validator: Draft202012Validator) -> None:
    assert [error.message for error in validator.iter_errors(load(name))] == []


@pytest.mark.parametrize(
    ("name", "path", "key", "value"),
    [
        ("kubectl", (), "plugins", {}),
        ("kubectl", ("commands", "get"), "descripton", "typo"),
        ("kubectl", ("commands", "get"), "hidden", False),
        ("kubectl", ("commands", "get", "flags", "output"), "default", "json"),
        ("kubectl", ("commands", "get", "flags", "output"), "short", "out"),
        ("kubectl", ("commands", "get", "flags", "output"), "repeat", False),
        ("kubectl", ("commands", "get", "flags"), "--output", {"type": "string"}),
        ("kubectl", (), "style", "getopt"),
        ("kubectl", (), "version", "v1.36.3"),
        ("filters", (), "program", "grep"),
        ("filters", ("programs", "grep"), "commands", {}),
        ("filters", ("programs", "grep"), "style", "cobra"),
        ("filters", ("programs", "grep"), "numeric", "context"),
        ("filters", ("programs", "jq", "flags", "arg"), "nargs", 1),
        ("obi", ("commands", "config", "commands", "validate"), "operands", ["file...", 1]),
    ],
)
def test_the_schema_refuses(
    name: str, path: tuple[str, ...], key: str, value: object, validator: Draft202012Validator
) -> None:
    changed = copy.deepcopy(load(name))
    node = changed
    for step in path:
        node = node[step]
    node[key] = value
    assert list(validator.iter_errors(changed))


@pytest.mark.parametrize("name", FILES)
def test_each_flag_has_a_line_of_its_own_in_sorted_order(name: str) -> None:
    text = (POLICY / "grammar" / f"{name}.json").read_text(encoding="utf-8")
    tables = list(flag_tables(load(name)))
    assert sum(len(table) for table in tables) == sum(1 for line in text.splitlines() if FLAG_LINE.match(line))
    assert all(list(table) == sorted(table) for table in tables)


@pytest.mark.parametrize("name", ["kubectl", "helm", "obi"])
def test_no_two_siblings_share_a_name_or_alias(name: str) -> None:
    for path, node in ((name, load(name)), *commands(load(name), name)):
        children = node.get("commands", {})
        names = [*children, *(alias for child in children.values() for alias in child.get("aliases", []))]
        assert len(names) == len(set(names)), path


@pytest.mark.parametrize("name", ["kubectl", "helm"])
def test_no_two_flags_of_a_command_share_a_shorthand(name: str) -> None:
    root = load(name)
    for path, node in commands(root, name):
        flags = {**root["flags"], **node.get("persistent", {}), **node["flags"]}
        shorts = [flag["short"] for flag in flags.values() if "short" in flag]
        assert len(shorts) == len(set(shorts)), path


@pytest.mark.parametrize("name", ["kubectl", "helm"])
def test_every_command_knows_the_help_flag_that_cobra_adds(name: str) -> None:
    root = load(name)
    nodes = [root["local"], *(node["flags"] for _, node in commands(root, name))]
    assert all(flags["help"] == {"short": "h", "type": "bool", "optional": "true"} for flags in nodes)


@pytest.mark.parametrize(
    ("name", "version", "count"), [("kubectl", "1.36.3", 111), ("helm", "4.3.1", 60), ("obi", "0.12.0", 3)]
)
def test_the_size_of_a_command_tree(name: str, version: str, count: int) -> None:
    assert load(name)["version"] == version
    assert len(list(commands(load(name), name))) == count


@pytest.mark.parametrize("name", ["kubectl", "helm"])
def test_no_command_changes_how_its_flags_are_read(name: str) -> None:
    # The parser knows one way of reading flags: a release that needs another must not come in unnoticed.
    special = {"disable_flag_parsing", "traverse_children", "unknown_flags", "interspersed"}
    assert [path for path, node in commands(load(name), name) if special & node.keys()] == []


@pytest.mark.parametrize(
    ("path", "flag", "expected"),
    [
        ("kubectl get", "output", {"short": "o", "type": "string"}),
        ("kubectl get", "watch", {"short": "w", "type": "bool", "optional": "true"}),
        ("kubectl get", "all-namespaces", {"short": "A", "type": "bool", "optional": "true"}),
        ("kubectl get", "filename", {"short": "f", "type": "stringSlice", "repeat": True}),
        ("kubectl get", "raw", {"type": "string"}),
        ("kubectl get", "label-columns", {"short": "L", "type": "stringSlice", "repeat": True}),
        ("kubectl logs", "follow", {"short": "f", "type": "bool", "optional": "true"}),
        ("kubectl logs", "tail", {"type": "int64"}),
        ("kubectl apply", "dry-run", {"type": "string", "optional": "unchanged"}),
        ("kubectl apply", "validate", {"type": "string", "optional": "strict"}),
        ("kubectl delete", "cascade", {"type": "string", "optional": "background"}),
        ("kubectl annotate", "record", {"type": "bool", "optional": "true", "hidden": True, "deprecated": True}),
        ("kubectl create clusterrole", "aggregation-rule", {"type": "mapStringString", "repeat": True}),
        ("helm list", "filter", {"short": "f", "type": "string"}),
        ("helm list", "all-namespaces", {"short": "A", "type": "bool", "optional": "true"}),
        ("helm get values", "output", {"short": "o", "type": "format"}),
        ("helm install", "set", {"type": "stringArray", "repeat": True}),
        ("helm install", "values", {"short": "f", "type": "stringSlice", "repeat": True}),
        ("helm install", "dry-run", {"type": "string", "optional": "unset"}),
        ("helm install", "wait", {"type": "WaitStrategy", "optional": "watcher"}),
        ("helm install", "post-renderer", {"type": "postRendererString"}),
        ("helm upgrade", "install", {"short": "i", "type": "bool", "optional": "true"}),
        ("obi config migrate", "allow-partial", {"type": "bool", "optional": "true"}),
    ],
)
def test_a_flag_is_what_its_program_says(path: str, flag: str, expected: dict[str, object]) -> None:
    assert command(path)["flags"][flag] == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "kubectl",
            {
                "namespace": {"short": "n", "type": "string"},
                "server": {"short": "s", "type": "string"},
                "v": {"short": "v", "type": "Level"},
                "as-group": {"type": "stringArray", "repeat": True},
                "kuberc": {"type": "string"},
                "warnings-as-errors": {"type": "bool", "optional": "true"},
            },
        ),
        (
            "helm",
            {
                "namespace": {"short": "n", "type": "string"},
                "kube-context": {"type": "string"},
                "kube-as-group": {"type": "stringArray", "repeat": True},
                "debug": {"type": "bool", "optional": "true"},
                "v": {"short": "v", "type": "Level", "hidden": True},
            },
        ),
        ("obi", {}),
    ],
)
def test_what_may_stand_before_the_verb(name: str, expected: dict[str, object]) -> None:
    flags = load(name)["flags"]
    assert {flag: flags[flag] for flag in expected} == expected
    # `kubectl -A get delete cm x` runs delete, because root does not know -A.
    assert not {"all-namespaces", "selector", "output", "help", "config"} & flags.keys()


@pytest.mark.parametrize(
    ("path", "aliases"),
    [
        ("kubectl create configmap", ["cm"]),
        ("kubectl autoscale", None),
        ("helm list", ["ls"]),
        ("helm uninstall", ["del", "delete", "un"]),
        ("helm history", ["hist"]),
    ],
)
def test_the_aliases_of_a_command(path: str, aliases: list[str] | None) -> None:
    assert command(path).get("aliases") == aliases


def test_only_config_passes_a_flag_on_to_its_children() -> None:
    found = {
        path: list(node["persistent"]) for path, node in commands(load("kubectl"), "kubectl") if "persistent" in node
    }
    assert found == {"kubectl config": ["kubeconfig"]}


def test_the_filters_of_a_pipeline() -> None:
    programs = load("filters")["programs"]
    assert sorted(programs) == ["cut", "grep", "head", "jq", "sort", "tail", "tr", "uniq", "wc"]
    assert [name for name, entry in programs.items() if entry["program"] != name] == []
    assert [name for name, entry in programs.items() if entry.get("numeric")] == ["grep", "head", "tail"]
    assert [name for name, entry in programs.items() if entry.get("interspersed") is False] == ["tr"]
    assert {entry["style"] for name, entry in programs.items() if name != "jq"} == {"getopt"}
    assert programs["jq"]["style"] == "jq"


@pytest.mark.parametrize(
    ("program", "flags"),
    [
        ("grep", {"file", "recursive", "dereference-recursive", "include", "exclude-from", "directories"}),
        ("sort", {"output", "temporary-directory", "buffer-size", "compress-program", "files0-from", "random-source"}),
        ("tail", {"follow", "f", "F", "pid", "retry"}),
        ("wc", {"files0-from"}),
        ("jq", {"from-file", "library-path", "slurpfile", "rawfile", "run-tests", "debug-trace", "debug-dump-disasm"}),
    ],
)
def test_what_a_rule_must_refuse_is_known_by_name(program: str, flags: set[str]) -> None:
    assert flags <= load("filters")["programs"][program]["flags"].keys()
