"""Runs what was approved: head, then the server's own treatment, then the filters; and leaves nothing behind."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import cached_property

from obi_mcp.config import Settings
from obi_mcp.errors import ProgramFailed
from obi_mcp.policy.model import Approved
from obi_mcp.process.children import Children, KernelFacts
from obi_mcp.process.completed import Completed, TimedOut
from obi_mcp.process.directory import PrivateDirectory
from obi_mcp.process.pipeline import Pipeline
from obi_mcp.process.places import Places
from obi_mcp.process.programs import VERSION_ARGUMENTS, Programs, find_programs
from obi_mcp.process.sandbox import Sandbox, check_environment
from obi_mcp.process.stages import Crew
from obi_mcp.process.starts import Starts
from obi_mcp.process.turns import Turns
from obi_mcp.process.versions import Versions
from obi_mcp.redact import Redactor

__all__ = ["Completed", "Runner", "TimedOut"]

Progress = Callable[[int], Awaitable[None]]
"""Told now and then how many bytes have come from the head."""


class Runner:
    """Starts the programs of approved calls, for one event loop.

    INVARIANT: it takes only ``Approved``, and the argv that runs is the one in it. When ``run`` has returned or
    raised, no process that it started is left.
    """

    def __init__(
        self,
        settings: Settings,
        redactor: Redactor,
        *,
        environ: Mapping[str, str] | None = None,
        described: Mapping[str, str] | None = None,
    ) -> None:
        """``environ`` None: the process's own. ``described``: versions of the grammars; None: the shipped ones.

        Raises: ConfigError when ``programs.environment`` sets what is ours to set.
        """
        check_environment(settings.programs.environment)
        self.settings = settings
        self.redactor = redactor
        self._environ = os.environ if environ is None else environ
        self._described = described
        self.programs: Programs = find_programs(settings, self._environ)
        self.turns = Turns()
        self._starts = Starts()
        self._places = Places(settings.limits.max_children, settings.limits.max_waiting)

    # Made when first needed: a server that never runs anything leaves no directory and no launcher.

    @cached_property
    def directory(self) -> PrivateDirectory:
        """The private directory. Raises: ConfigError when there is no place for it."""
        return PrivateDirectory.make(self._environ)

    @cached_property
    def children(self) -> Children:
        """The children, whose launcher removes the private directory when the server is gone."""
        return Children(str(self.directory.root))

    @cached_property
    def sandbox(self) -> Sandbox:
        """How programs run here."""
        return Sandbox(self.settings, self.programs, self.directory, self._environ)

    @cached_property
    def versions(self) -> Versions:
        """Which versions the programs have."""
        described = shipped_versions() if self._described is None else self._described
        return Versions(self.children, self.sandbox, described, self.directory.path("tmp"))

    @cached_property
    def _crew(self) -> Crew:
        return Crew(
            self.settings,
            self.programs,
            self.sandbox,
            self.children,
            self.versions,
            self.redactor,
            self.turns,
            self._starts,
        )

    @classmethod
    def for_settings(cls, settings: Settings, redactor: Redactor) -> Runner:
        """A runner with the process's own environment. Raises: ConfigError."""
        return cls(settings, redactor)

    def start_launcher(self) -> None:
        """Makes the private directory and starts the launcher, which removes it when the server is gone.

        Before there is an event loop, too. Raises: ConfigError when there is no place for it, ProgramFailed.
        """
        self.children.start_launcher()

    async def warm(self) -> None:
        """Starts the launcher and asks the programs for their versions, so that the first call need not.

        Raises: ProgramMissing for a program whose version the policy does not know.
        """
        self.children.start()
        for name in VERSION_ARGUMENTS:
            if name in self.programs.found:
                await self.versions.check(self.programs.found[name])

    async def run(
        self,
        approved: Approved,
        *,
        timeout_s: float,
        max_bytes: int,
        head_source: AsyncIterator[bytes] | None = None,
        progress: Progress | None = None,
    ) -> Completed:
        """Runs the pipeline. ``head_source`` takes the head's place: its bytes are treated as the head's would be.

        Raises: TimedOut, with what had come; Busy; ProgramMissing; ProgramFailed when a program cannot be started, its
        output cannot be confined, or the host is short of something; ConfigError for the kubeconfig. Cancelled, it ends
        its processes first.
        """
        async with self._places.place():
            self.children.start()
            folder = self.directory.new_folder()
            try:
                pipeline = Pipeline(self._crew, approved, max_bytes=max_bytes, temporary=folder, progress=progress)
                try:
                    return await pipeline.run(head_source, timeout_s)
                finally:
                    await pipeline.leave()
            except OSError as error:
                raise ProgramFailed(
                    f"the host does not let the server start {approved.heads[0][0]}: {error.strerror or error}",
                    "obi-mcp doctor names the host's limits; try again with fewer calls at once",
                ) from None
            finally:
                self.directory.remove(folder)

    async def kernel(self) -> KernelFacts:
        """What holds the children, for ``doctor``. Raises: ProgramFailed."""
        return await self.children.facts()

    async def close(self) -> None:
        """Ends every process, and removes the private directory."""
        if "directory" in self.__dict__:
            await self.children.close()
            self.directory.discard()


def shipped_versions() -> dict[str, str]:
    """The versions that the shipped grammars describe."""
    import json

    from obi_mcp.policy.shipped import shipped_policy

    folder = shipped_policy() / "grammar"
    return {name: str(json.loads((folder / f"{name}.json").read_text())["version"]) for name in ("kubectl", "helm")}
