"""Who may use the event loop for more than a moment: one at a time, a few milliseconds each, first come, first served.

Reading and redacting a large output takes the processor, not time to wait for. With a hundred calls at once each taking
its few milliseconds in one round of the loop, a question that takes none would wait for all of them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable

SLICE_S = 0.002


class Turns:
    """Turns of one event loop."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def spread(self, work: Iterable[bytes]) -> AsyncIterator[list[bytes]]:
        """What the work gives, computed within turns; handed over between them, so that nobody's turn waits for a pipe.

        Raises: what the work raises.
        """
        pieces = iter(work)
        more = True
        while more:
            async with self._lock:
                batch, more = _slice(iter(pieces))
            if batch:
                yield batch
            if more:
                await asyncio.sleep(0)


def _slice(pieces: Iterable[bytes]) -> tuple[list[bytes], bool]:
    """Pieces for one turn, and whether there may be more."""
    until = time.monotonic() + SLICE_S
    batch = []
    for piece in pieces:
        batch.append(piece)
        if time.monotonic() >= until:
            return batch, True
    return batch, False
