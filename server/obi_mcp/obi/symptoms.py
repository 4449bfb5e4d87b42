"""What breaks, and how it shows: from a line that OBI printed to its cause and the way out.

Source of the table: ``policy/obi/symptoms.json``, each entry with how it is known.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from obi_mcp.policy.shipped import shipped_policy

FILE = "obi/symptoms.json"


@dataclass(frozen=True, slots=True)
class Symptom:
    """One thing that is wrong. ``evidence`` is the line, or the reason that Kubernetes gave; ``source``: run (seen by
    this project), source, doc or issue."""

    id: str
    evidence: str
    cause: str
    way_out: str
    source: str


@dataclass(frozen=True, slots=True)
class _Entry:
    id: str
    says: tuple[str, ...]
    any: tuple[str, ...]
    cause: str
    way_out: str
    source: str

    def fits(self, line: str) -> bool:
        return all(text in line for text in self.says) and (not self.any or any(text in line for text in self.any))


def symptoms_in(lines: Iterable[str]) -> tuple[Symptom, ...]:
    """The known symptoms among log lines, each once, with the last line that shows it; the latest first."""
    found: dict[str, Symptom] = {}
    for line in lines:
        for entry in _table():
            if entry.fits(line):
                found.pop(entry.id, None)
                found[entry.id] = Symptom(entry.id, line.strip(), entry.cause, entry.way_out, entry.source)
                break
    return tuple(reversed(found.values()))


def symptom_of_end(reason: str) -> Symptom | None:
    """What the reason of a container's end or wait (``OOMKilled``, ``ImagePullBackOff``) means for OBI."""
    entry = _ends().get(reason)
    if entry is None:
        return None
    return Symptom(reason.lower(), reason, entry["cause"], entry["way_out"], entry["source"])


@cache
def _data() -> Mapping[str, Any]:
    data: Mapping[str, Any] = json.loads((shipped_policy() / FILE).read_text("utf-8"))
    return data


@cache
def _table() -> tuple[_Entry, ...]:
    return tuple(
        _Entry(
            entry["id"],
            (*entry.get("says", ()), *entry.get("also", ())),
            tuple(entry.get("any", ())),
            entry["cause"],
            entry["way_out"],
            entry["source"],
        )
        for entry in _data()["symptoms"]
    )


@cache
def _ends() -> Mapping[str, Mapping[str, str]]:
    return {entry["reason"]: entry for entry in _data()["ends"]}
