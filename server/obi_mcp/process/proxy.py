"""One ``kubectl proxy`` on a unix socket that only this user can open."""

from __future__ import annotations

import asyncio
import itertools
import os

from obi_mcp.errors import ClusterUnreachable, ProgramFailed
from obi_mcp.process import api_path
from obi_mcp.process.budget import Tail
from obi_mcp.process.children import Child, Launch, settled
from obi_mcp.process.kubeconfig import Context
from obi_mcp.process.pipes import PipeReader, make_pipe
from obi_mcp.process.runner import Runner

_NUMBERS = itertools.count(1)
_START_TIMEOUT_S = 20.0
_SAID_BYTES = 4_096
_STARTED = b"Starting to serve"


class Proxy:
    """A running proxy."""

    def __init__(self, runner: Runner, socket: str, version: object) -> None:
        self.socket = socket
        self._runner = runner
        self._version = version
        self._said = Tail(_SAID_BYTES)
        self._started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._child: Child | None = None
        self._reading: list[asyncio.Task[None]] = []

    @classmethod
    async def start(cls, runner: Runner, name: str | None, context: Context | None) -> Proxy:
        """Starts one and waits until it serves.

        Raises: ClusterUnreachable with its own words when it does not, ProgramMissing, ProgramFailed.
        """
        program = runner.programs.get("kubectl")
        await runner.versions.check(program)
        socket = runner.directory.path(f"sockets/{next(_NUMBERS)}")
        proxy = cls(runner, socket, runner.sandbox.version)
        arguments = [
            "proxy",
            f"--unix-socket={socket}",
            f"--accept-paths={api_path.ACCEPT_PATHS}",
            f"--reject-paths={api_path.REJECT_PATHS}",
            f"--reject-methods={api_path.REJECT_METHODS}",
            *([f"--context={name}"] if name else []),
        ]
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                proxy._launch(runner.sandbox.proxy(program, arguments, context=context))
                await proxy._serving()
        except TimeoutError:
            await proxy.stop()
            raise ClusterUnreachable(
                f"kubectl proxy did not start within {_START_TIMEOUT_S:g} s", "try again"
            ) from None
        except BaseException:
            await proxy.stop()
            raise
        return proxy

    def serves(self, version: object) -> bool:
        """Whether it runs, with the kubeconfig as it is now."""
        return self._child is not None and not self._child.gone and self._version == version

    async def ends_within(self, seconds: float) -> bool:
        """Whether it has ended, or does within so many seconds."""
        if self._child is None:
            return True
        try:
            async with asyncio.timeout(seconds):
                await settled([self._child])
        except TimeoutError:
            return False
        return True

    async def stop(self) -> None:
        """Ends it, and removes its socket."""
        if self._child is not None:
            self._runner.children.end([self._child], grace_s=1.0)
            await settled([self._child])
        for task in self._reading:
            task.cancel()
        await asyncio.gather(*self._reading, return_exceptions=True)
        try:
            os.unlink(self.socket)
        except FileNotFoundError:
            pass

    def _launch(self, launch: Launch) -> None:
        output, its_output = make_pipe()
        errors, its_errors = make_pipe()
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._child = self._runner.children.launch(launch, stdin=nothing, stdout=its_output, stderr=its_errors)
        finally:
            for descriptor in (nothing, its_output, its_errors):
                os.close(descriptor)
            self._reading = [
                asyncio.ensure_future(self._read(PipeReader(output), self._started)),
                asyncio.ensure_future(self._read(PipeReader(errors), None)),
            ]

    async def _read(self, reader: PipeReader, started: asyncio.Future[None] | None) -> None:
        """Reads as long as the proxy lives, so that it never waits for us."""
        try:
            while chunk := await reader.read():
                if started is not None and not started.done() and _STARTED in chunk:
                    started.set_result(None)
                else:
                    self._said.add(chunk)
        finally:
            reader.close()

    async def _serving(self) -> None:
        if self._child is None:  # INVARIANT: _launch made it
            raise ProgramFailed("kubectl proxy was not started")
        waiting: list[asyncio.Future[None]] = [self._started, asyncio.ensure_future(settled([self._child]))]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if self._started.done():
            waiting[1].cancel()
            return
        how = await self._child.wait()
        await asyncio.gather(*self._reading)
        said = self._runner.redactor.data(self._said.text()).decode("utf-8", "replace").strip()
        raise ClusterUnreachable(
            f"kubectl proxy ended with {how.code}: {said[-400:]}",
            "check the kubeconfig and the context (obi-mcp doctor)",
        )
