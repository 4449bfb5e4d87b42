"""Label selectors: Kubernetes' own grammar, and whether one selector implies another.

Source of fact: ``k8s.io/apimachinery/pkg/labels`` (``Parse``, ``Requirement.Matches``) and
``pkg/api/validate/content`` (keys and values). A selector is a conjunction of requirements; per label key these
boil down to one ``Constraint``, a set of values plus "may be absent". A conjunction is a product of such sets, so
implication is decided key by key and is exact, save for ``<`` and ``>``, which are treated so that they never make
a selector imply more than it does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from obi_mcp.policy.scope import Scope

Operator = Literal["=", "!=", "in", "notin", "exists", "!", ">", "<"]

_NAME = r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)"
_DNS_LABEL = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_KEY = re.compile(rf"(?:(?P<prefix>{_DNS_LABEL}(?:\.{_DNS_LABEL})*)/)?{_NAME}")
_VALUE = re.compile(rf"{_NAME}?")
_TOKEN = re.compile(r"[ \t\r\n]*(?:(?P<symbol>==|!=|[=!(),<>])|(?P<word>[^ \t\r\n=!(),<>]+)|(?P<end>\Z))")
_INTEGER = re.compile(r"[+-]?[0-9]{1,63}")
_MAX_PREFIX = 253
_MAX_KEY = _MAX_PREFIX + 1 + 63
_INT64 = 1 << 63


class SelectorError(ValueError):
    """The text is not a selector that the API server accepts. ``column`` counts characters from 1."""

    def __init__(self, message: str, column: int) -> None:
        super().__init__(f"{message} (column {column} of the selector)")
        self.column = column


@dataclass(frozen=True, slots=True)
class Requirement:
    """One term of a selector; ``==`` is read as ``=``. ``values`` is empty for ``exists`` and ``!``."""

    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """What the API server's ``Requirement.Matches`` answers for these labels."""
        if self.operator in {"!=", "notin"}:
            return self.key not in labels or labels[self.key] not in self.values
        if self.operator == "!":
            return self.key not in labels
        if self.key not in labels:
            return False
        if self.operator in {"=", "in"}:
            return labels[self.key] in self.values
        return self.operator == "exists" or _within(labels[self.key], *_bounds(self))


@dataclass(frozen=True, slots=True)
class Constraint:
    """All requirements on one key together: the values that a present label may have, and whether it may be absent.

    ``values`` None means every value but ``excluded`` that, where ``above`` or ``below`` is set, is an integer strictly
    between them. INVARIANT: with ``values`` set, ``excluded`` is empty and the bounds are None (both already applied).
    """

    values: frozenset[str] | None = None
    excluded: frozenset[str] = frozenset()
    above: int | None = None
    below: int | None = None
    absent: bool = True

    @property
    def empty(self) -> bool:
        """No label and no absence satisfies it."""
        if self.absent:
            return False
        if self.values is not None:
            return not self.values
        return self.above is not None and self.below is not None and self.below - self.above < 2

    def allows(self, value: str) -> bool:
        """Whether a present label may have this value."""
        if self.values is not None:
            return value in self.values
        return value not in self.excluded and _within(value, self.above, self.below)

    def within(self, other: Constraint) -> bool:
        """Whether everything that satisfies this satisfies ``other``. Never true by mistake."""
        if self.absent and not other.absent:
            return False
        if self.values is not None:
            return all(other.allows(value) for value in self.values)
        if other.values is not None:
            return False
        if any(self.allows(value) for value in other.excluded):
            return False
        return (other.above is None or (self.above is not None and self.above >= other.above)) and (
            other.below is None or (self.below is not None and self.below <= other.below)
        )

    def narrowed(self, requirement: Requirement) -> Constraint:
        """This constraint and one more requirement on the same key."""
        values, excluded, above, below = self.values, self.excluded, self.above, self.below
        absent = self.absent and requirement.operator in {"!=", "notin", "!"}
        match requirement.operator:
            case "=" | "in":
                values = requirement.values if values is None else values & requirement.values
            case "!=" | "notin":
                excluded = excluded | requirement.values
            case "!":
                values = frozenset()
            case ">":
                bound = int(next(iter(requirement.values)))
                above = bound if above is None else max(above, bound)
            case "<":
                bound = int(next(iter(requirement.values)))
                below = bound if below is None else min(below, bound)
        if values is None:
            return Constraint(None, excluded, above, below, absent)
        left = frozenset(value for value in values if value not in excluded and _within(value, above, below))
        return Constraint(left, absent=absent)


_ANYTHING = Constraint()


