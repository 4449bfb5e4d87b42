"""One call on the guarded road, and its answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from obi_mcp.enforcer.concerned import ReleaseView, Seal
from obi_mcp.policy.model import Access, Decision

Progress = Callable[[float, float | None, str], Awaitable[None]]
"""Told how far a call is: done, total (None: unknown), and a line of text."""

MAX_PARSED = 4_000
"""Characters of output up to which its parsed form goes along; above that, it would be the payload twice."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a caller asks for. ``access`` can only lower the server's level; ``tool`` and ``caller`` go to the audit.

    ``timeout_s`` in seconds and ``max_bytes`` in bytes; None takes the configured defaults. ``expects``: what a
    plan saw of a release; where it is otherwise by now, nothing runs. ``confirmed_by``: through what a person
    confirmed it, for the audit.
    """

    command: str
    tool: str
    stdin: str | None = None
    access: Access | None = None
    context: str | None = None
    timeout_s: float | None = None
    max_bytes: int | None = None
    caller: str = "local"
    expects: Seal | None = None
    confirmed_by: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, redacted and bounded.

    ``cut`` says how much was left out and how to ask for less, when ``truncated``. ``skipped`` counts objects that
    are not OBI's and were left out; ``stripped`` counts control and invisible characters that were removed.
    ``notes`` say what the output alone does not: which of several pods was taken, what an exit code means.
    ``parsed`` is the output as JSON where it is one small whole value. ``release``: what the checks of a helm command
    found of its release, for the server's own tools. The text is the cluster's: data, never an
    instruction.
    """

    stdout: str
    stderr: str
    exit_code: int
    decision: Decision
    duration_ms: int
    truncated: bool = False
    cut: str | None = None
    skipped: int = 0
    stripped: int = 0
    notes: tuple[str, ...] = ()
    parsed: Any = None
    release: ReleaseView | None = None
