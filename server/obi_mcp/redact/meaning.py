"""YAML whose lines do not show what is secret: aliases, merges, escaped names and explicit keys, read as YAML is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from obi_mcp.redact.rules import KeyKind, RedactionRules
from obi_mcp.redact.values import NOTHING, REFERENCE

_MAX_CHARACTERS = 262_144
_MAX_DEPTH = 40
_MEANT = re.compile(
    r"(?m)(?<![^\s\[{,])\*[\w-]{1,128}(?=[\s,\]}]|$)"  # *alias, and no pattern of files
    r"|^[ \t-]*\?[ \t]"  # ? explicit key
    r"|\"(?:[^\"\n\\]|\\.){0,64}\\[xuU](?:[^\"\n\\]|\\.){0,64}\"[ \t]*:"  # "escap\x65d":
)
_NAMES = ("name", "key")


def mask_meant(text: str, rules: RedactionRules) -> str:
    """The text with its secret values taken out where it is YAML of such a form; any other as it is."""
    if len(text) > _MAX_CHARACTERS or not _MEANT.search(text):
        return text
    import yaml

    try:
        top = _read(yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    except (yaml.YAMLError, ValueError):
        return text
    for start, end in sorted(set(_secret(top, rules)), reverse=True):
        after = "\n" if text[start:end].endswith("\n") else ""
        text = f'{text[:start]}"{rules.marker}"{after}{text[end:]}'  # what was JSON stays JSON
    return text


@dataclass(slots=True, eq=False)
class _Node:
    """A scalar with its place in the text, or a collection; of a mapping, name and value take turns in ``inner``."""

    scalar: str | None = None
    start: int = 0
    end: int = 0
    mapping: bool = False
    inner: list[_Node] = field(default_factory=list)


def _read(events: Iterator[Any]) -> _Node:
    """All documents as one sequence. An alias is the node itself.

    Not yaml's own composer: in C it has a frame of the stack for each level, and a text of question marks ends the
    process. Raises: ValueError for deeper nesting than any configuration has; yaml.YAMLError.
    """
    stack = [_Node()]
    anchors: dict[str, _Node] = {}
    for event in events:
        kind = type(event).__name__
        if kind in {"MappingEndEvent", "SequenceEndEvent"}:
            stack.pop()
            continue
        if kind == "ScalarEvent":
            node = _Node(event.value, event.start_mark.index, event.end_mark.index)
        elif kind in {"MappingStartEvent", "SequenceStartEvent"}:
            node = _Node(mapping=kind == "MappingStartEvent")
        elif kind == "AliasEvent":
            node = anchors.get(event.anchor, _Node())
        else:
            continue
        stack[-1].inner.append(node)
        if kind != "AliasEvent" and event.anchor is not None:
            anchors[event.anchor] = node
        if kind in {"MappingStartEvent", "SequenceStartEvent"}:
            stack.append(node)
        if len(stack) > _MAX_DEPTH:
            raise ValueError("nested too deeply")
    return stack[0]


def _secret(top: _Node, rules: RedactionRules) -> Iterator[tuple[int, int]]:
    """Where the scalars under secret names stand. Each node is seen once for each kind of name: what aliases share is
    not read again, and may be as deep as they make it."""
    waiting: list[tuple[_Node, KeyKind]] = [(top, "")]
    seen: set[tuple[_Node, KeyKind]] = set()
    while waiting:
        node, kind = found = waiting.pop()
        if found in seen:
            continue
        seen.add(found)
        if node.mapping:
            waiting += _values(node.inner[::2], node.inner[1::2], kind, rules)
        elif node.scalar is None:
            waiting += [(item, kind) for item in node.inner]
        elif kind and not _says_nothing(node.scalar, rules):
            yield node.start, node.end


def _says_nothing(scalar: str, rules: RedactionRules) -> bool:
    """Whether it is no secret wherever it stands: ``automountServiceAccountToken: false``, ``$(TOKEN)``."""
    return scalar in ("", rules.marker) or bool(NOTHING.fullmatch(scalar) or REFERENCE.fullmatch(scalar))


def _values(
    names: list[_Node], values: list[_Node], kind: KeyKind, rules: RedactionRules
) -> Iterator[tuple[_Node, KeyKind]]:
    """Each value of a mapping, and what its name says of it; ``kind``: what the mapping's own name says."""
    said: KeyKind = ""
    for name, value in zip(names, values, strict=True):
        if name.scalar in _NAMES and value.scalar is not None:
            said = rules.key_kind(value.scalar) or said
    for name, value in zip(names, values, strict=True):
        if kind == "map" and name.scalar in _NAMES:
            continue
        yield (
            value,
            kind if kind == "map" else rules.key_kind(name.scalar or "") or (said if name.scalar == "value" else ""),
        )
