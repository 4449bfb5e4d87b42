"""One line of text: values after secret names, in YAML, JSON, Go and logfmt, and what the line leaves open below it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable

from obi_mcp.redact.flags import FlagRedactor
from obi_mcp.redact.rules import KeyKind, RedactionRules
from obi_mcp.redact.values import NOTHING, NUMBER, Opened, Values, end_of_quoted

__all__ = ["LineRedactor", "Opened"]

_KEY = re.compile(
    r"(?P<open>\\*[\"'])?(?P<key>[A-Za-z0-9_][\w.\-/]{0,128})(?P<close>\\*[\"'])?(?P<sep>[ \t]{0,8}(?:[:=]|=>)[ \t]*)"
)
_NAME = re.compile(
    r"(?i)(?<![\w.\-])name\\*[\"']?[ \t]{0,8}[:=][ \t]{0,8}\\*[\"']?(?P<name>[\w.\-]+)\\*[\"']?"
    r"(?P<value>[,;]?[ \t]*\\*[\"']?value\\*[\"']?(?P<sep>[ \t]{0,8}[:=][ \t]*))?"
)
_LEAD = re.compile(r"[ \t]*(?:[-?#][ \t]+)*")
# "Annotations:  note: ", as kubectl describes a text that begins with a name of its own.
_CHAIN = re.compile(r"[ \t]*(?:[\w./\-]{1,128}:[ \t]+)+")
_LONGEST_CHAIN = 512
_WORD_BEFORE = re.compile(r"(?<![\w.\-])(?P<word>[A-Za-z]+)[ \t]\Z")
_LONGEST_WORD = 32
# What YAML escapes otherwise than JSON.
_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|U([0-9A-Fa-f]{8})|(.))")
_NAMED = {"0": "0", "a": "7", "e": "1b", "v": "b", " ": "20", "N": "85", "_": "a0", "L": "2028", "P": "2029"}
_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+"')
# Either kind: what stands in double quotes begins no string of the other, so that two apostrophes in JSON are none.
_EITHER = re.compile(_STRING.pattern + r"|'(?:[^'\\]++|\\.)*+'")


class LineRedactor:
    """Takes values out of single lines, given without their newline."""

    __slots__ = ("_flags", "_rules", "_text", "_values")

    def __init__(self, rules: RedactionRules, text: Callable[[str], str]) -> None:
        """``text`` redacts a text of several lines."""
        self._rules = rules
        self._text = text
        self._values = Values(rules)
        self._flags = FlagRedactor(rules, self._values)

    def redact(self, line: str) -> tuple[str, Opened | None]:
        """The line without secrets, and what it leaves open below it."""
        if "\\n" in line:
            line = _STRING.sub(self._escaped, line)
            line = _EITHER.sub(self._quoted, line)
        line, opened = self._keys(self._rules.mask_shapes(line))
        line, pair = self._pairs(line)
        line, flag = self._flags.redact(line)
        return line, opened or pair or flag

    def mask_next(self, line: str) -> tuple[str, Opened | None] | None:
        """The line below a flag that takes a secret; None where it is no value."""
        return self._flags.mask_next(line)

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
        if rest == "" or self._rules.marker in line or NOTHING.fullmatch(rest):
            return line, None
        comma = "," if line.rstrip().endswith(",") else ""
        quote = '"' if comma or line[start] == '"' or NUMBER.match(line, start) else ""
        return f"{line[:start]}{quote}{self._rules.marker}{quote}{comma}", None

    def _quoted(self, match: re.Match[str]) -> str:
        return self._escaped(match) if match[0][0] == '"' else self._represented(match)

    def _escaped(self, match: re.Match[str]) -> str:
        """A string in quotes that holds several lines of its own."""
        if "\\n" not in match[0]:
            return match[0]
        try:
            text = json.loads(_ESCAPE.sub(_as_json, match[0]), strict=False)
        except ValueError:
            return self._represented(match)
        new = self._text(text)
        return match[0] if new == text else json.dumps(new, ensure_ascii=False)

    def _represented(self, match: re.Match[str]) -> str:
        """The same with any other escapes, as Python shows a string in single quotes."""
        if "\\n" not in match[0]:
            return match[0]
        quote = match[0][0]
        text = match[0][1:-1].replace("\\n", "\n")
        return f"{quote}{self._text(text)}{quote}".replace("\n", "\\n")

    def _keys(self, line: str) -> tuple[str, Opened | None]:
        pieces: list[str] = []
        opened: Opened | None = None
        done = at = 0
        while (match := _KEY.search(line, at)) is not None:
            kind = self._rules.key_kind(match["key"]) or self._rules.key_kind(_in_two_words(line, match))
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
                end, text, opened = self._values.measure(line, match.end(), match["sep"], "value", leading=False)
                pieces += [line[done : match.end()], text]
                done = end
            elif line[match.end() :].strip(" \t,") == "":
                opened = Opened("pair", match.start() - (line[match.start() - 1 : match.start()] in {'"', "'"}))
        return "".join([*pieces, line[done:]]), opened

    def _value(self, line: str, match: re.Match[str], kind: KeyKind) -> tuple[int, str, Opened | None]:
        """Where the value ends, what takes its place, and what stays open."""
        leading = match.start() <= _lead(line) or (
            match.start() < _LONGEST_CHAIN and _CHAIN.fullmatch(line, 0, match.start()) is not None
        )
        if match["open"] and not match["close"] and (limit := end_of_quoted(line, match.end(), match["open"])) >= 0:
            line = line[:limit]  # name and value are in one string: what closes it stays
        end, text, opened = self._values.measure(line, match.end(), match["sep"], kind, leading=leading)
        if opened is not None:
            # What stands in brackets goes on deeper than the line, wherever in it the name is.
            bracket = line[match.end() : match.end() + 1] in {"[", "{"}
            opened = Opened(opened.kind, min(match.start(), _indent(line)) if bracket else match.start())
        close = match["close"] or ""
        if close.endswith('"') and text == self._rules.marker:
            text = f"{close}{text}{close}"  # what was JSON stays JSON
        return end, text, opened


def _as_json(match: re.Match[str]) -> str:
    code = match[1] or match[2] or _NAMED.get(match[3])
    if code is None or int(code, 16) > sys.maxunicode:
        return match[0]
    return json.dumps(chr(int(code, 16)))[1:-1]


def _in_two_words(line: str, match: re.Match[str]) -> str:
    """The name with the word before it: "API key: x"."""
    if match["key"].lower() != "key" or match["open"]:
        return ""
    before = _WORD_BEFORE.search(line, max(match.start() - _LONGEST_WORD, 0), match.start())
    return before["word"] + "_key" if before else ""


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" \t"))


def _lead(line: str) -> int:
    match = _LEAD.match(line)
    return match.end() if match else 0
