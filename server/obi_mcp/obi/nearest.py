"""Which key was meant by one that is not known: a typo, another spelling, the right key at the wrong place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from obi_mcp.obi.document import Document
from obi_mcp.obi.moves import known_moves
from obi_mcp.policy.config_schema import ConfigSchema, Path, config_schema, dotted, nearest

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_MOST_PLACES = 6
"""A key that stands at more places than these (``enabled``) says nothing about where it belongs."""


def near_key(document: Document, path: Path) -> str | None:
    """A whole dotted key, or None where nothing is near."""
    key = str(path[-1])
    siblings = _siblings(document, path)
    spelled = _CAMEL.sub("_", key).lower().replace("-", "_").strip()
    if spelled in siblings:
        return dotted((*path[:-1], spelled))
    places = _places(document.schema.version)
    if "." in key and key in places:
        return key
    moved = _moved(key) if document.is_v2 and len(path) == 1 else None
    if moved is not None:
        return moved
    near = nearest(spelled, siblings)
    return dotted((*path[:-1], near)) if near is not None else _elsewhere(places, key)


def _siblings(document: Document, path: Path) -> tuple[str, ...]:
    """The keys of the mapping that the unknown key stands in."""
    kind = "@" + ("Receiver" if document.is_receiver_v2 else document.schema.root)
    for part in path[:-1]:
        if kind.startswith("@"):
            kind = document.schema.shapes.get(kind[1:], {}).get(str(part), "")
        elif kind.startswith(("list ", "map ")):
            kind = kind.split(" ", 1)[1]
    keys = document.schema.shapes.get(kind[1:], {}) if kind.startswith("@") else {}
    return tuple(key for key in keys if not _only_beyla(document.schema, (*path[:-1], key)))


def _only_beyla(schema: ConfigSchema, path: Path) -> bool:
    return dotted(path) in schema.beyla_only


def _elsewhere(places: tuple[str, ...], key: str) -> str | None:
    """The place where a key of that very name belongs; the one that is highest up where there are a few."""
    found = [place for place in places if place.rpartition(".")[2] == key]
    if not found or len(found) > _MOST_PLACES:
        return None
    return min(found, key=lambda place: (place.count("."), place))


@lru_cache(maxsize=2)
def _places(version: str) -> tuple[str, ...]:
    """Every dotted key of OBI's own that leads through mappings only."""
    schema = config_schema(version)

    def below(name: str, prefix: str, above: frozenset[str]) -> Iterator[str]:
        for key, kind in schema.shapes[name].items():
            if prefix + key in schema.beyla_only:
                continue
            yield prefix + key
            if kind.startswith("@") and kind[1:] not in above:
                yield from below(kind[1:], f"{prefix}{key}.", above | {kind[1:]})

    return tuple(below(schema.root, "", frozenset({schema.root})))


def _moved(key: str) -> str | None:
    """Where a v1 key went in v2."""
    target = known_moves().moves.get(key)
    return target.replace("~", "extensions.obi", 1) if target is not None else None
