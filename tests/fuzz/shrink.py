"""Makes the line of a finding as small as it can be and keeps it, so that it is tried again for ever."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.fuzz.generator import Line
from tests.fuzz.judge import Finding, Judge
from tests.fuzz.spelling import plain

from obi_mcp.command.lexer import lex
from obi_mcp.errors import InvalidCommand

FOUND = Path(__file__).with_name("found.ndjson")
_A_KIND = 3
"""So many findings of one kind are made small and kept: they mostly have one cause."""

Stages = list[list[str]]


def shrink(judge: Judge, finding: Finding) -> Finding:
    """The smallest line that still gives a finding of that kind, with what is said of it."""

    def find(texts: Sequence[str]) -> Finding | None:
        lines = [Line(text, None) for text in texts]
        found = judge.judge(lines, with_shell=finding.kind.startswith("words.")).findings
        return next((one for one in found if one.kind == finding.kind), None)

    best = find([finding.text])
    if best is None:
        return finding  # it depends on what only the generator knew
    while smaller := _smaller(best.text, find):
        best = smaller
    return best


def _smaller(text: str, find: Callable[[Sequence[str]], Finding | None]) -> Finding | None:
    """A smaller line with the same finding, or None. Larger steps come first."""
    size = _size(text)
    for candidates in (_of_words(text), _of_characters(text)):
        batch = [one for one in candidates if _size(one) < size]
        if batch and (found := find(batch)):
            return found
    return None


def _size(text: str) -> tuple[int, int, str]:
    """What small means: short, then plain, then of the earliest letters."""
    return len(text), sum(not (character.isascii() and character.isalnum()) for character in text), text


def _of_words(text: str) -> Iterator[str]:
    """Fewer stages, fewer words, shorter words; quoted only where needed."""
    try:
        stages = [[token.text for token in stage] for stage in lex(text)]
    except InvalidCommand:
        return
    yield plain(stages)
    for at in range(1, len(stages)):
        yield plain(stages[:at] + stages[at + 1 :])
    for at, stage in enumerate(stages):
        for length in (4, 2, 1):
            for start in range(1, len(stage) - length + 1):
                yield plain(_with(stages, at, stage[:start] + stage[start + length :]))
    for at, stage in enumerate(stages):
        for word_at, word in enumerate(stage[1:], 1):
            for short in _shorter(word):
                yield plain(_with(stages, at, [*stage[:word_at], short, *stage[word_at + 1 :]]))


def _with(stages: Stages, at: int, stage: list[str]) -> Stages:
    return [*stages[:at], stage, *stages[at + 1 :]]


def _shorter(word: str) -> Iterator[str]:
    for length in (16, 8, 4, 2, 1):
        for start in range(len(word) - length + 1):
            yield word[:start] + word[start + length :]


def _of_characters(text: str) -> Iterator[str]:
    return _shorter(text)


def record(judge: Judge, findings: Sequence[Finding], *, seed: str, path: Path = FOUND) -> list[Finding]:
    """Make the first findings of each kind small, and append the ones that are new to ``path``."""
    known = (
        {json.loads(row)["line"] for row in path.read_text(encoding="utf-8").splitlines()} if path.exists() else set()
    )
    kept: list[Finding] = []
    seen: dict[str, int] = {}
    for finding in findings:
        seen[finding.kind] = seen.get(finding.kind, 0) + 1
        if seen[finding.kind] > _A_KIND:
            continue
        small = finding if finding.kind.startswith("filter.") else shrink(judge, finding)
        if small.text not in known:
            known.add(small.text)
            kept.append(small)
    with path.open("a", encoding="utf-8") as out:
        for one in kept:
            row = {"kind": one.kind, "line": one.text, "seed": seed, "says": one.says[:300]}
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
    return kept
