"""What the product can say: every text of its source and data, as patterns in which a value may stand for anything."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import yaml
from tests.documents.blocks import ROOT

_LEAST = 10
"""Characters that a text must have of its own: a shorter one fits anything."""
_OWN_SHARE = 0.35
_PLACEHOLDER = re.compile(r"\{\w*\}")
_QUOTED = re.compile(r"""(?P<mark>["'])(?P<text>[^"'\n]+)(?P=mark)""")
_VARIABLE = re.compile(r"\$\([^)]*\)|\$\{[^}]*\}|\$\w+|\$\*")
# Prose that nobody says: values are names, numbers, addresses, and rarely five plain words in a row.
_PROSE = re.compile(r"(?:\b[a-z']+[,;:]? ){4,}[a-z']+\b")


def is_said(line: str) -> bool:
    """Whether texts of the product make up the line, but for values: enough of it, and all of its prose."""
    said = bytearray(len(line))
    for words in _texts():
        if all(word in line for word in words) and (found := _in_order(words).search(line)) is not None:
            for number in range(1, len(words) + 1):
                first, last = found.span(number)
                said[first:last] = b"x" * (last - first)
    left = "".join("\N{BULLET}" if covered else character for character, covered in zip(line, said, strict=True))
    return said.count(b"x") >= _OWN_SHARE * len(line.strip()) and _PROSE.search(left) is None


@cache
def _texts() -> tuple[tuple[str, ...], ...]:
    """Each text as its own words, between which values stand."""
    found = {tuple(filter(None, pieces)) for pieces in (*_of_source(), *_of_data())}
    return tuple(words for words in sorted(found) if sum(map(len, words)) >= _LEAST)


def _in_order(words: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(".*".join(f"({re.escape(word)})" for word in words))


def _of_source() -> Iterator[tuple[str, ...]]:
    for file in sorted((ROOT / "server").rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        remarks = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                yield tuple(_pieces(node))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in remarks:
                yield from _split(node.value)


def _pieces(node: ast.JoinedStr) -> Iterator[str]:
    """The literal parts; between two of them a value stands."""
    for part in node.values:
        yield str(part.value) if isinstance(part, ast.Constant) else ""


def _of_data() -> Iterator[tuple[str, ...]]:
    for file in sorted((ROOT / "policy").rglob("*")):
        if file.suffix == ".json" and "grammar" not in file.parts and "schema" not in file.parts:
            yield from _strings(json.loads(file.read_text(encoding="utf-8")))
        elif file.suffix == ".yaml":
            yield from _strings(yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader))
    script = (ROOT / "image" / "bundle" / "load.sh").read_text(encoding="utf-8")
    for quoted in _QUOTED.finditer(script):
        yield tuple(_VARIABLE.split(quoted["text"]))


def _strings(value: Any) -> Iterator[tuple[str, ...]]:
    if isinstance(value, str):
        yield from _split(value)
    elif isinstance(value, dict):
        for key, entry in value.items():
            yield from _split(str(key))
            yield from _strings(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _strings(entry)


def _split(text: str) -> Iterator[tuple[str, ...]]:
    for line in text.splitlines():
        yield tuple(_PLACEHOLDER.split(line.strip()))