@dataclass(frozen=True, slots=True)
class Selector:
    """A parsed selector: the requirements as written, and one constraint per key. Empty selects everything."""

    requirements: tuple[Requirement, ...]
    constraints: dict[str, Constraint]

    @property
    def empty(self) -> bool:
        """It has no requirements and so selects everything."""
        return not self.requirements

    @property
    def unsatisfiable(self) -> bool:
        """No set of labels matches."""
        return any(constraint.empty for constraint in self.constraints.values())

    def implies(self, other: Selector) -> bool:
        """Whether every set of labels that this selects is selected by ``other`` too.

        Exact for conjunctions of ``= != in notin exists !``; with ``<`` and ``>`` it may say no where yes is true,
        never yes where no is.
        """
        mine = self.constraints
        if all(mine.get(key, _ANYTHING).within(wanted) for key, wanted in other.constraints.items()):
            return True
        return self.unsatisfiable

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with these labels is selected."""
        return all(requirement.matches(labels) for requirement in self.requirements)


def parse_selector(text: str) -> Selector:
    """The selector that the API server reads from ``-l TEXT``.

    Raises: SelectorError (a ValueError) with the column, wherever ``labels.Parse`` gives an error, and for NUL, at
    which Kubernetes' own lexer stops reading.
    """
    nul = text.find("\0")
    if nul >= 0:
        raise SelectorError("a selector holds no NUL", nul + 1)
    requirements = _Parser(text).parse()
    constraints: dict[str, Constraint] = {}
    for requirement in requirements:
        constraints[requirement.key] = constraints.get(requirement.key, _ANYTHING).narrowed(requirement)
    return Selector(requirements, constraints)


@lru_cache(maxsize=32)
def scope_selectors(texts: tuple[str, ...]) -> tuple[Selector, ...]:
    """``scope.selectors``, parsed once. Raises: SelectorError."""
    return tuple(parse_selector(text) for text in texts)


def implies_scope(text: str, scope: Scope) -> bool:
    """Whether every object that ``-l TEXT`` selects is selected by at least one and the same scope selector.

    Raises: SelectorError.
    """
    selector = parse_selector(text)
    return any(selector.implies(wanted) for wanted in scope_selectors(scope.selectors))


def matches_scope(labels: Mapping[str, str], scope: Scope) -> bool:
    """Whether labels make their object a candidate for being OBI's."""
    return any(selector.matches(labels) for selector in scope_selectors(scope.selectors))


def _within(value: str, above: int | None, below: int | None) -> bool:
    if above is None and below is None:
        return True
    number = _int64(value)
    return number is not None and (above is None or number > above) and (below is None or number < below)


def _int64(text: str) -> int | None:
    number = int(text) if _INTEGER.fullmatch(text) else None
    return number if number is not None and -_INT64 <= number < _INT64 else None


def _bounds(requirement: Requirement) -> tuple[int | None, int | None]:
    number = int(next(iter(requirement.values)))
    return (number, None) if requirement.operator == ">" else (None, number)


class _Parser:
    """``labels.Parser``: the words ``in`` and ``notin`` are operators only where an operator is expected."""

    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, bool, int]] = []  # text, is it a word, column
        for match in _TOKEN.finditer(text):
            token = match["word"] or match["symbol"] or ""
            self._tokens.append((token, match["word"] is not None, match.end() - len(token) + 1))
        self._at = 0

    def parse(self) -> tuple[Requirement, ...]:
        found: list[Requirement] = []
        token, is_word, column = self._tokens[0]
        if not token:
            return ()
        while True:
            token, is_word, column = self._tokens[self._at]
            if not is_word and token != "!":
                raise SelectorError(f"found {token!r}, expected a label key or '!'", column)
            found.append(self._requirement())
            token, is_word, column = self._next()
            if not token:
                return tuple(found)
            if is_word or token != ",":
                raise SelectorError(f"found {token!r}, expected ',' or the end", column)

    def _next(self) -> tuple[str, bool, int]:
        token = self._tokens[self._at]
        if token[0]:
            self._at += 1
        return token

    def _peek(self) -> str:
        """The coming symbol; ``"word"`` stands for any word, the empty string for the end."""
        token, is_word, _ = self._tokens[self._at]
        return "word" if is_word else token

    def _requirement(self) -> Requirement:
        key, is_word, column = self._next()
        absent = not is_word and key == "!"
        if absent:
            key, is_word, column = self._next()
        if not is_word:
            raise SelectorError(f"found {key!r}, expected a label key", column)
        match = _KEY.fullmatch(key) if len(key) <= _MAX_KEY else None
        if match is None or len(match["prefix"] or "") > _MAX_PREFIX:
            raise SelectorError(f"{key!r} is not a label key", column)
        if absent:
            return Requirement(key, "!")
        if self._peek() in {"", ","}:
            return Requirement(key, "exists")
        return self._comparison(key)

    def _comparison(self, key: str) -> Requirement:
        token, is_word, column = self._next()
        if token in {"in", "notin"} and is_word:
            return Requirement(key, "in" if token == "in" else "notin", self._checked(self._values(), column))
        if is_word or token not in {"=", "==", "!=", "<", ">"}:
            raise SelectorError(f"found {token!r}, expected one of = == != in notin < >", column)
        value = ""
        if self._peek() not in {"", ","}:
            value, is_word, column = self._next()
            if not is_word:
                raise SelectorError(f"found {value!r}, expected a value", column)
        values = self._checked([value], column)
        if token in {"<", ">"}:
            if _int64(value) is None:
                raise SelectorError(f"{value!r} is not an integer", column)
            return Requirement(key, "<" if token == "<" else ">", values)
        return Requirement(key, "!=" if token == "!=" else "=", values)

    @staticmethod
    def _checked(values: list[str], column: int) -> frozenset[str]:
        for value in values:
            if not _VALUE.fullmatch(value):
                raise SelectorError(f"{value!r} is not a label value", column)
        return frozenset(values)

    def _values(self) -> list[str]:
        """The list in parentheses. Nothing between commas, or between a comma and a parenthesis, is the empty value."""
        token, is_word, column = self._next()
        if is_word or token != "(":
            raise SelectorError(f"found {token!r}, expected '('", column)
        values: list[str] = []
        comma = True
        while True:
            token, is_word, column = self._next()
            if is_word:
                if not comma:
                    raise SelectorError(f"found {token!r}, expected ',' or ')'", column)
                values.append(token)
                comma = False
            elif token in {",", ")"}:
                if comma:
                    values.append("")
                if token == ")":
                    return values
                comma = True
            else:
                raise SelectorError(f"found {token!r}, expected ',', ')' or a value", column)
