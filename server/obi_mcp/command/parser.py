"""Stages of words to a Pipeline, the way the programs themselves would read them.

For kubectl and helm this is cobra's ``Find`` and then pflag's ``Parse``, step by step; the places where it is stricter
are marked STRICTER. The filters are read like ``getopt_long`` (without abbreviations) and jq's own loop.
"""

from __future__ import annotations

from collections.abc import Sequence

from obi_mcp.command.getopt import parse_getopt, parse_jq
from obi_mcp.command.grammar import CommandSpec, Grammars, ProgramGrammar
from obi_mcp.command.lexer import MAX_BYTES, lex
from obi_mcp.command.model import Command, Flag, Operand, Pipeline, Token
from obi_mcp.command.nearest import nearest
from obi_mcp.command.pflag import parse_flags
from obi_mcp.errors import InvalidCommand, UnknownProgram

MAX_STAGES = 9

# The one command that kubectl would look for a plugin below (kubectl-create-NAME), unless a flag follows it.
_PLUGIN_PARENT = ("create",)
# kubectl's main and its kuberc look for these in every word (GetLogVerbosity, getExplicitKuberc), and take what stands
# between the word's first two equals signs: --selector=9=x,a-v=y logs at level 9.
_LOOKED_FOR = ("-v=", "--kuberc=")


def parse(text: str, grammars: Grammars, *, max_bytes: int = MAX_BYTES) -> Pipeline:
    """The pipeline that ``text`` means: a head and at most eight filters.

    Raises: InvalidCommand (UnknownProgram where a stage names a program that does not exist here) with the stage,
    word and column of the cause.
    """
    stages = lex(text, max_bytes=max_bytes)
    if len(stages) > MAX_STAGES:
        raise InvalidCommand(
            f"the pipe has {len(stages)} stages; a command and {MAX_STAGES - 1} filters are the most",
            "let one jq program do the work of several filters",
            stage=MAX_STAGES,
            word=0,
            column=stages[MAX_STAGES][0].column,
        )
    head = _stage(stages[0], 0, grammars.heads, grammars)
    return Pipeline(
        head, tuple(_stage(words, at, grammars.filters, grammars) for at, words in enumerate(stages[1:], 1))
    )


def _stage(words: Sequence[Token], stage: int, known: dict[str, ProgramGrammar], grammars: Grammars) -> Command:
    program = words[0]
    grammar = known.get(program.text)
    if grammar is None:
        raise _unknown_program(program, stage, grammars)
    try:
        if grammar.style in {"cobra", "goflag"}:
            return _cobra(grammar, words)
        if grammar.style == "jq":
            return parse_jq(grammar, words)
        return parse_getopt(grammar, words)
    except InvalidCommand as error:
        error.stage = stage
        if error.column is None and error.word is not None and error.word < len(words):
            error.column = words[error.word].column
        raise


def _unknown_program(program: Token, stage: int, grammars: Grammars) -> UnknownProgram:
    heads, filters = ", ".join(grammars.heads), ", ".join(grammars.filters)
    if stage == 0:
        said = "is a filter, and stands after a |" if program.text in grammars.filters else "does not exist here"
        hint = f"start with one of: {heads}, written bare"
    else:
        said = "cannot be a filter" if program.text in grammars.heads else "does not exist here"
        hint = f"filter with one of: {filters}, written bare"
    return UnknownProgram(
        f"{program.text!r} {said}", hint, stage=stage, word=0, column=program.column, program=program.text
    )


def _cobra(grammar: ProgramGrammar, words: Sequence[Token]) -> Command:
    spec, path, rest = _find(grammar, words)
    if grammar.style == "goflag":
        _refuse_scattered(grammar, spec, path, rest)
    flags, operands, dash = parse_flags(grammar, spec, path, words, rest)
    command = Command(
        grammar.program,
        path,
        tuple(flags),
        tuple(Operand(words[at].text, at) for at in operands),
        dash,
        grammar.style,
    )
    if grammar.style == "cobra":
        _refuse_lost_command(grammar, spec, command)
    if grammar.program == "kubectl":
        _refuse_looked_for(command)
        if path == _PLUGIN_PARENT and operands and not flags and dash != 0:
            raise _unknown_command(grammar, spec, path, words[operands[0]], operands[0])
    return command


def _refuse_lost_command(grammar: ProgramGrammar, spec: CommandSpec, command: Command) -> None:
    """Refuse an operand that is one only because cobra took it for a flag's value while it looked for the command.

    INVARIANT: ``Command.argv`` glues values to their flags, so that there it would be looked up as a command.
    """
    if spec.runnable and not spec.child_names():
        return
    for operand in command.operands[: command.dash]:
        if not operand.text or operand.text == "-":
            continue
        if not command.path or not spec.runnable or spec.child(operand.text):
            raise InvalidCommand(
                f"{operand.text!r} stands behind a flag that {grammar.program} does not know there",
                f"write flags after the command: {grammar.program} {' '.join((*command.path, operand.text))} …",
                word=operand.word - 1,
            )
        return


