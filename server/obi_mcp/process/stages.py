"""The processes of one pipeline and the pipes between them."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

from obi_mcp.config import Settings
from obi_mcp.policy.model import Approved
from obi_mcp.process.children import Child, Children
from obi_mcp.process.completed import StageEnd
from obi_mcp.process.kubeconfig import Context
from obi_mcp.process.pipes import PipeReader, PipeWriter, make_pipe, memory_file
from obi_mcp.process.programs import FILTERS, Programs
from obi_mcp.process.sandbox import Sandbox
from obi_mcp.process.starts import Starts
from obi_mcp.process.turns import Turns
from obi_mcp.process.versions import Versions
from obi_mcp.redact import Redactor

_OUR_SIGNALS = frozenset({signal.SIGTERM, signal.SIGKILL})


@dataclass(frozen=True, slots=True)
class Crew:
    """What all pipelines of a runner share."""

    settings: Settings
    programs: Programs
    sandbox: Sandbox
    children: Children
    versions: Versions
    redactor: Redactor
    turns: Turns
    starts: Starts


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage that was started."""

    argv: tuple[str, ...]
    child: Child

    async def end(self) -> StageEnd:
        """How it ended. Raises: ProgramFailed when it never began."""
        ended = await self.child.wait()
        # A filter may have failed by itself in the instant in which it was told to end: none of them turns our signal
        # into an exit code of its own, as kubectl and helm do.
        by_us = ended.signal in _OUR_SIGNALS or self.argv[0] not in FILTERS
        return StageEnd(self.argv, ended, spared=self.child.asked_to_end and by_us)


class Stages:
    """Starts them, and holds our ends of their pipes until ``close``."""

    def __init__(self, crew: Crew, approved: Approved, temporary: str) -> None:
        """``temporary``: the folder for their temporary files."""
        self._crew = crew
        self._approved = approved
        self._temporary = temporary
        self.heads: list[Stage] = []
        self.filters: list[Stage] = []
        reading, self._stderr = make_pipe()
        self.errors = PipeReader(reading)
        """What all of them say on standard error; ends after ``no_more`` when they have ended."""
        self._ours: list[PipeReader | PipeWriter] = [self.errors]

    @property
    def children(self) -> list[Child]:
        """All that were started."""
        return [stage.child for stage in (*self.heads, *self.filters)]

    def start_head(self, argv: tuple[str, ...], context: Context | None) -> tuple[Stage, PipeReader]:
        """Starts a head with the approved standard input of its own; what it prints comes from the reader."""
        program = self._crew.programs.get(argv[0])
        launch = self._crew.sandbox.head(program, argv[1:], temporary=self._temporary, context=context)
        data = self._approved.stdin
        stdin = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC) if data is None else memory_file(data)
        reading, writing = make_pipe()
        reader = PipeReader(reading)
        self._ours.append(reader)
        try:
            child = self._crew.children.launch(launch, stdin=stdin, stdout=writing, stderr=self._stderr)
        finally:
            os.close(stdin)
            os.close(writing)
        self.heads.append(Stage(argv, child))
        return self.heads[-1], reader

    def start_filters(self) -> tuple[PipeWriter, PipeReader]:
        """Starts them joined by pipes of their own; what to write to the first and read from the last."""
        entry, writing = make_pipe()
        writer = PipeWriter(writing)
        self._ours.append(writer)
        try:
            for argv in self._approved.filters:
                program = self._crew.programs.get(argv[0])
                launch = self._crew.sandbox.filter(program, argv[1:])
                leaving, output = make_pipe()
                try:
                    child = self._crew.children.launch(launch, stdin=entry, stdout=output, stderr=self._stderr)
                finally:
                    os.close(output)
                    os.close(entry)
                    entry = leaving
                self.filters.append(Stage(argv, child))
        finally:
            reader = PipeReader(entry)
            self._ours.append(reader)
        return writer, reader

    def no_more(self) -> None:
        """No further stage will be started."""
        if self._stderr >= 0:
            os.close(self._stderr)
            self._stderr = -1

    def close(self) -> None:
        """Closes everything on our side."""
        self.no_more()
        for end in self._ours:
            end.close()
