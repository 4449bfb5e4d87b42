"""Beyla's configuration as OBI's v1: the same text with OBI's names, what OBI does not read taken out and listed.

Comments, order and style stay. Source of fact: the keys of both programs (``policy/obi/keys.json``) and
``policy/obi/moves.json``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from obi_mcp.obi.config_text import read_config
from obi_mcp.obi.edit import merge_patch
from obi_mcp.obi.environment import variable
from obi_mcp.obi.keys import known_keys
from obi_mcp.obi.migrated import Migration, Unmoved
from obi_mcp.obi.moves import known_moves
from obi_mcp.obi.splice import Splice
from obi_mcp.policy.config_schema import Path, dotted

_OF_METRICS = re.compile(r"beyla([_.].+)")
_VARIABLES = frozenset({"OTEL_EBPF_CONFIG_PATH", "OTEL_EBPF_EXECUTABLE_PATH", "OTEL_EBPF_SERVICE_NAME"})


def migrate_beyla(text: str, environment: Mapping[str, str]) -> Migration:
    """A configuration of Beyla's as OBI's v1 reads it."""
    read = read_config(text)
    data = read.data or {}
    renamed, new = known_moves().beyla, text
    unmoved: list[Unmoved] = []
    notes: list[str] = []
    for path in list(only_beylas(data)):
        key = dotted(path)
        target = renamed.get(key)
        line = read.places.get(path, (1, 1))[0]
        if key == "print_traces":
            new, note = _printer(new, data)
            notes.append(note)
        elif target is not None and _value(data, target) is None:
            new = Splice(new).rename(_names(path), target.rpartition(".")[2])
            notes.append(f"{key} is {target} now")
        else:
            reason = f"{target} is set besides" if target else _reason(key)
            unmoved.append(Unmoved(key, reason, line))
            new = merge_patch(new, _deletion(path)).text
    select = _value(data, "attributes.select")
    for name in select if isinstance(select, dict) else ():
        metric = _OF_METRICS.fullmatch(name)
        if metric is not None:
            new = Splice(new).rename(("attributes", "select", name), f"obi{metric[1]}")
            notes.append(f"the metric {name} is called obi{metric[1]}")
    variables, left = migrate_environment(environment)
    return Migration(new, (*unmoved, *left), tuple(notes), None, "beyla", "obi-v1", variables)


def only_beylas(data: Mapping[str, Any], above: Path = ()) -> Iterator[Path]:
    """The keys that only Beyla reads, the uppermost of each branch."""
    for key, value in data.items():
        path = (*above, str(key))
        facts = known_keys().of(path)
        if facts is not None and not facts.seen.has("obi"):
            yield path
        elif isinstance(value, Mapping):
            yield from only_beylas(value, path)


def migrate_environment(variables: Mapping[str, str]) -> tuple[dict[str, str], tuple[Unmoved, ...]]:
    """``BEYLA_*`` under the names that OBI reads; OBI ignores the old ones silently. Others stay as they are."""
    moved: dict[str, str] = {}
    unmoved = []
    for name, value in variables.items():
        old = name.startswith("BEYLA_") or name in known_moves().beyla_variables
        new, text = obi_variable(name, value) if old else (name, value)
        if new is None:
            unmoved.append(Unmoved(name, "OBI reads no such variable"))
        elif old and new in variables:
            unmoved.append(Unmoved(name, f"{new} is set besides, and is the one that OBI reads"))
        else:
            moved[new] = text
    return moved, tuple(unmoved)


def obi_variable(name: str, value: str) -> tuple[str | None, str]:
    """OBI's name for a variable of Beyla's, and its text; None where there is none."""
    if name == "BEYLA_PRINT_TRACES":
        return "OTEL_EBPF_TRACE_PRINTER", "text" if value.lower() in ("true", "1", "t") else "disabled"
    named = known_moves().beyla_variables.get(name)
    same = name.replace("BEYLA_", "OTEL_EBPF_", 1)
    known = known_keys().variables.get(name)
    by_key = known_keys().variable_of(known.key, "obi") if known is not None and known.key else ()
    for candidate in (named, same, *by_key[-1:]):
        if candidate is not None and (candidate in _VARIABLES or variable(candidate) is not None):
            return candidate, value
    return None, value


def _printer(text: str, data: Mapping[str, Any]) -> tuple[str, str]:
    """``print_traces: true`` is ``trace_printer: text``."""
    new = merge_patch(text, {"print_traces": None}).text
    if data.get("print_traces") not in (True, "true", "yes", "on") or data.get("trace_printer"):
        return new, "print_traces was taken out: trace_printer says the same"
    return merge_patch(new, {"trace_printer": "text"}).text, "print_traces: true is trace_printer: text now"


def _reason(key: str) -> str:
    reasons = known_moves().beyla_nowhere
    parts = key.split(".")
    found = (reasons.get(".".join(parts[:length])) for length in range(len(parts), 0, -1))
    return next((reason for reason in found if reason), "only Grafana Beyla reads it")


def _deletion(path: Path) -> dict[str, Any]:
    patch: Any = None
    for part in reversed(path):
        patch = {str(part): patch}
    return dict(patch)


def _names(path: Path) -> tuple[str, ...]:
    return tuple(str(part) for part in path)


def _value(data: Any, key: str) -> Any:
    for part in key.split("."):
        data = data.get(part) if isinstance(data, dict) else None
    return data
