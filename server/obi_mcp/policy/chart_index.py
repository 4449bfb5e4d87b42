"""One entry of a repository's ``index.yaml``, read from parser events: an index has megabytes, and its writer is a
stranger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from obi_mcp.errors import InvalidDocument

MAX_INDEX_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """What an index says of one version of a chart. ``digest``: hex sha256 of the archive; empty: it says none."""

    digest: str
    urls: tuple[str, ...]


def read_entry(text: bytes, name: str, version: str) -> IndexEntry | None:
    """What an ``index.yaml`` says of that version of that chart, or None. Reads no further than there.

    Raises: ValueError for what is no index.
    """
    from obi_mcp.policy.yaml_reader import parser_events

    try:
        events = _Events(parser_events(text))
        for key in events.mapping():
            if key == "entries":
                return _in_entries(events, name, version)
            events.skip()
    except (InvalidDocument, StopIteration) as error:
        raise ValueError(f"the index of the repository cannot be read: {error}") from None
    raise ValueError("the index of the repository has no entries")


def _in_entries(events: _Events, name: str, version: str) -> IndexEntry | None:
    for key in events.mapping():
        if key != name:
            events.skip()
            continue
        for entry in events.items():
            if str(entry.get("version", "")).removeprefix("v") == version.removeprefix("v"):
                urls = entry.get("urls")
                digest = str(entry.get("digest") or "").removeprefix("sha256:")
                return IndexEntry(digest, tuple(map(str, urls)) if isinstance(urls, list) else ())
        return None
    return None


class _Events:
    """A cursor over parser events: an index has megabytes, of which one entry counts."""

    def __init__(self, stream: Iterator[Any]) -> None:
        self._stream = stream

    def _next(self) -> Any:
        event = next(self._stream)
        while type(event).__name__ in {"StreamStartEvent", "DocumentStartEvent"}:
            event = next(self._stream)
        return event

    def mapping(self) -> Iterator[str]:
        """The keys of the mapping that comes next; the caller takes or skips each value."""
        _expect(self._next(), "MappingStartEvent")
        while type(event := self._next()).__name__ != "MappingEndEvent":
            _expect(event, "ScalarEvent")
            yield event.value

    def items(self) -> Iterator[Mapping[str, Any]]:
        """The mappings of the list that comes next, with their scalars and lists of scalars."""
        _expect(self._next(), "SequenceStartEvent")
        while type(event := self._next()).__name__ != "SequenceEndEvent":
            _expect(event, "MappingStartEvent")
            item: dict[str, Any] = {}
            while type(event := self._next()).__name__ != "MappingEndEvent":
                _expect(event, "ScalarEvent")
                item[event.value] = self._value()
            yield item

    def _value(self) -> Any:
        event = self._next()
        kind = type(event).__name__
        if kind == "ScalarEvent":
            return event.value
        if kind != "SequenceStartEvent":
            self._leave(event)
            return None
        values: list[str] = []
        while type(event := self._next()).__name__ != "SequenceEndEvent":
            if type(event).__name__ == "ScalarEvent":
                values.append(event.value)
            else:
                self._leave(event)
        return values

    def skip(self) -> None:
        """Past the next value, whatever it is."""
        self._leave(self._next())

    def _leave(self, event: Any) -> None:
        depth = _depth(event)
        while depth:
            depth += _depth(self._next())


def _depth(event: Any) -> int:
    kind = type(event).__name__
    return 1 if kind.endswith("StartEvent") else -1 if kind.endswith("EndEvent") else 0


def _expect(event: Any, kind: str) -> None:
    if type(event).__name__ != kind:
        raise ValueError(f"the index of the repository is not of the form that helm writes (line {_line(event)})")


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1
