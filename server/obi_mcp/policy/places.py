"""Where the cause of a refusal stands in the line that was sent: the word, and its column."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from obi_mcp.command.lexer import lex
from obi_mcp.policy.model import Place

if TYPE_CHECKING:
    from obi_mcp.command.model import Command

_QUOTING = frozenset("'\"\\")
_RUN = re.compile(r"[^ \t|]+")


def located(place: Place | None, text: str, command: Command, stage: int) -> Place | None:
    """The place with its word and column; a refusal of the command as a whole points at its verb."""
    if place is None:
        return None
    words = _words(text, stage)
    word = place.word
    if word is None:
        verbs = reversed(command.path)
        word = next((at for verb in verbs for at, (_, spelled) in enumerate(words) if at and spelled == verb), 0)
    column = words[word][0] if word < len(words) else None
    return Place(stage, word, column, place.document, place.path)


def _words(text: str, stage: int) -> list[tuple[int, str]]:
    """Column and text of each word of a stage of a line that has been parsed."""
    if not _QUOTING.isdisjoint(text):
        return [(token.column, token.text) for token in lex(text)[stage]]
    # Without quotes a word is a run of what is neither blank nor |, which is quicker than the lexer.
    start = 0
    for _ in range(stage):
        start = text.index("|", start) + 1
    end = text.find("|", start)
    return [(run.start() + 1, run.group()) for run in _RUN.finditer(text, start, len(text) if end < 0 else end)]
