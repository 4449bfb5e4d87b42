"""helm's values: decoded as helm decodes them, and refused where a chart could run them as a template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from obi_mcp.command.model import Command, Flag
from obi_mcp.policy.strvals import Form
from obi_mcp.policy.values import canonical_values, command_values, judge_values, merge_values, read_values

CASES: list[dict[str, Any]] = yaml.safe_load(
    (Path(__file__).parents[2] / "cases" / "charts" / "values.yaml").read_text("utf-8")
)


def sets_of(case: dict[str, Any]) -> dict[Form, tuple[str, ...]]:
    forms: tuple[Form, ...] = ("set", "set-string", "set-json", "set-literal")
    return {form: tuple(text for kind, text in case["sets"] if kind == form) for form in forms}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.get('values', '')!r} {case['sets']}")
def test_values_are_decoded_as_helm_does_or_refused(case: dict[str, Any]) -> None:
    if case["gives"] is None:
        with pytest.raises(ValueError, match=r"--set|values"):
            merge_values(sets_of(case), case.get("values"))
    else:
        assert merge_values(sets_of(case), case.get("values")) == case["gives"]


def test_a_refusal_names_flag_and_character() -> None:
    with pytest.raises(ValueError, match=r"--set, character 6: 'ab' has no value"):
        merge_values({"set": ("c=,ab,",)})


@pytest.mark.parametrize("text", [r"a" + ".a" * 40 + "=1", "a" + "[0]" * 40 + "=1", 'a={"b":' * 5000])
def test_nesting_is_bounded(text: str) -> None:
    with pytest.raises(ValueError, match=r"levels|JSON"):
        merge_values({"set-json" if "{" in text else "set": (text,)})


def helm(*flags: tuple[str, str]) -> Command:
    return Command("helm", ("template",), tuple(Flag(name, (value,)) for name, value in flags))


@pytest.mark.parametrize(
    ("command", "stdin", "gives"),
    [
        (helm(), None, {}),
        (helm(("set", "a=1"), ("set", "b=2")), None, {"a": 1, "b": 2}),
        (helm(("values", "-"), ("set", "a=1")), "a: 0\nb: 2\n", {"a": 1, "b": 2}),
        (helm(("set", "a=1")), "a: 2\n", {"a": 1}),
        (helm(("values", "-")), None, None),
        (helm(("values", "x.yaml")), "a: 1\n", None),
        (helm(("values", "-"), ("values", "-")), "a: 1\n", None),
        (helm(("values", " -")), "a: 1\n", None),
        (helm(("set-file", "a=/etc/passwd")), None, None),
    ],
)
def test_a_command_takes_values_from_its_flags_and_standard_input(
    command: Command, stdin: str | None, gives: dict[str, Any] | None
) -> None:
    if gives is None:
        with pytest.raises(ValueError, match=r"--values|--set-file"):
            command_values(command, stdin)
    else:
        assert command_values(command, stdin) == gives


@pytest.mark.parametrize(
    ("values", "refused"),
    [
        ({"a": "plain", "b": [1, None, True]}, []),
        ({"exe_path": "{*ebpf-instrument*,*otelcol*}", "endpoint": "http://${HOST_IP}:4318"}, []),
        ({"a": {"b": "{a: {b: 1}}"}}, []),
        ({"a": "x {{ lookup 1 }}"}, ["a"]),
        ({"a": {"b": ["x", "{{"]}}, ["a.b[1]"]),
        ({"{{ x }}": 1}, ['["{{ x }}"]']),
        ({"a": {"x{{": "y"}}, ["a.x{{"]),
        ({"a": "{ {"}, ["a"]),
        ({"a": "{\n\t{"}, ["a"]),
        ({"a": ["{", "{ lookup }}"]}, ["a[0]"]),
        ({"a": "x{", "b": "{ lookup }}"}, ["a"]),
        ({"a": "x{  "}, ["a"]),
        ({"a": [["{"]]}, ["a[0][0]"]),
    ],
)
def test_what_a_chart_could_run_is_refused(values: dict[str, Any], refused: list[str]) -> None:
    assert [violation.path for violation in judge_values(values)] == refused


def test_canonical_values_read_back_the_same() -> None:
    values = {"a": "ü x", "b": [1, -5, 1.5, None, True, {"c": "007"}], "d": {"": "no"}}
    assert read_values(canonical_values(values).decode("ascii")) == json.loads(json.dumps(values))
