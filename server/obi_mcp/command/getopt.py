"""The filters' command lines: GNU ``getopt_long`` (without abbreviations), and jq's own loop over its arguments."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from obi_mcp.command.grammar import FlagSpec, ProgramGrammar
from obi_mcp.command.model import Command, Flag, Operand, Token
from obi_mcp.command.nearest import nearest
from obi_mcp.errors import InvalidCommand

_NUMERIC = re.compile(r"-[0-9]{1,9}\Z")


def parse_getopt(grammar: ProgramGrammar, words: Sequence[Token]) -> Command:
    """One filter stage. Options and operands may be mixed (getopt permutes) unless the grammar says otherwise.

    Raises: InvalidCommand.
    """
    reader = _Reader(grammar, words)
    reader.read(reader.long, reader.group)
    return reader.command()


def parse_jq(grammar: ProgramGrammar, words: Sequence[Token]) -> Command:
    """The jq stage: options anywhere, the first operand is the program, ``--arg`` takes two words.

    STRICTER than jq: an option given twice, ``--args`` together with ``--jsonargs``, and operands before ``--args``
    are errors, so that the vector we rebuild (options first) means the same.

    Raises: InvalidCommand.
    """
    reader = _Reader(grammar, words)
    reader.read(reader.jq_long, reader.jq_group)
    command = reader.command()
    args, jsonargs = command.flag("args"), command.flag("jsonargs")
    if args and jsonargs:
        raise InvalidCommand("jq takes --args or --jsonargs here, not both", "use --jsonargs", word=jsonargs.word)
    positional = args or jsonargs
    for operand in command.operands[1:]:
        if positional is None or operand.word < positional.word:
            raise InvalidCommand(
                f"jq would read the file {operand.text!r}; it reads only what comes through the pipe",
                "leave it out; give values with --arg NAME VALUE, or after --args",
                word=operand.word,
            )
    return command


@dataclass(slots=True)
class _Reader:
    grammar: ProgramGrammar
    words: Sequence[Token]
    flags: list[Flag] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    operands: list[Operand] = field(default_factory=list)
    next: int = 1

    def read(self, long: Callable[[int, str], None], group: Callable[[int, str], None]) -> None:
        """Go through the words; ``long`` and ``group`` take a word's index and what follows its dashes."""
        while self.next < len(self.words):
            at = self.next
            text = self.words[at].text
            self.next += 1
            if text == "--":
                self.rest_are_operands()
            elif len(text) < 2 or text[0] != "-":
                self.operands.append(Operand(text, at))
                if not self.grammar.interspersed:
                    # After the first operand everything is one, also a word that looks like an option.
                    self.rest_are_operands()
            elif text.startswith("--"):
                long(at, text[2:])
            elif self._is_number(at, text):
                self.set(at, self.grammar.root.flags[self.grammar.numeric], text, (str(int(text[1:])),))
            else:
                group(at, text[1:])

    def _is_number(self, at: int, text: str) -> bool:
        """Whether ``-20`` may stand there: GNU's head takes it only as its first word, tail only as its one word."""
        if not self.grammar.numeric or not _NUMERIC.match(text):
            return False
        program = self.grammar.program
        return at == 1 if program == "head" else len(self.words) == 2 if program == "tail" else True

    def command(self) -> Command:
        short = frozenset(flag.name for flag in self.flags if not self.grammar.root.flags[flag.name].long)
        return Command(
            self.grammar.program,
            (),
            tuple(self.flags),
            tuple(self.operands),
            # jq and getopt only need to know that what follows are operands; argv() adds its own -- where one starts
            # with a dash, so a caller's -- leaves no trace.
            None,
            self.grammar.style,
            short,
        )

    def rest_are_operands(self) -> None:
        self.operands.extend(Operand(self.words[at].text, at) for at in range(self.next, len(self.words)))
        self.next = len(self.words)

    def long(self, at: int, body: str) -> None:
        name, equals, value = body.partition("=")
        flag = self.grammar.root.flags.get(name)
        if flag is None or not flag.long:
            raise self.unknown(at, f"--{name}", name)
        if flag.type == "bool":
            if equals:
                raise InvalidCommand(f"--{name} takes no value", f"write --{name}", word=at)
            self.set(at, flag, f"--{name}", ())
        elif equals:
            self.set(at, flag, f"--{name}", (value,))
        elif flag.optional is not None:
            self.set(at, flag, f"--{name}", (flag.optional,) if flag.optional else ())
        else:
            self.set(at, flag, f"--{name}", (self.following(at, f"--{name}"),))

    def group(self, at: int, letters: str) -> None:
        while letters:
            letter, letters = letters[0], letters[1:]
            flag = self.grammar.root.shorts.get(letter)
            if flag is None:
                raise self.unknown(at, f"-{letter}", letter)
            if flag.type == "bool":
                self.set(at, flag, f"-{letter}", ())
            elif letters:
                self.set(at, flag, f"-{letter}", (letters,))
                letters = ""
            elif flag.optional is not None:
                self.set(at, flag, f"-{letter}", (flag.optional,) if flag.optional else ())
            else:
                self.set(at, flag, f"-{letter}", (self.following(at, f"-{letter}"),))

    def jq_long(self, at: int, name: str) -> None:
        flag = self.grammar.root.flags.get(name)
        if flag is None or not flag.long:
            raise self.unknown(at, f"--{name}", name)
        self.set(at, flag, f"--{name}", tuple(self.following(at, f"--{name}") for _ in range(flag.nargs)))

    def jq_group(self, at: int, letters: str) -> None:
        for letter in letters:
            flag = self.grammar.root.shorts.get(letter)
            if flag is None:
                raise self.unknown(at, f"-{letter}", letter)
            if flag.nargs and len(letters) > 1:
                raise InvalidCommand(
                    f"-{letter} takes a value and cannot stand in a group", f"write it alone: -{letter} VALUE", word=at
                )
            self.set(at, flag, f"-{letter}", tuple(self.following(at, f"-{letter}") for _ in range(flag.nargs)))

    def following(self, at: int, spelled: str) -> str:
        if self.next >= len(self.words):
            raise InvalidCommand(f"{self.grammar.program} {spelled} needs a value", f"write {spelled} VALUE", word=at)
        self.next += 1
        return self.words[self.next - 1].text

    def set(self, at: int, flag: FlagSpec, spelled: str, values: tuple[str, ...]) -> None:
        if not flag.repeat and flag.name in self.seen:
            raise InvalidCommand(f"{self.grammar.program} {spelled} is given twice", "give it once", word=at)
        self.seen.add(flag.name)
        self.flags.append(Flag(flag.name, values, at, spelled))

    def unknown(self, at: int, spelled: str, name: str) -> InvalidCommand:
        near = nearest(name, self.grammar.root.flags)
        hint = f"did you mean --{near}?" if near else "options are written in full, without abbreviation"
        return InvalidCommand(f"{self.grammar.program} has no option {spelled}", hint, word=at)
