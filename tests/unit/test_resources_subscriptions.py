"""Who is told of what: one source for many, as often as may be, for as long as somebody wants it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from obi_mcp.errors import Busy, ClusterUnreachable, NotFound
from obi_mcp.resources import subscriptions
from obi_mcp.resources.spec import Source
from obi_mcp.resources.subscriptions import Pace, Subscriptions, Updates

AT_ONCE = Pace(first_s=0.0, most_s=0.0)
DOWN = ClusterUnreachable("it is down", "wait")


@dataclass
class World:
    """Sources that do what the test puts into their queues, and what was told. ``gone``: addresses that are none."""

    events: asyncio.Queue[bool | Exception | None] = field(default_factory=asyncio.Queue)
    told: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    opened: int = 0
    open: int = 0
    streams: int = 1

    async def source(self, uri: str, caller: str) -> Source:
        if uri == "none":
            raise NotFound(uri, None)
        key = uri.partition("#")[0]
        return Source(key, (self.stream,) * self.streams)

    async def stream(self) -> AsyncGenerator[bool, None]:
        self.opened += 1
        self.open += 1
        try:
            while (event := await self.events.get()) is not None:
                if isinstance(event, Exception):
                    raise event
                yield event
        finally:
            self.open -= 1

    async def tell(self, uri: str) -> None:
        self.told.put_nowait(uri)


def within(use: Callable[[World, Subscriptions], Awaitable[None]], world: World | None = None) -> None:
    """Runs ``use``; afterwards, when everybody has gone, no task may be left."""

    async def run() -> None:
        made = world or World()
        served = Subscriptions(made.source, made.tell, pace=AT_ONCE)
        async with asyncio.timeout(120):
            await use(made, served)
            await served.close()
        assert made.open == 0
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0)


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_one_source_serves_everybody_and_ends_with_the_last() -> None:
    async def use(world: World, served: Subscriptions) -> None:
        for uri, who in (("a", 1), ("a", 2), ("a#2", 1), ("a", 1)):
            await served.join(uri, who, "test")
        await until(lambda: world.open == 1)
        world.events.put_nowait(True)
        assert {await world.told.get(), await world.told.get()} == {"a", "a#2"}
        served.leave("a", 1)
        served.leave("a", 1)
        served.leave_all(2)
        assert served.wanting("a") == () and served.wanting("a#2") == (1,)
        await settled()
        assert world.open == 1
        served.leave_all(1)
        await until(lambda: world.open == 0)
        await until(lambda: len(asyncio.all_tasks()) == 1)  # without being told to close
        await served.join("a", 3, "test")
        await until(lambda: world.opened == 2)

    within(use)


# What a stream does, and how often it is told of.
COURSES: list[tuple[str, list[bool | Exception | None], int]] = [
    ("it stands and nothing changes", [False, False], 0),
    ("it ends and comes back with nothing new", [False, None, False, None, False], 0),
    ("it changed between two connections", [False, None, True], 1),
    ("it breaks and comes back with nothing new", [False, DOWN, False], 0),
    ("it cannot be read", [DOWN, DOWN, DOWN], 1),
    ("it cannot be read, and then it can", [DOWN, DOWN, False], 2),
    ("it cannot be watched, only listed", [False, DOWN, False, DOWN, False, DOWN], 0),
    ("nobody foresaw it", [ValueError("x"), True], 1),
]


@pytest.mark.parametrize(("what", "course", "times"), COURSES, ids=[row[0] for row in COURSES])
def test_what_is_told(
    what: str, course: list[bool | Exception | None], times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "EVERY_S", 0.0)

    async def use(world: World, served: Subscriptions) -> None:
        await served.join("a", 1, "test")
        for event in course:
            world.events.put_nowait(event)
            await until(world.events.empty)
            await settled()
        assert world.told.qsize() == times

    within(use)


def test_an_address_is_told_of_once_in_its_time() -> None:
    async def run() -> None:
        told: list[str] = []

        async def tell(uri: str) -> None:
            told.append(uri)

        updates = Updates(tell, every_s=3_600)
        for _ in range(50):
            updates.changed("a")
            updates.changed("b")
            await asyncio.sleep(0)
        assert sorted(told) == ["a", "b"]
        await updates.close()

    asyncio.run(run())


def test_the_last_change_is_not_lost_unless_nobody_wants_it() -> None:
    async def run() -> None:
        told: asyncio.Queue[str] = asyncio.Queue()
        updates = Updates(told.put, every_s=0.02)
        async with asyncio.timeout(120):
            for _ in range(3):
                updates.changed("a")
                updates.changed("a")
                assert await told.get() == "a"
            updates.changed("a")
            updates.forget("a")
            updates.changed("b")
            assert await told.get() == "b"
        await updates.close()
        assert told.empty()

    asyncio.run(run())


def test_there_is_a_bound_on_subscriptions_and_on_what_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(world: World, served: Subscriptions) -> None:
        with pytest.raises(NotFound):
            await served.join("none", 1, "test")
        for number in range(4):
            await served.join(f"log-{number}", 1, "test")
        with pytest.raises(Busy, match="8 streams are watched"):
            await served.join("log-4", 1, "test")
        await served.join("log-3#again", 1, "test")
        with pytest.raises(Busy, match="there are 5 subscriptions"):
            await served.join("log-1", 2, "test")
        served.leave("log-0", 1)
        await served.join("log-4", 1, "test")

    monkeypatch.setattr(subscriptions, "MAX_STREAMS", 8)
    monkeypatch.setattr(subscriptions, "MAX_SUBSCRIPTIONS", 5)
    within(use, World(streams=2))


def test_a_source_of_many_streams_alone_is_always_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(world: World, served: Subscriptions) -> None:
        await served.join("a", 1, "test")
        await until(lambda: world.open == 9)

    monkeypatch.setattr(subscriptions, "MAX_STREAMS", 8)
    within(use, World(streams=9))


def test_a_stream_is_opened_again_with_growing_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def paused(seconds: float) -> None:
        if seconds:
            pauses.append(seconds)
        await sleep(0)

    async def run() -> None:
        world = World()
        served = Subscriptions(world.source, world.tell, pace=Pace(1.0, 8.0))
        await served.join("a", 1, "test")
        for event in (DOWN, DOWN, DOWN, DOWN, DOWN, True, DOWN, DOWN):
            world.events.put_nowait(event)
        async with asyncio.timeout(120):
            while len(pauses) < 7:
                await sleep(0)
        await served.close()

    monkeypatch.setattr(asyncio, "sleep", paused)
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    asyncio.run(run())
    assert pauses[:7] == [1.0, 2.0, 4.0, 8.0, 8.0, 1.0, 2.0]  # the change began it anew
