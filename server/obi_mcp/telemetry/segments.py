"""Full parts of the tables as files, one after the other, so that dropping the oldest gives its bytes back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from obi_mcp.telemetry.tables import Signal


@dataclass(frozen=True, slots=True)
class Segment:
    """One Parquet file of rows that came one after the other."""

    signal: Signal
    path: Path
    rows: int
    bytes: int


@dataclass(slots=True)
class Segments:
    """All segments of a capture, the oldest first."""

    directory: Path
    _all: list[Segment] = field(default_factory=list)
    _number: int = 0

    @property
    def bytes(self) -> int:
        """What they take on disk."""
        return sum(segment.bytes for segment in self._all)

    def of(self, signal: Signal) -> Iterator[Segment]:
        """Those of one signal."""
        return (segment for segment in self._all if segment.signal == signal)

    def new_path(self, signal: Signal) -> Path:
        """Where the next one goes."""
        self._number += 1
        return self.directory / f"{signal}-{self._number:08d}.parquet"

    def add(self, signal: Signal, path: Path, rows: int) -> None:
        """Take a finished file."""
        self._all.append(Segment(signal, path, rows, path.stat().st_size))

    def drop_oldest(self, signal: Signal | None = None) -> Segment | None:
        """Remove the oldest, of one signal or of all; None when there is none."""
        found = next((segment for segment in self._all if signal in (None, segment.signal)), None)
        if found is not None:
            self._all.remove(found)
            found.path.unlink(missing_ok=True)
        return found
