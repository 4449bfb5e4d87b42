"""The keys of a configuration and the types of their values: unknown, misplaced, of another version or program."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from obi_mcp.obi.document import Document
from obi_mcp.obi.finding import PROGRAM_NAMES, ConfigFinding
from obi_mcp.obi.keys import KeyFacts, known_keys, newest_version, numbers
from obi_mcp.obi.moves import known_moves
from obi_mcp.obi.nearest import near_key
from obi_mcp.obi.values import judge_leaf, shown
from obi_mcp.policy.config_schema import MOST_NEAREST, Leaf, Misshapen, Path, Unknown, dotted, walk

_CRITERIA = frozenset(
    {
        "open_ports",
        "exe_path",
        "exe_path_regexp",
        "k8s_pod_labels",
        "k8s_pod_annotations",
        "cmd_args",
        "languages",
        "target_pids",
    }
)
_READ_ALL_THE_SAME = frozenset({"version.gone", "version.unclear"})
"""Read by some version, so that its value is judged as well."""
_SELECTORS = ("instrument", "exclude_instrument", "services", "exclude_services")


def shape(document: Document) -> Iterator[ConfigFinding]:
    """Unknown keys, wrong values, keys of another program or version, deprecated keys."""
    unread: dict[Path, bool] = {}
    unknown = 0
    for visit in walk(document.schema, document.data, "Receiver" if document.is_receiver_v2 else ""):
        if not document.is_v2:
            yield from _unread(document, visit.path, unread)
            if any(unread.get(visit.path[:length]) for length in range(1, len(visit.path) + 1)):
                continue
        match visit:
            case Unknown(path=path):
                unknown += 1
                yield from _unknown(document, path, look=unknown <= MOST_NEAREST)
            case Misshapen(path=path, expected=words, value=value):
                message = f"{words} was expected, not {shown(value)}"
                yield document.place("value.type", path, message, expected=words)
            case Leaf() as leaf:
                yield from judge_leaf(document, leaf)
    if not document.is_v2:
        yield from _deprecated(document)
        yield from _without_criteria(document)


def _unread(document: Document, path: Path, unread: dict[Path, bool]) -> Iterator[ConfigFinding]:
    """Whether this program in this version reads the key, and those above it; said once, at the first."""
    for length in range(1, len(path) + 1):
        above = path[:length]
        if above in unread:
            if unread[above]:
                return
            continue
        facts = known_keys().of(above)
        found = _not_for(document, above, facts) if facts is not None else None
        unread[above] = found is not None and found.case not in _READ_ALL_THE_SAME
        if found is not None:
            yield found
            return


def _not_for(document: Document, path: Path, facts: KeyFacts) -> ConfigFinding | None:
    if facts.seen.has(document.program):
        return _wrong_version(document, path, facts)
    if document.program == "beyla":
        return document.place("version.key", path, "only OBI reads this key; Beyla ignores it")
    instead = known_moves().beyla.get(dotted(path))
    hint = f"OBI's key is {instead}" if instead else None
    return document.place("beyla.key", path, "only Grafana Beyla reads this key; OBI ignores it", hint, nearest=instead)


def _unknown(document: Document, path: Path, *, look: bool) -> Iterator[ConfigFinding]:
    if not document.is_v2 and known_keys().of(path) is not None:
        return  # a key of Beyla's that the schema leaves out, in Beyla's own configuration
    near = near_key(document, path) if look else None
    hint = f"did you mean {near}?" if near else "remove it"
    if document.is_v2:
        message = f"{dotted(path)} is unknown to us: no source that we have read names it in a v2 configuration"
    else:
        name = "OBI's v1 configuration" if document.program == "obi" else "Beyla's configuration"
        message = f"{name} has no key {dotted(path)}"
    yield document.place("unknown-key", path, message, hint, nearest=near)


def _wrong_version(document: Document, path: Path, facts: KeyFacts) -> ConfigFinding | None:
    program, version = document.program, document.version or newest_version(document.program)
    seen = facts.seen.has(program, version)
    if seen is True:
        return None
    name = PROGRAM_NAMES[program]
    instead = known_moves().renamed.get(dotted(path))
    hint = f"use {instead}" if instead else None
    first, last = facts.seen.first(program), facts.seen.last(program)
    if seen is None:
        message = f"{name} {first} has this key; whether {version} has it is not known to us"
        return document.place("version.unclear", path, message, hint, nearest=instead)
    if (numbers(last) or ()) < (numbers(version) or ()):
        message = f"{name} had this key in {last}, and has it no more in {version}"
        return document.place("version.gone", path, message, hint, nearest=instead)
    return document.place("version.key", path, f"{name} {version} does not have this key; {first} does", hint)


def _deprecated(document: Document) -> Iterator[ConfigFinding]:
    for key, instead in document.schema.deprecated.items():
        if document.program == "obi" and document.written(key) is not None:
            yield document.at("deprecated", key, "this key is deprecated", f"use {instead}", nearest=instead)


def _without_criteria(document: Document) -> Iterator[ConfigFinding]:
    """A selector by name only, or by nothing: OBI refuses it."""
    for name in _SELECTORS:
        selectors = document.written(f"discovery.{name}")
        for index, selector in enumerate(selectors if isinstance(selectors, list) else ()):
            if isinstance(selector, dict) and not any(_selects(key, value) for key, value in selector.items()):
                message = "this selector says nothing that a process could have"
                hint = "add open_ports, exe_path or a k8s_ key"
                yield document.place("value.selector", ("discovery", name, index), message, hint)


def _selects(key: str, value: Any) -> bool:
    return value not in (None, "", {}, []) and (key in _CRITERIA or key.startswith("k8s_") or key == "container_name")
