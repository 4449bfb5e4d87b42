"""``-o jsonpath``, ``-o jsonpath-as-json`` and ``wait --for=jsonpath``: parsed as kubectl parses them, then judged.

Source of fact: ``k8s.io/client-go/util/jsonpath`` of kubectl 1.36 (``parser.go``, ``jsonpath.go``). Some of its ways
matter here: ``@`` and ``$`` are skipped wherever they stand (``.metadata$.annotations`` is ``.metadata.annotations``),
a backslash in a field name vanishes, an empty action prints the whole object, and an expression that fails prints it
too (see ``expressions.dump``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from obi_mcp.policy.expressions import ExpressionDenied, check_size

if TYPE_CHECKING:
    from obi_mcp.policy.expressions.paths import Paths

_RELAXED = re.compile(r"\{\.?([^{}]+)\}|\.?([^{}]+)")
_QUOTED_KEY = re.compile(r"'([^']*)'")
_SLICE = re.compile(r"-?[0-9]*(?::-?[0-9]*)?(?::-?[0-9]*)?")
_COMPARISON = re.compile(r"([^!<>=]+)([!<>=]+)(.+)", re.DOTALL)
_COMPARISONS = frozenset({"<", ">", "==", "!=", "<=", ">="})
_TERMINATORS = frozenset(" \t\r\n.,[]$@{}")
# Fields that every object may have: a path that starts with one is judged from the object too, wherever it stands.
_OBJECT_FIELDS = frozenset({"metadata", "spec", "status", "data", "binaryData", "stringData", "items", "template"})
_MAX_BRANCHES = 8
_MAX_UNIONS = 3  # in one path: each multiplies what kubectl holds in memory

Kind = Literal["text", "field", "wildcard", "index", "filter", "union", "recursive", "literal", "identifier"]


@dataclass(frozen=True, slots=True)
class Step:
    """One node of kubectl's tree. ``branches``: of a union, or the two sides of a filter; ``text``: a name or text."""

    kind: Kind
    column: int
    text: str = ""
    branches: tuple[tuple[Step, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Action:
    """What stands between one pair of braces."""

    steps: tuple[Step, ...]
    column: int


def check(text: str, paths: Paths) -> None:
    """Judge a whole template: text with actions in braces. Raises: ExpressionDenied."""
    check_size(text)
    _judge_all(parse(text), paths)


def check_relaxed(text: str, paths: Paths, *, offset: int = 0) -> None:
    """Judge one path in the forms that custom columns, ``--sort-by`` and ``wait`` take: with or without dot and braces.

    ``offset`` is added to columns. Raises: ExpressionDenied.
    """
    check_size(text)
    match = _RELAXED.fullmatch(text)
    if match is None:
        raise ExpressionDenied(f"{text!r} is not a path such as .metadata.name", offset + 1)
    spec = match[1] or match[2]
    shift = offset + match.start(1 if match[1] else 2) - 2
    try:
        _judge_all(parse(f"{{.{spec}}}", shift), paths)
    except ExpressionDenied as denied:  # the braces and the dot may be ours, and stand around the path
        column = min(max(denied.column, offset + 1), offset + len(text) + 1)
        raise ExpressionDenied(denied.reason, column, denied.hint) from None


def parse(text: str, shift: int = 0) -> tuple[Action, ...]:
    """The actions of a template, in order; text between them is dropped. Raises: ExpressionDenied."""
    actions: list[Action] = []
    at = text.find("{")
    while at >= 0:
        steps, end = _Parser(text, at + 1, shift).action()
        actions.append(Action(steps, at + 1 + shift))
        at = text.find("{", end)
    return tuple(actions)


# --- judging ---


def _judge_all(actions: tuple[Action, ...], root: Paths) -> None:
    scopes = [root]
    for action in actions:
        steps = action.steps
        word = steps[0].text if steps and steps[0].kind == "identifier" else ""
        if word == "end" and len(steps) == 1:
            if len(scopes) == 1:
                raise ExpressionDenied("{end} stands outside a range", action.column)
            scopes.pop()
        elif word == "range" and len(steps) > 1:
            scopes.append(_walk(steps[1:], scopes[-1], action.column))
            if _starts_at_object(steps[1:]):
                _walk(steps[1:], root, action.column)
        elif len(steps) == 1 and steps[0].kind in {"text", "literal"}:
            continue
        else:
            _judge_end(_walk(steps, scopes[-1], action.column), action.column)
            if len(scopes) > 1 and _starts_at_object(steps):
                _judge_end(_walk(steps, root, action.column), action.column)
    if len(scopes) > 1:
        # Without {end} kubectl evaluates the body once more, from the object.
        raise ExpressionDenied("a range has no {end}", actions[-1].column)


def _starts_at_object(steps: tuple[Step, ...]) -> bool:
    """Whether a path in a range would say something of the object as well.

    kubectl keeps its place in the template from one object to the next, so what stands in a range may be evaluated
    from the object too.
    """
    return steps[0].kind == "field" and steps[0].text in _OBJECT_FIELDS if steps else False


def _judge_end(paths: Paths, column: int) -> None:
    if not paths.harmless:
        what = paths.text or "the whole object"
        raise ExpressionDenied(f"{what} holds more than the fields that kubectl may render", column)


def _walk(steps: tuple[Step, ...], paths: Paths, column: int) -> Paths:
    for step in steps:
        paths = _step(step, paths)
    return paths


def _step(step: Step, paths: Paths) -> Paths:
    following: Paths | None = None
    match step.kind:
        case "field":
            following = paths.child(step.text)
            if following is None:
                raise _not_listed(f"{paths.text}.{step.text}", step.column)
        case "wildcard":
            following = paths.any_value()
            if following is None:
                raise _not_listed(f"{paths.text}.*", step.column)
        case "index" | "filter":
            following = paths.item()
            if following is None:
                raise ExpressionDenied(f"{paths.text or 'the object'} is not known to be a list", step.column)
            for side in step.branches:
                _judge_side(side, following, step.column)
        case "union":
            for branch in step.branches:
                end = _walk(branch, paths, step.column)
                following = end if following is None else following.joined(end)
        case "recursive":
            raise ExpressionDenied("recursive descent (..) reaches every field", step.column)
        case _:
            raise ExpressionDenied(f"{step.text!r} may not stand inside a path", step.column)
    if following is None:
        raise ExpressionDenied("the path leads nowhere", step.column)
    return following


def _judge_side(side: tuple[Step, ...], paths: Paths, column: int) -> None:
    """One side of a filter: a literal, or a path to something harmless (a comparison tells what it compares)."""
    if len(side) == 1 and side[0].kind in {"text", "literal"}:
        return
    end = _walk(side, paths, column)
    if not end.harmless:
        raise _not_listed(end.text, column)


def _not_listed(path: str, column: int) -> ExpressionDenied:
    return ExpressionDenied(f"{path} is not among the fields that kubectl may render", column)


# --- parsing ---


class _Parser:
    """One action: from after its ``{`` to its ``}``."""

    def __init__(self, text: str, at: int, shift: int) -> None:
        self._text = text
        self._at = at
        self._shift = shift
        self._steps: list[Step] = []

    def action(self) -> tuple[tuple[Step, ...], int]:
        """The steps, and the place after the closing brace."""
        while not self._text.startswith("}", self._at):
            self._one()
        return tuple(self._steps), self._at + 1

    def _one(self) -> None:
        text, at = self._text, self._at
        char = text[at : at + 1]
        if text.startswith("[?(", at):
            self._filter()
        elif text.startswith("..", at):
            self._add("recursive", at)
            self._at += 2
        elif char in {" ", "@", "$"}:
            self._at += 1
        elif char == "[":
            self._array()
        elif char in {'"', "'"}:
            self._quote(char)
        elif char == ".":
            self._field()
        elif char in {"+", "-"} or char.isdecimal():
            self._number()
        elif char == "_" or char.isalpha():
            self._identifier()
        elif not char:
            raise self._error("the action is not closed by }")
        else:
            raise self._error(f"kubectl does not know {char!r} in an action")

    def _add(self, kind: Kind, at: int, text: str = "", branches: tuple[tuple[Step, ...], ...] = ()) -> None:
        self._steps.append(Step(kind, at + 1 + self._shift, text, branches))

    def _error(self, reason: str) -> ExpressionDenied:
        return ExpressionDenied(reason, self._at + 1 + self._shift)

    def _nested(self, text: str, at: int) -> tuple[Step, ...]:
        """The steps of a part that kubectl parses as an action of its own; ``at`` is where it stands."""
        whole = f"{{{text}}}"
        steps, end = _Parser(whole, 1, at + self._shift - 1).action()
        if end != len(whole):
            raise self._error("braces may not stand inside brackets")
        return steps

    def _field(self) -> None:
        start = self._at
        self._at += 1
        while self._at < len(self._text) and self._text[self._at] not in _TERMINATORS:
            self._at += 2 if self._text[self._at] == "\\" else 1
        self._at = min(self._at, len(self._text))
        name = self._text[start + 1 : self._at]
        if name == "*":
            self._add("wildcard", start)
        else:
            self._add("field", start, name.replace("\\", ""))

    def _identifier(self) -> None:
        start = self._at
        while self._at < len(self._text) and self._text[self._at] not in _TERMINATORS:
            self._at += 1
        word = self._text[start : self._at]
        self._add("literal" if word in {"true", "false"} else "identifier", start, word)

    def _number(self) -> None:
        start = self._at
        self._at += 1
        while self._text[self._at : self._at + 1] == "." or self._text[self._at : self._at + 1].isdecimal():
            self._at += 1
        self._add("literal", start, self._text[start : self._at])

    def _quote(self, quote: str) -> None:
        start = self._at
        end = self._text.find(quote, start + 1)
        while end > 0 and self._text[end - 1] == "\\":
            end = self._text.find(quote, end + 1)
        if end < 0:
            raise self._error("a quoted string is not closed")
        self._add("text", start, self._text[start + 1 : end])
        self._at = end + 1

    def _array(self) -> None:
        start = self._at
        end = self._text.find("]", start)
        if end < 0:
            raise self._error("an index is not closed by ]")
        inside = self._text[start + 1 : end]
        parts = inside.split(",")
        quoted = _QUOTED_KEY.fullmatch(inside)
        if len(parts) > 1:
            if len(parts) > _MAX_BRANCHES:
                raise self._error(f"a union has at most {_MAX_BRANCHES} parts")
            if sum(step.kind == "union" for step in self._steps) == _MAX_UNIONS:
                raise self._error(f"a path has at most {_MAX_UNIONS} unions")
            branches = tuple(self._nested(f"[{part.strip(' ')}]", start) for part in parts)
            self._add("union", start, branches=branches)
        elif quoted:
            self._steps.extend(self._nested(f".{quoted[1]}", start))
        elif inside == "*" or _SLICE.fullmatch(inside):
            self._add("index", start)
        else:
            raise self._error(f"{inside!r} is not an index that kubectl reads")
        self._at = end + 1

    def _filter(self) -> None:
        start = self._at
        inside = self._filter_text(start + len("[?("))
        match = _COMPARISON.fullmatch(inside)
        if match is None:
            branches: tuple[tuple[Step, ...], ...] = (self._nested(inside, start + 3),)
        elif match[2] not in _COMPARISONS:
            raise self._error(f"kubectl does not compare with {match[2]!r}")
        else:
            right = self._nested(match[3], start + 3 + match.start(3))
            branches = (self._nested(match[1], start + 3), right)
        self._add("filter", start, branches=branches)
        self._at = start + len("[?(") + len(inside) + len(")]")

    def _filter_text(self, start: int) -> str:
        """What stands between ``[?(`` and ``)]``; kubectl watches one quoted string for parentheses, no more."""
        quote, closed = "", False
        for at in range(start, len(self._text)):
            char = self._text[at]
            if char in {'"', "'"}:
                if not quote:
                    quote = char
                elif char == quote and self._text[at - 1] != "\\":
                    closed = True
            elif char == ")" and bool(quote) == closed:
                if not self._text.startswith("]", at + 1):
                    raise self._error("a filter is not closed by )]")
                return self._text[start:at]
        raise self._error("a filter is not closed by )]")
