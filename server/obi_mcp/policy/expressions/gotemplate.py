"""``-o go-template``: a part of Go's text/template, parsed and judged.

Allowed are literal text, trim markers, paths, ``if``, ``else``, ``range``, ``end``, string, number and boolean
constants, parentheses, pipes, and the functions ``eq ne len index``. Variables, ``define template block with``,
comments and every other function (``printf``, ``base64decode``, ``exists``, ``js``, ``call`` …) are denied.
Source of fact: ``text/template`` (Go 1.26) and ``cli-runtime/pkg/printers/template.go``. What fails while kubectl
renders prints the whole object (see ``expressions.dump``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from obi_mcp.policy.expressions import JSON_HINT, ExpressionDenied, check_size
from obi_mcp.policy.expressions.paths import Paths

_FUNCTIONS = frozenset({"eq", "ne", "len", "index"})
_TOKEN = re.compile(
    r' *(?:(?P<string>"(?:[^"\\]|\\.)*"|`[^`]*`)'
    r"|(?P<field>(?:\.[A-Za-z_][A-Za-z0-9_]*)+)"
    r"|(?P<dot>\.)(?![A-Za-z0-9_.])"
    r"|(?P<number>[+-]?[0-9]{1,9})(?![A-Za-z0-9_.])"
    r"|(?P<word>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<sign>[|()]))"
)
_RIGHT_DELIMITER = re.compile(r" *\}\}| +-\}\}")
_MAX_DEPTH = 16
_ALLOWED = "go-templates may hold paths, range, if, else, end, eq, ne, len and index; for more, use -o json and jq"


@dataclass(frozen=True, slots=True)
class _Token:
    """``spaced``: a blank, an opening parenthesis, a pipe or the delimiter stands before it."""

    kind: str
    text: str
    column: int
    spaced: bool


@dataclass(frozen=True, slots=True)
class _Constant:
    """A string, number or boolean: written there, or what ``eq``, ``ne`` and ``len`` give (``value`` None)."""

    value: str | int | None = None


_Value = Paths | _Constant


@dataclass(frozen=True, slots=True)
class _Block:
    """An open ``if`` or ``range``, and where the dot stands in it. ``last``: no further else may follow."""

    word: Literal["", "if", "range"]
    paths: Paths
    column: int
    last: bool = False


def check(text: str, paths: Paths) -> None:
    """Judge a whole template. Raises: ExpressionDenied."""
    check_size(text)
    blocks = [_Block("", paths, 1, last=True)]
    at = text.find("{{")
    while at >= 0:
        tokens, end = _tokens(text, at)
        _action(tokens, blocks, at + 1)
        at = text.find("{{", end)
    if len(blocks) > 1:
        raise ExpressionDenied(f"{blocks[-1].word} has no {{{{end}}}}", blocks[-1].column, _ALLOWED)


def _tokens(text: str, start: int) -> tuple[list[_Token], int]:
    """The tokens of the action whose delimiter stands at ``start``, and the place after it."""
    at = start + 2
    if text.startswith("- ", at):
        at += 1
    tokens: list[_Token] = []
    while True:
        closing = _RIGHT_DELIMITER.match(text, at)
        if closing:
            return tokens, closing.end()
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise ExpressionDenied("this is not a part of go-templates that is allowed", at + 1, _ALLOWED)
        kind, begin = match.lastgroup, match.start(match.lastgroup)
        spaced = not tokens or begin > at or tokens[-1].text in {"(", "|"}
        glued = match[kind] in {")", "|"} or (kind == "field" and tokens and tokens[-1].text == ")")
        if not spaced and not glued:
            raise ExpressionDenied("a blank is missing between two words", begin + 1, _ALLOWED)
        tokens.append(_Token(kind, match[kind], begin + 1, spaced))
        at = match.end()


def _action(tokens: list[_Token], blocks: list[_Block], column: int) -> None:
    words = [token.text if token.kind == "word" else "" for token in tokens[:2]]
    block = blocks[-1]
    if not tokens:
        raise ExpressionDenied("the action is empty", column, _ALLOWED)
    if words == ["end"]:
        if not block.word:
            raise ExpressionDenied("{{end}} closes nothing", column, _ALLOWED)
        blocks.pop()
    elif words[0] == "else":
        _else(tokens[1:], blocks, column)
    elif words[0] == "if":
        _condition(tokens[1:], block.paths, column)
        blocks.append(_Block("if", block.paths, column))
    elif words[0] == "range":
        value = _evaluate(tokens[1:], block.paths, column)
        element = value.any_value() if isinstance(value, Paths) else None
        if element is None:
            raise ExpressionDenied("range goes over a list, or over something harmless", column, _ALLOWED)
        blocks.append(_Block("range", element, column))
    else:
        value = _evaluate(tokens, block.paths, column)
        if isinstance(value, Paths) and not value.harmless:
            what = value.text or "the whole object"
            raise ExpressionDenied(f"{what} holds more than the fields that kubectl may render", column)


def _else(rest: list[_Token], blocks: list[_Block], column: int) -> None:
    block = blocks[-1]
    if block.last:
        raise ExpressionDenied("{{else}} belongs to no if or range", column, _ALLOWED)
    outer = blocks[-2].paths
    if rest:
        if block.word != "if" or rest[0].kind != "word" or rest[0].text != "if":
            raise ExpressionDenied("only {{else}} and, within an if, {{else if …}} are allowed", column, _ALLOWED)
        _condition(rest[1:], outer, column)
    blocks[-1] = _Block(block.word, outer, column, last=not rest)


def _condition(tokens: list[_Token], paths: Paths, column: int) -> None:
    """What an ``if`` tests: whether something is there tells about it too."""
    value = _evaluate(tokens, paths, column)
    if isinstance(value, Paths) and not (value.harmless or value.is_list):
        raise ExpressionDenied(f"{value.text or 'the object'} may not be tested", column)


def _evaluate(tokens: list[_Token], paths: Paths, column: int) -> _Value:
    pipeline = _Pipeline(tokens, paths, column)
    value = pipeline.parse()
    if pipeline.left:
        raise ExpressionDenied("a parenthesis closes nothing", pipeline.column, _ALLOWED)
    return value


class _Pipeline:
    """Commands joined by ``|``; each gets the value before it as its last argument."""

    def __init__(self, tokens: list[_Token], paths: Paths, column: int, depth: int = 0) -> None:
        self._tokens = tokens
        self._at = 0
        self._paths = paths
        self._start = column
        if depth > _MAX_DEPTH:
            raise ExpressionDenied(f"parentheses nest deeper than {_MAX_DEPTH}", column, _ALLOWED)
        self._depth = depth

    @property
    def left(self) -> bool:
        """Tokens are left over."""
        return self._at < len(self._tokens)

    @property
    def column(self) -> int:
        """Where the next token stands, or the action if there is none."""
        return self._tokens[self._at].column if self.left else self._start

    def parse(self) -> _Value:
        """The value of all commands up to the end or an unmatched closing parenthesis."""
        value = self._command(None)
        while self._sign("|"):
            self._at += 1
            value = self._command(value)
        return value

    def _sign(self, text: str) -> bool:
        return self.left and self._tokens[self._at].kind == "sign" and self._tokens[self._at].text == text

    def _command(self, piped: _Value | None) -> _Value:
        column = self.column
        token = self._tokens[self._at] if self.left else None
        if token is not None and token.kind == "word" and token.text not in {"true", "false"}:
            if token.text not in _FUNCTIONS:
                raise ExpressionDenied(f"the function {token.text!r} is not allowed", column, _ALLOWED)
            self._at += 1
            arguments = self._operands()
            return self._call(token.text, arguments if piped is None else [*arguments, piped], column)
        operands = self._operands()
        if len(operands) != 1 or piped is not None:
            raise ExpressionDenied("only a function takes arguments", column, _ALLOWED)
        return operands[0]

    def _operands(self) -> list[_Value]:
        found: list[_Value] = []
        while self.left and not self._sign("|") and not self._sign(")"):
            found.append(self._operand())
        return found

    def _operand(self) -> _Value:
        token = self._tokens[self._at]
        self._at += 1
        if token.text == "(" and token.kind == "sign":
            return self._parenthesised(token)
        if token.kind == "dot":
            return self._paths
        if token.kind == "field":
            return self._descend(self._paths, token)
        if token.kind == "number":
            return _Constant(int(token.text))
        if token.kind == "string":
            return _Constant(token.text[1:-1] if token.text[0] == "`" or "\\" not in token.text else None)
        if token.text in {"true", "false"}:
            return _Constant()
        raise ExpressionDenied(f"{token.text!r} may not stand here", token.column, _ALLOWED)

    def _parenthesised(self, opening: _Token) -> _Value:
        inner = _Pipeline(self._tokens, self._paths, opening.column, self._depth + 1)
        inner._at = self._at
        value = inner.parse()
        self._at = inner._at
        if not self._sign(")"):
            raise ExpressionDenied("a parenthesis is not closed", opening.column, _ALLOWED)
        self._at += 1
        following = self._tokens[self._at] if self.left else None
        if following is not None and following.kind == "field" and not following.spaced:
            self._at += 1
            return self._descend(value, following)
        return value

    @staticmethod
    def _descend(value: _Value, token: _Token) -> _Value:
        for name in token.text[1:].split("."):
            following = value.child(name) if isinstance(value, Paths) else None
            if following is None:
                what = f"{value.text}.{name}" if isinstance(value, Paths) else token.text
                raise ExpressionDenied(f"{what} is not among the fields that kubectl may render", token.column)
            value = following
        return value

    def _call(self, name: str, arguments: list[_Value], column: int) -> _Value:
        if name == "index" and len(arguments) >= 2:
            return self._index(arguments, column)
        if (name == "len" and len(arguments) == 1) or (name in {"eq", "ne"} and len(arguments) >= 2):
            for value in arguments:
                counted = name == "len" and isinstance(value, Paths) and value.is_list
                if isinstance(value, Paths) and not value.harmless and not counted:
                    raise ExpressionDenied(f"{name} may not look at {value.text or 'the object'}", column)
            return _Constant()
        raise ExpressionDenied(f"{name} has too few or too many arguments", column, JSON_HINT)

    @staticmethod
    def _index(arguments: list[_Value], column: int) -> _Value:
        value = arguments[0]
        for key in arguments[1:]:
            following: Paths | None = None
            if isinstance(value, Paths) and isinstance(key, _Constant):
                if isinstance(key.value, int):
                    following = value.item()
                elif isinstance(key.value, str):
                    following = value.child(key.value)
            if following is None:
                raise ExpressionDenied("index takes a list and a number, or a harmless field's name", column)
            value = following
        return value
