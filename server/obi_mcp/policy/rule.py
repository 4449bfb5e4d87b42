"""One rule of ``policy/rules/*.yaml`` as a type: which command, at which level, with which flags, on whose objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from obi_mcp.policy.model import Access


@dataclass(frozen=True, slots=True)
class Targets:
    """Which kinds a rule is about, and how a target is shown to be OBI's.

    ``confine``: the ways that count (``selector``, ``narrowing``, ``membership``, ``fact``, ``status``, ``limit``,
    ``event``, ``change``, ``undo``, ``manifest``, ``release``, ``render``, ``channel``). ``matches``: what holds for
    the objects that a selector finds (``drop``: those not OBI's leave a JSON list; ``every``: all must be OBI's;
    ``each``: one run per member). ``one``: exactly one object by name.
    """

    kinds: tuple[str, ...] = ()
    confine: frozenset[str] = frozenset()
    matches: str = "drop"
    one: bool = False


@dataclass(frozen=True, slots=True)
class Flags:
    """The allow list of flags, and what their values may be.

    ``deadline``: durations clamped to the call's deadline and added when missing. ``at_most``: whole numbers.
    ``patterns``: regular expressions that the whole value must match.
    """

    allow: frozenset[str] = frozenset()
    require: tuple[str, ...] = ()
    deadline: tuple[str, ...] = ()
    values: Mapping[str, tuple[str, ...]] | None = None
    at_most: Mapping[str, int] | None = None
    patterns: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Words:
    """Operands that are plain words: how many, what each must match, and the flag that takes their place."""

    min: int = 0
    max: int = 0
    pattern: str = ""
    unless: str = ""


@dataclass(frozen=True, slots=True)
class Example:
    """A command line that the rule must allow or deny. ``scope`` changes fields of the default scope for it."""

    command: str
    stdin: str | None = None
    access: Access | None = None
    scope: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One allowance. ``operands`` names how the words after the command are read (see ``policy/README.md``).

    ``when``: the rule is about calls that have this flag; without it, about those that have none of the flags that
    other rules of the command name. ``dry_run``: one ``--dry-run=client|server`` makes it a read. ``output``: names
    of output formats, ``table`` for none given.
    """

    id: str
    program: str
    command: tuple[str, ...]
    access: Access
    operands: str
    because: str
    hint: str | None = None
    when: str | None = None
    dry_run: bool = False
    targets: Targets = Targets()
    flags: Flags = Flags()
    words: Words = Words()
    output: frozenset[str] = frozenset({"table"})
    allow: tuple[Example, ...] = ()
    deny: tuple[Example, ...] = ()

    @property
    def line(self) -> str:
        """``kubectl rollout status``; for a filter its name."""
        return " ".join((self.program, *self.command))

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Rule:
        """The rule from schema-valid data."""
        examples = data.get("examples", {})
        return cls(
            id=data["id"],
            program=data["program"],
            command=tuple(data.get("command", "").split()),
            access=Access.parse(data["access"]),
            operands=data["operands"],
            because=data["because"],
            hint=data.get("hint"),
            when=data.get("when"),
            dry_run=data.get("dry_run", False),
            targets=_targets(data.get("targets", {})),
            flags=_flags(data.get("flags", {})),
            words=Words(**data.get("words", {})),
            output=frozenset(data.get("output", ("table",))),
            allow=tuple(_example(entry) for entry in examples.get("allow", ())),
            deny=tuple(_example(entry) for entry in examples.get("deny", ())),
        )


def _targets(data: Mapping[str, Any]) -> Targets:
    return Targets(
        tuple(data.get("kinds", ())),
        frozenset(data.get("confine", ())),
        data.get("matches", "drop"),
        data.get("one", False),
    )


def _flags(data: Mapping[str, Any]) -> Flags:
    values = data.get("values", {})
    return Flags(
        allow=frozenset(
            (
                *data.get("allow", ()),
                *data.get("require", ()),
                *data.get("deadline", ()),
                *values,
                *data.get("at_most", ()),
                *data.get("patterns", ()),
            )
        ),
        require=tuple(data.get("require", ())),
        deadline=tuple(data.get("deadline", ())),
        values={name: tuple(allowed) for name, allowed in values.items()} or None,
        at_most=data.get("at_most"),
        patterns=data.get("patterns"),
    )


def _example(data: str | Mapping[str, Any]) -> Example:
    if isinstance(data, str):
        return Example(data)
    access = data.get("access")
    return Example(data["command"], data.get("stdin"), Access.parse(access) if access else None, data.get("scope"))
