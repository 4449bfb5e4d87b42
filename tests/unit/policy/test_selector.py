"""Selectors: the API server's grammar, matching, and implication as a subset of label sets."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obi_mcp.policy.scope import Scope
from obi_mcp.policy.selector import SelectorError, implies_scope, matches_scope, parse_selector

PART_OF = "app.kubernetes.io/part-of"
KEY_MAX = "k" * 63


@pytest.mark.parametrize(
    ("text", "labels", "expected"),
    [
        ("", {}, True),
        (" \t", {"app": "obi"}, True),
        ("app=obi", {"app": "obi"}, True),
        ("app==obi", {"app": "obi"}, True),
        ("app = obi", {"app": "obi"}, True),
        ("app=obi", {"app": "Obi"}, False),
        ("app=obi", {}, False),
        ("app=", {"app": ""}, True),
        ("app=", {}, False),
        ("app==", {"app": ""}, True),
        ("app!=obi", {}, True),
        ("app!=obi", {"app": "obi"}, False),
        ("app!=obi", {"app": "x"}, True),
        ("app in (obi, beyla)", {"app": "beyla"}, True),
        ("app in (obi,)", {"app": ""}, True),
        ("app in ()", {"app": ""}, True),
        ("app in (,obi)", {"app": ""}, True),
        ("app in (a,,b)", {"app": ""}, True),
        ("app in (a,b)", {"app": ""}, False),
        ("app notin (obi)", {}, True),
        ("app notin (obi)", {"app": "obi"}, False),
        ("app", {"app": ""}, True),
        ("app", {}, False),
        ("!app", {}, True),
        ("! app", {"app": "x"}, False),
        ("in in (in)", {"in": "in"}, True),
        ("notin", {"notin": "x"}, True),
        ("in=in,notin!=notin", {"in": "in"}, True),
        ("n>5", {"n": "6"}, True),
        ("n>5", {"n": "5"}, False),
        ("n>5", {"n": "007"}, True),
        ("n>5", {"n": "0" * 40 + "6"}, True),
        ("n>5", {"n": "x"}, False),
        ("n<5", {"n": "4"}, True),
        ("n<5", {}, False),
        (f"{PART_OF}=obi,tier", {PART_OF: "obi", "tier": "x"}, True),
        (f"{KEY_MAX}=v", {KEY_MAX: "v"}, True),
    ],
)
def test_matches(text: str, labels: dict[str, str], expected: bool) -> None:
    assert parse_selector(text).matches(labels) is expected


@pytest.mark.parametrize(
    ("text", "column"),
    [
        (",", 1),
        ("app=obi,", 9),
        ("app=obi;tier=x", 5),
        ("app=obi x", 9),
        ("app===obi", 6),
        ("app in obi", 8),
        ("app in (obi", 12),
        ("app in (a b)", 11),
        ("app in (a=b)", 10),
        ("app In (obi)", 5),
        ("!app=obi", 5),
        ("!!app", 2),
        ("=obi", 1),
        ("(app)", 1),
        ("_app=obi", 1),
        ("app=-obi", 5),
        ("app=ob\u0131", 5),
        ("\u00a0app=obi", 1),
        ("UP.er/app=obi", 1),
        ("a/b/c=d", 1),
        ("/app=obi", 1),
        ("app/=obi", 1),
        ("n>x", 3),
        ("n>-5", 3),
        ("n>", 2),
        (f"n>{2**63}", 3),
        ("k" * 64 + "=v", 1),
        ("k=" + "v" * 64, 3),
        ("p" * 254 + "/k=v", 1),
        ("app=obi\0,x", 8),
        ("app='obi'", 5),
        ("app=obi\nx", 9),
    ],
)
def test_refused(text: str, column: int) -> None:
    with pytest.raises(SelectorError) as caught:
        parse_selector(text)
    assert caught.value.column == column
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("app=obi", True),
        ("app==obi", True),
        ("app in (obi)", True),
        (f"{PART_OF}=obi", True),
        (f"{PART_OF}=beyla,tier!=x", True),
        (f"{PART_OF} in (obi, beyla)", True),
        ("app.kubernetes.io/name=opentelemetry-ebpf-instrumentation", True),
        (f"tier=x,{PART_OF} in (beyla)", True),
        ("app in (obi,other),app!=other", True),
        ("app=obi,app!=obi", True),
        ("x=a,x=b", True),
        ("x,!x", True),
        ("n>5,n<6", True),
        ("n>9,n in (3)", True),
        ("", False),
        ("  ", False),
        ("app", False),
        ("!app", False),
        ("app!=other", False),
        ("app notin (other)", False),
        ("app in (obi,)", False),
        ("app in (obi,other)", False),
        ("app=", False),
        ("app=OBI", False),
        (f"{PART_OF} in (obi,beyla,x)", False),
        ("x/part-of=obi", False),
        ("part-of=obi", False),
        ("!x,x!=y", False),
        ("n>5", False),
        ("n in (" + "0" * 25 + "6),n>5", False),
        # One of several scope selectors has to be implied: no guess about unions.
        (f"app in (obi,x),{PART_OF} in (obi,y)", False),
    ],
)
def test_implies_scope(text: str, expected: bool) -> None:
    assert implies_scope(text, Scope()) is expected


@pytest.mark.parametrize(
    ("text", "other", "expected"),
    [
        ("a=1", "", True),
        ("", "", True),
        ("", "a", False),
        ("a=1", "a", True),
        ("a in (1,2)", "a notin (3)", True),
        ("a in (1,2)", "a notin (2)", False),
        ("!a", "a!=1", True),
        ("!a", "a", False),
        ("a", "a!=1", False),
        ("a,a!=1", "a!=1", True),
        ("a!=1,a!=2", "a notin (1,2)", True),
        ("a!=1", "a notin (1,2)", False),
        ("a!=1", "!a", False),
        ("a=5", "a>4", True),
        ("a=5", "a>5", False),
        ("a>7", "a>5", True),
        ("a>5", "a>7", False),
        ("a>5,a<9", "a<10", True),
        ("a>5", "a!=3", True),
        ("a>5", "a!=7", False),
        ("a>5", "a", True),
    ],
)
def test_implies(text: str, other: str, expected: bool) -> None:
    assert parse_selector(text).implies(parse_selector(other)) is expected


def test_an_empty_scope_selector_is_implied_by_everything() -> None:
    assert implies_scope("", Scope(selectors=("",)))


def test_candidates() -> None:
    assert matches_scope({PART_OF: "obi"}, Scope())
    assert not matches_scope({PART_OF: "shop", "app": "x"}, Scope())


KEYS = ("app", "tier", "x/y")
VALUES = ("", "obi", "beyla", "5", "05", "7")
requirements = st.one_of(
    st.builds(
        lambda key, op, value: f"{key}{op}{value}",
        st.sampled_from(KEYS),
        st.sampled_from(("=", "==", "!=")),
        st.sampled_from(VALUES),
    ),
    st.builds(
        lambda key, op, values: f"{key} {op} ({','.join(values)})",
        st.sampled_from(KEYS),
        st.sampled_from(("in", "notin")),
        st.lists(st.sampled_from(VALUES), max_size=3),
    ),
    st.builds(
        lambda key, op, value: f"{key}{op}{value}", st.sampled_from(KEYS), st.sampled_from("<>"), st.integers(0, 9)
    ),
    st.sampled_from(KEYS),
    st.builds(lambda key: f"!{key}", st.sampled_from(KEYS)),
)
selectors = st.lists(requirements, max_size=4).map(",".join)
label_sets = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES))


@given(selectors, selectors, st.lists(label_sets, min_size=8, max_size=8))
@settings(max_examples=300, deadline=None)
def test_implied_means_subset(text: str, other: str, labels: list[dict[str, str]]) -> None:
    selector, wanted = parse_selector(text), parse_selector(other)
    if selector.implies(wanted):
        assert all(wanted.matches(each) for each in labels if selector.matches(each))
    if selector.unsatisfiable:
        assert not any(selector.matches(each) for each in labels)
    assert selector.implies(selector)


@given(selectors, selectors)
@settings(max_examples=300, deadline=None)
def test_a_narrower_selector_implies_the_wider(text: str, more: str) -> None:
    joined = ",".join(part for part in (text, more) if part)
    assert parse_selector(joined).implies(parse_selector(text))
