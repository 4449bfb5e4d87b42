"""A strict reader of YAML streams: plain JSON data from parser events, with nothing left to interpretation.

PyYAML's own constructor is not used: it keeps the last of two equal keys, merges ``<<``, makes dates of strings and
expands aliases without counting. Only its event parser is (libyaml's where it is built in).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from obi_mcp.errors import InvalidDocument

if TYPE_CHECKING:
    from collections.abc import Iterator

    from yaml import events

MAX_DEPTH = 40
"""Levels of nesting. The deepest path of the closed schema has 13."""

# Controls but tab and line ends; surrogates; byte order marks; the Unicode line ends that only some readers break at.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_YAML_1_1_BOOL = frozenset({"y", "n", "yes", "no", "on", "off"})
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_OCTAL = re.compile(r"0o?[0-7]+")
_FLOAT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)\.[0-9]+")
# Numbers to some readers and strings to others.
_AMBIGUOUS = re.compile(
    r"[-+]?(?:0[xXbB][0-9a-fA-F_]+|0[oO]?[0-9_]+|[0-9][0-9_]*|[0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+|\.(?:inf|Inf|INF))"
    r"|\.(?:nan|NaN|NAN)"
)
_INT64 = range(-(2**63), 2**63)


def read_stream(text: str, *, max_bytes: int, max_documents: int, max_aliases: int) -> Iterator[tuple[int, int, Any]]:
    """(index, first line from 1, plain data) of each document; None for an empty one.

    Raises: InvalidDocument.
    """
    _refuse_bytes(text, max_bytes)
    from yaml import YAMLError, parse

    composer = _Composer(max_weight=max_bytes, max_aliases=max_aliases)
    try:
        stream = parse(text, Loader=_loader())
        for event in stream:
            if type(event).__name__ == "DocumentStartEvent":
                if composer.document + 1 >= max_documents:
                    raise InvalidDocument(f"more than {max_documents} documents", "send them in parts")
                yield composer.compose(event, stream)
    except YAMLError as error:
        raise _unreadable(error, composer.document) from None


def parser_events(text: bytes) -> Iterator[events.Event]:
    """The parser's events of a stream that is too large to be composed. Raises: InvalidDocument on the way."""
    from yaml import YAMLError, parse

    try:
        yield from parse(text, Loader=_loader())
    except (YAMLError, UnicodeDecodeError) as error:
        raise InvalidDocument(str(error).splitlines()[0][:200], "it is not readable as YAML") from None


def _loader() -> Any:
    """libyaml's parser where PyYAML was built with it, about eight times as fast, else the one in Python."""
    import yaml

    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _refuse_bytes(text: str, max_bytes: int) -> None:
    if len(text) > max_bytes or (size := len(text.encode("utf-8", "surrogatepass"))) > max_bytes:
        size = max(len(text), len(text.encode("utf-8", "surrogatepass")))
        raise InvalidDocument(f"{size} bytes on standard input; at most {max_bytes} are read", "send them in parts")
    found = _FORBIDDEN.search(text)
    if found:
        line = text.count("\n", 0, found.start()) + 1
        raise InvalidDocument(
            f"the character U+{ord(found.group()):04X} on line {line}",
            "send plain UTF-8 without byte order mark and control characters",
            line=line,
        )


def _unreadable(error: Exception, document: int) -> InvalidDocument:
    mark = getattr(error, "problem_mark", None)
    line = mark.line + 1 if mark is not None else None
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    where = f" (line {line})" if line is not None else ""
    return InvalidDocument(
        f"not YAML or JSON: {problem}{where}", "mend the syntax", document=max(document, 0), line=line
    )


@dataclass(frozen=True, slots=True)
class _Anchored:
    """What an alias stands for: the data, how much text it is, how many aliases were expanded in it, how deep it is."""

    data: Any
    weight: int
    aliases: int
    depth: int


