"""OBI's output as records: log lines (logfmt or JSON), and the flows and spans that it prints among them.

Source of fact: recorded output of OBI v0.5.0 (logfmt, JSON, every printer) and of Beyla 1.8. Logs, flows and spans go
to the same stream; the indented JSON printer spreads one batch over many lines, which are ``span`` lines each.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["log", "flow", "span", "other"]
LEVELS = ("DEBUG", "INFO", "WARN", "ERROR")

_PAIR = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[^\s="]+)=("(?:[^"\\]|\\.)*"|\S*)')
_TEXT_SPAN = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ \(")
_FLOW = re.compile(r"(?:network_flow|OBI_NETWORK_FLOW|BEYLA_NETWORK_FLOW)\w*:\s")
_INDENTED = re.compile(r'(?:\[|\]| [{}],?|  "[A-Za-z]\w*": .*|  [{}],?|   +".*)\s*')
_FIRST = re.compile(r"OpenTelemetry eBPF Instrumentation|Grafana Beyla")
_MAX_FIELDS = 40
_LONGEST = 32_768


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One line. ``time`` is RFC 3339 as OBI wrote it, empty where the line has none; ``level`` is one of ``LEVELS`` or
    empty; ``fields`` are the further pairs. For a flow ``fields`` are its attributes; ``text`` is the line itself."""

    text: str
    kind: Kind
    time: str = ""
    level: str = ""
    message: str = ""
    component: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)


def parse_line(text: str) -> LogRecord:
    """The record of one line, in time linear in its length."""
    line = text.rstrip("\r\n")
    if line.startswith("time=") or line.startswith("level="):
        return _log(line, dict(_pairs(line[:_LONGEST])))
    if line.startswith("{"):
        return _json(line)
    if _FLOW.match(line):
        return LogRecord(line, "flow", fields=dict(_pairs(line[:_LONGEST].partition(":")[2])))
    if line.startswith("[{") or _TEXT_SPAN.match(line) or _INDENTED.fullmatch(line[:200]):
        return LogRecord(line, "span")
    return LogRecord(line, "other")


def version_in(record: LogRecord) -> str | None:
    """The program's version where this is the first line that it prints: ``v0.12.0``."""
    if record.kind == "log" and _FIRST.match(record.message):
        return record.fields.get("Version") or None
    return None


def severity(level: str) -> int:
    """A rank to compare levels by; what has none ranks as INFO."""
    return LEVELS.index(level) if level in LEVELS else LEVELS.index("INFO")


def _log(line: str, pairs: dict[str, str]) -> LogRecord:
    time, level, message = pairs.pop("time", ""), pairs.pop("level", ""), pairs.pop("msg", "")
    return LogRecord(line, "log", time, _level(level), message, pairs.pop("component", ""), pairs)


def _json(line: str) -> LogRecord:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return LogRecord(line, "other")
    if not isinstance(data, dict) or not ("msg" in data or "level" in data):
        return LogRecord(line, "other")
    pairs = {str(key): value if isinstance(value, str) else json.dumps(value) for key, value in data.items()}
    return _log(line, pairs)


def _level(text: str) -> str:
    if text in LEVELS:
        return text
    # slog writes DEBUG-4 and the like for levels between.
    name = re.split(r"[+-]", text.upper(), maxsplit=1)[0]
    return "WARN" if name == "WARNING" else name


def _pairs(line: str) -> Iterator[tuple[str, str]]:
    for count, match in enumerate(_PAIR.finditer(line)):
        if count == _MAX_FIELDS:
            return
        yield _plain(match[1]), _plain(match[2])


def _plain(word: str) -> str:
    if not word.startswith('"'):
        return word
    if "\\" not in word and len(word) > 1 and word.endswith('"'):
        return word[1:-1]
    try:
        return str(json.loads(word))
    except ValueError:
        return word.strip('"')
