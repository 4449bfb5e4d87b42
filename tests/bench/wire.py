"""A server under measurement: a process, and the few messages of MCP that measuring needs.

Not the official client: its own time would be measured too, and it shows neither process id nor bytes.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SERVE = (sys.executable, "-m", "obi_mcp", "serve")
PROTOCOL = "2025-11-25"
MOST_LINE = 64 << 20
END_S = 15.0


@dataclass(slots=True)
class Wire:
    """A running server. ``started_s`` is the time from its start to its answer to ``initialize``."""

    process: asyncio.subprocess.Process
    started_s: float = 0.0
    _next: int = 0
    _waiting: dict[int, asyncio.Future[bytes]] = field(default_factory=dict)

    @property
    def pid(self) -> int:
        return self.process.pid

    async def request(self, method: str, params: dict[str, Any] | None = None) -> bytes:
        """The line that answers. Raises: OSError for an error of the protocol."""
        self._next += 1
        number = self._next
        waiting: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[number] = waiting
        await self._send({"jsonrpc": "2.0", "id": number, "method": method, "params": params or {}})
        return await waiting

    async def call(self, tool: str, command: str, **more: Any) -> dict[str, Any]:
        """The structured content of a tool's answer. Raises: OSError when the tool failed."""
        line = await self.request("tools/call", {"name": tool, "arguments": {"command": command, **more}})
        result = json.loads(line)["result"]
        content: dict[str, Any] = result["structuredContent"]
        if result.get("isError") or content.get("exit_code") != 0:
            raise OSError(f"{command}: {content.get('message') or content.get('stderr')}")
        return content

    async def initialize(self) -> None:
        params = {
            "protocolVersion": PROTOCOL,
            "capabilities": {},
            "clientInfo": {"name": "bench", "version": "0"},
        }
        await self.request("initialize", params)
        await self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    async def read(self) -> None:
        """Hands every answer to whoever waits for it, until the server ends."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            number = json.loads(line).get("id")
            waiting = self._waiting.pop(number, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(line)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(OSError("the server has ended"))

    async def _send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        await self.process.stdin.drain()


@asynccontextmanager
async def serving(config: Path) -> AsyncIterator[Wire]:
    """A server with this configuration, initialized; it ends with the block."""
    environment = {**os.environ, "OBI_MCP_CONFIG": str(config)}
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *SERVE,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=environment,
        limit=MOST_LINE,
    )
    wire = Wire(process)
    reading = asyncio.create_task(wire.read())
    try:
        await wire.initialize()
        wire.started_s = time.perf_counter() - began
        yield wire
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), END_S)
        except TimeoutError:
            process.kill()
            await process.wait()
        await reading
