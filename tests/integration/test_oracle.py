"""Our parser reads a line as kubectl, helm, obi and the filters do: shown on generated lines, by the programs' code."""

from __future__ import annotations

import dataclasses
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fuzz import filters
from tests.fuzz.campaign import Campaign, bin_directory, judging
from tests.fuzz.generator import Generator, Line, Seeds
from tests.fuzz.judge import Judge
from tests.fuzz.oracle import Oracles, Process, binaries
from tests.fuzz.readers import shell_words, shlex_words
from tests.fuzz.shrink import FOUND, record
from tests.fuzz.spelling import plain, respelled

from obi_mcp.command.grammar import Grammars
from obi_mcp.command.lexer import lex
from obi_mcp.policy.selector import SelectorError, parse_selector

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
FOUND_LINES: list[dict[str, str]] = [json.loads(row) for row in FOUND.read_text(encoding="utf-8").splitlines()]
SLICE = 100_000
FILTER_RUNS = 400


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    with judging() as made:
        yield made


@pytest.fixture(scope="module")
def programs() -> Path:
    return bin_directory()


def test_a_hundred_thousand_lines_are_read_as_the_programs_read_them() -> None:
    tally = Campaign(seed="ci", lines=SLICE, jobs=min(4, os.cpu_count() or 1)).run()
    assert tally.findings == []
    assert tally.allowed_rejected == {}, "the policy allows what the program cannot read"
    assert tally.counts["lines"] == SLICE
    # A generator whose lines are all refused would prove nothing.
    assert tally.counts["read"] > SLICE // 2
    assert tally.counts["allowed and read alike"] == tally.counts["allowed at full"] > SLICE // 10
    assert tally.counts["allowed with filters"] > SLICE // 50
    assert tally.counts["words compared with shell"] > SLICE // 5
    assert tally.counts["words compared with shlex"] > SLICE // 20


@pytest.mark.parametrize("found", FOUND_LINES, ids=lambda found: str(found["line"]))
def test_what_was_once_found_is_mended(found: dict[str, str], judge: Judge) -> None:
    assert judge.judge([Line(found["line"], None)]).findings == []


def test_the_same_seed_gives_the_same_lines(judge: Judge) -> None:
    seeds = Seeds.load()
    first, again, other = (Generator(seed, judge.grammars, seeds) for seed in ("a", "a", "b"))
    lines = [first.line() for _ in range(200)]
    assert lines == [again.line() for _ in range(200)]
    assert lines != [other.line() for _ in range(200)]


def test_an_oracle_that_is_reset_reads_as_one_that_is_built_anew(judge: Judge) -> None:
    generator = Generator("fresh", judge.grammars, Seeds.load())
    lines = (generator.line() for _ in range(600))
    vectors = [line.words[0] for line in lines if line.words and line.words[0][0] in judge.grammars.heads]
    fresh = Oracles(binaries(), fresh=True)
    try:
        assert judge.oracles.read(vectors) == fresh.read(vectors)
    finally:
        fresh.close()


@pytest.mark.parametrize(
    ("flag", "change", "kind"),
    [
        ("all-namespaces", {"type": "string", "optional": None}, "written"),
        ("selector", {"optional": "x"}, "written"),
        ("output", {"name": "output-watch-events"}, "written"),
    ],
)
def test_a_grammar_that_is_wrong_is_found_and_made_small(
    flag: str, change: dict[str, str], kind: str, judge: Judge, tmp_path: Path
) -> None:
    grammars = Grammars.load(ROOT / "policy/grammar")
    spec = grammars.heads["kubectl"].root.child("get")
    assert spec is not None
    wrong = dataclasses.replace(spec.flags[flag], **change)  # type: ignore[arg-type]
    spec.flags[flag] = spec.shorts[wrong.short] = wrong
    misled = Judge(judge.policy, judge.oracles, grammars)
    generator = Generator("wrong", judge.grammars, Seeds.load())
    findings = misled.judge([generator.line() for _ in range(4000)]).findings
    assert kind in {finding.kind for finding in findings}

    kept = record(misled, findings, seed="wrong", path=tmp_path / "found.ndjson")
    small = min(kept, key=lambda finding: len(finding.text))
    assert len(small.text) < 24
    rows = [json.loads(row) for row in (tmp_path / "found.ndjson").read_text().splitlines()]
    assert small.text in {row["line"] for row in rows}
    assert record(misled, findings, seed="wrong", path=tmp_path / "found.ndjson") == []


@pytest.mark.parametrize(
    ("words", "before"),
    [
        (("kubectl", "get", "--selector=9=x,a-v=y"), {"verbosity": "9"}),
        (("kubectl", "get", "x", "a--kuberc=/y"), {"kuberc": "/y"}),
        (("kubectl", "no-such", "x"), {"plugin": "no_such-x"}),
        (("kubectl", "create", "x", "y", "-n", "z"), {"plugin": "create-x-y"}),
        (("helm", "list", "--filter", "--kube-apiserver=http://x"), {"flags": [["kube-apiserver", "http://x"]]}),
        (("helm", "list", "--filter=--kube-apiserver=http://x"), {"flags": []}),
    ],
)
def test_what_a_program_finds_outside_cobra_is_seen(
    words: tuple[str, ...], before: dict[str, object], judge: Judge
) -> None:
    found = judge.oracles.read([words])[0].before
    assert {name: found[name] for name in before} == before


# --- words ---


