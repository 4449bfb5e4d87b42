"""v1 to v2: what is moved where, what is reported, and that the result is a valid v2 document."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from obi_mcp.obi.config import MODES, Mode, is_misfit, validate
from obi_mcp.obi.config_command import answer_migrate
from obi_mcp.obi.migration import migrate, migrate_environment
from obi_mcp.policy.config_schema import config_schema
from obi_mcp.policy.scope import Scope
from obi_mcp.policy.shipped import shipped_policy
from obi_mcp.policy.telemetry_config import judge_config

CASES = Path(__file__).parents[2] / "cases" / "obi-config"
MIGRATED: list[dict[str, Any]] = yaml.safe_load((CASES / "migrated.yaml").read_text("utf-8"))
GOOD = ("chart-default", "net-full", "v1-app-prom", "v1-network", "v1-otlp")
MISSING = object()


def value_at(data: Any, key: str) -> Any:
    for part in key.split("."):
        if not isinstance(data, dict) or part not in data:
            return MISSING
        data = data[part]
    return data


@pytest.mark.parametrize("case", MIGRATED, ids=lambda case: case["name"])
def test_a_document_moves_as_far_as_it_is_known(case: dict[str, Any]) -> None:
    migration = migrate(case["text"], mode=case.get("mode", "standalone"))
    if "problem" in case:
        assert case["problem"] in (migration.problem or "")
        assert migration.text == ""
        return
    made = yaml.safe_load(migration.text)
    assert {key: value_at(made, key) for key in case.get("gives", {})} == case.get("gives", {})
    assert [key for key in case.get("lacks", ()) if value_at(made, key) is not MISSING] == []
    assert [entry.key for entry in migration.unmoved] == case["unmoved"]
    assert all(entry.reason for entry in migration.unmoved)


@pytest.mark.parametrize("case", [case for case in MIGRATED if "problem" not in case], ids=lambda case: case["name"])
def test_the_result_has_only_keys_that_v2_has(case: dict[str, Any]) -> None:
    mode = case.get("mode", "standalone")
    findings = validate(migrate(case["text"], mode=mode).text, mode=mode)
    assert [str(finding) for finding in findings if finding.key] == []


@pytest.mark.parametrize("name", GOOD)
def test_recorded_documents_become_valid_ones(name: str) -> None:
    migration = migrate((CASES / f"{name}.yaml").read_text("utf-8"))
    assert validate(migration.text) == ()
    assert [entry.key for entry in migration.unmoved] == (["metrics.features"] if name == "net-full" else [])


def test_variables_stay_as_they_are() -> None:
    text = "open_port: ${PORT}\notel_traces_export: {endpoint: 'http://$(HOST_IP):4317'}\n"
    made = migrate(text).text
    assert "${PORT}" in made and "http://$(HOST_IP):4317" in made


def test_the_same_text_gives_the_same_result() -> None:
    text = (CASES / "chart-default.yaml").read_text("utf-8")
    assert migrate(text) == migrate(text)


@pytest.mark.parametrize(
    ("text", "partial", "code", "in_stdout", "said"),
    [
        ("open_port: 80\ntrace_printer: text\n", False, 0, "file_format: '1.0'", "migrated v1 config"),
        ("open_port: 80\ntrace_printer: text\nservice_name: x\n", False, 1, "", "not moved: service_name: OBI-wide"),
        ("open_port: 80\ntrace_printer: text\nservice_name: x\n", True, 3, "file_format", "not moved: service_name"),
        ("open_port: 80\ntrace_printer: text\n", True, 0, "file_format", "migrated v1 config"),
        ("file_format: '1.0'\n", True, 1, "", "already a standalone v2 configuration"),
        ("a: [", False, 1, "", "migration failed: line 2"),
    ],
)
def test_the_command_answers_as_obis_own(text: str, partial: bool, code: int, in_stdout: str, said: str) -> None:
    answer = answer_migrate(text, allow_partial=partial)
    assert answer.exit_code == code
    assert in_stdout in answer.stdout and bool(answer.stdout) == bool(in_stdout)
    first, _, rest = answer.stderr.partition("\n")
    assert first == "obi-mcp: answered by obi-mcp's own migrator"
    assert said in rest


def test_an_unknown_mode_is_a_usage_error() -> None:
    assert answer_migrate("open_port: 80\n", mode="x").exit_code == 2


def test_beylas_variables_get_the_names_that_obi_reads() -> None:
    moved, unmoved = migrate_environment(
        {
            "BEYLA_TRACE_PRINTER": "text",
            "BEYLA_OPEN_PORT": "80",
            "OTEL_EBPF_OPEN_PORT": "81",
            "BEYLA_NO_SUCH": "1",
            "HOST_IP": "10.0.0.1",
        }
    )
    assert moved == {"OTEL_EBPF_TRACE_PRINTER": "text", "OTEL_EBPF_OPEN_PORT": "81", "HOST_IP": "10.0.0.1"}
    assert [entry.key for entry in unmoved] == ["BEYLA_OPEN_PORT", "BEYLA_NO_SUCH"]


KEYS = sorted({key for shape in config_schema("v1").shapes.values() for key in shape} | {"file_format", "extensions"})
ANY = st.none() | st.booleans() | st.integers(0, 70000) | st.sampled_from(["", "text", "http://a.b.svc:4317", "${X}"])
WORDS = {"duration": "1m30s", "ip": "10.0.0.1", "interface": "local", "propagation": "all", "log level": "WARN"}
WORDS |= {"endpoint": "http://a.b.svc:4317", "cidr": "10.0.0.0/8", "ports": "80,90-99"}
DOCUMENTS = st.recursive(
    ANY, lambda below: st.lists(below, max_size=3) | st.dictionaries(st.sampled_from(KEYS), below, max_size=4)
)


def valid(kind: str) -> st.SearchStrategy[Any]:
    """Values of one type of the v1 schema."""
    schema = config_schema("v1")
    word, _, rest = kind.partition(" ")
    if kind.startswith("@"):
        keys = {key: valid(below) for key, below in schema.shapes[kind[1:]].items()}
        few = st.sets(st.sampled_from(sorted(keys)), max_size=6)
        return few.flatmap(lambda names: st.fixed_dictionaries({name: keys[name] for name in sorted(names)}))
    if word in ("list", "map"):
        below = valid(rest)
        return (
            st.lists(below, max_size=2) if word == "list" else st.dictionaries(st.sampled_from("ab"), below, max_size=2)
        )
    choices = schema.choices(kind)
    if choices is not None:
        return st.sampled_from(choices)
    simple: dict[str, st.SearchStrategy[Any]] = {
        "bool": st.booleans(),
        "int": st.integers(0, 9),
        "number": st.just(0.5),
    }
    return simple.get(kind, st.just(WORDS.get(kind, "x")))


@given(DOCUMENTS)
@settings(max_examples=100, deadline=None)
def test_no_document_breaks_the_readers(data: Any) -> None:
    text = json.dumps(data)
    validate(text)
    judge_config(text, scope=Scope(), path="data")
    migration = migrate(text, source="v1")
    assert (migration.problem is None) == bool(migration.text)
    if migration.text:
        assert [str(finding) for finding in validate(migration.text) if finding.rule in ("unknown-key", "yaml")] == []
    of_beyla = migrate(text, source="beyla")
    assert of_beyla.problem or [finding for finding in validate(of_beyla.text) if finding.rule == "beyla"] == []


@given(valid("@Config"), st.sampled_from(MODES))
@settings(max_examples=120, deadline=None)
def test_every_key_is_moved_or_reported_and_the_result_has_only_v2s_keys(data: Any, mode: Mode) -> None:
    text = json.dumps(data)
    found = validate(text, mode=mode)
    assert [str(finding) for finding in found if finding.rule == "unknown-key" or is_misfit(finding)] == []
    migration = migrate(text, mode=mode, source="v1")
    assert migration.problem is None
    wrong = {"unknown-key", "yaml", "version", "pipeline"}
    found = validate(migration.text, mode=mode)
    assert [str(finding) for finding in found if finding.rule in wrong or is_misfit(finding)] == []
    again = migrate(json.dumps(data, sort_keys=True), mode=mode, source="v1")
    assert {entry.key for entry in again.unmoved} == {entry.key for entry in migration.unmoved}


def test_every_documented_move_starts_and_ends_at_a_key() -> None:
    def knows(version: str, key: str) -> bool:
        schema = config_schema(version)
        shape = schema.root
        for part in key.split("."):
            kind = schema.shapes.get(shape, {}).get(part)
            if kind is None:
                return False
            shape = kind.removeprefix("@")
        return True

    table = json.loads((shipped_policy() / "obi" / "moves.json").read_text("utf-8"))
    pairs = [*table["moves"].items(), *((key, to) for key, targets in table["copies"].items() for to in targets)]
    assert [key for key, _ in pairs if not knows("v1", key)] == []
    assert [to for _, to in pairs if not knows("v2", to.replace("~", "extensions.obi"))] == []
    assert [key for key in table["nowhere"] if not knows("v1", key)] == []
