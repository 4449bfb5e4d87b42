"""One call being proved: what was decided, what may be asked, and what the proofs gave."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from obi_mcp.command.model import Command
from obi_mcp.enforcer.cluster import Cluster
from obi_mcp.enforcer.concerned import Concerned
from obi_mcp.enforcer.members import Members
from obi_mcp.errors import ProgramFailed
from obi_mcp.policy.chart import ChartStore
from obi_mcp.policy.engine import Policy
from obi_mcp.policy.model import Access, Approved, Check, CheckResult, Decision, Place
from obi_mcp.policy.resource import ResourceTable
from obi_mcp.policy.scope import Scope
from obi_mcp.process.channel import Channel
from obi_mcp.process.runner import Completed

RunOwn = Callable[[Approved], Awaitable[Completed]]
"""Runs one of the server's own reads with the real program (a dry run, a rendering, a stored release)."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What stands there after the command and was not judged; ``remedy`` is the command line that takes it back, where
    there is one."""

    text: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class Proved:
    """What proving one check gave besides its result: how the head must run so that what was proved is what runs.

    ``heads`` replaces the head's argument vector (one run per pod); ``members`` are the uids that may pass; ``source``
    is what the head would print, where proving it has printed it already; ``stdin`` what it reads, where that is less
    than what was decided on; ``afterwards`` is asked when the command has run, whether what stands there now is what
    was judged; ``notes`` are told to the caller beside the answer. ``pinned``: uids of the objects whose state the
    write names, so that the API server refuses it where they changed. ``perform`` does what the head would, and gives
    what that prints.
    """

    result: CheckResult
    heads: tuple[tuple[str, ...], ...] | None = None
    members: frozenset[str] | None = None
    skipped: int = 0
    source: bytes | None = None
    stdin: bytes | None = None
    afterwards: Callable[[], Awaitable[Difference | None]] | None = None
    notes: tuple[str, ...] = ()
    pinned: frozenset[str] | None = None
    perform: Callable[[Approved], Awaitable[bytes]] | None = None


SidecarKey = tuple[str, str, str, str]
"""Context (empty: the current one), namespace, Deployment, container."""


@dataclass(slots=True)
class Case:
    """Everything that proving one decision needs. Lives as long as the call."""

    decision: Decision
    access: Access
    cluster: Cluster
    members: Members
    policy: Policy
    scope: Scope
    resources: ResourceTable
    charts: ChartStore
    run_own: RunOwn
    channel: Channel
    timeout_s: float
    begin: Callable[[], None] = lambda: None
    """Writes down that a write begins. INVARIANT: called before anything is written, in the course of a check too."""
    undo: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    """What to take back if a later proof refuses (the Namespace that a first deployment made)."""
    place: Callable[[], Path] | None = None
    """Makes a private folder that goes with the call."""
    release: Concerned = field(default_factory=Concerned)
    """What the helm checks found."""
    sidecars: set[SidecarKey] = field(default_factory=set)
    """Containers that this server has put beside those of others."""
    sidecar: SidecarKey | None = None
    """The one that this call puts there, where there is none yet."""

    @property
    def revision(self) -> int:
        """The last revision of the release, as the check found it; 0: there was none."""
        return self.release.before.revision if self.release.before else 0

    @property
    def head(self) -> Command:
        """The decided head. Raises: ProgramFailed where there is none."""
        if self.decision.pipeline is None:  # INVARIANT: a decision with checks has a pipeline
            raise ProgramFailed("there is no command to prove")
        return self.decision.pipeline.head


def passed(check: Check, reason: str = "", raised: Access | None = None) -> CheckResult:
    """The check holds."""
    return CheckResult(check, True, reason, raised=raised)


def failed(check: Check, reason: str, hint: str | None = None, at: Place | None = None) -> CheckResult:
    """The check refuses, and says why."""
    return CheckResult(check, False, reason, hint, at)


def absent(check: Check) -> CheckResult:
    """No such object, or not OBI's: the caller is told the same in both cases."""
    return CheckResult(check, False, not_found=True)
