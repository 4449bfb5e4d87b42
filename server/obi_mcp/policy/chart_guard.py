"""Every ``tpl`` of a chart is held to what its templates may call.

``tpl`` runs text as a template, and no scan can know a text that is put together while helm renders. So the private
copy of the chart, which is what helm reads, gives each text to a regular expression first: where templates begin in it
and a refused function is named behind, the rendering fails instead.
INVARIANT: nothing that runs as a template is neither scanned nor guarded; what cannot be guarded is no chart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from obi_mcp.policy.chart_scan import REFUSED, action, tokens

SAID = "obi-mcp refuses a text that this chart runs as a template"
"""What helm's error says where the guard has struck."""
# `tpl` itself, too: a template in a template is made where nobody guards it.
_WORDS = "|".join(sorted({*REFUSED, "tpl"}))
_OPEN = rf"(mustRegexReplaceAllLiteral `(?s)^.*\{{\{{.*\b(?:{_WORDS})\b.*$` "
_CLOSE = f' "{{{{ fail `{SAID}` }}}}")'
_PATH = re.compile(r"[.$\w]+|\"(?:\\.|[^\"\\\n])*\"|`[^`]*`")
_CHAIN = re.compile(r"(?:\.\w+)*(?=[ \t\r\n)|]|\}\})")
# helm's own rule: the templates of the chart, and of the charts inside.
_TEMPLATE = re.compile(r"(?:charts/[^/]+/)*templates/")


def guarded(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files of a chart with every ``tpl`` of its templates guarded; the others as they are.

    Raises: ValueError, a whole sentence, for a ``tpl`` whose text this server cannot find.
    """
    return {name: _guarded(name, data) if _TEMPLATE.match(name) else data for name, data in files.items()}


def _guarded(name: str, data: bytes) -> bytes:
    if b"tpl" not in data:
        return data
    # Bytes that are no text stay what they are.
    text = data.decode("utf-8", "surrogateescape")
    pieces, done = [], 0
    for at, more in sorted(_insertions(name, text), key=lambda insertion: insertion[0]):
        pieces += [text[done:at], more]
        done = at
    return "".join((*pieces, text[done:])).encode("utf-8", "surrogateescape")


def _insertions(name: str, text: str) -> Iterator[tuple[int, str]]:
    """What goes before and behind the first argument of each call."""
    for token in tokens(text):
        if token.lastgroup == "word" and token.group() == "tpl":
            start = next((at.start() for at in action(text, token.end()) if not at.group().isspace()), len(text))
            end = _argument(text, start)
            if end is None:
                line = text.count("\n", 0, start) + 1
                raise ValueError(f"line {line} of {name} calls tpl in a way that this server cannot read")
            yield from ((start, _OPEN), (end, _CLOSE))


def _argument(text: str, start: int) -> int | None:
    """Where the argument that begins there ends: in parentheses, a string, or a path of fields."""
    if text.startswith("(", start):
        end = _closing(text, start)
    else:
        end = match.end() if (match := _PATH.match(text, start)) else None
    chain = _CHAIN.match(text, end) if end is not None else None
    return chain.end() if chain else None


def _closing(text: str, start: int) -> int | None:
    depth = 0
    for token in action(text, start):
        if token.group() in {"(", ")"}:
            depth += 1 if token.group() == "(" else -1
            if not depth:
                return token.end()
        elif token.lastgroup == "end":
            break
    return None
