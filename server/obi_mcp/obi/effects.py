"""What the program itself does with a finding: ``policy/obi/effects.json``, held against real runs by the tests."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from obi_mcp.obi.finding import Does, Effect, Evidence, Program
from obi_mcp.policy.shipped import shipped_policy

_INDEX = re.compile(r"\[[0-9]+\]")


@dataclass(frozen=True, slots=True)
class _Entry:
    key: re.Pattern[str]
    does: Does
    says: str
    evidence: Evidence
    source: str


def effect_of(case: str, key: str, *, program: Program, config: str) -> Effect:
    """The effect of a finding's case at a key (``discovery.instrument[0].exe_path``). ``config``: v1 or v2."""
    general = _INDEX.sub("[]", key)
    table = _table("v2" if config == "v2" else program)
    for entry in table.get(case, ()):
        if entry.key.fullmatch(general):
            return Effect(entry.does, entry.says, entry.evidence, entry.source, program)
    return Effect("unknown", "", "unknown", "", program)


@lru_cache(maxsize=3)
def _table(name: str) -> dict[str, tuple[_Entry, ...]]:
    data = json.loads((shipped_policy() / "obi" / "effects.json").read_text("utf-8"))[name]
    return {case: tuple(_entry(entry, data) for entry in entries) for case, entries in data["cases"].items()}


def _entry(entry: dict[str, Any], data: dict[str, Any]) -> _Entry:
    return _Entry(
        key=re.compile(entry.get("key", ".*"), re.DOTALL),
        does=entry["does"],
        says=entry["says"],
        evidence=entry.get("evidence", data["evidence"]),
        source=entry.get("source", data["source"]),
    )
