"""Whose turn it is to start a program, and when the turn is over."""

from __future__ import annotations

import asyncio

import pytest

from obi_mcp.process.starts import Starts

LONG_S = 60.0


async def _settle() -> None:
    """Lets everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize("most", [1, 3])
def test_so_many_start_at_once_and_the_next_when_one_has_started(most: int) -> None:
    async def run() -> None:
        starts = Starts(most, LONG_S)
        asked = [asyncio.create_task(starts.turn()) for _ in range(most + 3)]
        await _settle()
        assert [task.done() for task in asked] == [True] * most + [False] * 3
        asked[0].result().end()
        asked[0].result().end()  # once is all that counts
        await _settle()
        assert [task.done() for task in asked] == [True] * (most + 1) + [False] * 2
        asked[-2].cancel()  # who no longer waits is passed over
        asked[most].result().end()
        await _settle()
        assert asked[-1].done()
        asked[-1].result().end()

    asyncio.run(run())


def test_a_turn_of_somebody_who_says_nothing_ends_by_itself() -> None:
    async def run() -> None:
        starts = Starts(1, 0.001)
        for _ in range(3):
            async with asyncio.timeout(LONG_S):
                await starts.turn()

    asyncio.run(run())
