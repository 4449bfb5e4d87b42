"""How many programs start at once: as many as there are processors, so that the event loop gets one of them soon.

Starting is what takes kubectl the processor (some 60 ms of it, on several threads); afterwards it mostly waits for the
API server. With sixteen starting at once the loop, one process among seventeen, was heard every tenth of a second, and
no command ended sooner for it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from obi_mcp.process.pipes import PipeReader

START_S = 0.2
"""After so long without a word a program waits for somebody else, and the next may start."""
_LEAST = 2


class Starts:
    """The turns of one event loop, first come, first served."""

    def __init__(self, most: int | None = None, start_s: float = START_S) -> None:
        """``most`` None: as many as this process has processors."""
        self._start_s = start_s
        self._turns = asyncio.Semaphore(max(_LEAST, len(os.sched_getaffinity(0))) if most is None else most)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[list[PipeReader]]:
        """Waits for a turn to start a program. It is over when the program whose output is put into the list has
        printed something, has ended, or has been silent for ``start_s``."""
        async with self._turns:
            started: list[PipeReader] = []
            yield started
            for reader in started:
                await reader.ready(self._start_s)
