"""pflag's ``Parse``, exactly: ``--flag=value``, ``--flag value``, ``-nobi``, ``-n=obi``, grouped shorthands, ``--``."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from obi_mcp.command.grammar import CommandSpec, FlagSpec, ProgramGrammar
from obi_mcp.command.model import Flag, Token
from obi_mcp.command.nearest import nearest
from obi_mcp.errors import InvalidCommand

_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}\Z")
# Flags of helm's that set the same variable, so that the last one counts (the oracle found them).
_SAME = {"atomic": "rollback-on-failure", "force": "force-replace", "colour": "color"}
_DURATION = re.compile(r"[+-]?(?:0|(?:(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:ns|us|µs|ms|s|m|h))++)\Z")


def parse_flags(
    grammar: ProgramGrammar, spec: CommandSpec, path: tuple[str, ...], words: Sequence[Token], rest: Sequence[int]
) -> tuple[list[Flag], list[int], int | None]:
    """Flags, the word indexes of the operands, and how many operands stood before ``--`` (None without one).

    Raises: InvalidCommand for a flag or shorthand that the command does not know, a missing or impossible value, and
    (STRICTER) a flag that keeps one value given twice.
    """
    return _FlagSet(grammar, spec, path, words, list(rest)).parse()


@dataclass(slots=True)
class _FlagSet:
    grammar: ProgramGrammar
    spec: CommandSpec
    path: tuple[str, ...]
    words: Sequence[Token]
    rest: list[int]
    flags: list[Flag] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    next: int = 0

    def parse(self) -> tuple[list[Flag], list[int], int | None]:
        operands: list[int] = []
        dash: int | None = None
        while self.next < len(self.rest):
            at = self.rest[self.next]
            self.next += 1
            text = self.words[at].text
            if len(text) < 2 or text[0] != "-":
                operands.append(at)
                if self.grammar.style == "goflag":
                    operands.extend(self.rest[self.next :])
                    break
                continue
            if text == "--":
                dash = len(operands)
                operands.extend(self.rest[self.next :])
                break
            if text.startswith("--") or self.grammar.style == "goflag":
                self._long(at, text[2:] if text.startswith("--") else text[1:])
            else:
                self._shorts(at, text[1:])
        return self.flags, operands, dash

    def _long(self, at: int, body: str) -> None:
        if not body or body[0] in "-=":
            raise InvalidCommand(f"{self.words[at].text!r} is not a flag", "write --flag=value", word=at)
        name, equals, value = body.partition("=")
        if self.grammar.normalize:
            name = name.replace("_", "-")
        flag = self.spec.flags.get(name)
        if flag is None:
            raise self._unknown(at, f"--{name}", name)
        self._set(at, flag, f"--{name}", self._long_value(at, flag, f"--{name}", value if equals else None))

    def _long_value(self, at: int, flag: FlagSpec, spelled: str, value: str | None) -> str:
        if value is not None:
            return value
        if flag.optional:
            return flag.optional
        return self._following(at, spelled)

    def _shorts(self, at: int, letters: str) -> None:
        while letters:
            letter = letters[0]
            flag = self.spec.shorts.get(letter)
            if flag is None or letters.startswith("test."):  # which pflag skips, for the sake of Go's own tests
                raise self._unknown(at, f"-{letter}", letter)
            if len(letters) > 2 and letters[1] == "=":
                value, letters = letters[2:], ""
            elif flag.optional:
                value, letters = flag.optional, letters[1:]
            elif len(letters) > 1:
                value, letters = letters[1:], ""
            else:
                value, letters = self._following(at, f"-{letter}"), ""
            self._set(at, flag, f"-{letter}", value)

    def _following(self, at: int, spelled: str) -> str:
        if self.next >= len(self.rest):
            raise InvalidCommand(f"the flag {spelled} needs a value", f"write {spelled} VALUE", word=at)
        value = self.words[self.rest[self.next]].text
        self.next += 1
        return value

    def _set(self, at: int, flag: FlagSpec, spelled: str, value: str) -> None:
        kept = _SAME.get(flag.name, flag.name)
        if kept in self.seen and not flag.repeat:
            raise InvalidCommand(
                f"the flag --{flag.name} is given twice", "give it once: the program would keep the last", word=at
            )
        self.seen.add(kept)
        check = _VALUES.get(flag.type)
        try:
            values = check(value) if check else (value,)
        except ValueError as error:
            raise InvalidCommand(
                f"{spelled}={value!r}: {error}", f"give --{flag.name} such a value, or leave it out", word=at
            ) from None
        self.flags.append(Flag(flag.name, values, at, spelled))

    def _unknown(self, at: int, spelled: str, name: str) -> InvalidCommand:
        command = " ".join((self.grammar.program, *self.path))
        near = nearest(name, self.spec.flags)
        known = ", ".join(f"--{flag}" for flag in sorted(self.spec.flags))
        hint = f"did you mean --{near}?" if near else f"{command} knows: {known}"
        path = (self.grammar.program, *self.path)
        return InvalidCommand(f"{command} has no flag {spelled}", hint, word=at, path=path)


def _bool(value: str) -> tuple[str, ...]:
    if value in _TRUE:
        return ("true",)
    if value in _FALSE:
        return ("false",)
    raise ValueError("expected true or false")


def _integer(value: str) -> tuple[str, ...]:
    # STRICTER: strconv.ParseInt with base 0 also reads 0x10, 0b1, 0o7, 010 and 1_000.
    if not _INTEGER.match(value) or (len(value.lstrip("+-")) > 1 and value.lstrip("+-")[0] == "0"):
        raise ValueError("expected a whole number")
    return (str(int(value)),)


def _unsigned(value: str) -> tuple[str, ...]:
    if value[:1] in {"+", "-"}:  # strconv.ParseUint takes no sign
        raise ValueError("expected a whole number without a sign")
    return _integer(value)


def _duration(value: str) -> tuple[str, ...]:
    if not _DURATION.match(value):
        raise ValueError("expected a duration such as 30s or 5m")
    return (value,)


def _list(value: str) -> tuple[str, ...]:
    # pflag reads this with encoding/csv. STRICTER: no quotes, no line breaks, so that a comma is always a comma.
    if '"' in value or "\n" in value or "\r" in value:
        raise ValueError("expected values separated by commas, without quotes")
    return tuple(value.split(",")) if value else ()


def _format(value: str) -> tuple[str, ...]:
    if not value:  # which formats are good is the rules' business; helm knows none without a name
        raise ValueError("expected the name of a format")
    return (value,)


_VALUES: dict[str, Callable[[str], tuple[str, ...]]] = {
    "bool": _bool,
    "tristate": _bool,
    "int": _integer,
    "int32": _integer,
    "int64": _integer,
    "uint": _unsigned,
    "uint64": _unsigned,
    "duration": _duration,
    "stringSlice": _list,
    "format": _format,
}
