"""``policy check --batch``: lines of NDJSON in pieces, and what is decided about each line."""

from __future__ import annotations

import json
import select
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from obi_mcp.policy.model import Access

if TYPE_CHECKING:
    from io import BufferedIOBase

    from obi_mcp.policy.engine import Policy

_READ_BYTES = 65_536
PIECE_BYTES = 32_768
"""A piece is at least so long where more of the input is there already: some 300 lines."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One command line and its decision in the promised shape; ``line`` is where it stood, from 1."""

    command: str
    decision: Mapping[str, Any]
    line: int | None = None

    @property
    def effect(self) -> str:
        return str(self.decision["effect"])


@dataclass(frozen=True, slots=True)
class Piece:
    """Lines that came together. ``first``: where the first of them stood, from 1. ``awaited``: no more is there yet, so
    the sender may wait for their answers."""

    lines: Sequence[bytes]
    first: int
    awaited: bool


def read_pieces(stream: BufferedIOBase) -> Iterator[Piece]:
    """All lines of the stream, in order."""
    begun: list[bytes] = []
    lines: list[bytes] = []
    first, size = 1, 0
    while chunk := stream.read1(_READ_BYTES):
        head, *others = chunk.split(b"\n")
        begun.append(head)
        size += len(chunk)
        if others:
            lines.append(b"".join(begun))
            begun = [others.pop()]
            lines += others
        awaited = not _has_more(stream)
        if lines and (awaited or size >= PIECE_BYTES):
            yield Piece(lines, first, awaited)
            first, size, lines = first + len(lines), 0, []
    yield Piece([*lines, b"".join(begun)], first, awaited=True)


def judged_lines(lines: Sequence[bytes], first: int, policy: Policy, access: Access) -> Iterator[Judged]:
    """One decision for every line that is not blank, in order."""
    for number, line in enumerate(lines, first):
        if not line.strip():
            continue
        try:
            command, stdin, level = _call(line, access)
        except ValueError as error:
            yield Judged(line[:200].decode("utf-8", "replace").strip(), _error(str(error)), number)
        else:
            yield Judged(command, policy.decide(command, stdin=stdin, access=level).as_json(), number)


def _has_more(stream: BufferedIOBase) -> bool:
    """Whether reading on would not wait; of a stream without a descriptor that is not known."""
    try:
        fd = stream.fileno()
    except OSError:
        return False
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def _call(line: bytes, access: Access) -> tuple[str, str | None, Access]:
    """Command, document and level of one line. Raises: ValueError."""
    try:
        data: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the line is not JSON: {error}") from None
    if not isinstance(data, dict) or not isinstance(data.get("command"), str):
        raise ValueError('the line is not an object with a "command"')
    stdin, level = data.get("stdin"), data.get("access")
    if stdin is not None and not isinstance(stdin, str):
        raise ValueError('"stdin" is not a text')
    if level is not None and not isinstance(level, str):
        raise ValueError('"access" is not a text')
    return data["command"], stdin, access if level is None else Access.parse(level)


def _error(reason: str) -> Mapping[str, Any]:
    return {
        "effect": "error",
        "access": None,
        "rule": None,
        "reason": reason,
        "hint": 'send one {"command": "…", "stdin": "…"?, "access": "…"?} a line',
        "at": None,
        "pipeline": [],
        "added": [],
        "checks": [],
    }
