"""Logs of many pods as one, a pod at a time: the last lines by time, or patterns with counts. No log is kept whole."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from obi_mcp.obi.log_lines import LogRecord

# What differs between lines that say the same: numbers, addresses, identifiers, quoted names.
_VARIABLE = re.compile(r"\b(?:[0-9a-f]{8,}|0x[0-9a-f]+|\d+(?:\.\d+)*(?:[a-zµ]{1,2})?)\b|/[^\s\"]+|\"[^\"]*\"")
MAX_PATTERNS = 2_000
"""How many are told apart; what comes after them is counted as one."""
_OTHERS = "(other lines)"
_RANK = {"ERROR": 0, "WARN": 1, "": 2, "INFO": 3, "DEBUG": 4}


@dataclass(frozen=True, slots=True)
class PodRecord:
    """One line and the pod that printed it."""

    pod: str
    record: LogRecord


@dataclass(slots=True)
class Pattern:
    """Lines that differ only in numbers and names. ``example`` is the last of them; ``pods``: how many printed one."""

    level: str
    text: str
    count: int = 0
    example: str = ""
    pods: int = 0


_Keyed = tuple[str, str, int, PodRecord]


class LastLines:
    """The last ``limit`` lines of all pods by time; a line without a time (a flow, a stack trace) stays behind the line
    before it. The same whatever the order in which the pods come."""

    def __init__(self, limit: int) -> None:
        self.seen = 0
        self._limit = limit
        self._kept: list[_Keyed] = []

    def add(self, pod: str, records: Sequence[LogRecord]) -> None:
        """One pod's lines, in its own order."""
        self.seen += len(records)
        both = heapq.merge(self._kept, _keyed(pod, records), key=lambda entry: entry[:3])
        self._kept = list(both)[-self._limit :]

    def lines(self) -> list[PodRecord]:
        """In the order of time."""
        return [entry[3] for entry in self._kept]


class Patterns:
    """The patterns among the lines of all pods."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], Pattern] = {}

    def add(self, pod: str, records: Sequence[LogRecord]) -> None:
        """One pod's lines; each pod comes once."""
        here = set()
        for record in records:
            said = record.message or record.text
            if error := record.fields.get("error"):
                said = f"{said}: {error}"
            key = (record.level, _VARIABLE.sub("…", said)[:200])
            if key not in self._found and len(self._found) >= MAX_PATTERNS:
                key = (record.level, _OTHERS)
            pattern = self._found.setdefault(key, Pattern(*key))
            pattern.count += 1
            pattern.example = record.text
            if key not in here:
                here.add(key)
                pattern.pods += 1

    def worst_first(self) -> list[Pattern]:
        """The worst level first, then the most frequent."""
        return sorted(
            self._found.values(), key=lambda pattern: (_RANK.get(pattern.level, 2), -pattern.count, pattern.text)
        )


def _keyed(pod: str, records: Sequence[LogRecord]) -> Iterator[_Keyed]:
    time = ""
    for position, record in enumerate(records):
        time = max(time, record.time)  # a clock that is set back must not break the order of one pod's lines
        yield time, pod, position, PodRecord(pod, record)
