"""A change to a configuration as its author would make it: everything else of the text stays, byte for byte.

The change is a JSON merge patch (RFC 7396): mappings are merged, null deletes, anything else replaces. Only the places
that it names are rewritten, one after another; the text is never loaded and written out as a whole, which would move
comments and change quotes, spaces and indentation. What comes out is read again and held against the merged data.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from obi_mcp.errors import InvalidDocument
from obi_mcp.obi.config_text import read_config
from obi_mcp.obi.splice import Splice


@dataclass(frozen=True, slots=True)
class Edited:
    """The new text, and a unified diff from the old one (empty where nothing changed)."""

    text: str
    diff: str
    changed: bool


def merge_patch(text: str, patch: Mapping[str, Any]) -> Edited:
    """The text with the patch merged into it; comments, order and style of everything else stay.

    It does not judge the result: ``validate`` and the policy do. Raises: InvalidDocument for a text that is no single
    YAML mapping, or a change that cannot be written into it (below an alias, for example).
    """
    before = _data(text)
    wanted = merged(before, patch)
    if _same(wanted, before):
        return Edited(text, "", changed=False)
    new = text
    for path, value in changes(before, patch):
        new = _spliced(new, path, value)
    if not _same(_data(new), wanted):
        # INVARIANT: what is given back says what was asked; an alias or a merge key can make a place mean two things.
        message = "the change cannot be written into this text without changing the rest of it"
        raise InvalidDocument(message, "write out what its aliases and merge keys stand for, and try again")
    return Edited(new, diff(text, new), changed=True)


def merged(data: Any, patch: Any) -> Any:
    """RFC 7396: what the data is with the patch."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(data) if isinstance(data, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def changes(data: Any, patch: Mapping[str, Any], above: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """The single places that a patch changes, each with its new value; None deletes."""
    found: list[tuple[tuple[str, ...], Any]] = []
    for key, value in patch.items():
        path = (*above, str(key))
        if value is None:
            if key in data:
                found.append((path, None))
        elif isinstance(value, Mapping) and isinstance(data.get(key), Mapping):
            found += changes(data[key], value, path)
        elif key not in data or not _same(data[key], merged(None, value)):
            found.append((path, merged(None, value)))
    return found


def diff(before: str, after: str) -> str:
    """A unified diff of two texts; empty where they are the same."""
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), "before", "after", n=3
    )
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def _same(one: Any, other: Any) -> bool:
    """Equal, and true is not 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _spliced(text: str, path: tuple[str, ...], value: Any) -> str:
    try:
        return Splice(text).put(path, value)
    except ValueError as error:
        raise InvalidDocument(
            f"{'.'.join(path)} cannot be changed in this text: {error}", "change it by hand"
        ) from None


def _data(text: str) -> dict[str, Any]:
    read = read_config(text)
    if read.problems:
        first = read.problems[0]
        message = f"line {first.line}, column {first.column}: {first.message}"
        raise InvalidDocument(message, "mend the text first", line=first.line)
    if not isinstance(read.data, dict | None):
        raise InvalidDocument("a configuration is a mapping of keys to values", "write KEY: VALUE lines")
    return read.data or {}
