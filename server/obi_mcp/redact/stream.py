"""Text as it streams by: only lines in which something may be secret are looked at closely."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from obi_mcp.redact.controls import strip_controls
from obi_mcp.redact.document import DocumentState
from obi_mcp.redact.line import LineRedactor
from obi_mcp.redact.rules import RedactionRules
from obi_mcp.redact.values import Opened

MAX_LINE_BYTES = 65_536
"""A longer line is cut into pieces of about this size; more is never held back."""
_GUARD_BYTES = 8_192
_PEM = re.compile(r"(-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY[A-Z ]{0,10}-----)[^\"'\-]*(-----END [A-Z0-9 ]{0,40}-----)?")
_PEM_BODY = re.compile(r"\s*(?:\S{1,64}\s+){0,2}[\"']?(?:[A-Za-z0-9+/=]{1,100}|[A-Za-z-]{3,20}: \S.{0,80})?[\"',]*\s*$")
# A double-quoted string of YAML that goes on in the next line.
_FOLDED = re.compile(r"[ \t]*+(?:-[ \t]+)*+[\w./\-\"']{1,256}:[ \t]++\"(?:[^\"\\]|\\.)*+\\?$")
MAX_FOLDED_CHARACTERS = 4_194_304
_VALUE_LINE = re.compile(rb"[ \t+\-]*[\"']?value[\"']?[ \t]*:")
# A line of a key whose beginning is not in the text: `logs --tail=3` may begin within one. Of hexadecimal digits alone
# it is a digest.
_KEY_LINE = re.compile(r"[ \t]*(?:\S{1,64}[ \t]+){0,2}[\"']?(?![0-9a-f]+\s*$)[A-Za-z0-9+/=]{60,80}[\"',]*\r?\n?$")
_KEY_REST = re.compile(r"[ \t]*(?:\S{1,64}[ \t]+){0,2}[\"']?[A-Za-z0-9+/=]{1,80}[\"',]*\r?\n?$")


@dataclass(slots=True)
class _Start:
    """The first lines of a text: whether they are a key's, and the first line while it may be the last of one."""

    in_key: bool = False
    held: str = ""


