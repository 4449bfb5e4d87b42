"""Where the value after a secret name ends, what takes its place, and what stays open below the line.

A line is whatever somebody made a program print, up to 64 KiB: every step here is linear in its length, so patterns
are bounded and matched at a position, never against a copy of the rest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from obi_mcp.redact.rules import KeyKind, RedactionRules

QUOTE = re.compile(r"\\*[\"']")
NUMBER = re.compile(r"-?\d[\d.eE+\-]*(?=[,}\]]|\s*$)")
BLOCK = re.compile(r"[|>][-+0-9]*[ \t]*(?:#.*)?$")
NOTHING = re.compile(r"(?:true|false|null|nil|none|~|<[a-z ]+>|<set to the key .*)(?=$|[\s,;}\])])", re.I)
_BARE = re.compile(r"[^\s,;&\"'(){}\[\]\\]+")
_NOTHING_FOLLOWS = re.compile(r"[ \t\r]*$")
_LAST = re.compile(r"[ \t\r]*\\*[\"'\])}]?[ \t\r]*$")
_LIST = re.compile(r"[^\s\"'\\]+")
_FLOW = re.compile(r"[^,{}\[\]\"'\\\n]+")
_REST = re.compile(r"[^\"'\\\]\r\n]+")
REFERENCE = re.compile(r"\$\([\w.\-]+\)|\$\{[\w.\-]+\}|\$[A-Za-z_]\w*(?![\w{(])")
_NEAR = 1_024
_CLOSERS = {"[": "]", "{": "}"}
# Of these the value is one word; of any other scheme, all that follows.
_ONE_WORD = frozenset({"bearer", "basic", "token", "apikey", "negotiate"})


@dataclass(frozen=True, slots=True)
class Opened:
    """What a line leaves open for the lines below that stand deeper than ``column``.

    ``block``: a block scalar, taken out whole (``gone``: after its first line); ``map``: every value is; ``scalar``: a
    value on the next lines, unless they are a mapping; ``pair``: the line above was ``name: X_TOKEN``, its ``value``
    stands at ``column`` (``done``: after that line); ``next``: the line above was a flag, and this line is its value.
    """

    kind: Literal["block", "gone", "map", "scalar", "pair", "done", "next"]
    column: int


Measured = tuple[int, str, Opened | None]
"""Where the value ends, what takes its place, and what stays open."""


class Values:
    """Measures values in lines."""

    __slots__ = ("_rules",)

    def __init__(self, rules: RedactionRules) -> None:
        self._rules = rules

    def measure(self, line: str, at: int, sep: str, kind: KeyKind, *, leading: bool) -> Measured:
        """The value that begins at ``at`` after ``sep``. ``leading``: nothing but its name stands before it."""
        if _NOTHING_FOLLOWS.match(line, at):
            below = Opened("map" if kind == "map" else "scalar", 0)
            return at, "", below if leading and ":" in sep else None
        if ":" in sep and BLOCK.match(line, at):
            return at, "", Opened("block", 0)
        if NOTHING.match(line, at) or REFERENCE.match(line, at) or line.startswith(self._rules.marker, at):
            return at, "", None
        if quote := QUOTE.match(line, at):
            return self.quoted(line, at, quote[0])
        if line[at] in _CLOSERS:
            return self._bracketed(line, at, kind)
        return self._bare(line, at, sep, kind, leading=leading)

    def quoted(self, line: str, at: int, quote: str) -> Measured:
        """The value in quotes that begins at ``at``."""
        start = at + len(quote)
        end = end_of_quoted(line, start, quote)
        if end < 0:
            return len(line), quote + self._rules.marker, Opened("scalar", 0)
        inner = line[start:end]
        if not inner or inner == self._rules.marker or REFERENCE.fullmatch(inner):
            return at, "", None
        return end + len(quote), quote + self._rules.marker + quote, None

    def _bracketed(self, line: str, at: int, kind: KeyKind) -> Measured:
        if line[at] == "{" and kind != "map":
            return at, "", None  # a mapping has keys of its own, which are looked at
        end = _closing(line, at)
        if end == at + 2:
            return at, "", None
        if end > 0:
            return end, self._rules.marker, None
        if _NOTHING_FOLLOWS.match(line, at + 1):
            return at, "", Opened("map", 0)
        return len(line), self._rules.marker, Opened("map", 0)

    def _bare(self, line: str, at: int, sep: str, kind: KeyKind, *, leading: bool) -> Measured:
        if number := NUMBER.match(line, at):
            return number.end(), self._rules.marker, None
        if ":" in sep and leading:
            end = len(line.rstrip())
            comma = line[end - 1] == ","
            # A value may go on in deeper lines: folded by YAML, or as kubectl describes one of several lines.
            # A map that stands below may have a comment, a tag or an anchor here.
            return end - comma, self._rules.marker, None if comma else Opened("map" if kind == "map" else "scalar", 0)
        word = _BARE.match(line, at)
        end = self._end_of_word(line, word, sep, kind) if word else at
        return end, self._rules.marker if end > at else "", None

    def _end_of_word(self, line: str, word: re.Match[str], sep: str, kind: KeyKind) -> int:
        """Where an unquoted value within a line ends; where it begins, when it seems to be prose."""
        at, end = word.span()
        scheme = word[0].lower()
        if scheme in self._rules.schemes:
            if line.startswith(self._rules.marker, end + 1):
                return end + 1 + len(self._rules.marker)
            if scheme in _ONE_WORD and (value := _BARE.match(line, end + 1)):
                return value.end()
        if kind == "rest" and (value := _REST.match(line, at)):
            return _without_blanks(line, value.end())
        if "=" in sep:
            return _end_of_list(line, at) if kind == "map" else end  # headers=k=v,k=v
        if not sep[-1].isspace():
            return end
        near = line[max(at - _NEAR, 0) : at]
        if near.count("{") > near.count("}") and (flow := _FLOW.match(line, at)):
            return flow.end()
        spoken = scheme in self._rules.prose
        last = bool(_LAST.match(line, end))
        return end if _looks_secret(word[0]) or ((kind == "sure" or last) and not spoken) else at


def end_of_quoted(line: str, at: int, quote: str) -> int:
    """Where the next ``quote`` stands that is neither escaped nor doubled, or -1."""
    while (at := line.find(quote, at)) >= 0:
        before = at
        while before > 0 and line[before - 1] == "\\":
            before -= 1
        escaped = (at - before) % 2 == 1
        doubled = quote == "'" and line.startswith("''", at)
        if not escaped and not doubled:
            return at
        at += 2 if doubled else len(quote)
    return -1


def _looks_secret(word: str) -> bool:
    """Whether a word after "token: " is a value: prose ("token: connection refused") has no digits."""
    return len(word) >= 24 or (len(word) >= 8 and any(char.isdigit() for char in word))


def _closing(line: str, at: int) -> int:
    """The end of the bracket that opens at ``at``, or -1 when the line does not close it."""
    depth = 0
    quote = ""
    position = at
    while position < len(line):
        char = line[position]
        if char == "\\":
            position += 1
        elif quote:
            quote = "" if char == quote else quote
        elif char in {'"', "'"}:
            quote = char
        elif char in "[{":
            depth += 1
        elif char in "]}":
            depth -= 1
            if depth == 0:
                return position + 1
        position += 1
    return -1


def _end_of_list(line: str, at: int) -> int:
    match = _LIST.match(line, at)
    return match.end() if match else at


def _without_blanks(line: str, end: int) -> int:
    while line[end - 1].isspace():
        end -= 1
    return end
