"""One command line to stages of words. Linear in its length, and stricter than any shell.

Separators are space and tab; quoting is POSIX's (single, double, backslash); ``|`` parts the stages. Everything else
that a shell would act on is an error that names the character, its column, and the way out.
"""

from __future__ import annotations

import re
import unicodedata
from shlex import quote
from typing import NoReturn

from obi_mcp.command.model import Token
from obi_mcp.errors import InvalidCommand

MAX_BYTES = 65_536

# Runs that mean nothing to a shell, so that most of a line is read by the regular expression engine.
_PLAIN = re.compile(r"[A-Za-z0-9_./:=,@%+^-]+")
# A whole word with the blanks before it, plain or in single quotes: nearly every word of nearly every line.
_WORD = re.compile(
    r"[ \t]*+(?:([A-Za-z0-9_./:=,@%+^-]++)|'([^'\x00-\x1f\x7f-\U0010ffff]*+)')(?=[ \t|]|\Z)(?:[ \t]++(?=\|))?"
)
_BLANKS = re.compile(r"[ \t]+")
_SINGLE = re.compile(r"[^'\x00-\x1f\x7f-\U0010ffff]+")
_DOUBLE = re.compile(r'[^"\\\x00-\x1f\x7f-\U0010ffff]+')
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\+?=")
_ACTED_ON = frozenset(";&<>`$*?[]{}()")
_ACTED_ON_FIRST = frozenset("~#!")
_BACKSLASHED_IN_DOUBLE = frozenset('$`"\\')
_WHAT = {
    ";": "a separator",
    "&": "a separator",
    "<": "a redirection",
    ">": "a redirection",
    "`": "a substitution",
    "$": "a substitution",
    "(": "a subshell",
    ")": "a subshell",
    "~": "a home directory",
    "#": "a comment",
    "!": "a history expansion",
}

_PATTERN = frozenset("*?[]{}")
_UNQUOTED = re.compile(r"[^ \t|'\"\\]+")
_WORD_ENDS = frozenset({"", " ", "\t", "|"})
_LONGEST_SHOWN = 200
_ONE_EACH = "one call for each command"


def lex(text: str, *, max_bytes: int = MAX_BYTES) -> tuple[tuple[Token, ...], ...]:
    """Stages of words; every stage has at least one word.

    Raises: InvalidCommand with stage, word and column.
    """
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > max_bytes:
        raise InvalidCommand(
            f"the command line has {size} bytes; {max_bytes} are the most",
            "give documents in the stdin argument, and split long work into several calls",
        )
    return _Lexer(text).stages()


