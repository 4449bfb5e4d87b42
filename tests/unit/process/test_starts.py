"""Whose turn it is to start a program, and when the turn is over."""

from __future__ import annotations

import asyncio
import os

import pytest

from obi_mcp.process.pipes import PipeReader
from obi_mcp.process.starts import Starts

LONG_S = 60.0


async def _settle() -> None:
    """Lets everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize("says", [b"something", b""], ids=["prints", "ends"])
def test_the_next_starts_when_the_program_has_printed_something_or_ended(says: bytes) -> None:
    async def run() -> None:
        starts = Starts(1, LONG_S)
        begun: list[str] = []
        reading, writing = os.pipe()

        async def start(name: str, reader: PipeReader | None) -> None:
            async with starts.turn() as started:
                begun.append(name)
                started.extend([reader] if reader else [])

        first = asyncio.create_task(start("first", PipeReader(reading)))
        second = asyncio.create_task(start("second", None))
        await _settle()
        assert begun == ["first"]
        os.write(writing, says)
        if not says:
            os.close(writing)
        await asyncio.gather(first, second)
        assert begun == ["first", "second"]

    asyncio.run(run())


@pytest.mark.parametrize("how", ["silent", "failed", "cancelled"])
def test_a_turn_is_not_kept(how: str) -> None:
    async def run() -> None:
        starts = Starts(1, 0.001 if how == "silent" else LONG_S)
        reading, _ = os.pipe()

        async def start() -> None:
            async with starts.turn() as started:
                if how == "failed":
                    raise OSError
                started.append(PipeReader(reading))

        first = asyncio.create_task(start())
        await _settle()
        if how == "cancelled":
            first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        async with asyncio.timeout(LONG_S), starts.turn():
            pass

    asyncio.run(run())
