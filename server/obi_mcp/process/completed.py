"""What a run gave, and what it had given when its time was up."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass

from obi_mcp.errors import CallTimeout
from obi_mcp.process.children import Ended

# Programs whose exit code 1 is an answer: nothing matched, something differs.
_ANSWERS_WITH_ONE = frozenset({"grep"})


@dataclass(frozen=True, slots=True)
class Completed:
    """Output after confinement and redaction, at most ``max_bytes`` of it.

    ``exit_code`` is the head's where it failed, else that of the last filter that did; ``answered`` says that it is
    not 0 and no failure all the same (``grep`` without a match, ``kubectl diff`` with a difference). ``cut`` says how
    much was left out and how to ask for less, when ``truncated``. ``dropped`` counts objects that are not OBI's.
    """

    stdout: bytes
    stderr: bytes
    exit_code: int
    truncated: bool = False
    cut: str | None = None
    dropped: int = 0
    answered: bool = False

    @property
    def streams(self) -> tuple[bytes, bytes]:
        """Both outputs."""
        return self.stdout, self.stderr

    @property
    def failed(self) -> bool:
        """Whether some program of the pipeline failed."""
        return self.exit_code != 0 and not self.answered


class TimedOut(CallTimeout):
    """The deadline passed while programs ran. ``partial`` is what they had printed, redacted like everything."""

    def __init__(self, message: str, hint: str, partial: Completed) -> None:
        super().__init__(message, hint)
        self.partial = partial


@dataclass(frozen=True, slots=True)
class StageEnd:
    """How one stage ended. ``spared``: it was ended by us and is not to blame."""

    argv: tuple[str, ...]
    ended: Ended
    spared: bool

    @property
    def code(self) -> int:
        """Its exit code; 0 when it is not to blame."""
        return 0 if self.spared or self.ended.signal == signal.SIGPIPE else self.ended.code


def exit_of(heads: Sequence[StageEnd], filters: Sequence[StageEnd]) -> tuple[int, bool]:
    """The exit code of a pipeline, and whether it is an answer rather than a failure."""
    blamed = next((stage for stage in heads if stage.code), None)
    if blamed is not None:
        return blamed.code, blamed.code == 1 and blamed.argv[:2] == ("kubectl", "diff")
    blamed = next((stage for stage in reversed(filters) if stage.code), None)
    if blamed is None:
        return 0, False
    return blamed.code, blamed.code == 1 and blamed.argv[0] in _ANSWERS_WITH_ONE


def remarks(filters: Sequence[StageEnd], *, memory_bytes: int, cpu_s: int) -> bytes:
    """What the programs could not say themselves: that a filter was ended by its limits."""
    lines = [
        f"obi-mcp: {stage.argv[0]} was ended by {_signal_name(stage.ended.signal)};"
        f" a filter may use {memory_bytes >> 20} MiB of memory and {cpu_s} seconds of processor time\n"
        for stage in filters
        if stage.code and stage.ended.signal
    ]
    return "".join(lines).encode()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
