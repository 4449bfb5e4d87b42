"""The keys of OBI's own configuration, v1 and v2, and the types of their values; and the nearest key to a wrong one.

The data is ``policy/obi/config-v1.json`` and ``config-v2.json``: where it comes from stands in each file's ``origin``.
A type is a word (``string``, ``duration``, ``endpoint``…), ``enum A|B``, ``list TYPE``, ``map TYPE`` or ``@SHAPE``, a
mapping with a closed set of keys. :func:`walk` gives every value with its type; what to make of it is up to the
policy (``telemetry_config.py``) and to the validator (``obi/config.py``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from obi_mcp.policy.shipped import shipped_policy

Path = tuple[str | int, ...]

MOST_NEAREST = 100
"""Unknown keys of one document that are compared with the known ones."""


@dataclass(frozen=True, slots=True)
class Never:
    """A key whose values the policy refuses, but for the harmless ones in ``but``."""

    key: str
    but: tuple[Any, ...]
    because: str
    hint: str


@dataclass(frozen=True, slots=True)
class ConfigSchema:
    """One version of the configuration. ``shapes`` maps a shape's name to its keys and their types.

    ``beyla_only``: keys that OBI itself does not read. ``deprecated``: key to what replaces it. ``environment``: the
    variables that OBI reads, with the type of their text (v1 only).
    """

    version: str
    root: str
    shapes: Mapping[str, Mapping[str, str]]
    names: Mapping[str, str]
    never: tuple[Never, ...]
    beyla_only: frozenset[str]
    deprecated: Mapping[str, str]
    environment: Mapping[str, str]

    def choices(self, kind: str) -> tuple[str, ...] | None:
        """The words that ``enum …`` allows; None for any other type."""
        word, _, rest = kind.partition(" ")
        if word != "enum":
            return None
        return tuple((self.names[rest[1:]] if rest.startswith("@") else rest).split("|"))


@dataclass(frozen=True, slots=True)
class Leaf:
    """A value that is no mapping or list of its own in the schema, with its type."""

    path: Path
    kind: str
    value: Any


@dataclass(frozen=True, slots=True)
class Unknown:
    """A key that the schema does not have. ``nearest`` is a whole dotted key, or None where nothing is near."""

    path: Path
    nearest: str | None


@dataclass(frozen=True, slots=True)
class Misshapen:
    """A value that is a mapping, a list or a scalar where the schema has another of these."""

    path: Path
    expected: str
    value: Any


Visit = Leaf | Unknown | Misshapen


@lru_cache(maxsize=2)
def config_schema(version: str) -> ConfigSchema:
    """The schema ``v1`` or ``v2``."""
    data = json.loads((shipped_policy() / "obi" / f"config-{version}.json").read_text("utf-8"))
    never = tuple(
        Never(key, tuple(entry["but"]), entry["because"], entry["hint"]) for key, entry in data["never"].items()
    )
    return ConfigSchema(
        version=version,
        root=data["root"],
        shapes=data["shapes"],
        names=data["names"],
        never=never,
        beyla_only=frozenset(data["beyla_only"]),
        deprecated=data["deprecated"],
        environment=data["environment"],
    )


def version_of(data: object) -> str:
    """``v2`` for a declarative document (``file_format`` or ``extensions`` at the top), else ``v1``."""
    if isinstance(data, Mapping) and ("file_format" in data or "extensions" in data):
        return "v2"
    return "v1"


def walk(schema: ConfigSchema, data: object, root: str = "") -> Iterator[Visit]:
    """Every value of a document with its type, in the document's order; nulls (unset) are skipped.

    ``root``: the shape of the whole, where it is not the schema's own (``Receiver``).
    """
    yield from _Walk(schema).below(f"@{root or schema.root}", data, ())


def dotted(path: Path) -> str:
    """``discovery.instrument[0].exe_path``; a key with a dot or a slash is quoted."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif any(sign in part for sign in './[]" ') or not part:
            text += f"[{json.dumps(part)}]"
        else:
            text += f".{part}" if text else part
    return text


def nearest(word: str, known: Mapping[str, object] | tuple[str, ...]) -> str | None:
    """The known word that ``word`` was probably meant to be; None where none is near."""
    best: tuple[int, str] | None = None
    for candidate in known:
        most = max(1, len(candidate) // 3)
        if abs(len(word) - len(candidate)) > most:
            continue  # each letter more or less is a step of its own
        distance = _distance(word.lower(), candidate.lower())
        if distance <= most and (best is None or (distance, candidate) < best):
            best = (distance, candidate)
    return best[1] if best else None


class _Walk:
    """One walk through a document. Only the first unknown keys get a nearest one: a hostile text has thousands."""

    __slots__ = ("_schema", "_unknown")

    def __init__(self, schema: ConfigSchema) -> None:
        self._schema = schema
        self._unknown = 0

    def below(self, kind: str, value: object, path: Path) -> Iterator[Visit]:
        """Every value of a type, and of those below it."""
        if value is None:
            return
        if kind.startswith("@"):
            yield from self._shape(kind[1:], value, path)
            return
        word, _, rest = kind.partition(" ")
        if word == "map":
            if not isinstance(value, Mapping):
                yield Misshapen(path, "a mapping", value)
                return
            for key, below in value.items():
                yield from self.below(rest, below, (*path, key))
        elif word == "list":
            if not isinstance(value, list):
                yield Misshapen(path, "a list", value)
                return
            for index, item in enumerate(value):
                yield from self.below(rest, item, (*path, index))
        else:
            yield Leaf(path, kind, value)

    def _shape(self, name: str, value: object, path: Path) -> Iterator[Visit]:
        if not isinstance(value, Mapping):
            yield Misshapen(path, "a mapping", value)
            return
        keys = self._schema.shapes[name]
        for key, below in value.items():
            if key in keys:
                yield from self.below(keys[key], below, (*path, key))
                continue
            self._unknown += 1
            near = _nearest_key(self._schema, keys, key, path) if self._unknown <= MOST_NEAREST else None
            yield Unknown((*path, key), near)


def _nearest_key(schema: ConfigSchema, keys: Mapping[str, str], key: str, path: Path) -> str | None:
    """A key of the same mapping; else the one key of that very name elsewhere (``network`` under ``metrics``)."""
    near = nearest(key, keys)
    if near is not None:
        return dotted((*path, near))
    elsewhere = [found for found in _all_keys(schema.version) if found.rpartition(".")[2] == key]
    return elsewhere[0] if len(elsewhere) == 1 else None


@lru_cache(maxsize=2)
def _all_keys(version: str) -> tuple[str, ...]:
    """Every dotted key that leads through mappings only."""
    schema = config_schema(version)

    def below(name: str, prefix: str, above: frozenset[str]) -> Iterator[str]:
        for key, kind in schema.shapes[name].items():
            yield prefix + key
            # A sampler of v2 contains samplers; such keys are never the one that was meant.
            if kind.startswith("@") and kind[1:] not in above:
                yield from below(kind[1:], f"{prefix}{key}.", above | {kind[1:]})

    return tuple(below(schema.root, "", frozenset({schema.root})))


def _distance(left: str, right: str) -> int:
    """Optimal string alignment: insertions, deletions, substitutions, and neighbours swapped, each one step."""
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, start=1):
        current = [i]
        for j, b in enumerate(right, start=1):
            step = min(row[j] + 1, current[j - 1] + 1, row[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and left[i - 2] == b:
                step = min(step, before[j - 2] + 1)
            current.append(step)
        before, row = row, current
    return row[-1]