class TextStream:
    """Redacts one stream. Give it chunks in order; what it gives is complete after ``finish``.

    Holds back a line that has not ended yet (64 KiB at most), a last line ``value: …`` whose name may come next, and
    a ``data:`` block of YAML until its document says its kind (1 MiB at most).

    ``diff``: the text is a unified diff, whose lines begin with a character of its own.
    """

    def __init__(self, rules: RedactionRules, *, diff: bool = False) -> None:
        self._rules = rules
        self._diff = diff
        self._mark = ""
        self._folded = ""
        self._as_it_was = ("", "")
        self._lines = LineRedactor(rules, self._nested)
        self._document = DocumentState(rules)
        self._pending = b""
        self._out: list[bytes] = []
        self._open: list[Opened] = []
        self._in_key = False
        self._start: _Start | None = _Start()

    def feed(self, chunk: bytes) -> bytes:
        """What of the stream so far may go on."""
        self._pending += chunk
        end = self._pending.rfind(b"\n") + 1
        if end:
            whole, self._pending = self._pending[:end], self._pending[end:]
            self._take(whole)
        while len(self._pending) > MAX_LINE_BYTES:
            self._take_part()
        return self._drain(keep_value=True)

    def finish(self) -> bytes:
        """The rest, at the end of the stream."""
        rest, self._pending = self._pending, b""
        self._take(rest)
        self._unfold()
        if self._start is not None and self._start.held:
            self._leave_start(in_key=False)
        self._release()
        return self._drain(keep_value=False)

    def _drain(self, *, keep_value: bool) -> bytes:
        data = b"".join(self._out)
        self._out = []
        if keep_value and data:
            cut = data.rfind(b"\n", 0, len(data) - 1) + 1
            if _VALUE_LINE.match(data, cut):
                self._out = [data[cut:]]
                return data[:cut]
        return data

    def _take_part(self) -> None:
        """The beginning of a line that is too long, cut where no secret seems to be near."""
        part = self._pending[:MAX_LINE_BYTES]
        guard = len(part) - _GUARD_BYTES
        limit = next((hit for hit in self._rules.hits(part) if hit > guard), len(part))
        cut = max(part.rfind(mark, guard, limit) for mark in (b",", b" ", b"\t")) + 1 or limit
        self._pending = self._pending[cut:]
        self._take(part[:cut])
        self._open.clear()  # what a piece leaves open is not below it

    def _take(self, data: bytes) -> None:
        """Lines, of which those with a hit, and those below what a line left open, are looked at one by one."""
        at = 0
        for start in self._starts(data):
            while at < start and self._busy():
                at = self._one(data, at)
            if at > start:
                continue
            self._out.append(data[at:start])
            at = self._one(data, start)
        while at < len(data) and self._busy():
            at = self._one(data, at)
        self._out.append(data[at:])

    def _starts(self, data: bytes) -> Iterator[int]:
        """Where the lines with hits begin."""
        prefixed = b"\n" + data
        last = -1
        for hit in self._rules.hits(prefixed):
            start = prefixed.rfind(b"\n", 0, hit + 1)  # an index of data too: it has one character less before it
            if last < start < len(data):
                last = start
                yield start

    def _busy(self) -> bool:
        if self._diff:
            return True
        return bool(self._open) or self._in_key or self._start is not None or self._document.holding

    def _one(self, data: bytes, at: int) -> int:
        """One line through the slow path; gives the offset of the next."""
        end = data.find(b"\n", at) + 1 or len(data)
        line = data[at:end].decode("utf-8", "surrogateescape")
        self._line(line)
        return end

    def _line(self, line: str) -> None:
        if self._diff:  # kubectl takes a Secret's data out of a diff itself
            self._diff_line(*_split_mark(line))
            return
        if self._start is not None and self._at_start(line):
            return
        self._document_line(line)

    def _diff_line(self, mark: str, line: str) -> None:
        """One line of a file; what YAML folds over several is one, for what is in its string tells what is secret."""
        if self._folded and mark == self._mark and len(self._folded) < MAX_FOLDED_CHARACTERS:
            self._folded = _unfolded(self._folded, line)
        elif self._folded:
            self._unfold()
            self._mark, self._folded = mark, line
        else:
            self._mark, self._folded = mark, line
        if not _FOLDED.match(self._folded.rstrip("\r\n")):
            self._unfold()

    def _unfold(self) -> None:
        line, self._folded = self._folded, ""
        if line:
            self._process(line)

    def _document_line(self, line: str) -> None:
        action = self._document.see(line)
        if action == "hold":
            return
        self._release()
        self._process(line)
        if action == "secret":
            self._open = [Opened("map", _indent(line))]

    def _at_start(self, line: str) -> bool:
        """Whether the line is one of a private key whose beginning is not in the text, or may be: taken or held."""
        start = self._start
        assert start is not None
        if _KEY_LINE.match(line) and not start.held:
            start.in_key = True
            self._emit(_masked_line(line, self._rules.marker))
            return True
        if start.in_key and _KEY_REST.match(line):
            self._start = None
            self._emit(_masked_line(line, self._rules.marker))
            return True
        if not start.in_key and not start.held and _KEY_REST.match(line):
            start.held = line
            return True
        self._leave_start(in_key="-----END" in line and "PRIVATE KEY" in line)
        return False

    def _leave_start(self, *, in_key: bool) -> None:
        held = self._start.held if self._start is not None else ""
        self._start = None
        if held and in_key:
            self._emit(_masked_line(held, self._rules.marker))
        elif held:
            self._document_line(held)

    def _release(self) -> None:
        secret, held = self._document.release()
        for number, line in enumerate(held):
            self._process(line)
            if number == 0 and secret:
                self._open = [Opened("map", _indent(line))]

    def _process(self, line: str) -> None:
        body = line.rstrip("\r\n")
        newline = line[len(body) :]
        seen, hidden = strip_controls(body, halves=False)
        if hidden:
            # A colour between a name and its value hides neither. What is not changed goes on as it is, to be counted.
            self._as_it_was = (seen + newline, body + newline)
            body = seen
        if self._in_key and not self._leaves_key(body):
            return
        while self._open:
            gone = self._open[-1].kind == "gone"
            text = self._below(self._open[-1], body)
            if text is not None:
                if not gone:
                    self._emit(text + newline)
                return
            self._open.pop()
        self._plain(body, newline)

    def _plain(self, body: str, newline: str) -> None:
        if "-----BEGIN" in body:
            for match in _PEM.finditer(body):
                self._in_key = match[2] is None and match.end() == len(body)
            body = _PEM.sub(lambda match: f"{match[1]}{self._rules.marker}{match[2] or ''}", body)
        body, opened = self._lines.redact(body)
        if opened is not None:
            self._open.append(opened)
            if opened.kind == "pair":
                self._mask_value_above(opened.column)
        self._emit(body + newline)

    def _leaves_key(self, body: str) -> bool:
        """Whether the line is no longer part of a private key; its end line goes through."""
        if "-----END" in body or not _PEM_BODY.match(body):
            self._in_key = False
            return True
        return False

    def _below(self, opened: Opened, body: str) -> str | None:
        """The line as it goes on (not at all below ``gone``); None when it is not below what is open."""
        indent = _indent(body)
        if opened.kind == "pair":
            return self._pair(opened, body)
        if opened.kind == "next":
            return self._next(body)
        if opened.kind == "done":
            return None
        deeper = indent > opened.column or not body.strip()
        if opened.kind == "block" and body.strip():
            self._open[-1] = Opened("gone", opened.column)
            return body[:indent] + self._rules.marker if deeper else None
        if opened.kind in {"block", "gone"}:
            return body if deeper else None
        if not deeper and not (indent == opened.column and body.lstrip().startswith("- ")):
            return None
        return self._inside(opened, body)

    def _nested(self, text: str) -> str:
        """A text that stands in one string of a line."""
        stream = TextStream(self._rules)
        try:
            return (stream.feed(text.encode()) + stream.finish()).decode()
        except UnicodeError:  # halves of characters, or bytes that are none
            data = text.encode("utf-8", "replace")
            return (stream.feed(data) + stream.finish()).decode("utf-8", "replace")

    def _pair(self, opened: Opened, body: str) -> str | None:
        matches = _indent(body) == opened.column
        text, inner = self._lines.mask_value(body, "value") if matches else (body, None)
        if self._mark == "-" and matches:
            return text  # of a diff, the line after it may be what takes its place
        self._open.pop()
        self._open.append(inner or Opened("done", 1 << 30))
        return text if text != body or inner else None

    def _next(self, body: str) -> str | None:
        masked = self._lines.mask_next(body)
        if masked is None:
            self._open[-1] = Opened("done", 1 << 30)
            return None
        text, inner = masked
        if self._mark != "-" or inner is not None:
            self._open.pop()
            self._open += [inner] if inner else []
        return text

    def _inside(self, opened: Opened, body: str) -> str | None:
        text, inner = self._lines.mask_below(body, mapping=opened.kind == "map")
        if inner is not None:
            self._open.append(inner)
        return text

    def _mask_value_above(self, column: int) -> None:
        """``value:`` stood before its ``name:``, in the line that was held back for this."""
        while self._out and not self._out[-1]:
            self._out.pop()
        if not self._out:
            return
        data = self._out.pop()  # INVARIANT: pieces are whole lines, so the line above is in the last one
        cut = data.rfind(b"\n", 0, len(data) - 1) + 1
        line = data[cut:].decode("utf-8", "surrogateescape")
        mark, line = _split_mark(line) if self._diff else ("", line)
        if _VALUE_LINE.match(data, cut):
            body = line.rstrip("\r\n")
            line = self._lines.mask_value(body, "value")[0] + line[len(body) :]
        self._out.append(data[:cut])
        self._emit(line, mark)

    def _emit(self, line: str, mark: str | None = None) -> None:
        if line == self._as_it_was[0]:
            line = self._as_it_was[1]
        self._out.append(((self._mark if mark is None else mark) + line).encode("utf-8", "surrogateescape"))


def _split_mark(line: str) -> tuple[str, str]:
    """What a line of a diff begins with, and the line of the file."""
    if line[:1] in {" ", "+", "-"} and not line.startswith(("--- ", "+++ ")):
        return line[0], line[1:]
    return "", line


def _unfolded(above: str, line: str) -> str:
    """YAML's double-quoted strings: a backslash at the end joins lines, else their break is a blank."""
    begun = above.rstrip("\r\n")
    rest = line.lstrip(" \t")
    if begun.endswith("\\"):
        return begun[:-1] + (rest[1:] if rest.startswith("\\ ") else rest)
    return f"{begun} {rest}"


def _masked_line(line: str, marker: str) -> str:
    return marker + line[len(line.rstrip("\r\n")) :]


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" \t"))