def test_every_spelling_of_a_word_is_the_word() -> None:
    rng = random.Random("spelling")
    pool = ("a b", "", "'", '"', "\\", "a'b\"c\\d", "|", "x=y", "#", "~", "é", "$HOME", "`x`", "*", "a;b", "--x=y z")
    for _ in range(3000):
        stages = tuple(
            ("kubectl", *(rng.choice(pool) for _ in range(rng.randrange(5)))) for _ in range(rng.choice((1, 2)))
        )
        for text in (respelled(rng, stages), plain(stages)):
            assert tuple(tuple(token.text for token in stage) for stage in lex(text)) == stages


def test_a_shell_and_shlex_are_asked_for_the_words_they_read() -> None:
    assert shell_words(["kubectl 'a b' \"c\"'d'\\ e", "helm ''", "kubectl 'open"]) == [
        ("kubectl", "a b", "cd e"),
        ("helm", ""),
        ("the shell cannot read it",),
    ]
    assert shlex_words("kubectl 'a b' |jq .") == (("kubectl", "a b"), ("jq", "."))
    assert shlex_words('kubectl "\\$x"') is None


# --- filters ---


def test_allowed_filters_open_nothing_and_read_their_options_as_rebuilt(judge: Judge, programs: Path) -> None:
    tally = filters.campaign(judge.policy, programs, seed="ci", runs=FILTER_RUNS)
    assert tally.findings == []
    assert tally.counts["filter stages traced"] == FILTER_RUNS
    assert all(tally.counts[f"filter stages allowed: {name}"] for name in judge.grammars.filters)


@pytest.mark.parametrize(
    ("words", "call"),
    [
        (("grep", "-f", "x", "a"), 'openat(AT_FDCWD, "x"'),
        (("grep", "-r", "x"), "O_DIRECTORY"),
        (("sort", "-o", "out"), 'openat(AT_FDCWD, "out", O_WRONLY|O_CREAT'),
        (("sort", "--compress-program=sh", "-S", "1"), "clone("),
        (("jq", 'include "canary"; .'), "canary.jq"),
        (("wc", "x"), 'openat(AT_FDCWD, "x"'),
    ],
    ids=" ".join,
)
def test_the_tracer_sees_what_a_filter_opens(words: tuple[str, ...], call: str, programs: Path) -> None:
    outcome = filters.trace([words], programs)[0]
    assert any(call in seen for seen in outcome.calls)


def test_the_tracer_sees_nothing_where_there_is_nothing(programs: Path) -> None:
    assert [
        outcome.calls for outcome in filters.trace([("wc", "-l"), ("jq", "."), ("grep", "-P", "v1")], programs)
    ] == [()] * 3


# --- selectors ---

_KEYS = ("app", "app.kubernetes.io/part-of", "n", "in", "notin", "A", "a/b", "-x", "é", "9", "")
_IMPLYING = (
    *("app.kubernetes.io/part-of=obi", "app.kubernetes.io/part-of in (beyla,obi)", "app.kubernetes.io/part-of==beyla"),
    *("app.kubernetes.io/part-of in (obi,)", "app.kubernetes.io/part-of in (obi,x)", "app.kubernetes.io/part-of"),
)
_VALUES = ("obi", "beyla", "", "5", "007", "x y", "a,b", "in", "(", "OBI")


def _selector(rng: random.Random) -> str:
    if rng.random() < 0.1:
        return "".join(rng.choice("abn=!,()<> in5") for _ in range(rng.randrange(10)))
    parts = [rng.choice(_IMPLYING)] if rng.random() < 0.3 else []
    for _ in range(rng.randrange(4)):
        key, value = rng.choice(_KEYS), rng.choice(_VALUES)
        values = ",".join(rng.choice(_VALUES) for _ in range(rng.randrange(3)))
        forms = (
            f"{key}={value}",
            f"{key}=={value}",
            f"{key}!={value}",
            key,
            f"!{key}",
            f"{key}>{value}",
            f"{key}<{value}",
        )
        parts.append(
            rng.choice((*forms, f"{key} in ({values})", f"{key} notin ({values})", f" {key} in ( {values} ) "))
        )
    return rng.choice((",", ",", ", ", ",,")).join(parts)


def _label_sets(rng: random.Random) -> list[dict[str, str]]:
    return [{rng.choice(_KEYS[:8]): rng.choice(_VALUES[:5]) for _ in range(rng.randrange(4))} for _ in range(12)]


def test_selectors_match_what_the_api_server_matches_and_imply_only_subsets() -> None:
    rng = random.Random("selectors")
    texts = [_selector(rng) for _ in range(20_000)]
    questions = [{"selector": text, "labels": _label_sets(rng)} for text in texts]
    process = Process([binaries()["kubectl"], "-read=selector"])
    try:
        answers = process.ask(questions)
    finally:
        process.close()
    scope = parse_selector("app.kubernetes.io/part-of in (obi,beyla)")
    read, implied = 0, 0
    for question, answer in zip(questions, answers, strict=True):
        text = str(question["selector"])
        try:
            ours = parse_selector(text)
        except SelectorError:
            continue  # stricter than the server is safe
        assert "error" not in answer, text
        read += 1
        labels: list[dict[str, str]] = question["labels"]  # type: ignore[assignment]
        assert [ours.matches(one) for one in labels] == answer["matches"], text
        if ours.implies(scope):
            implied += 1
            assert all(scope.matches(one) for one, hit in zip(labels, answer["matches"], strict=True) if hit), text
        if ours.unsatisfiable:
            assert not any(answer["matches"]), text
    assert read > 5000
    assert implied > 1000
