"""What became of everything that was sent. Nothing is lost without a number here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from obi_mcp.telemetry.tables import SIGNALS, Signal


@dataclass(slots=True)
class SignalCounts:
    """Spans, metric points or log records.

    INVARIANT: received = rejected + lost + dropped + kept.
    """

    received: int = 0
    """In requests that could be read."""
    rejected: int = 0
    """Not valid; the sender was told (``partial_success``)."""
    lost: int = 0
    """Could not be written: the disk was full or failed."""
    dropped: int = 0
    """The oldest, to stay within ``max_rows`` and ``max_disk_bytes``."""
    kept: int = 0


@dataclass(slots=True)
class Counts:
    """All numbers of one capture."""

    traces: SignalCounts = field(default_factory=SignalCounts)
    metrics: SignalCounts = field(default_factory=SignalCounts)
    logs: SignalCounts = field(default_factory=SignalCounts)
    requests: int = 0
    """Answered with 200."""
    refused: dict[str, int] = field(default_factory=dict)
    """Requests that were not taken, by HTTP status; how much was in them is unknown."""
    reasons: dict[str, int] = field(default_factory=dict)
    """Why rows were rejected or lost, with how many."""
    resources: int = 0
    resources_left_out: int = 0
    """Rows whose sender came after the five thousandth and stays without attributes."""
    disk_bytes: int = 0

    def of(self, signal: Signal) -> SignalCounts:
        """The numbers of one signal."""
        found: SignalCounts = getattr(self, signal)
        return found

    def refuse(self, status: int) -> None:
        """Count a request that was not taken."""
        self.refused[str(status)] = self.refused.get(str(status), 0) + 1

    def explain(self, reason: str, count: int) -> None:
        """Count why rows were rejected or lost."""
        self.reasons[reason] = self.reasons.get(reason, 0) + count

    def as_json(self) -> dict[str, Any]:
        """All numbers as JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Counts:
        """What ``as_json`` gave."""
        numbers: dict[str, Any] = dict(data)
        numbers.update({signal: SignalCounts(**data[signal]) for signal in SIGNALS})
        return cls(**numbers)
