"""Values that follow a flag (``--password swordfish``), on its line or on the next one, and values that somebody says
(``the token is "x"``)."""

from __future__ import annotations

import re

from obi_mcp.redact.rules import RedactionRules
from obi_mcp.redact.values import BLOCK, QUOTE, Opened, Values

_FLAG = re.compile(
    r"(?<![\w\-])(?P<name>--?[A-Za-z][\w.\-]{0,64})(?P<close>\\*[\"'])?"
    r"(?:(?P<gap>[ \t]{0,8}(?:,[ \t]*)?)(?=[^\s,;)\]])|(?P<end>,?[ \t\r]*$))"
)
_WORD = re.compile(r"[^\s,;\"'\\()\[\]{}]+")
_LIST = re.compile(r"[^\s\"'\\\]]+")
_LOGIN = re.compile(r"(?!\d+:\d+$)[^\s:]+:\S+")
_LEAD = re.compile(r"[ \t]*(?:-[ \t]+)*")
_ANOTHER_FLAG = re.compile(r"--?[A-Za-z][\w\-]*(?=$|[\s=\"',])")


class FlagRedactor:
    """Takes them out of single lines."""

    __slots__ = ("_rules", "_values")

    def __init__(self, rules: RedactionRules, values: Values) -> None:
        self._rules = rules
        self._values = values

    def redact(self, line: str) -> tuple[str, Opened | None]:
        """The line without them, and what it leaves open below it."""
        if "-" in line:
            line, opened = self._flags(line)
        else:
            opened = None
        return self._rules.said.sub(self._mask_said, line), opened

    def mask_next(self, line: str) -> tuple[str, Opened | None] | None:
        """The line below a flag: its value taken out. None: it is another flag, to be read as any line."""
        start = _lead(line)
        body = line[start:].rstrip(" \t\r,")
        if not body or _ANOTHER_FLAG.match(body.lstrip("\"'")):
            return None
        if BLOCK.match(line, start):
            return line, Opened("block", len(line) - len(line.lstrip(" \t")))
        if quote := QUOTE.match(line, start):
            end, text, _ = self._values.quoted(line, start, quote[0])
            return line[:start] + (text or line[start:end]) + line[end:], None
        return line[:start] + self._rules.marker + line[start + len(body) :], None

    def _flags(self, line: str) -> tuple[str, Opened | None]:
        pieces: list[str] = []
        opened: Opened | None = None
        done = 0
        for match in _FLAG.finditer(line):
            kind = self._rules.flag_kind(match["name"])
            if not kind or match.start() < done:
                continue
            if match["end"] is not None:
                opened = Opened("next", 0) if _lead(line) >= match.start() - 1 else None
                continue
            if not match["gap"]:
                continue
            end, text = self._value(line, match, kind)
            pieces += [line[done : match.end()], text or line[match.end() : end]]
            done = end
        return "".join([*pieces, line[done:]]), opened

    def _value(self, line: str, match: re.Match[str], kind: str) -> tuple[int, str]:
        at = match.end()
        if quote := QUOTE.match(line, at):
            end, text, _ = self._values.quoted(line, at, quote[0])
            inner = line[at + len(quote[0]) : end - len(quote[0])]
            harmless = kind == "login" and not is_login(inner)
            return (at, "") if harmless or _ANOTHER_FLAG.fullmatch(inner) else (end, text)
        word = (_LIST if kind == "map" else _WORD).match(line, at)
        if word is None or _ANOTHER_FLAG.match(word[0]) or word[0].startswith("$("):
            return at, ""
        if kind == "login" and not is_login(word[0]):
            return at, ""
        if word[0].lower() in self._rules.prose or line.startswith(self._rules.marker, at):
            return at, ""
        return word.end(), self._rules.marker

    def _mask_said(self, match: re.Match[str]) -> str:
        return (
            match[0] if match["inner"] == self._rules.marker else f"{match['before']}{self._rules.marker}{match['q']}"
        )


def is_login(text: str) -> bool:
    """Whether it is a name, a colon and a password; the numbers of a user and a group are none."""
    return _LOGIN.fullmatch(text) is not None


def _lead(line: str) -> int:
    match = _LEAD.match(line)
    return match.end() if match else 0
