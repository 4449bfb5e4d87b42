"""Logs of many pods as one: merged by time, or as patterns with counts."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from obi_mcp.obi.log_lines import LogRecord

# What differs between lines that say the same: numbers, addresses, identifiers, quoted names.
_VARIABLE = re.compile(r"\b(?:[0-9a-f]{8,}|0x[0-9a-f]+|\d+(?:\.\d+)*(?:[a-zµ]{1,2})?)\b|/[^\s\"]+|\"[^\"]*\"")
MAX_PODS_NAMED = 5


@dataclass(frozen=True, slots=True)
class PodRecord:
    """One line and the pod that printed it."""

    pod: str
    record: LogRecord


@dataclass(slots=True)
class Pattern:
    """Lines that differ only in numbers and names. ``example`` is the last of them."""

    level: str
    text: str
    count: int = 0
    example: str = ""
    pods: dict[str, int] = field(default_factory=dict)


def merged(logs: Sequence[tuple[str, Sequence[LogRecord]]]) -> list[PodRecord]:
    """All records by time; a line without one (a flow, a stack trace) stays behind the line before it."""

    def keyed(number: int, pod: str, records: Sequence[LogRecord]) -> Iterable[tuple[str, int, int, PodRecord]]:
        time = ""
        for position, record in enumerate(records):
            time = max(time, record.time)  # a clock that is set back must not break the order of one pod's lines
            yield time, number, position, PodRecord(pod, record)

    streams = [keyed(number, pod, records) for number, (pod, records) in enumerate(logs)]
    return [entry for *_, entry in heapq.merge(*streams, key=lambda item: item[:3])]


def patterns(records: Iterable[PodRecord]) -> list[Pattern]:
    """The patterns among the lines, the worst level first, then the most frequent."""
    found: dict[tuple[str, str], Pattern] = {}
    for entry in records:
        record = entry.record
        said = record.message or record.text
        if error := record.fields.get("error"):
            said = f"{said}: {error}"
        key = (record.level, _VARIABLE.sub("…", said)[:200])
        pattern = found.setdefault(key, Pattern(*key))
        pattern.count += 1
        pattern.example = record.text
        pattern.pods[entry.pod] = pattern.pods.get(entry.pod, 0) + 1
    rank = {"ERROR": 0, "WARN": 1, "": 2, "INFO": 3, "DEBUG": 4}
    return sorted(found.values(), key=lambda pattern: (rank.get(pattern.level, 2), -pattern.count, pattern.text))
