"""How many pipelines run at once, and how many may wait for a place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from obi_mcp.errors import Busy


class Places:
    """A fixed number of places and a queue of bounded length, first come, first served."""

    def __init__(self, places: int, waiting: int) -> None:
        self._places = asyncio.Semaphore(places)
        self._most_waiting = waiting
        self._total = places
        self._waiting = 0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Holds a place. Raises: Busy when too many wait already."""
        if self._places.locked() and self._waiting >= self._most_waiting:
            raise Busy(
                f"{self._total} commands are running and {self._waiting} are waiting", "try again in a few seconds"
            )
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._places.release()
