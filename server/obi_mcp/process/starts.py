"""How many programs start at once: as many as there are processors, so that the event loop gets one of them soon.

Starting is what takes kubectl the processor (some 60 ms of it, on several threads); afterwards it mostly waits for the
API server. With sixteen starting at once the loop, one process among seventeen, was heard every tenth of a second, and
no command ended sooner for it.
"""

from __future__ import annotations

import asyncio
import os

START_S = 0.2
"""After so long without a word a program waits for somebody else, and the next may start."""
_LEAST = 2


class Turn:
    """Somebody's turn to start a program."""

    def __init__(self, turns: asyncio.Semaphore, most_s: float) -> None:
        self._turns = turns
        self._timer = asyncio.get_running_loop().call_later(most_s, self.end)
        self._over = False

    def end(self) -> None:
        """It is the next one's, if it was not yet."""
        if not self._over:
            self._over = True
            self._timer.cancel()
            self._turns.release()


class Starts:
    """The turns of one event loop, first come, first served."""

    def __init__(self, most: int | None = None, start_s: float = START_S) -> None:
        """``most`` None: as many as this process has processors."""
        self._start_s = start_s
        self._turns = asyncio.Semaphore(max(_LEAST, len(os.sched_getaffinity(0))) if most is None else most)

    async def turn(self) -> Turn:
        """Waits for a turn. It lasts until it is ended, which is due when the program has printed something or has
        ended, and ``start_s`` at most."""
        await self._turns.acquire()
        return Turn(self._turns, self._start_s)
