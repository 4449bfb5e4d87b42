"""Words to text: every way of quoting that means the same word to a POSIX shell."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

_SAFE = re.compile(r"[A-Za-z0-9_./:=,@%+^-]+\Z")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\+?=")
_IN_DOUBLE = frozenset('$`"\\')


def plain(stages: Sequence[Sequence[str]]) -> str:
    """The stages as one line, quoted only where needed and always in the same way."""
    return " | ".join(" ".join(_least(word, first=at == 0) for at, word in enumerate(stage)) for stage in stages)


def respelled(rng: random.Random, stages: Sequence[Sequence[str]]) -> str:
    """The stages as one line, each word quoted at random, the blanks between them too."""
    return _blank(rng, "|", optional=True).join(
        _blank(rng, " ").join(_word(rng, word, first=at == 0) for at, word in enumerate(stage)) for stage in stages
    )


def _least(word: str, *, first: bool = False) -> str:
    if _SAFE.match(word) and not (first and _ASSIGNMENT.match(word)):
        return word
    return _single(word)


def _blank(rng: random.Random, middle: str, *, optional: bool = False) -> str:
    if rng.random() < 0.9:
        return f" {middle} " if optional else middle
    blanks = rng.choice(("  ", "\t", " \t ", "" if optional else " "))
    return blanks + middle + rng.choice(("", " ", "\t")) if optional else blanks


def _word(rng: random.Random, word: str, *, first: bool) -> str:
    chance = rng.random()
    if not word:
        return rng.choice(("''", '""', "''\"\""))
    if chance < 0.7:
        return _least(word, first=first)
    if chance < 0.8:
        return _single(word)
    if chance < 0.9:
        return _double(word)
    if chance < 0.94:
        return "".join("\\" + character for character in word)
    cut = rng.randrange(len(word) + 1)
    parts = [part for part in (word[:cut], word[cut:]) if part]
    joined = "".join(rng.choice((_least, _single, _double, _backslashed))(part) for part in parts)
    return _single(word) if first and _ASSIGNMENT.match(joined) else joined


def _single(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"


def _double(word: str) -> str:
    return '"' + "".join("\\" + character if character in _IN_DOUBLE else character for character in word) + '"'


def _backslashed(word: str) -> str:
    return "".join(character if _SAFE.match(character) else "\\" + character for character in word)
