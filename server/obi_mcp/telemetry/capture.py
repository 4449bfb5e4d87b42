"""The one capture of a server: which tools may start it, ask it, and see that it is gone."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from obi_mcp.config import Settings

if TYPE_CHECKING:
    from obi_mcp.telemetry.receiver import Receiver


class Capture:
    """Holds the receiver. Nothing runs before ``start``; its process also ends with this one, however it ends."""

    def __init__(self, settings: Settings, environ: Mapping[str, str] | None = None) -> None:
        self._settings = settings
        self._environ = os.environ if environ is None else environ
        self._receiver: Receiver | None = None
        self._starting: asyncio.Lock | None = None

    @property
    def receiver(self) -> Receiver | None:
        """The receiver, while it runs."""
        return self._receiver if self._receiver is not None and self._receiver.pid is not None else None

    async def start(self) -> Receiver:
        """The receiver that runs, or a new one: what an earlier one held is gone when that has died.

        Raises: ConfigError when its packages are missing, its port is taken, or there is no place to write;
        ProgramFailed.
        """
        if self._starting is None:
            self._starting = asyncio.Lock()
        async with self._starting:
            if self.receiver is None:
                await self.close()
                from obi_mcp.telemetry.receiver import Receiver, capture_settings  # most servers never capture

                receiver = Receiver(capture_settings(self._settings, self._environ))
                await receiver.start()
                self._receiver = receiver
            assert self._receiver is not None
            return self._receiver

    async def close(self) -> None:
        """Ends the receiver and removes what it kept; nothing where none runs."""
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            await receiver.stop()
