"""A table of measurements: what, how much, the bar beside it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Unit = Literal["µs", "ms", "s", "/s", "MB", "kB", "×", "failures"]
_DIGITS: dict[Unit, int] = {"µs": 1, "ms": 1, "s": 3, "/s": 0, "MB": 1, "kB": 1, "×": 2, "failures": 0}


@dataclass(frozen=True, slots=True)
class Bar:
    """What was promised: ``limit`` in the row's unit; ``least`` where more is better."""

    limit: float
    least: bool = False

    def held_by(self, value: float) -> bool:
        return value >= self.limit if self.least else value <= self.limit


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement. ``bar`` None: a fact without a promise. ``note`` says how it was measured."""

    what: str
    value: float
    unit: Unit
    bar: Bar | None = None
    note: str = ""

    def cells(self) -> tuple[str, str, str, str, str]:
        digits = _DIGITS[self.unit]
        if self.bar is None:
            return (self.what, f"{self.value:,.{digits}f} {self.unit}", "", "", self.note)
        sign = "≥" if self.bar.least else "≤"
        verdict = "held" if self.bar.held_by(self.value) else "MISSED"
        limit = f"{sign} {self.bar.limit:,g} {self.unit}"
        return (self.what, f"{self.value:,.{digits}f} {self.unit}", limit, verdict, self.note)


def print_table(rows: Sequence[Row]) -> None:
    """The rows in columns, numbers to the right."""
    lines = [("what", "measured", "bar", "", "how"), *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    for number, (what, value, bar, verdict, note) in enumerate(lines):
        cells = (
            f"{what:<{widths[0]}}",
            f"{value:>{widths[1]}}",
            f"{bar:>{widths[2]}}",
            f"{verdict:<{widths[3]}}",
            note,
        )
        print("  ".join(cells).rstrip())
        if number == 0:
            print("  ".join("-" * width for width in widths))


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return statistics.median(values)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
