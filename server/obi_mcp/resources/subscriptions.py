"""Who wants to hear of which resource, what is watched for them, and how often they are told.

One source is watched however many want it; it ends when the last of them leaves, and begins again, with growing pauses,
whenever its stream ends.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Awaitable, Callable, Hashable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field

from obi_mcp.errors import Busy, ObiMcpError
from obi_mcp.resources.spec import Source, Stream

EVERY_S = 0.5
"""A resource is told of once in this time at most."""
MAX_SUBSCRIPTIONS = 256
MAX_STREAMS = 128

logger = logging.getLogger("obi_mcp.resources")


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a stream that ended waits before it is opened again: ``first_s``, then twice as long each time, to
    ``most_s``. A change that came, or ``steady_s`` without an end, begin it anew."""

    first_s: float = 0.5
    most_s: float = 30.0
    steady_s: float = 60.0


PACE = Pace()


class Updates:
    """Tells of changes, one address at a time: at most once in ``every_s`` for each, and the last is never lost."""

    def __init__(self, tell: Callable[[str], Awaitable[None]], every_s: float) -> None:
        self._tell = tell
        self._every_s = every_s
        self._due: dict[str, float] = {}
        self._told: dict[str, float] = {}
        self._woken = asyncio.Event()
        self._telling: asyncio.Task[None] | None = None

    def changed(self, uri: str) -> None:
        """Has it told, at once or as soon as it may be."""
        now = asyncio.get_running_loop().time()
        self._due.setdefault(uri, max(now, self._told.get(uri, -math.inf) + self._every_s))
        self._woken.set()
        if self._telling is None:
            self._telling = asyncio.ensure_future(self._run())

    def forget(self, uri: str) -> None:
        """Nobody wants to be told of it any more."""
        self._due.pop(uri, None)
        self._told.pop(uri, None)

    async def close(self) -> None:
        """Tells nothing more."""
        telling, self._telling = self._telling, None
        if telling is not None:
            telling.cancel()
            with suppress(asyncio.CancelledError):
                await telling

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._woken.clear()
            for uri in [uri for uri, due in self._due.items() if due <= loop.time()]:
                if self._due.pop(uri, None) is not None:
                    self._told[uri] = loop.time()
                    await self._tell(uri)
            with suppress(TimeoutError):
                async with asyncio.timeout_at(min(self._due.values(), default=None)):
                    await self._woken.wait()


@dataclass(slots=True)
class _Kept:
    """A source that is watched, and the addresses that it is watched for."""

    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    uris: set[str] = field(default_factory=set)


class Subscriptions:
    """The subscriptions of one server. INVARIANT: it has tasks only while somebody has subscribed."""

    def __init__(
        self,
        source: Callable[[str, str], Awaitable[Source]],
        tell: Callable[[str], Awaitable[None]],
        *,
        pace: Pace = PACE,
    ) -> None:
        """``source`` gives what to watch for an address and a caller, and raises what refuses it."""
        self._source = source
        self._pace = pace
        self._tell = tell
        self._updates: Updates | None = None
        self._wanted: dict[str, set[Hashable]] = {}
        self._keys: dict[str, Hashable] = {}
        self._kept: dict[Hashable, _Kept] = {}
        self._ending: set[asyncio.Task[None]] = set()

    async def join(self, uri: str, subscriber: Hashable, caller: str) -> None:
        """From now on the subscriber hears of it. Raises: Busy; what refuses the address."""
        if sum(map(len, self._wanted.values())) >= MAX_SUBSCRIPTIONS:
            raise Busy(f"there are {MAX_SUBSCRIPTIONS} subscriptions already", "unsubscribe from some")
        if uri not in self._keys:
            source = await self._source(uri, caller)
            if uri not in self._keys:  # it may have come in between
                self._watch(uri, source)
        self._wanted.setdefault(uri, set()).add(subscriber)

    def leave(self, uri: str, subscriber: Hashable) -> None:
        """Not any more. Nothing happens for one who had not joined."""
        wanting = self._wanted.get(uri, set())
        wanting.discard(subscriber)
        if wanting or uri not in self._keys:
            return
        self._wanted.pop(uri, None)
        if self._updates is not None:
            self._updates.forget(uri)
        key = self._keys.pop(uri)
        kept = self._kept[key]
        kept.uris.discard(uri)
        if not kept.uris:
            del self._kept[key]
            self._end(kept.tasks)

    def leave_all(self, subscriber: Hashable) -> None:
        """The subscriber has gone."""
        for uri in [uri for uri, wanting in self._wanted.items() if subscriber in wanting]:
            self.leave(uri, subscriber)

    def wanting(self, uri: str) -> tuple[Hashable, ...]:
        """Who hears of it."""
        return tuple(self._wanted.get(uri, ()))

    async def close(self) -> None:
        """Everybody has gone. Returns when nothing is watched any more."""
        for kept in self._kept.values():
            self._end(kept.tasks)
        self._wanted, self._keys, self._kept = {}, {}, {}
        if self._ending:
            await asyncio.wait(self._ending)
        if self._updates is not None:
            await self._updates.close()

    def _watch(self, uri: str, source: Source) -> None:
        kept = self._kept.get(source.key)
        if kept is None:
            streams = sum(len(other.tasks) for other in self._kept.values())
            if streams and streams + len(source.streams) > MAX_STREAMS:
                raise Busy(f"{MAX_STREAMS} streams are watched already", "unsubscribe from some namespaces or logs")
            kept = self._kept[source.key] = _Kept()
            kept.tasks = [asyncio.ensure_future(self._keep(stream, kept)) for stream in source.streams]
        kept.uris.add(uri)
        self._keys[uri] = source.key

    def _end(self, tasks: list[asyncio.Task[None]]) -> None:
        for task in tasks:
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
            task.cancel()
        if not self._kept and self._updates is not None:
            closing = asyncio.ensure_future(self._updates.close())
            self._updates = None
            self._ending.add(closing)
            closing.add_done_callback(self._ending.discard)

    async def _keep(self, stream: Stream, kept: _Kept) -> None:
        """Holds a stream open, and opens it again whenever it ends."""
        loop, wait_s, failing = asyncio.get_running_loop(), self._pace.first_s, False
        while True:
            began, stands, news = loop.time(), False, False
            try:
                async with aclosing(stream()) as changes:
                    async for changed in changes:
                        if changed or failing:  # what could not be read can be again
                            self._changed(kept)
                        stands, news, failing = True, news or changed, False
            except ObiMcpError as error:
                logger.debug("a watch ended: %s", error.code)
                # One that had stood may only have lost its connection: the next attempt tells.
                if not stands and not failing:
                    self._changed(kept)
                    failing = True
            except Exception:  # whatever nobody foresaw in one watch must not end the telling of it
                logger.exception("a watch failed")
            if news or loop.time() - began >= self._pace.steady_s:
                wait_s = self._pace.first_s
            await asyncio.sleep(wait_s * random.uniform(0.8, 1.0))
            wait_s = min(2 * wait_s, self._pace.most_s)

    def _changed(self, kept: _Kept) -> None:
        if self._updates is None:
            self._updates = Updates(self._tell, EVERY_S)
        for uri in kept.uris:
            self._updates.changed(uri)
