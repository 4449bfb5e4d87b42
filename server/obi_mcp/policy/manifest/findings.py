"""What judging an object gives: violations, warnings, what only the cluster can show, and the level it needs."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from obi_mcp.policy.model import Access, Violation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from obi_mcp.policy.manifest.environment import EnvironmentNames
    from obi_mcp.policy.model import Document
    from obi_mcp.policy.scope import Scope

MAX_VIOLATIONS = 50
"""Enough to mend a document by; a hostile one has as many as its bytes."""


class Mode(enum.Enum):
    """Where an object comes from: a caller, helm's rendering, or the API server (a dry run, or a live object)."""

    SUBMITTED = "submitted"
    RENDERED = "rendered"
    STORED = "stored"


@dataclass(frozen=True, slots=True)
class Need:
    """An object that this one leans on and that is not in the batch: it must be OBI's, and a role must pass itself.

    ``path`` is where it is named, in the document with that index.
    """

    api_version: str
    kind: str
    name: str
    namespace: str | None
    path: str
    document: int | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """The answer for one object; paths start at the object, not at its list. ``warnings`` stop nothing."""

    violations: tuple[Violation, ...] = ()
    warnings: tuple[Violation, ...] = ()
    needs: tuple[Need, ...] = ()
    raised: Access | None = None

    @property
    def passed(self) -> bool:
        """No violations; ``needs`` are still to be shown."""
        return not self.violations

    def __add__(self, other: Judgement) -> Judgement:
        """Both together; of two levels the higher."""
        levels = [level for level in (self.raised, other.raised) if level is not None]
        return Judgement(
            self.violations + other.violations,
            self.warnings + other.warnings,
            self.needs + other.needs,
            max(levels) if levels else None,
        )


@dataclass(slots=True)
class Inspection:
    """One object on its way through the checks; collects what they find.

    ``namespace`` is where the object is, or would be put; None for cluster-scoped kinds.
    """

    document: Document
    scope: Scope
    batch: Sequence[Document]
    mode: Mode
    namespace: str | None
    environment: EnvironmentNames
    label_keys: frozenset[str]
    """Keys that the scope's own selectors name: labels may have them."""
    violations: list[Violation] = field(default_factory=list)
    warnings: list[Violation] = field(default_factory=list)
    needs: list[Need] = field(default_factory=list)
    failures: int = 0
    """Violations so far, those beyond the limit too: whether a value passed shows in it."""
    standing: frozenset[str] = frozenset()
    """Paths of what was there before and is not this caller's: see ``standing_metadata``."""

    def violate(self, rule: str, reason: str, path: str, hint: str | None = None) -> None:
        """The object does not pass."""
        if path in self.standing:
            return
        self.failures += 1
        if len(self.violations) < MAX_VIOLATIONS:
            self.violations.append(self._found(rule, reason, path, hint))

    def adopt(self, violation: Violation) -> None:
        """A violation that another judge found in a part of this object, at a path from the object's root."""
        self.failures += 1
        if len(self.violations) < MAX_VIOLATIONS:
            self.violations.append(replace(violation, document=self.document.index))

    def warn(self, rule: str, reason: str, path: str, hint: str | None = None) -> None:
        """The object passes, and somebody should know this."""
        self.warnings.append(self._found(rule, reason, path, hint))

    def need(self, api_version: str, kind: str, name: str, namespace: str | None, path: str) -> None:
        """``name`` must be shown to be OBI's, unless the batch holds it."""
        if not self.in_batch(kind, name, namespace):
            self.needs.append(Need(api_version, kind, name, namespace, path, self.document.index))

    def in_batch(self, kind: str, name: str, namespace: str | None) -> Mapping[str, Any] | None:
        """The object of that name in the batch. Objects without a namespace are taken to be in this one's."""
        for document in self.batch:
            at = document.namespace if namespace is None else document.namespace or self.namespace
            if (document.kind, document.name, at) == (kind, name, namespace):
                return document.body
        return None

    def judgement(self) -> Judgement:
        """All that was found."""
        return Judgement(tuple(self.violations), tuple(self.warnings), tuple(self.needs))

    def _found(self, rule: str, reason: str, path: str, hint: str | None) -> Violation:
        return Violation(f"manifest.{rule}", reason, path, hint, self.document.index)


def shown(value: object, length: int = 80) -> str:
    """A value in a message: quoted, cut, containers by name."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    text = {True: "true", False: "false", None: "null"}.get(value) if isinstance(value, bool | None) else None
    text = text if text is not None else (ascii(value) if isinstance(value, str) else str(value))
    return text if len(text) <= length else text[: length - 1] + "…"
