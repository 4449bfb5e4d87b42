"""Prometheus' text format and OpenMetrics as they stream by, line by line: nothing of it is kept.

Source of fact: Prometheus' documentation of the exposition formats (text format 0.0.4), the OpenMetrics specification.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

Kind = Literal["counter", "gauge", "histogram", "summary", "untyped"]
Role = Literal["value", "bucket", "sum", "count", "quantile"]
"""What a sample is in its family."""

_LABELS = r"\{(?:[a-zA-Z_]\w*+=\"(?:[^\"\\]|\\.)*+\"(?:,|(?=\})))*+\}"
_SAMPLE = re.compile(rf"[ \t]*([a-zA-Z_:][\w:]*+)({_LABELS})?[ \t]+(\S++)(?:[ \t]+-?[\d.]++)?(?: #.*)?[ \t\r]*")
_NAME = re.compile(r"[a-zA-Z_:][\w:]*+")
_BOUND = re.compile(r'[{,]le="([^"\\]*)"')
_LABEL = re.compile(r'([a-zA-Z_]\w*+)="((?:[^"\\]|\\.)*+)"')
_TYPE = re.compile(r"#[ \t]+TYPE[ \t]+([a-zA-Z_:][\w:]*+)[ \t]+(\w++)[ \t\r]*")
_KINDS: dict[str, Kind] = {"counter": "counter", "gauge": "gauge", "histogram": "histogram", "summary": "summary"}
_PARTS: dict[Kind, dict[str, Role]] = {
    "histogram": {"_bucket": "bucket", "_sum": "sum", "_count": "count"},
    "summary": {"": "quantile", "_sum": "sum", "_count": "count"},
}
_PLAIN: dict[str, Role] = {"": "value", "_total": "value"}
MAX_LINE_BYTES = 65_536


class Sample(NamedTuple):
    """One line; a tuple, since a pod serves hundreds of them. ``family`` is the name after ``# TYPE``; ``series`` the
    line without its value; ``bound`` the upper bound of a bucket, 0 where it is none."""

    family: str
    kind: Kind
    role: Role
    series: str
    value: float
    bound: float = 0.0


class Exposition:
    """Reads one exposition. ``prefixes``: of the families that are wanted, all if empty; ``without``: of those that
    are not."""

    def __init__(self, prefixes: tuple[str, ...] = (), without: tuple[str, ...] = ()) -> None:
        self._prefixes = prefixes
        self._without = without
        self._known: dict[str, tuple[str, Kind, Role] | None] = {}
        self._rest = b""

    def feed(self, chunk: bytes) -> Iterator[Sample]:
        """The samples that the chunk completes. Raises: ValueError with the line that is none."""
        whole, newline, rest = (self._rest + chunk).rpartition(b"\n")
        self._rest = rest
        if len(rest) > MAX_LINE_BYTES:
            raise ValueError(f"a line has more than {MAX_LINE_BYTES} bytes")
        return self._samples(whole.decode("utf-8")) if newline else iter(())

    def finish(self) -> Iterator[Sample]:
        """The sample of a last line without an end. Raises: as ``feed``."""
        rest, self._rest = self._rest, b""
        return self._samples(rest.decode("utf-8"))

    def _samples(self, text: str) -> Iterator[Sample]:
        known = self._known
        for line in text.split("\n"):
            if not line or line[0] == "#":
                self._comment(line)
                continue
            name, labels, value = _parts(line)
            if not name:
                continue
            meant = known[name] if name in known else self._meet(name, line)
            if meant is None:
                continue
            family, kind, role = meant
            bound = _bound(labels, line) if role == "bucket" else 0.0
            yield Sample(family, kind, role, name + labels, float(value), bound)

    def _comment(self, line: str) -> None:
        match = _TYPE.match(line)
        if match is None:
            return
        name, kind = match[1], _KINDS.get(match[2], "untyped")
        self._known[f"{name.removesuffix('_total')}_created"] = None  # OpenMetrics: the time at which it began
        for suffix, role in _PARTS.get(kind, _PLAIN).items():
            self._known[name + suffix] = (name, kind, role) if self._wants(name) else None

    def _meet(self, name: str, line: str) -> tuple[str, Kind, Role] | None:
        """A name without a type before it."""
        if not _NAME.fullmatch(name):
            raise _no_sample(line)
        self._known[name] = (name, "untyped", "value") if self._wants(name) else None
        return self._known[name]

    def _wants(self, name: str) -> bool:
        return name.startswith(self._prefixes) if self._prefixes else not name.startswith(self._without)


def _parts(line: str) -> tuple[str, str, str]:
    """Name, labels with their braces, and value of a line; empty where the line is. Raises: ValueError."""
    if line.count("}") == 1:
        head, _, tail = line.partition("}")
        name, brace, labels = head.partition("{")
        words = tail.split()
        if brace and name.strip() and 0 < len(words) < 3 and (not labels or labels[-1] in '",'):
            return name.strip(), brace + labels + "}", words[0]
    match = _SAMPLE.fullmatch(line)
    if match is None:
        if line.isspace():
            return "", "", ""
        raise _no_sample(line)
    return match[1], match[2] or "", match[3]


def _no_sample(line: str) -> ValueError:
    return ValueError(f"no sample: {line[:80]!r}")


def _bound(labels: str, line: str) -> float:
    if labels.count('le="') == 1:
        match = _BOUND.search(labels)
        found = match[1] if match else None
    else:  # the value of another label may look like this one
        found = next((label[2] for label in _LABEL.finditer(labels) if label[1] == "le"), None)
    if found is None:
        raise ValueError(f"a bucket without a bound: {line[:80]!r}")
    return float(found)