class _Composer:
    """Builds plain data from the events of one document after another, and counts."""

    __slots__ = ("_aliases", "_anchors", "_max_aliases", "_max_weight", "_stream", "_weight", "document")

    def __init__(self, *, max_weight: int, max_aliases: int) -> None:
        self.document = -1
        self._max_weight = max_weight
        self._max_aliases = max_aliases
        self._weight = 0
        self._aliases = 0
        self._anchors: dict[str, _Anchored | None] = {}
        self._stream: Iterator[events.Event]

    def compose(self, start: Any, stream: Iterator[events.Event]) -> tuple[int, int, Any]:
        """The document that begins at ``start``; ``stream`` is left behind its end."""
        self.document += 1
        self._anchors = {}
        self._stream = stream
        if start.version or start.tags:
            self._refuse("a %YAML or %TAG directive", "remove the line that begins with %", "", start)
        event: Any = next(stream)
        data, _depth = self._node(event, "", 0)
        next(stream)
        return self.document, event.start_mark.line + 1, data

    def _node(self, event: Any, path: str, depth: int) -> tuple[Any, int]:
        """Data and the number of levels below it."""
        if depth > MAX_DEPTH:
            self._refuse(f"more than {MAX_DEPTH} levels of nesting", "flatten it", path, event)
        kind = type(event).__name__
        if kind == "AliasEvent":
            return self._alias(event, path, depth)
        if event.tag is not None:
            self._refuse(f"the tag {event.tag!r}", "remove it: the plain value is enough", path, event)
        anchor = event.anchor
        if anchor is not None:
            if anchor in self._anchors:
                self._refuse(f"the anchor &{anchor} is set twice", "give each its own name", path, event)
            self._anchors[anchor] = None
        weight, aliases = self._weight, self._aliases
        data, levels = self._build(event, kind, path, depth)
        if anchor is not None:
            self._anchors[anchor] = _Anchored(data, self._weight - weight, self._aliases - aliases, levels)
        return data, levels

    def _build(self, event: Any, kind: str, path: str, depth: int) -> tuple[Any, int]:
        if kind == "ScalarEvent":
            self._weigh(len(event.value) + 1, path, event)
            return self._scalar(event, path), 0
        self._weigh(1, path, event)
        return self._mapping(path, depth) if kind == "MappingStartEvent" else self._sequence(path, depth)

    def _sequence(self, path: str, depth: int) -> tuple[list[Any], int]:
        items: list[Any] = []
        deepest = 0
        while type(event := next(self._stream)).__name__ != "SequenceEndEvent":
            item, levels = self._node(event, f"{path}[{len(items)}]", depth + 1)
            items.append(item)
            deepest = max(deepest, levels + 1)
        return items, deepest

    def _mapping(self, path: str, depth: int) -> tuple[dict[str, Any], int]:
        fields: dict[str, Any] = {}
        deepest = 0
        while type(event := next(self._stream)).__name__ != "MappingEndEvent":
            key = self._key(event, path)
            below = f"{path}.{key}" if path else key
            if key in fields:
                self._refuse(f"the key {key!r} is there twice", "keep one of them", below, event)
            fields[key], levels = self._node(next(self._stream), below, depth + 1)
            deepest = max(deepest, levels + 1)
        return fields, deepest

    def _key(self, event: Any, path: str) -> str:
        if type(event).__name__ != "ScalarEvent":
            self._refuse("a key that is not a plain word", "write the key out as a string", path, event)
        if event.tag is not None or event.anchor is not None:
            self._refuse(f"the key {event.value!r} has a tag or an anchor", "remove it", path, event)
        if event.value == "<<" and event.implicit[0]:
            self._refuse("the merge key '<<'", "write the merged fields out", path, event)
        self._weigh(len(event.value) + 1, path, event)
        key = self._scalar(event, path)
        if not isinstance(key, str):
            self._refuse(f"the key {event.value!r} is not a string", "quote it", path, event)
        return key

    def _alias(self, event: Any, path: str, depth: int) -> tuple[Any, int]:
        if event.anchor not in self._anchors:
            self._refuse(f"the alias *{event.anchor} has no anchor before it", "write the value out", path, event)
        target = self._anchors[event.anchor]
        if target is None:
            self._refuse(f"the alias *{event.anchor} contains itself", "write the value out", path, event)
        self._aliases += 1 + target.aliases
        if self._aliases > self._max_aliases:
            self._refuse(f"more than {self._max_aliases} aliases once expanded", "write the values out", path, event)
        if depth + target.depth > MAX_DEPTH:
            self._refuse(f"more than {MAX_DEPTH} levels of nesting", "flatten it", path, event)
        self._weigh(target.weight, path, event)
        return target.data, target.depth

    def _scalar(self, event: Any, path: str) -> Any:
        value = event.value
        found = _FORBIDDEN.search(value)
        if found:
            self._refuse(
                f"the character U+{ord(found.group()):04X} in a value", "leave control characters out", path, event
            )
        if event.style:
            return value
        try:
            return plain_scalar(value)
        except ValueError as error:
            self._refuse(
                str(error), "quote it if it is text; write true, false or a decimal number otherwise", path, event
            )

    def _weigh(self, weight: int, path: str, event: Any) -> None:
        """Aliases are bounded by what they stand for, too: twenty of a megabyte each are twenty megabytes."""
        self._weight += weight
        if self._weight > self._max_weight:
            self._refuse(f"more than {self._max_weight} bytes once aliases are expanded", "send less", path, event)

    def _refuse(self, message: str, hint: str, path: str, event: Any) -> NoReturn:
        line = event.start_mark.line + 1
        # A hostile document chooses names and paths of any length.
        path, message = _cut(path), _cut(message)
        where = f" at {path}" if path else ""
        raise InvalidDocument(
            f"document {self.document}, line {line}: {message}{where}",
            hint,
            document=self.document,
            path=path or None,
            line=line,
        )


def _cut(text: str, length: int = 200) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def plain_scalar(text: str) -> Any:
    """What an unquoted scalar is: None, bool, int (64 bit), float, or the text itself.

    Raises: ValueError when readers disagree about it, or for a number beyond 64 bits.
    """
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if text.lower() in _YAML_1_1_BOOL:
        raise ValueError(f"{text!r} is true or false to kubectl and text to others")
    if text[0] not in "+-.0123456789":
        return text
    number = _number(text)
    return text if number is None else number


def _number(text: str) -> int | float | None:
    if len(text) > 40 and _AMBIGUOUS.fullmatch(text):
        raise ValueError("a number of more than 40 characters")
    if _INT.fullmatch(text) or _OCTAL.fullmatch(text):
        # int(…, 8) takes '0644' and '0o644' alike, as kubectl does.
        number = int(text, 8) if _OCTAL.fullmatch(text) and len(text) > 1 else int(text)
        if number not in _INT64:
            raise ValueError(f"{text} does not fit 64 bits")
        return number
    if _FLOAT.fullmatch(text):
        return float(text)
    if _AMBIGUOUS.fullmatch(text) and text not in {".", "-.", "+.", "_"}:
        raise ValueError(f"{text!r} is a number to some readers and text to others")
    return None