def _refuse_scattered(grammar: ProgramGrammar, spec: CommandSpec, path: tuple[str, ...], rest: Sequence[int]) -> None:
    # STRICTER: obi looks at its first words only; where they are no command it starts instrumenting.
    name = " ".join((grammar.program, *path))
    if rest and rest[0] <= len(path):
        raise InvalidCommand(
            f"{grammar.program} takes only its first words for a command", f"start with {name}", word=rest[0]
        )
    if path and not spec.runnable:
        known = ", ".join(f"{name} {child}" for child in spec.child_names())
        raise InvalidCommand(f"{name} is not a whole command", f"write one of: {known}", word=len(path))


def _refuse_looked_for(command: Command) -> None:
    # STRICTER: kubectl stops looking at `--`, we do not.
    texts = [(value, flag.word) for flag in command.flags for value in flag.values]
    texts += [(operand.text, operand.word) for operand in command.operands]
    for text, word in texts:
        for mark in _LOOKED_FOR:
            if mark in text:
                raise InvalidCommand(
                    f"{text!r} holds {mark!r}, which kubectl takes for a flag wherever it stands",
                    "choose a value without it",
                    word=word,
                )


def _find(grammar: ProgramGrammar, words: Sequence[Token]) -> tuple[CommandSpec, tuple[str, ...], list[int]]:
    """cobra's ``Find``: the command, its path, and the indexes of the words that are left for its flag set."""
    spec = grammar.root
    path: tuple[str, ...] = ()
    rest = list(range(1, len(words)))
    while True:
        at = _next_command(grammar, spec, words, rest)
        if at is None:
            return spec, path, rest
        child = spec.child(words[at].text)
        if child is None and path and spec.runnable:
            return spec, path, rest
        # STRICTER: where a flag stood before this word that the level does not know, cobra guesses whether it takes a
        # value (`kubectl -A get delete cm x` runs delete). We refuse the flag instead.
        _refuse_guessed_flags(grammar, spec, words, rest, at)
        if child is None or child.hidden:
            raise _unknown_command(grammar, spec, path, words[at], at)
        # cobra removes the first word that *equals* the command's, which can only be this one or an earlier equal flag
        # value position it skipped the same way; both walks are the same walk.
        rest.remove(at)
        spec, path = child, (*path, child.name)


def _next_command(
    grammar: ProgramGrammar, spec: CommandSpec, words: Sequence[Token], rest: Sequence[int]
) -> int | None:
    """Index of the first word that cobra's ``stripFlags`` leaves, or None."""
    at = 0
    while at < len(rest):
        text = words[rest[at]].text
        left = len(rest) - at - 1
        if text == "--":
            return None
        if _takes_next(grammar, spec, text):
            if left <= 1:
                return None
            at += 2
            continue
        if text and not text.startswith("-"):
            return rest[at]
        at += 1
    return None


def _takes_next(grammar: ProgramGrammar, spec: CommandSpec, text: str) -> bool:
    """Whether cobra skips the word after this one as a flag's value; unknown flags count as taking one."""
    if not text.startswith("-") or "=" in text:
        return False
    if text.startswith("--"):
        name = text[2:].replace("_", "-") if grammar.normalize else text[2:]
        known = spec.flags.get(name)
    elif len(text.encode()) == 2:
        known = spec.shorts.get(text[1:])
    else:
        return False
    # cobra adds the help flags only to the command that it found.
    return known is None or known.name == "help" or not known.optional


def _refuse_guessed_flags(
    grammar: ProgramGrammar, spec: CommandSpec, words: Sequence[Token], rest: Sequence[int], command_at: int
) -> None:
    for at, index in enumerate(rest):
        if index >= command_at:
            return
        text = words[index].text
        if not text.startswith("-") or text == "-":
            continue
        name = text.lstrip("-").split("=", 1)[0]
        if text.startswith("--"):
            known = spec.persistent.get(name.replace("_", "-") if grammar.normalize else name)
        else:
            short = spec.shorts.get(text[1:2])
            known = short if short is not None and short.name in spec.persistent else None
        if known is None and not (at and _takes_next(grammar, spec, words[rest[at - 1]].text)):
            verb = words[command_at].text
            taken = words[index + 1].text if _takes_next(grammar, spec, text) and index + 1 < command_at else None
            reads = f": it takes {taken!r} for its value and would run {verb}" if taken else ""
            meant = taken if taken and spec.child(taken) else verb
            raise InvalidCommand(
                f"the flag {text!r} stands before {verb!r}, where {grammar.program} does not know it{reads}",
                f"write flags after the command: {grammar.program} {meant} … {text}",
                word=index,
            )


def _unknown_command(
    grammar: ProgramGrammar, spec: CommandSpec, path: tuple[str, ...], word: Token, at: int
) -> InvalidCommand:
    name = " ".join((grammar.program, *path))
    near = nearest(word.text, spec.child_names())
    hint = f"did you mean {name} {near}?" if near else f"{name} knows: {', '.join(sorted(spec.child_names())[:40])}"
    return InvalidCommand(f"{name} has no command {word.text!r}, and plugins do not exist here", hint, word=at)


__all__ = ["Flag", "parse"]
