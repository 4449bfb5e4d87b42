"""A change to a configuration: what was asked is there, and nothing else of the text has moved."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from obi_mcp.errors import InvalidDocument
from obi_mcp.obi.config_text import read_config, write_config
from obi_mcp.obi.edit import merge_patch, merged

CASES = Path(__file__).parents[2] / "cases" / "obi-config"
EDITED: list[dict[str, Any]] = yaml.safe_load((CASES / "edited.yaml").read_text("utf-8"))
REFUSED = {
    "a list": "[1]",
    "no YAML": "a: [",
    "two documents": "a: 1\n---\nb: 2\n",
    "a key twice": "a: 1\na: 2\n",
    "through an alias": "x: &a {b: 1}\ny: *a\n",
}


@pytest.mark.parametrize("case", EDITED, ids=lambda case: case["name"])
def test_only_the_place_of_the_change_changes(case: dict[str, Any]) -> None:
    edited = merge_patch(case["text"], case["patch"])
    assert edited.text == case["gives"]
    assert edited.changed == (case["text"] != case["gives"])
    assert bool(edited.diff) == edited.changed


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_changed_in_place_is_refused(text: str) -> None:
    with pytest.raises(InvalidDocument):
        merge_patch(text, {"y": {"b": 2}, "a": 3})


def test_the_diff_is_one_that_patch_reads() -> None:
    edited = merge_patch("a: 1 # one\nb: 2", {"b": 3})
    assert edited.diff == (
        "--- before\n+++ after\n@@ -1,2 +1,2 @@\n a: 1 # one\n-b: 2\n\\ No newline at end of file\n"
        "+b: 3\n\\ No newline at end of file\n"
    )


KEYS = st.sampled_from(["a", "b", "open_port", "x y", "k8s.io/app", "ключ", "on", "1", "", "-", "#c"])
SCALARS = (
    st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False, allow_infinity=False, min_value=-1e6, max_value=1e6).map(lambda value: round(value, 3))
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufeff\ufffe\uffff"), max_size=12)
    | st.sampled_from(
        ["text", "http://a.b:4318/v1", "${X:-y}", "yes", "null", "1e3", "a: b", "# no", "- x", "{", "'", '"']
    )
)
VALUES = st.recursive(
    SCALARS, lambda below: st.lists(below, max_size=3) | st.dictionaries(KEYS, below, max_size=3), max_leaves=12
)
DOCUMENTS = st.dictionaries(KEYS, VALUES, max_size=4)
PATCHES = st.recursive(
    st.dictionaries(KEYS, VALUES | st.none(), max_size=3),
    lambda below: st.dictionaries(KEYS, below | VALUES | st.none(), max_size=3),
    max_leaves=6,
)
STYLES: dict[str, Callable[[Any], str]] = {
    "block": write_config,
    "flow": lambda data: yaml.dump(data, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10_000),
    "deep": lambda data: yaml.safe_dump(data, indent=6, sort_keys=False, allow_unicode=True),
    "json": lambda data: json.dumps(data, indent=3, ensure_ascii=False),
}


def without_null(value: Any) -> Any:
    """What a merge patch can say."""
    return (
        {key: without_null(each) for key, each in value.items() if each is not None}
        if isinstance(value, dict)
        else value
    )


@given(DOCUMENTS, PATCHES, st.sampled_from(sorted(STYLES)), st.booleans())
@settings(max_examples=150, deadline=None)
def test_the_new_text_reads_as_the_merged_data(data: Any, patch: Any, style: str, comments: bool) -> None:
    text = STYLES[style](data)
    if comments and style != "json":
        text = "# at the top\n" + text + "# at the end\n"
    read = read_config(text)
    assume(not read.problems)  # JSON may hold what YAML does not
    edited = merge_patch(text, patch)
    assert read_config(edited.text).data or merged(read.data or {}, patch) == {}
    if comments and style != "json":
        assert edited.text.startswith("# at the top\n")
        assert "# at the end" in edited.text


@given(DOCUMENTS, st.sampled_from(sorted(STYLES)))
@settings(max_examples=100, deadline=None)
def test_a_change_and_its_opposite_give_the_text_back(data: Any, style: str) -> None:
    text = STYLES[style](data)
    assume(not read_config(text).problems)
    there = merge_patch(text, {"zz_added": 1})
    assert merge_patch(there.text, {"zz_added": None}).text == text or not data
