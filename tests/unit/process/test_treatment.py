"""A head's output before anything else sees it: confined, projected, redacted, and still laid out as kubectl does."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from obi_mcp.errors import ProgramFailed
from obi_mcp.policy.model import Output
from obi_mcp.process.treatment import treatment_for
from obi_mcp.redact import Redactor

REDACTOR = Redactor.load()


def pod(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "uid": f"uid-{name}"}, "spec": spec}


def listed(*items: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "items": list(items), "kind": "List", "metadata": {"resourceVersion": ""}}


def kubectl(value: Any) -> str:
    """JSON as kubectl prints it."""
    return json.dumps(value, indent=4, ensure_ascii=False) + "\n"


def treat(
    text: str, output: Output, members: frozenset[str] | None = None, *, compact: bool = False, size: int = 100
) -> tuple[str, int]:
    treatment = treatment_for(output, REDACTOR, members, compact=compact)
    data = text.encode()
    pieces = [piece for at in range(0, len(data), size) for piece in treatment.feed(data[at : at + size])]
    pieces += list(treatment.finish())
    return b"".join(pieces).decode(), treatment.dropped


SECRET_POD = pod("a", containers=[{"env": [{"name": "API_TOKEN", "value": "hunter2"}], "note": "é ✓"}])
CLEAN_POD = pod("a", containers=[{"env": [{"name": "API_TOKEN", "value": "[redacted]"}], "note": "é ✓"}])

SAME = [
    ("a List", kubectl(listed(pod("a"), pod("b", x=[1, {"y": "z"}])))),
    ("an empty List", kubectl(listed())),
    ("one object", kubectl(pod("a", x="é"))),
    ("two objects", kubectl(pod("a")) + kubectl(pod("b"))),
]


@pytest.mark.parametrize("text", [row[1] for row in SAME], ids=[row[0] for row in SAME])
def test_what_needs_no_change_is_printed_as_kubectl_printed_it(text: str) -> None:
    assert treat(text, Output("json")) == (text, 0)


@pytest.mark.parametrize("wrap", [listed, lambda item: item], ids=["List", "object"])
@pytest.mark.parametrize("compact", [False, True])
def test_secrets_go_from_json(wrap: Any, compact: bool) -> None:
    text, _ = treat(kubectl(wrap(SECRET_POD)), Output("json"), compact=compact)
    assert json.loads(text) == wrap(CLEAN_POD)
    assert compact or text == kubectl(wrap(CLEAN_POD))


def test_objects_that_are_not_members_are_dropped_and_counted() -> None:
    output = Output("json", confine=True)
    text, dropped = treat(kubectl(listed(pod("a"), pod("b"), pod("c"), {})), output, frozenset({"uid-b"}))
    assert (text, dropped) == (kubectl(listed(pod("b"))), 3)
    assert treat(kubectl(pod("a")), output, frozenset({"uid-b"})) == ("", 1)
    assert treat(kubectl(pod("b")), output, None) == ("", 1)


@pytest.mark.parametrize("project", ["fact", "status"])
@pytest.mark.parametrize("render", ["json", "yaml"])
def test_only_harmless_fields_are_left_of_what_is_projected(project: Any, render: Any) -> None:
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "n", "uid": "u", "annotations": {"secret": "canary"}},
        "spec": {"providerID": "canary"},
        "status": {"images": [{"names": ["canary"]}]},
    }
    text, _ = treat(kubectl(listed(node)), Output("json", render, project=project))
    assert "canary" not in text
    read = json.loads if render == "json" else yaml.safe_load
    assert read(text)["items"][0]["metadata"]["name"] == "n"


@pytest.mark.parametrize(
    "value",
    [
        listed(
            pod("a", text="line\nline\n", number="1", on="yes", when="2026-01-01T00:00:00Z", empty="", nothing=None)
        ),
        listed(),
        listed(pod("a"), pod("b", words=["x", {"y": 1.5}], blank="a\n\nb", trailing="x \ny")),
        pod("a", deep={"a": [{"b": []}, {}]}),
    ],
)
def test_yaml_says_the_same_as_the_json_it_is_made_of(value: Any) -> None:
    text, _ = treat(kubectl(value), Output("json", "yaml"))
    assert yaml.safe_load(text) == value


def test_yaml_is_laid_out_as_kubectl_lays_it_out() -> None:
    text, _ = treat(kubectl(listed(pod("a", args=["x"], script="one\ntwo\n"))), Output("json", "yaml"))
    assert text == (
        "apiVersion: v1\nitems:\n- apiVersion: v1\n  kind: Pod\n  metadata:\n    name: a\n    uid: uid-a\n  spec:\n"
        '    args:\n    - x\n    script: |\n      one\n      two\nkind: List\nmetadata:\n  resourceVersion: ""\n'
    )


@pytest.mark.parametrize("render", ["json", "yaml"])
def test_a_list_that_is_cut_short_is_still_whole(render: Any) -> None:
    treatment = treatment_for(Output("json", render), REDACTOR, None)
    text = kubectl(listed(pod("a"), pod("b"))).encode()
    pieces = list(treatment.feed(text[: text.index(b'"b"')]))
    shown = b"".join(pieces) + treatment.close_early()
    value = json.loads(shown) if render == "json" else yaml.safe_load(shown)
    assert (value["kind"], [item["metadata"]["name"] for item in value["items"]]) == ("List", ["a"])


def test_text_is_redacted_and_raw_is_not() -> None:
    assert treat("token=abc\nx\n", Output("text"), size=3) == ("token=[redacted]\nx\n", 0)
    assert treat("token=abc\n", Output("raw")) == ("token=abc\n", 0)


def test_text_where_json_was_asked_for_passes_redacted_only_when_nothing_has_to_be_confined() -> None:
    text = "error: password=hunter2\n"
    assert treat(text, Output("json")) == ("error: password=[redacted]\n", 0)
    for output in (Output("json", confine=True), Output("json", project="fact")):
        with pytest.raises(ProgramFailed, match="did not print the JSON"):
            treat(text, output)


@pytest.mark.parametrize("text", ['{"items":[{}],"items":[{}]}', '{"a":' + "[" * 5000 + "]" * 5000 + "}"])
def test_json_that_cannot_be_judged_is_not_passed_on(text: str) -> None:
    with pytest.raises(ProgramFailed, match="cannot be read"):
        treat(text, Output("json"), size=100_000)
