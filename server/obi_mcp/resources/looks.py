"""What changes a resource of this host: its stamp is looked at, for there is nothing to be told by."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

from obi_mcp.resources.spec import Source
from obi_mcp.toolsets.base import Services

LOOK_EVERY_S = 0.5


def looked_at(uri: str, services: Services, stamp: Callable[[Services], object]) -> Source:
    """The source of a resource with that stamp, which is compared twice a second."""
    # At once, so that no change between the subscription and the first look is lost: a file is looked at.
    first = stamp(services)

    async def looks() -> AsyncGenerator[bool, None]:
        before = first
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            now = await asyncio.to_thread(stamp, services)
            yield now != before
            before = now

    return Source(uri, (looks,))
