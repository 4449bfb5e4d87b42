"""The program of a ``jq`` stage, tokenised as jq 1.7 does and searched for what reaches outside its input.

Source of fact: ``src/lexer.l`` and ``src/parser.y`` of jq 1.7. Words in a plain string mean nothing; within
``\\(…)`` they are code. jq runs with an empty environment, no network and no files, so this is the second wall.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from obi_mcp.policy.expressions import ExpressionDenied

MAX_PROGRAM: Final = 4096
_WORDS: Final = {
    "import": "loads code from files",
    "include": "loads code from files",
    "module": "declares a module",
    "modulemeta": "reads files",
    "env": "reads the environment",
    "input_filename": "names files",
    "get_search_list": "names directories",
    "get_prog_origin": "names directories",
    "get_jq_origin": "names directories",
    "debug": "writes to standard error, past the filters behind it",
    "stderr": "writes to standard error, past the filters behind it",
    "halt_error": "writes to standard error, past the filters behind it",
    "__prog_args": "reads the command line",
}
_VARIABLES: Final = {"ENV": "reads the environment", "__prog_args": "reads the command line"}
_TOKEN: Final = re.compile(
    r"(?P<blank>[ \t\n]+)"
    r"|(?P<field>\.[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<variable>\$[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<word>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<format>@[A-Za-z0-9_]+)"
    r"|(?P<quote>\")"
    r"|(?P<open>[(\[{])"
    r"|(?P<close>[)\]}])"
    r"|(?P<operator>\?//|//=|[=!<>|+*/%-]=|//|\.\.|[.?=;,:|+*/%<>-])"
)
_STRING_PART: Final = re.compile(r"(?P<interpolation>\\\()|(?P<end>\")|(?P<text>(?:\\[^(]|[^\\\"])+)")
_CLOSING: Final = {"(": ")", "[": "]", "{": "}", "\\(": ")"}


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int
    within: str
    """The innermost bracket that is open before it."""


def check_program(program: str) -> None:
    """Judge a jq program.

    Raises: ExpressionDenied for comments, modules, the environment, file names, output to standard error, ``$`` apart
    from its name, more than 4 KiB, and whatever jq's lexer would not take.
    """
    if len(program.encode("utf-8", "surrogatepass")) > MAX_PROGRAM:
        raise ExpressionDenied(f"the program is longer than {MAX_PROGRAM} bytes", 1, "make the program shorter")
    tokens = _tokenise(program)
    for index, token in enumerate(tokens):
        if token.kind == "word" and token.text in _WORDS and not _is_key(tokens, index):
            raise _denied(token, _WORDS[token.text])
        if token.kind == "variable" and token.text[1:] in _VARIABLES:
            raise _denied(token, _VARIABLES[token.text[1:]])
        if token.kind == "field" and token.text[1:] in _WORDS and _after_number(tokens, index):
            raise _denied(token, "is read as a word of its own by some versions of jq")


def _denied(token: _Token, why: str) -> ExpressionDenied:
    name = token.text.removeprefix(".")
    hint = f'for a field of that name write .["{name}"] or {{"{name}": …}}; the word in a string is fine'
    return ExpressionDenied(f"{token.text} {why}", token.at + 1, hint)


def _is_key(tokens: list[_Token], index: int) -> bool:
    """Whether the word is a key of an object construction or pattern: ``{env: 1}``."""
    if tokens[index].within != "{" or index + 1 >= len(tokens):
        return False
    before, after = tokens[index - 1], tokens[index + 1]
    return before.text in {"{", ","} and before.kind in {"open", "operator"} and after.text == ":"


def _after_number(tokens: list[_Token], index: int) -> bool:
    """Whether a number or dots stand right before a field: jq's versions cut ``1.env`` and ``...env`` differently."""
    before = tokens[index - 1] if index else None
    touches = before is not None and before.at + len(before.text) == tokens[index].at
    return before is not None and touches and (before.kind == "number" or before.text in {".", ".."})


def _tokenise(program: str) -> list[_Token]:
    """All tokens but blanks; strings are their quotes and the code in their interpolations."""
    tokens: list[_Token] = []
    open_: list[tuple[str, int]] = []
    at = 0
    while at < len(program):
        if open_ and open_[-1][0] == '"':
            at = _string_part(program, at, open_)
            continue
        match = _TOKEN.match(program, at)
        if match is None or match.lastgroup is None:
            raise _unknown(program, at)
        kind, text = match.lastgroup, match[0]
        if kind != "blank":
            tokens.append(_Token(kind, text, at, open_[-1][0] if open_ else ""))
        if kind in {"quote", "open"}:
            open_.append((text, at))
        elif kind == "close":
            if not open_ or _CLOSING[open_[-1][0]] != text:
                raise ExpressionDenied(f"{text} closes nothing", at + 1, "balance the brackets")
            open_.pop()
        at = match.end()
    if open_:
        text, at = open_[-1]
        raise ExpressionDenied("a string is not closed" if text == '"' else f"{text} is not closed", at + 1, "close it")
    return tokens


def _string_part(program: str, at: int, open_: list[tuple[str, int]]) -> int:
    """Step over text, the end, or the start of an interpolation in a string."""
    match = _STRING_PART.match(program, at)
    if match is None:
        raise ExpressionDenied("a string ends in a lone backslash", at + 1, "close the string")
    if match.lastgroup == "interpolation":
        open_.append((match[0], at))
    elif match.lastgroup == "end":
        open_.pop()
    return match.end()


def _unknown(program: str, at: int) -> ExpressionDenied:
    char = program[at]
    if char == "#":
        return ExpressionDenied("a jq program may hold no comments", at + 1, 'leave it out; in a string "#" is fine')
    if char == "$":
        return ExpressionDenied("$ stands apart from its name", at + 1, "write $name in one piece")
    if char == "'":
        return ExpressionDenied("jq has no single-quoted strings", at + 1, 'use "…" within the program')
    return ExpressionDenied(f"jq does not know {char!r} here", at + 1, "quote text as a jq string")
