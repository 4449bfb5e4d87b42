"""One line of text: values after secret names, in YAML, JSON, Go and logfmt, and what the line leaves open below it.

A line is whatever somebody made a program print, up to 64 KiB: every step here is linear in its length, so patterns
are bounded and matched at a position, never against a copy of the rest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from obi_mcp.redact.rules import KeyKind, RedactionRules

_KEY = re.compile(
    r"(?P<open>\\*[\"'])?(?P<key>[A-Za-z0-9_][\w.\-/]{0,128})(?P<close>\\*[\"'])?(?P<sep>[ \t]{0,8}(?:[:=]|=>)[ \t]*)"
)
_NAME = re.compile(
    r"(?i)(?<![\w.\-])name\\*[\"']?[ \t]{0,8}[:=][ \t]{0,8}\\*[\"']?(?P<name>[\w.\-]+)\\*[\"']?"
    r"(?P<value>[,;]?[ \t]*\\*[\"']?value\\*[\"']?(?P<sep>[ \t]{0,8}[:=][ \t]*))?"
)
_LEAD = re.compile(r"[ \t]*(?:[-?][ \t]+)*")
_QUOTE = re.compile(r"\\*[\"']")
_BARE = re.compile(r"[^\s,;&\"'(){}\[\]\\]+")
_REST = re.compile(r"[ \t\r]*$")
_LIST = re.compile(r"[^\s\"'\\]+")
_FLOW = re.compile(r"[^,{}\[\]\"'\\\n]+")
_NUMBER = re.compile(r"-?\d[\d.eE+\-]*(?=[,}\]]|\s*$)")
_BLOCK = re.compile(r"[|>][-+0-9]*[ \t]*(?:#.*)?$")
_REFERENCE = re.compile(r"\$\([\w.\-]+\)|\$\{[\w.\-]+\}|\$[A-Za-z_]\w*(?![\w{(])")
_NOTHING = re.compile(r"(?:true|false|null|nil|none|~|<[a-z ]+>|<set to the key .*)(?=$|[\s,;}\])])", re.I)
_NEAR = 1_024
_CLOSERS = {"[": "]", "{": "}"}


@dataclass(frozen=True, slots=True)
class Opened:
    """What a line leaves open for the lines below that stand deeper than ``column``.

    ``block``: a block scalar, taken out whole (``gone``: after its first line); ``map``: every value is; ``scalar``: a
    value on the next lines, unless they are a mapping; ``pair``: the line above was ``name: X_TOKEN``, its ``value``
    stands at ``column`` (``done``: after that line).
    """

    kind: Literal["block", "gone", "map", "scalar", "pair", "done"]
    column: int


class LineRedactor:
    """Takes values out of single lines, given without their newline."""

    __slots__ = ("_rules",)

    def __init__(self, rules: RedactionRules) -> None:
        self._rules = rules

    def redact(self, line: str) -> tuple[str, Opened | None]:
        """The line without secrets, and what it leaves open below it."""
        line, opened = self._keys(self._rules.mask_shapes(line))
        line, pair = self._pairs(line)
        return line, opened or pair

    def mask_value(self, line: str, key: str) -> tuple[str, Opened | None]:
        """A line that begins with ``key`` (``value:`` of a pair), its value taken out whatever it is."""
        match = _KEY.match(line, _lead(line))
        if match is None or match["key"].lower() != key:
            return line, None
        end, text, opened = self._value(line, match, "value")
        return line[: match.end()] + text + line[end:], opened

    def mask_below(self, line: str, *, mapping: bool) -> tuple[str | None, Opened | None]:
        """A line below an open map or scalar: its value taken out, or all of it where it has no key.

        None: the line is none of what was expected, and is to be read as any other.
        """
        start = _lead(line)
        match = _KEY.match(line, start)
        if match is not None:
            if not mapping:
                return None, None
            if match["key"].lower() in {"name", "key"}:
                return line, None
            end, text, opened = self._value(line, match, "map")
            return line[: match.end()] + text + line[end:], opened
        rest = line[start:].strip(" \t,[]{}\"'")
        if rest == "" or self._rules.marker in line or _NOTHING.fullmatch(rest):
            return line, None
        comma = "," if line.rstrip().endswith(",") else ""
        quote = '"' if comma or line[start] == '"' or _NUMBER.match(line, start) else ""
        return f"{line[:start]}{quote}{self._rules.marker}{quote}{comma}", None

    def _keys(self, line: str) -> tuple[str, Opened | None]:
        pieces: list[str] = []
        opened: Opened | None = None
        done = at = 0
        while (match := _KEY.search(line, at)) is not None:
            kind = self._rules.key_kind(match["key"])
            at = match.end()
            if not kind:
                continue
            end, text, opened = self._value(line, match, kind)
            if end > match.end():
                pieces += [line[done : match.end()], text]
                done = at = end
        if not pieces:
            return line, opened
        return "".join([*pieces, line[done:]]), opened

    def _pairs(self, line: str) -> tuple[str, Opened | None]:
        pieces: list[str] = []
        done = 0
        opened: Opened | None = None
        for match in _NAME.finditer(line):
            if self._rules.key_kind(match["name"]) == "":
                continue
            if match["value"]:
                end, text, opened = self._measure(line, match.end(), match["sep"], "value", leading=False)
                pieces += [line[done : match.end()], text]
                done = end
            elif line[match.end() :].strip(" \t,") == "":
                opened = Opened("pair", match.start() - (line[match.start() - 1 : match.start()] in {'"', "'"}))
        return "".join([*pieces, line[done:]]), opened

    def _value(self, line: str, match: re.Match[str], kind: KeyKind) -> tuple[int, str, Opened | None]:
        """Where the value ends, what takes its place, and what stays open."""
        leading = match.start() <= _lead(line)
        if match["open"] and not match["close"] and (limit := _end_of_quoted(line, match.end(), match["open"])) >= 0:
            line = line[:limit]  # name and value are in one string: what closes it stays
        end, text, opened = self._measure(line, match.end(), match["sep"], kind, leading=leading)
        if opened is not None:
            opened = Opened(opened.kind, match.start())
        close = match["close"] or ""
        if close.endswith('"') and text == self._rules.marker:
            text = f"{close}{text}{close}"  # what was JSON stays JSON
        return end, text, opened

    def _measure(self, line: str, at: int, sep: str, kind: KeyKind, *, leading: bool) -> tuple[int, str, Opened | None]:
        marker = self._rules.marker
        if _REST.match(line, at):
            below = Opened("map" if kind == "map" else "scalar", 0)
            return at, "", below if leading and ":" in sep else None
        if ":" in sep and _BLOCK.match(line, at):
            return at, "", Opened("block", 0)
        if _NOTHING.match(line, at) or _REFERENCE.match(line, at) or line.startswith(marker, at):
            return at, "", None
        if quote := _QUOTE.match(line, at):
            return self._quoted(line, at, quote[0])
        if line[at] in _CLOSERS:
            return self._bracketed(line, at, kind)
        return self._bare(line, at, sep, kind, leading=leading)

    def _quoted(self, line: str, at: int, quote: str) -> tuple[int, str, Opened | None]:
        start = at + len(quote)
        end = _end_of_quoted(line, start, quote)
        if end < 0:
            return len(line), quote + self._rules.marker, Opened("scalar", 0)
        inner = line[start:end]
        if not inner or inner == self._rules.marker or _REFERENCE.fullmatch(inner):
            return at, "", None
        return end + len(quote), quote + self._rules.marker + quote, None

    def _bracketed(self, line: str, at: int, kind: KeyKind) -> tuple[int, str, Opened | None]:
        if line[at] == "{" and kind != "map":
            return at, "", None  # a mapping has keys of its own, which are looked at
        end = _closing(line, at)
        if end == at + 2:
            return at, "", None
        if end > 0:
            return end, self._rules.marker, None
        if _REST.match(line, at + 1):
            return at, "", Opened("map", 0)
        return len(line), self._rules.marker, None

    def _bare(self, line: str, at: int, sep: str, kind: KeyKind, *, leading: bool) -> tuple[int, str, Opened | None]:
        if number := _NUMBER.match(line, at):
            return number.end(), self._rules.marker, None
        if ":" in sep and leading:
            end = len(line.rstrip())
            return end - (line[end - 1] == ","), self._rules.marker, None
        word = _BARE.match(line, at)
        end = self._end_of_word(line, word, sep, kind) if word else at
        return end, self._rules.marker if end > at else "", None

    def _end_of_word(self, line: str, word: re.Match[str], sep: str, kind: KeyKind) -> int:
        """Where an unquoted value within a line ends; where it begins, when it seems to be prose."""
        at, end = word.span()
        if word[0].lower() in self._rules.schemes:
            if line.startswith(self._rules.marker, end + 1):
                return end + 1 + len(self._rules.marker)
            if value := _BARE.match(line, end + 1):
                return value.end()
        if "=" in sep:
            return _end_of_list(line, at) if kind == "map" else end  # headers=k=v,k=v
        if not sep[-1].isspace():
            return end
        near = line[max(at - _NEAR, 0) : at]
        if near.count("{") > near.count("}") and (flow := _FLOW.match(line, at)):
            return flow.end()
        return end if _looks_secret(word[0]) else at


def _lead(line: str) -> int:
    match = _LEAD.match(line)
    return match.end() if match else 0


def _end_of_quoted(line: str, at: int, quote: str) -> int:
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
