"""JSON as it streams by: a Kubernetes List item by item, anything else value by value, whatever its size.

Kept small: at most one item (64 MiB) is in memory. Where a value is incomplete, it is tried again only when twice as
much of it has come, so that a large one costs no more than twice its reading.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

MAX_VALUE_CHARACTERS = 67_108_864
_PIECE_BYTES = 65_536
_DECODER = json.JSONDecoder()
_BLANK = re.compile(r"[ \t\r\n]*")
_SKIP = re.compile(r"[ \t\r\n,]*")
_KEY = re.compile(r'[ \t\r\n,]*"((?:[^"\\]|\\.)*)"[ \t\r\n]*:[ \t\r\n]*')


@dataclass(frozen=True, slots=True)
class ListBegin:
    """A List begins. ``members`` stand before its items; ``indented``: it is laid out as kubectl does."""

    members: dict[str, Any]
    indented: bool


@dataclass(frozen=True, slots=True)
class Item:
    """One item of the List, and its text."""

    value: Any
    text: str


@dataclass(frozen=True, slots=True)
class ListEnd:
    """The List ends. ``members`` stand behind its items."""

    members: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Whole:
    """A value that is no List, and its text."""

    value: Any
    text: str


@dataclass(frozen=True, slots=True)
class NotJson:
    """From here on it is not JSON: the text."""

    text: str


Event = ListBegin | Item | ListEnd | Whole | NotJson


@dataclass(slots=True)
class _Object:
    """A top-level object that has been begun."""

    members: dict[str, Any] = field(default_factory=dict)
    at: int = 1
    """Where the next member begins, in the text at hand."""


class JsonValues:
    """Splits a stream into events. Raises: ValueError for a value too large, RecursionError for one too deep."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace")
        self._text = ""
        self._object: _Object | None = None
        self._in_items = False
        self._after_items = False
        self._lost = False
        self._enough = 0

    def feed(self, chunk: bytes, *, last: bool = False) -> Iterator[Event]:
        """The events that the chunk completes. ``last``: nothing comes after it."""
        self._text += self._decode.decode(chunk, last)
        if len(self._text) < self._enough and not last:
            return
        while (event := self._next(last)) is not None:
            self._enough = 0
            yield event
        if len(self._text) > MAX_VALUE_CHARACTERS:
            raise ValueError(f"a single value has more than {MAX_VALUE_CHARACTERS >> 20} Mi characters")
        self._enough = 2 * len(self._text)
        if last and self._text.strip():
            self._lost = True
            yield NotJson(self._drop(len(self._text)))

    def _next(self, last: bool) -> Event | None:
        if self._lost:
            return NotJson(self._drop(len(self._text))) if self._text else None
        if self._in_items:
            return self._item()
        if self._object is None:
            self._drop(_end(_BLANK, self._text, 0))
            if not self._text:
                return None
            if self._text[0] != "{":
                return self._whole(last)
            self._object = _Object()
        return self._member(self._object)

    def _whole(self, last: bool) -> Event | None:
        if self._text[0] not in '["-0123456789tfn':
            self._lost = True
            return NotJson(self._drop(len(self._text)))
        try:
            value, end = _DECODER.raw_decode(self._text)
        except ValueError:
            return None
        if end == len(self._text) and not last and self._text[0] not in '["':
            return None  # a number may go on
        return Whole(value, self._drop(end))

    def _member(self, begun: _Object) -> Event | None:
        text = self._text
        while True:
            at = _end(_SKIP, text, begun.at)
            if text[at : at + 1] == "}":
                return self._finish(begun, at + 1)
            key = _KEY.match(text, at)
            if key is None or key.end() >= len(text):
                return None
            name = json.loads(f'"{key[1]}"')
            if name == "items" and self._after_items:
                raise ValueError("a List has items twice")
            if name == "items" and text[key.end()] == "[":
                after = _end(_BLANK, text, key.end() + 1)
                if after >= len(text):
                    return None
                self._in_items = True
                indented = text.startswith("\n        {", key.end() + 1)
                self._drop(after)
                return ListBegin(begun.members, indented)
            try:
                value, end = _DECODER.raw_decode(text, key.end())
            except ValueError:
                return None
            if end >= len(text):
                return None
            begun.members[name] = value
            begun.at = end

    def _finish(self, begun: _Object, end: int) -> Event:
        self._object = None
        if self._after_items:
            self._after_items = False
            self._drop(end)
            return ListEnd(begun.members)
        return Whole(begun.members, self._drop(end))

    def _item(self) -> Event | None:
        at = _end(_SKIP, self._text, 0)
        if self._text[at : at + 1] == "]":
            self._drop(at + 1)
            self._in_items = False
            self._after_items = True
            self._object = _Object(at=0)
            return self._member(self._object)
        try:
            value, end = _DECODER.raw_decode(self._text, at)
        except ValueError:
            return None
        text = self._drop(end)
        return Item(value, text[at:])

    def _drop(self, end: int) -> str:
        """Takes the text up to ``end`` off."""
        taken, self._text = self._text[:end], self._text[end:]
        return taken


class Collected:
    """One whole value, put together again from its events: reading it can be interrupted after every item."""

    def __init__(self) -> None:
        self.value: Any = None
        """When ``feed`` has ended."""
        self._begun: ListBegin | None = None
        self._items: list[Any] = []

    def feed(self, body: bytes) -> Iterator[bytes]:
        """Reads all of it; gives nothing, as often as there was an event. Raises: ValueError when it is no JSON."""
        values = JsonValues()
        for at in range(0, len(body), _PIECE_BYTES):
            for event in values.feed(body[at : at + _PIECE_BYTES], last=at + _PIECE_BYTES >= len(body)):
                self._take(event)
                yield b""
        if self._begun is not None or self.value is None:
            raise ValueError("it ends too early")

    def _take(self, event: Event) -> None:
        match event:
            case ListBegin() if self.value is None:
                self._begun = event
            case Item():
                self._items.append(event.value)
            case ListEnd() if self._begun is not None:
                self.value = {**self._begun.members, "items": self._items, **event.members}
                self._begun = None
            case Whole() if self.value is None:
                self.value = event.value
            case _:
                raise ValueError("more than one value")


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at
