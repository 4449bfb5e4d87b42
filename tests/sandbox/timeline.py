"""How long the steps of a start took."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Timeline:
    """Steps with the seconds since the start at which each was done; ``tell`` gets a line for each."""

    tell: Callable[[str], None]
    started: float = field(default_factory=time.monotonic)
    steps: list[tuple[str, float]] = field(default_factory=list)

    def done(self, step: str) -> None:
        elapsed = round(time.monotonic() - self.started, 2)
        self.steps.append((step, elapsed))
        self.tell(f"{elapsed:6.2f} s  {step}")
