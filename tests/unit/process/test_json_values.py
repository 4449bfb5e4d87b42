"""JSON as a stream of events: Lists by item, other values whole, however the bytes are cut."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obi_mcp.process.json_values import Collected, Item, JsonValues, ListBegin, ListEnd, NotJson, Whole

POD = {"metadata": {"name": "a", "uid": "u"}, "note": 'brackets ]}{[ and "quotes\\" \n é'}
BIG = {"data": {"x": "y" * 200_000}}


def pretty(value: Any) -> str:
    return json.dumps(value, indent=4)


def events(text: str, size: int) -> list[tuple[Any, ...]]:
    """Events as plain tuples; texts only where they are no JSON."""
    values = JsonValues()
    data = text.encode()
    found = [event for at in range(0, len(data), size) for event in values.feed(data[at : at + size])]
    found += list(values.feed(b"", last=True))
    out: list[tuple[Any, ...]] = []
    for event in found:
        match event:
            case ListBegin(members=members, indented=indented):
                out.append(("begin", members, indented))
            case ListEnd(members=members):
                out.append(("end", members))
            case Item(value=value, text=text):
                assert json.loads(text) == value
                out.append(("item", value))
            case Whole(value=value, text=text):
                assert json.loads(text) == value
                out.append(("whole", value))
            case NotJson(text=text):
                out.append(("text", text))
    return out


LIST = {"apiVersion": "v1", "items": [POD, BIG, {}], "kind": "List", "metadata": {"resourceVersion": ""}}
LIST_EVENTS = [
    ("item", POD),
    ("item", BIG),
    ("item", {}),
    ("end", {"kind": "List", "metadata": {"resourceVersion": ""}}),
]

DOCUMENTS: list[tuple[str, str, list[tuple[Any, ...]]]] = [
    ("as kubectl prints a List", pretty(LIST), [("begin", {"apiVersion": "v1"}, True), *LIST_EVENTS]),
    ("in one line", json.dumps(LIST), [("begin", {"apiVersion": "v1"}, False), *LIST_EVENTS]),
    (
        "as the API prints a list",
        '{"kind":"PodList","metadata":{"continue":""},"items":[{"a":1}]}\n',
        [("begin", {"kind": "PodList", "metadata": {"continue": ""}}, False), ("item", {"a": 1}), ("end", {})],
    ),
    ("an empty List", pretty({"items": []}), [("begin", {}, False), ("end", {})]),
    ("one object", pretty(POD), [("whole", POD)]),
    ("one large object", pretty(BIG), [("whole", BIG)]),
    ("objects one after another", pretty(POD) + "\n" + pretty({}) + "\n", [("whole", POD), ("whole", {})]),
    ("an array", '[{"a":1},2]', [("whole", [{"a": 1}, 2])]),
    ("a number", " 12.5\n", [("whole", 12.5)]),
    ("a word", '"x"', [("whole", "x")]),
    ("nothing", " \n", []),
    ("no list under items", '{"items":null,"a":1}', [("whole", {"items": None, "a": 1})]),
    ("a key written otherwise", '{"\\u0069tems":[1]}', [("begin", {}, False), ("item", 1), ("end", {})]),
    ("text", "No resources found\n", [("text", "No resources found\n")]),
    ("text after JSON", '{"a":1}\noops', [("whole", {"a": 1}), ("text", "oops")]),
    ("cut within an object", '{"a":1,"b":', [("text", '{"a":1,"b":')]),
]


def joined(found: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Text comes as it comes: its pieces are one."""
    out: list[tuple[Any, ...]] = []
    for event in found:
        if event[0] == "text" and out and out[-1][0] == "text":
            out[-1] = ("text", out[-1][1] + event[1])
        else:
            out.append(event)
    return out


@pytest.mark.parametrize(("text", "expected"), [row[1:] for row in DOCUMENTS], ids=[row[0] for row in DOCUMENTS])
@pytest.mark.parametrize("size", [7, 4096, 10_000_000])
def test_every_document_gives_its_events(text: str, expected: list[tuple[Any, ...]], size: int) -> None:
    assert joined(events(text, size)) == expected


@pytest.mark.parametrize(
    "text",
    [
        '{"items":[{"a":1}],"items":[{"a":2}]}',
        '{"items":[],"\\u0069tems":[1]}',
        '{"items":[1],"kind":"List","items":null}',
    ],
)
def test_items_given_twice_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="twice"):
        events(text, 1000)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "items", "kind", "é"]), inner),
    max_leaves=10,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(["a", "items", "kind"]), JSON), st.sampled_from([None, 4]), st.integers(1, 50))
def test_nothing_is_lost_or_added(value: dict[str, Any], indent: int | None, size: int) -> None:
    again: dict[str, Any] = {}
    for event in events(json.dumps(value, indent=indent), size):
        match event:
            case ("begin", members, _):
                again |= {**members, "items": []}
            case ("item", item):
                again["items"].append(item)
            case ("end", members) | ("whole", members):
                again |= members
            case other:
                raise AssertionError(other)
    assert again == value


COLLECTED: list[tuple[str, Any]] = [
    ("a list", {"kind": "List", "metadata": {"continue": "x"}, "items": [{"name": number} for number in range(9000)]}),
    ("an empty list", {"kind": "PodList", "items": []}),
    ("no list", {"kind": "Pod", "spec": {"containers": ["x" * 100] * 3000}}),
    ("an array", list(range(50_000))),
]


@pytest.mark.parametrize("value", [row[1] for row in COLLECTED], ids=[row[0] for row in COLLECTED])
@pytest.mark.parametrize("indent", [None, 2])
def test_a_value_is_put_together_as_it_was(value: Any, indent: int | None) -> None:
    collected = Collected()
    rounds = sum(1 for _ in collected.feed(json.dumps(value, indent=indent).encode()))
    assert collected.value == value
    assert rounds > 9000 or not value or len(json.dumps(value)) < 1000 or "items" not in value


@pytest.mark.parametrize(
    "text", ["", "{", '{"items": [{"a": 1}', '{"items": [{}]} {"b": 2}', "{} {}", "this is none", '{"items": [{]}']
)
def test_what_is_not_one_value_is_not_put_together(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        list(Collected().feed(text.encode()))
