"""The parsed form of a command line: what was judged, and the only thing that runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Style = Literal["cobra", "goflag", "getopt", "jq"]


@dataclass(frozen=True, slots=True)
class Token:
    """One word of a stage, unquoted. ``column`` counts characters of the command line from 1."""

    text: str
    column: int
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag as the program will see it.

    ``name`` is the canonical long name of the grammar (the letter where no long name exists); ``values`` holds
    what follows it: empty for a getopt or jq switch, one value for most (``("true",)`` for a cobra bool,
    NoOptDefVal where an optional value was left out), the parts of a comma-separated list (pflag's stringSlice), two
    for jq's ``--arg``. ``word`` is the index of the word
    it was written in; ``spelled`` is how (``-n``), for messages.
    """

    name: str
    values: tuple[str, ...]
    word: int = 0
    spelled: str = ""

    @property
    def value(self) -> str:
        """The single value; empty for a switch."""
        return self.values[0] if self.values else ""


@dataclass(frozen=True, slots=True)
class Operand:
    """A word that is neither command, flag nor flag value, with the index of its word."""

    text: str
    word: int = 0


@dataclass(frozen=True, slots=True)
class Command:
    """One stage. ``path`` is the command path below the program (``("rollout", "status")``), aliases resolved.

    ``dash`` is the number of operands before ``--``, or None. ``style`` decides how ``argv`` spells flags.
    """

    program: str
    path: tuple[str, ...] = ()
    flags: tuple[Flag, ...] = ()
    operands: tuple[Operand, ...] = ()
    dash: int | None = None
    style: Style = "cobra"
    short: frozenset[str] = field(default=frozenset(), repr=False)
    """Names in ``flags`` that exist only as a single letter, and so are spelled ``-x``."""

    def flag(self, name: str) -> Flag | None:
        """The last flag of that name, or None."""
        for flag in reversed(self.flags):
            if flag.name == name:
                return flag
        return None

    def value(self, name: str, default: str = "") -> str:
        """The value of the last flag of that name, or ``default``."""
        flag = self.flag(name)
        return flag.value if flag else default

    def argv(self) -> tuple[str, ...]:
        """The argument vector, rebuilt from the parsed form.

        INVARIANT: parsing this vector again gives this command; the program reads it as we judged it.
        """
        words = [self.program, *self.path]
        for flag in self.flags:
            words.extend(self._spell(flag))
        texts = [operand.text for operand in self.operands]
        if self.dash is not None or any(text.startswith("-") and text != "-" for text in texts):
            at = self.dash or 0
            texts = [*texts[:at], "--", *texts[at:]]
        return (*words, *texts)

    def _spell(self, flag: Flag) -> list[str]:
        if self.style in {"cobra", "goflag"}:
            return [f"--{flag.name}={','.join(flag.values)}"]
        dashes = "-" if flag.name in self.short else "--"
        if self.style == "jq" or not flag.values:
            return [dashes + flag.name, *flag.values]
        if dashes == "--":
            return [f"--{flag.name}={flag.value}"]
        # An empty value cannot be glued to a letter: the next word would be taken for it.
        return [f"-{flag.name}{flag.value}"] if flag.value else [f"-{flag.name}", ""]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A head (kubectl, helm or obi) and the filters its output goes through, in order."""

    head: Command
    filters: tuple[Command, ...] = ()

    def stages(self) -> tuple[Command, ...]:
        """Head and filters, by stage number."""
        return (self.head, *self.filters)

    def argv(self) -> tuple[tuple[str, ...], ...]:
        """One argument vector per stage."""
        return tuple(command.argv() for command in self.stages())