class _Lexer:
    def __init__(self, text: str) -> None:
        self.text = text
        self.done: list[tuple[Token, ...]] = []
        self.stage: list[Token] = []
        self.parts: list[str] = []
        self.start: int | None = None
        self.quoted = False

    def stages(self) -> tuple[tuple[Token, ...], ...]:
        text, at, end = self.text, 0, len(self.text)
        while at < end:
            word = _WORD.match(text, at) if self.start is None else None
            if word and word.lastindex:
                plain = word.lastindex == 1
                if self.stage or not plain or "=" not in word[1]:
                    start = word.start(1) + 1 if plain else word.start(2)
                    self.stage.append(Token(word[word.lastindex], start, not plain))
                    at = word.end()
                    continue
            run = _PLAIN.match(text, at)
            if run:
                self._add(at, run.group())
                at = run.end()
                continue
            at = self._special(at)
        self._end_word()
        self._end_stage(end)
        return tuple(self.done)

    def _special(self, at: int) -> int:
        character = self.text[at]
        blanks = _BLANKS.match(self.text, at)
        if blanks:
            self._end_word()
            # All at once: _WORD would look through the rest of them from each.
            return blanks.end()
        if character == "|":
            self._end_word()
            self._end_stage(at)
            return at + 1
        if character == "'":
            return self._single(at)
        if character == '"':
            return self._double(at)
        if character == "\\":
            return self._backslash(at)
        if character in _ACTED_ON or (character in _ACTED_ON_FIRST and self.start is None):
            self._refuse_acted_on(at)
        self._refuse_invisible(at, blanks=True)
        self._add(at, character)
        return at + 1

    def _single(self, at: int) -> int:
        opened, at = at, at + 1
        self._quote(opened)
        while True:
            run = _SINGLE.match(self.text, at)
            if run:
                self.parts.append(run.group())
                at = run.end()
            if at >= len(self.text):
                self._fail(opened, "the single quote is never closed", "close it with another '")
            if self.text[at] == "'":
                return at + 1
            self._refuse_invisible(at, blanks=False)
            self.parts.append(self.text[at])
            at += 1

    def _double(self, at: int) -> int:
        opened, at = at, at + 1
        self._quote(opened)
        while True:
            run = _DOUBLE.match(self.text, at)
            if run:
                self.parts.append(run.group())
                at = run.end()
            if at >= len(self.text):
                self._fail(opened, "the double quote is never closed", 'close it with another "')
            character = self.text[at]
            if character == '"':
                return at + 1
            if character == "\\" and self.text[at + 1 : at + 2] in _BACKSLASHED_IN_DOUBLE and at + 1 < len(self.text):
                self.parts.append(self.text[at + 1])
                at += 2
                continue
            self._refuse_invisible(at, blanks=False)
            self.parts.append(character)
            at += 1

    def _backslash(self, at: int) -> int:
        if at + 1 >= len(self.text):
            self._fail(at, "the line ends in a backslash", "leave it out, or double it")
        self._quote(at)
        self._refuse_invisible(at + 1, blanks=True)
        self.parts.append(self.text[at + 1])
        return at + 2

    def _quote(self, at: int) -> None:
        if self.start is None:
            self.start = at
        self.quoted = True

    def _add(self, at: int, text: str) -> None:
        if self.start is None:
            self.start = at
        self.parts.append(text)

    def _end_word(self) -> None:
        if self.start is None:
            return
        token = Token("".join(self.parts), self.start + 1, self.quoted)
        if not self.stage and _ASSIGNMENT.match(self.text, self.start):
            self._fail(
                self.start,
                f"{token.text!r} sets a variable before the command",
                "the environment is the operator's: leave the assignment out",
            )
        self.stage.append(token)
        self.parts, self.start, self.quoted = [], None, False

    def _end_stage(self, at: int) -> None:
        if not self.stage:
            if not self.done and at == len(self.text):
                self._fail(0, "the command line is empty", "start with kubectl, helm or obi")
            twice = self.text[at - 1 : at + 1] == "||"
            hint = _ONE_EACH if twice else "write a command on both sides of |"
            self._fail(min(at, len(self.text)), "a stage of the pipe is empty", hint)
        self.done.append(tuple(self.stage))
        self.stage = []

    def _refuse_acted_on(self, at: int) -> NoReturn:
        character = self.text[at]
        what = _WHAT.get(character, "a pattern")
        self._fail(at, f"{character!r} is {what} in a shell, and no shell is ever started here", self._instead(at))

    def _instead(self, at: int) -> str:
        """What to write instead of a character that a shell acts on; for a pattern, the whole word as it has to be."""
        character = self.text[at]
        if character == ">" and self.text[at - 1 : at] in {"2", "&"}:
            return "leave it out: messages come as stderr"
        if character == ">":
            return "leave it out: the output is the answer; nothing is written to a file"
        if character == "<":
            return "put the document into the stdin argument, and use -f -"
        if character in ";&":
            return "leave it out: messages come as stderr" if self.text[at : at + 2] == "&>" else _ONE_EACH
        if character in _PATTERN:
            rest = _UNQUOTED.match(self.text, at)
            word = "".join(self.parts) + (rest.group() if rest else "")
            after = self.text[rest.end() : rest.end() + 1] if rest else ""
            if after in _WORD_ENDS and word.isascii() and word.isprintable() and len(word) <= _LONGEST_SHOWN:
                return f"quote the whole word: {quote(word)}"
        return f"quote it if you mean the character itself: '{character}'; join commands with | only"

    def _refuse_invisible(self, at: int, *, blanks: bool) -> None:
        """Refuse what a reader would not see: controls and format characters anywhere, odd blanks outside quotes."""
        character = self.text[at]
        if " " <= character <= "~":
            return
        category = unicodedata.category(character)
        if category in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}:
            name = {"\n": "a newline", "\r": "a carriage return", "\t": "a tab in quotes", "\x00": "a NUL"}
            self._fail(
                at,
                f"{name.get(character, 'the character')} (U+{ord(character):04X}) cannot stand in a command line",
                "write the command on one line, without control or invisible characters",
            )
        if blanks and category == "Zs":
            self._fail(
                at,
                f"the blank U+{ord(character):04X} is not a space",
                "separate words with ordinary spaces",
            )

    def _fail(self, at: int, message: str, hint: str) -> NoReturn:
        raise InvalidCommand(
            f"column {at + 1}: {message}", hint, stage=len(self.done), word=len(self.stage), column=at + 1
        )
