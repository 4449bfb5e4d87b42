"""Which versions the programs have, asked once for each file that they are."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping

from obi_mcp.errors import ProgramMissing
from obi_mcp.process.children import Children
from obi_mcp.process.pipes import PipeReader, make_pipe
from obi_mcp.process.programs import HEADS, VERSION_ARGUMENTS, Program, check_version, read_version
from obi_mcp.process.sandbox import Sandbox

_TIMEOUT_S = 10.0
_MAX_BYTES = 65_536


class Versions:
    """Versions by file; a file that is replaced is asked again before it is used."""

    def __init__(self, children: Children, sandbox: Sandbox, described: Mapping[str, str], temporary: str) -> None:
        """``described``: the versions of the grammars, by program; a program without one is not held to any."""
        self._children = children
        self._sandbox = sandbox
        self._described = described
        self._temporary = temporary
        self._known: dict[tuple[str, tuple[int, int, int]], asyncio.Task[tuple[int, ...]]] = {}

    async def check(self, program: Program) -> None:
        """Raises: ProgramMissing for a version that the policy does not know, ProgramFailed when it does not start."""
        if program.name in VERSION_ARGUMENTS:
            check_version(program, await self.version(program), self._described.get(program.name))

    async def version(self, program: Program) -> tuple[int, ...]:
        """As numbers: ``(1, 36, 3)``. Raises: ProgramMissing, ProgramFailed."""
        key = (program.path, program.identity())
        task = self._known.get(key)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._known[key] = asyncio.create_task(self._ask(program))
        return await asyncio.shield(task)

    async def _ask(self, program: Program) -> tuple[int, ...]:
        arguments = VERSION_ARGUMENTS[program.name]
        if program.name in HEADS:
            launch = self._sandbox.head(program, arguments, temporary=self._temporary, context=None)
        else:
            launch = self._sandbox.filter(program, arguments)
        reading, writing = make_pipe()
        reader = PipeReader(reading)
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            child = self._children.launch(launch, stdin=nothing, stdout=writing, stderr=nothing)
        finally:
            os.close(writing)
            os.close(nothing)
        printed = b""
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                while (chunk := await reader.read()) and len(printed) < _MAX_BYTES:
                    printed += chunk
                await child.wait()
        except TimeoutError:
            raise ProgramMissing(
                f"{program.name} at {program.path} did not say its version within {_TIMEOUT_S:g} s",
                f"run {program.path} {' '.join(arguments)}",
            ) from None
        finally:
            reader.close()
            self._children.end([child], grace_s=0)
        return read_version(program.name, printed)
