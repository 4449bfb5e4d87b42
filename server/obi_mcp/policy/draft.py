"""One decision in the making: the command as parsed, the rule that is tried, and what the rule adds to it.

A draft lives for the length of one ``Policy.decide`` and is the only mutable thing in this package. What comes out of
it is a frozen ``Command`` and a frozen ``Decision``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from obi_mcp.command.model import Command, Flag, Operand
from obi_mcp.errors import Denied
from obi_mcp.policy.model import Access, Check, Decision, Document, Output, Place

if TYPE_CHECKING:
    from obi_mcp.policy.grounds import Grounds
    from obi_mcp.policy.rule import Rule
    from obi_mcp.policy.targets import Targets

NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")
NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._:-]{0,251}[A-Za-z0-9])?\Z")


@dataclass(frozen=True, slots=True)
class Refusal(Decision):
    """A denial while rules are tried. ``repair``: the command as it might be allowed; ``depth``: how far a rule got
    (0: it is about something else; 1: a flag; 2: a target; 3: only the access level is missing)."""

    repair: Command | None = None
    depth: int = 1


@dataclass(frozen=True, slots=True)
class Call:
    """What came with the command line. ``deadline_s``: seconds that the call may take."""

    access: Access
    stdin: str | None = None
    deadline_s: float = 30.0


@dataclass(slots=True)
class Draft:
    """The state of one attempt: ``flags`` and ``operands`` are what will run, ``command`` is what was written.

    ``targets`` is set, before any flag is looked at, for the forms that name kinds.
    """

    command: Command
    rule: Rule
    call: Call
    grounds: Grounds
    stage: int = 0
    flags: list[Flag] = field(init=False)
    operands: tuple[Operand, ...] = field(init=False)
    needed: Access = field(init=False)
    targets: Targets | None = None
    added: list[str] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    documents: tuple[Document, ...] = ()
    output: Output = field(default_factory=Output)
    reason: str = ""

    def __post_init__(self) -> None:
        self.flags = list(self.command.flags)
        self.operands = self.command.operands
        self.needed = self.rule.access

    # --- what runs ---

    def flag(self, name: str) -> Flag | None:
        """The flag of that name as it will run."""
        for flag in self.flags:
            if flag.name == name:
                return flag
        return None

    def put(self, name: str, *values: str) -> None:
        """Set the flag, in its place or at the end."""
        for at, flag in enumerate(self.flags):
            if flag.name == name:
                if flag.values != values:
                    self.flags[at] = Flag(name, values, flag.word, flag.spelled)
                return
        self.flags.append(Flag(name, values, 0, f"--{name}"))

    def drop(self, name: str) -> None:
        """Take the flag away."""
        self.flags = [flag for flag in self.flags if flag.name != name]

    def rebuilt(self) -> Command:
        """The command that will run."""
        old = self.command
        return Command(old.program, old.path, tuple(self.flags), self.operands, old.dash, old.style, old.short)

    def raise_to(self, access: Access) -> None:
        """The text shows that the command needs at least this level; a dry run stays a read."""
        if self.needed > Access.READ_ONLY or self.rule.access is Access.READ_ONLY:
            self.needed = max(self.needed, access)

    # --- refusing ---

    def deny(
        self,
        reason: str,
        *,
        at: Flag | Operand | int | None = None,
        hint: str | None = None,
        repair: Command | None = None,
        depth: int = 2,
    ) -> Denied:
        """The refusal to raise. ``at``: the flag, operand or word that caused it; None: the command itself."""
        word = at if isinstance(at, int) or at is None else at.word
        return Denied(
            Refusal(
                "deny",
                self.rule.id,
                reason,
                access=self.needed,
                hint=hint,
                at=Place(stage=self.stage, word=word),
                repair=repair,
                depth=depth,
            )
        )

    # --- repairs: the command as written, changed in one place ---

    def without(self, name: str) -> Command:
        """The command without that flag."""
        return without_flag(self.command, name)

    def with_flag(self, name: str, *values: str) -> Command:
        """The command with that flag set so."""
        return with_flag(self.command, name, *values)

    def with_operands(self, *texts: str) -> Command:
        """The command with other operands."""
        return replace(self.command, operands=tuple(Operand(text) for text in texts), dash=None)


def without_flag(command: Command, name: str) -> Command:
    """The command without that flag."""
    return replace(command, flags=tuple(flag for flag in command.flags if flag.name != name))


def with_flag(command: Command, name: str, *values: str) -> Command:
    """The command with that flag set so, in its place or at the end."""
    flags = [Flag(name, values, flag.word) if flag.name == name else flag for flag in command.flags]
    if not any(flag.name == name for flag in flags):
        flags.append(Flag(name, values))
    return replace(command, flags=tuple(flags))
