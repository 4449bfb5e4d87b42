"""The words after a kubectl verb as targets: ``TYPE[,TYPE] [NAME…]`` or ``TYPE/NAME…``, read as kubectl reads them.

Every kind is replaced by its ``plural.version.group``, so that a resource definition that somebody adds to the cluster
with the short name ``cm`` changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from obi_mcp.command.model import Operand
from obi_mcp.policy.draft import NAME

if TYPE_CHECKING:
    from obi_mcp.policy.draft import Draft
    from obi_mcp.policy.model import Resource

MAX_NAMED = 100
"""Objects that one command may name: each is looked up, and other calls wait for the same connections."""


@dataclass(frozen=True, slots=True)
class Target:
    """One kind, or one object of it. ``word``: where it was written."""

    resource: Resource
    name: str | None
    word: int

    @property
    def label(self) -> str:
        """``pods/obi-x7k2p`` or ``pods``."""
        return f"{self.resource.plural}/{self.name}" if self.name else self.resource.plural


@dataclass(frozen=True, slots=True)
class Targets:
    """What a command is about. ``operands``: the words with normal kinds. Either all targets have names or none has."""

    targets: tuple[Target, ...]
    operands: tuple[Operand, ...]
    kinds: Mapping[str, Resource]
    """The kinds by their full name, each once, in order."""

    @property
    def named(self) -> bool:
        return self.targets[0].name is not None

    @property
    def resources(self) -> tuple[Resource, ...]:
        """The kinds, each once, in order."""
        return tuple(self.kinds.values())

    @property
    def namespaced(self) -> bool:
        """Whether any of the kinds lives in a namespace."""
        return any(resource.namespaced for resource in self.kinds.values())


def read_targets(draft: Draft, operands: Sequence[Operand]) -> Targets:
    """The targets that these words mean. Raises: Denied for no kind, an unknown kind, a mixed form or a bad name."""
    if not operands:
        raise draft.deny(f"{draft.rule.line} needs a kind", hint=draft.rule.hint)
    if any("/" in operand.text for operand in operands):
        return _all_slashed(draft, operands)
    first, names = operands[0], operands[1:]
    kinds = dict(draft.grounds.kind(word) or _unknown(draft, word, first.word) for word in first.text.split(","))
    for name in names:
        _check_name(draft, name.text, name.word)
    texts: Sequence[str | None] = [name.text for name in names] or (None,)
    targets = tuple(
        Target(resource, text, name.word)
        for resource in kinds.values()
        for text, name in zip(texts, names or (first,), strict=True)
    )
    _check_number(draft, targets)
    return Targets(targets, (Operand(",".join(kinds), first.word), *names), kinds)


def find(draft: Draft, word: str, at: int) -> Resource:
    """The kind that a word names. Raises: Denied, naming what is near."""
    return (draft.grounds.kind(word) or _unknown(draft, word, at))[1]


def _unknown(draft: Draft, word: str, at: int) -> NoReturn:
    raise draft.deny(f"{word!r} is not a kind that may be named here", at=at, hint=draft.rule.hint, depth=0)


def _all_slashed(draft: Draft, operands: Sequence[Operand]) -> Targets:
    targets = tuple(_slashed(draft, operand) for operand in operands)
    _check_number(draft, targets)
    words = tuple(Operand(f"{target.resource.argument}/{target.name}", target.word) for target in targets)
    return Targets(targets, words, {target.resource.argument: target.resource for target in targets})


def _slashed(draft: Draft, operand: Operand) -> Target:
    kind, slash, name = operand.text.partition("/")
    if not slash:
        raise draft.deny(
            f"{operand.text!r} stands beside words of the form TYPE/NAME; kubectl takes one form at a time",
            at=operand,
            hint="write every target as TYPE/NAME",
        )
    _check_name(draft, name, operand.word)
    return Target(find(draft, kind, operand.word), name, operand.word)


def _check_number(draft: Draft, targets: Sequence[Target]) -> None:
    if len(targets) > MAX_NAMED:
        raise draft.deny(
            f"{len(targets)} objects are named; at most {MAX_NAMED} are looked up in one call",
            at=targets[MAX_NAMED].word,
            hint=draft.rule.hint,
        )


def _check_name(draft: Draft, name: str, word: int) -> None:
    if not NAME.match(name):
        raise draft.deny(f"{name!r} cannot be the name of an object", at=word, hint=draft.rule.hint)
