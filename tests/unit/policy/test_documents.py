"""Documents are read once, strictly, and written in one canonical form."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.policy.manifest_cases import GOOD, good

from obi_mcp.errors import InvalidDocument
from obi_mcp.policy.documents import canonical, documents_of, read_documents
from obi_mcp.policy.model import Document
from obi_mcp.policy.yaml_reader import plain_scalar, read_stream

HEAD = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"


def body(text: str) -> Any:
    return read_documents(HEAD + text)[0].body


def refused(text: str) -> InvalidDocument:
    with pytest.raises(InvalidDocument) as caught:
        read_documents(text)
    return caught.value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("FALSE", False),
        ("0", 0),
        ("-7", -7),
        ("+7", 7),
        ("0644", 420),
        ("0o644", 420),
        ("9223372036854775807", 2**63 - 1),
        ("1.5", 1.5),
        ("1.10.2", "1.10.2"),
        ("v1", "v1"),
        ("100m", "100m"),
        ("1Gi", "1Gi"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z"),
        ("10.0.0.1", "10.0.0.1"),
        ("truest", "truest"),
        ("=", "="),
        (".", "."),
        ("/metrics", "/metrics"),
    ],
)
def test_a_plain_scalar_is_what_kubectl_takes_it_for(text: str, value: object) -> None:
    assert plain_scalar(text) == value
    assert type(plain_scalar(text)) is type(value)


@pytest.mark.parametrize(
    "text",
    (
        "yes No ON off y N 0x1f 0b1 1_000 0_7 089 1e3 1E+3 1.5e3 1. .5 0.5e-3 .inf -.INF .nan "
        "9223372036854775808 -9223372036854775809 " + "1" * 5000
    ).split(),
)
def test_a_plain_scalar_that_readers_disagree_about_is_refused(text: str) -> None:
    error = refused(f"{HEAD}data:\n  x: {text}\n")
    assert (error.document, error.path, error.line) == (0, "data.x", 5)
    assert "quote it" in (error.hint or "")
    assert len(error.message) < 300
    assert body(f'data: {{x: "{text}"}}')["data"] == {"x": text}


@pytest.mark.parametrize(
    ("text", "path", "line", "says"),
    [
        ("data: {x: 1, x: 2}", "data.x", 4, "there twice"),
        ("data: {}\ndata: {}", "data", 5, "there twice"),
        ('{"data": 1, "d\\u0061ta": 2}', "data", 1, "there twice"),
        ("a: [{b: {c: 1, c: 1}}]", "a[0].b.c", 4, "there twice"),
        ("a: !!str x", "a", 4, "the tag"),
        ("a: ! x", "a", 4, "the tag"),
        ("a: !x {}", "a", 4, "the tag"),
        ("a: !!binary aGk=", "a", 4, "the tag"),
        ("a: !!python/object:os.system x", "a", 4, "the tag"),
        ("!!str a: x", None, 4, "tag or an anchor"),
        ("&a a: x", None, 4, "tag or an anchor"),
        ("<<: {a: b}", None, 4, "merge key"),
        ("a: {<<: {b: c}}", "a", 4, "merge key"),
        ("1: x", None, 4, "not a string"),
        ("true: x", None, 4, "not a string"),
        ("~: x", None, 4, "not a string"),
        ("on: x", None, 4, "'on'"),
        ("? [a]\n: x", None, 4, "not a plain word"),
        ("a: &a x\n*a : x", None, 5, "not a plain word"),
        ("a: *b", "a", 4, "no anchor"),
        ("a: &b [*b]", "a[0]", 4, "contains itself"),
        ("a: &b x\nc: &b x", "c", 5, "set twice"),
        ('a: "\\0"', "a", 4, "U+0000"),
        ('a: "\\x1b[31m"', "a", 4, "U+001B"),
        ('a: "\\uFEFF"', "a", 4, "U+FEFF"),
        ('a: "\\u2028"', "a", 4, "U+2028"),
        ("a: " + "[" * 60 + "]" * 60, None, 4, "levels of nesting"),
    ],
)
def test_a_document_that_can_be_read_in_two_ways_is_refused(text: str, path: str | None, line: int, says: str) -> None:
    error = refused(text if text.startswith('{"') else HEAD + text)
    assert says in error.message
    assert error.line == line
    if path is not None:
        assert error.path == path


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no document"),
        ("---\n---\n# nothing\n", "no document"),
        ("[]", "a list"),
        ("text", '"text"'),
        ("42", "42"),
        (f"\ufeff{HEAD}", "U+FEFF"),
        (f"{HEAD}x: a\x00b", "U+0000"),
        (f"{HEAD}x: a\x85b", "U+0085"),
        (f"{HEAD}x: a\u2029b", "U+2029"),
        (f"{HEAD}x: \ud800", "U+D800"),
        (HEAD.encode("utf-16-le").decode("latin-1"), "U+0000"),
        (f"%YAML 1.1\n---\n{HEAD}", "directive"),
        (f"%TAG ! tag:x,2000:\n---\n{HEAD}", "directive"),
        ('{"apiVersion": "v1", "kind": "X", "metadata": {"name": "a"}}{"a": 1}', "not YAML or JSON"),
        ('{"a": "\\ud800"}', "not YAML or JSON"),
        ("a: `b`", "not YAML or JSON"),
        ("a: b\n c: d", "not YAML or JSON"),
        ("\t- a", "not YAML or JSON"),
        (f"{HEAD}---\n{HEAD}", "again in 1"),
        ("x" * 1_048_577, "1048577 bytes"),
        ("é" * 600_000, "1200000 bytes"),
        ("---\n" * 101, "more than 100 documents"),
        (
            "apiVersion: v1\nkind: List\nitems:\n" + "- {apiVersion: v1, kind: X, metadata: {name: a}}\n" * 101,
            "101 objects",
        ),
    ],
)
def test_what_is_no_set_of_documents_is_refused(text: str, says: str) -> None:
    error = refused(text)
    assert says in error.message
    assert len(error.message) < 300


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({}, "apiVersion"),
        ({"apiVersion": 1}, "apiVersion"),
        ({"apiVersion": "V1"}, "apiVersion"),
        ({"apiVersion": "v1/../x"}, "apiVersion"),
        ({"apiVersion": "v1"}, "kind"),
        ({"apiVersion": "v1", "kind": "configMap"}, "kind"),
        ({"apiVersion": "v1", "kind": "X"}, "metadata"),
        ({"apiVersion": "v1", "kind": "X", "metadata": []}, "metadata"),
        ({"apiVersion": "v1", "kind": "X", "metadata": {}}, "metadata.name"),
        ({"apiVersion": "v1", "kind": "X", "metadata": {"name": ""}}, "metadata.name"),
        ({"apiVersion": "v1", "kind": "X", "metadata": {"name": "../a"}}, "metadata.name"),
        ({"apiVersion": "v1", "kind": "X", "metadata": {"name": "a/b"}}, "metadata.name"),
        ({"apiVersion": "v1", "kind": "X", "metadata": {"name": "a\n"}}, "metadata.name"),
        ({"apiVersion": "v1", "kind": "X", "metadata": {"name": "-a"}}, "metadata.name"),
        ({"apiVersion": "v1", "kind": "X", "metadata": {"name": "a", "namespace": "a/b"}}, "metadata.namespace"),
        ({"apiVersion": "v1", "kind": "X", "metadata": {"name": "a", "namespace": 5}}, "metadata.namespace"),
        ({"apiVersion": "v1", "kind": "X", "metadata": {"generateName": "a"}}, "metadata.generateName"),
        ({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "items": []}, "items"),
        ({"apiVersion": "v1", "kind": "ConfigMapList", "items": []}, "items"),
        ({"apiVersion": "v2", "kind": "List", "items": []}, "items"),
        ({"apiVersion": "v1", "kind": "List"}, "items"),
        ({"apiVersion": "v1", "kind": "List", "metadata": {"name": "a"}}, "metadata"),
        ({"apiVersion": "v1", "kind": "List", "items": {}}, "items"),
        ({"apiVersion": "v1", "kind": "List", "items": ["x"]}, "items[0]"),
        ({"apiVersion": "v1", "kind": "List", "items": [], "spec": {}}, "spec"),
        ({"apiVersion": "v1", "kind": "List", "items": [], "metadata": {"name": "x"}}, "metadata"),
        (
            {"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", "kind": "List", "items": []}]},
            "items[0].items",
        ),
        ({"apiVersion": "v1", "kind": "List", "items": [{"kind": "ConfigMap", "items": []}]}, "items[0].items"),
        ({"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", "kind": "X"}]}, "items[0].metadata"),
    ],
)
def test_an_object_says_what_it_is_and_lists_are_lists(data: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        documents_of([data])
    assert (caught.value.document, caught.value.path) == (0, path)
    assert refused(json.dumps(data)).path == path


def test_a_list_is_unfolded_and_its_objects_know_their_place() -> None:
    text = (
        "---\n---\napiVersion: v1\nkind: List\nmetadata: {resourceVersion: ''}\nitems:\n"
        "- {apiVersion: v1, kind: X, metadata: {name: a}}\n"
        "- {apiVersion: v1, kind: X, metadata: {name: b, namespace: obi}}\n"
    )
    documents = read_documents(text + f"---\n{HEAD}")
    assert [(d.index, d.prefix, d.name, d.namespace) for d in documents] == [
        (1, "items[0]", "a", None),
        (1, "items[1]", "b", "obi"),
        (2, "", "a", None),
    ]


def test_versions_of_a_group_are_the_same_object() -> None:
    one = "{apiVersion: autoscaling/v1, kind: HorizontalPodAutoscaler, metadata: {name: a}}"
    assert "again in 1" in refused(f"{one}\n---\n{one.replace('/v1', '/v2')}").message
    other = one.replace("autoscaling/v1", "x.io/v1")
    assert len(read_documents(f"{one}\n---\n{other}")) == 2


def test_aliases_are_expanded_and_counted() -> None:
    assert body("a: &x [1]\nb: *x\nc: *x")["c"] == [1]
    twenty = "a: &x 1\nb: [" + ", ".join(["*x"] * 20) + "]"
    assert body(twenty)["b"] == [1] * 20
    assert "more than 20 aliases" in refused(HEAD + twenty.replace("]", ", *x]")).message


def test_nested_aliases_count_for_what_they_stand_for() -> None:
    bomb = "a: &a [1]\nb: &b [*a, *a, *a, *a]\nc: &c [*b, *b, *b, *b]\nd: *c"
    error = refused(HEAD + bomb)
    assert "more than 20 aliases" in error.message
    assert error.line == 6
    assert body("a: &a [1]\nb: &b [*a, *a]\nc: [*b, *b]")["c"] == [[[1], [1]]] * 2


def test_an_alias_weighs_what_it_stands_for() -> None:
    assert "once aliases are expanded" in refused(f"{HEAD}a: &x {'y' * 300_000}\nb: [*x, *x, *x, *x]").message


@pytest.mark.parametrize("item", ["[]", "{}", "''", "{x: }", "{'': }"])
def test_an_alias_of_many_small_things_weighs_something(item: str) -> None:
    many = ", ".join([item] * 60_000)
    assert "once aliases are expanded" in refused(f"{HEAD}a: &x [{many}]\nb: [{', '.join(['*x'] * 20)}]").message


def test_an_alias_does_not_dig_deeper_than_text_may() -> None:
    deep = "[" * 30 + "]" * 30
    assert "levels of nesting" in refused(f"{HEAD}a: &x {deep}\nb: {'[' * 20}*x{']' * 20}").message


def test_an_anchor_ends_with_its_document() -> None:
    assert "no anchor" in refused(f"{HEAD}a: &x 1\n---\n{HEAD}b: *x").message


@pytest.mark.parametrize("name", GOOD)
def test_what_was_read_is_written_and_read_again_as_the_same(name: str) -> None:
    documents = good(name)
    again = read_documents(canonical(documents).decode("ascii"))
    assert [document.body for document in again] == [document.body for document in documents]


def test_the_canonical_form_is_plain_json() -> None:
    one = read_documents(f"{HEAD}data: {{x: 'é 😀', z: 0644, a: null}}")
    expected = (
        b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},'
        b'"data":{"x":"\\u00e9 \\ud83d\\ude00","z":420,"a":null}}'
    )
    assert canonical(one) == expected
    two = canonical((*one, Document(1, {"apiVersion": "v1", "kind": "X", "metadata": {"name": "b"}})))
    assert json.loads(two)["kind"] == "List"
    assert [item["metadata"]["name"] for item in json.loads(two)["items"]] == ["a", "b"]


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text(
        st.characters(
            min_codepoint=32, max_codepoint=0xD7FF, exclude_characters="\x7f", exclude_categories=("Cc", "Zl", "Zp")
        )
    ),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abcdefgh<=~", min_size=1, max_size=6), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text("abcxyz", min_size=3, max_size=6), VALUES, max_size=4))
def test_every_json_object_is_read_as_what_json_says(extra: dict[str, Any]) -> None:
    whole = {"apiVersion": "v1", "kind": "X", "metadata": {"name": "a"}, **extra}
    assert read_documents(json.dumps(whole, ensure_ascii=False, indent=1))[0].body == whole


@given(st.text(alphabet="ab:-[]{},&*!|>'\"%@`#?\n ~0.<", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        read = list(read_stream(text, max_bytes=1000, max_documents=5, max_aliases=5))
    except InvalidDocument:
        return
    assert [index for index, _, _ in read] == list(range(len(read)))
