"""What happens to a head's output before anything else sees it: confined, projected, redacted, rendered."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from obi_mcp.errors import ProgramFailed
from obi_mcp.policy.expressions.dump import DumpCut
from obi_mcp.policy.model import Output
from obi_mcp.policy.projection import PROJECTIONS
from obi_mcp.process.json_values import Event, Item, JsonValues, ListBegin, ListEnd, NotJson, Whole
from obi_mcp.redact import HunkTrim, Redactor

_ITEM_INDENT = 8 * " "


class Treatment(Protocol):
    """One head's output, in order. Pieces are whole items where there are items."""

    dropped: int

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """What the chunk completes."""

    def finish(self) -> Iterator[bytes]:
        """The rest. Raises: ProgramFailed when it is not what it has to be."""

    def close_early(self) -> bytes:
        """What makes the pieces so far whole, when no more are wanted."""


def treatment_for(
    output: Output,
    redactor: Redactor,
    members: frozenset[str] | None,
    *,
    compact: bool = False,
    may_dump: bool = False,
    diff: bool = False,
) -> Treatment:
    """The treatment of one head. ``compact``: JSON goes on in one line, since only jq reads it. ``may_dump``: kubectl
    prints a whole object where the expression it renders fails. ``diff``: it prints a diff with its whole context."""
    if output.head == "raw":
        return RawTreatment()
    if output.head == "json":
        return JsonTreatment(output, redactor, members, compact=compact)
    if diff:
        return DiffTreatment(redactor)
    return TextTreatment(redactor, DumpCut() if may_dump else None)


class RawTreatment:
    """Nothing happens: for the server's own reads, which no caller sees."""

    dropped = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        yield chunk

    def finish(self) -> Iterator[bytes]:
        return iter(())

    def close_early(self) -> bytes:
        return b""


class TextTreatment:
    """Redacted line by line."""

    dropped = 0

    def __init__(self, redactor: Redactor, cut: DumpCut | None = None) -> None:
        self._stream = redactor.stream()
        self._cut = cut

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        yield self._stream.feed(self._cut.feed(chunk) if self._cut else chunk)

    def finish(self) -> Iterator[bytes]:
        if self._cut:
            yield self._stream.feed(self._cut.finish())
        yield self._stream.finish()

    def close_early(self) -> bytes:
        return b""


class DiffTreatment:
    """Redacted with its whole context, then cut down to the changes."""

    dropped = 0

    def __init__(self, redactor: Redactor) -> None:
        self._stream = redactor.stream(diff=True)
        self._hunks = HunkTrim()

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        yield self._hunks.feed(self._stream.feed(chunk))

    def finish(self) -> Iterator[bytes]:
        yield self._hunks.feed(self._stream.finish())
        yield self._hunks.finish()

    def close_early(self) -> bytes:
        return b""


class JsonTreatment:
    """Parsed, one object at a time: what is not OBI's is dropped, the rest projected and redacted."""

    def __init__(
        self, output: Output, redactor: Redactor, members: frozenset[str] | None, *, compact: bool = False
    ) -> None:
        self.dropped = 0
        self._output = output
        self._redactor = redactor
        self._members = members or frozenset()
        self._project = PROJECTIONS.get(output.project or "")
        self._values = JsonValues()
        self._layout: _Layout = _Yaml() if output.render == "yaml" else _Compact() if compact else _Indented()
        self._text: TextTreatment | None = None

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        return self._take(chunk, last=False)

    def finish(self) -> Iterator[bytes]:
        yield from self._take(b"", last=True)
        if self._text is not None:
            yield from self._text.finish()

    def close_early(self) -> bytes:
        return self._layout.close_early()

    def _take(self, chunk: bytes, *, last: bool) -> Iterator[bytes]:
        try:
            for event in self._values.feed(chunk, last=last):
                yield from self._event(event)
        except (ValueError, RecursionError) as error:
            # INVARIANT: what cannot be read is not passed on; its confinement could not be judged.
            raise ProgramFailed(f"the program's JSON cannot be read: {error}", "ask for -o name, or for less") from None

    def _event(self, event: Event) -> Iterator[bytes]:
        match event:
            case ListBegin():
                yield self._layout.begin(event.members, event.indented)
            case ListEnd():
                yield self._layout.end(event.members)
            case Item() | Whole():
                kept = self._keep(event.value, event.text)
                if kept is not None:
                    text = event.text if kept is event.value else None
                    yield (self._layout.item if isinstance(event, Item) else self._layout.whole)(kept, text)
            case NotJson():
                yield from self._not_json(event.text)

    def _keep(self, value: Any, text: str) -> Any:
        """The object as it may be seen; the same where nothing changed, None where it may not be."""
        if self._output.confine and _uid(value) not in self._members:
            self.dropped += 1
            return None
        if self._project is not None:
            if not isinstance(value, dict):
                self.dropped += 1
                return None
            return self._redactor.value(self._project(value))
        return self._redactor.value(value, text.encode("utf-8", "surrogatepass"))

    def _not_json(self, text: str) -> Iterator[bytes]:
        if self._output.confine or self._project is not None:
            raise ProgramFailed(f"the program did not print the JSON it was asked for: {text.strip()[:80]!r}")
        if self._text is None:
            self._text = TextTreatment(self._redactor)
        yield from self._text.feed(text.encode("utf-8", "surrogatepass"))


class _Layout(Protocol):
    """How events are written. ``text``: the object's own text, where it did not change."""

    def begin(self, members: Mapping[str, Any], indented: bool) -> bytes: ...

    def item(self, value: Any, text: str | None) -> bytes: ...

    def end(self, members: Mapping[str, Any]) -> bytes: ...

    def whole(self, value: Any, text: str | None) -> bytes: ...

    def close_early(self) -> bytes: ...


class _Indented:
    """As kubectl prints JSON: four blanks a level, the items' own text where it can stay."""

    def __init__(self) -> None:
        self._count = -1
        self._members: Mapping[str, Any] = {}
        self._keeps_text = False

    def begin(self, members: Mapping[str, Any], indented: bool) -> bytes:
        self._count = 0
        self._members = members
        self._keeps_text = indented
        lead = "".join(f"    {_quote(key)}: {_indented(value, 4)},\n" for key, value in members.items())
        return _encode("{\n" + lead + '    "items": [')

    def item(self, value: Any, text: str | None) -> bytes:
        self._count += 1
        body = text if text is not None and self._keeps_text else _indented(value, 8)
        return _encode(f"{',' if self._count > 1 else ''}\n{_ITEM_INDENT}{body}")

    def end(self, members: Mapping[str, Any]) -> bytes:
        close = "\n    ]" if self._count else "]"
        self._count = -1
        rest = "".join(f",\n    {_quote(key)}: {_indented(value, 4)}" for key, value in members.items())
        return _encode(f"{close}{rest}\n}}\n")

    def whole(self, value: Any, text: str | None) -> bytes:
        return _encode((text if text is not None and "\n" in text else _indented(value, 0)) + "\n")

    def close_early(self) -> bytes:
        return self.end({} if "kind" in self._members else {"kind": "List"}) if self._count >= 0 else b""


class _Compact:
    """Without blanks: what jq reads fastest, and what it prints is its own business."""

    def __init__(self) -> None:
        self._count = -1

    def begin(self, members: Mapping[str, Any], indented: bool) -> bytes:
        self._count = 0
        lead = "".join(f"{_quote(key)}:{_compact(value)}," for key, value in members.items())
        return _encode("{" + lead + '"items":[')

    def item(self, value: Any, text: str | None) -> bytes:
        self._count += 1
        return _encode(("," if self._count > 1 else "") + (text if text is not None else _compact(value)))

    def end(self, members: Mapping[str, Any]) -> bytes:
        self._count = -1
        return _encode("]" + "".join(f",{_quote(key)}:{_compact(value)}" for key, value in members.items()) + "}\n")

    def whole(self, value: Any, text: str | None) -> bytes:
        return _encode((text if text is not None else _compact(value)) + "\n")

    def close_early(self) -> bytes:
        return self.end({}) if self._count >= 0 else b""


class _Yaml:
    """As kubectl prints YAML, a List item by item."""

    def __init__(self) -> None:
        self._count = -1
        self._wholes = 0

    def begin(self, members: Mapping[str, Any], indented: bool) -> bytes:
        self._count = 0
        return self._marker() + _yaml(members)

    def item(self, value: Any, text: str | None) -> bytes:
        self._count += 1
        entry = textwrap.indent(_yaml(value).decode(), "  ")
        return _encode(("items:\n" if self._count == 1 else "") + "-" + entry[1:])

    def end(self, members: Mapping[str, Any]) -> bytes:
        close = b"items: []\n" if not self._count else b""
        self._count = -1
        return close + _yaml(members)

    def whole(self, value: Any, text: str | None) -> bytes:
        return self._marker() + _yaml(value)

    def close_early(self) -> bytes:
        return self.end({"kind": "List"}) if self._count >= 0 else b""

    def _marker(self) -> bytes:
        self._wholes += 1
        return b"---\n" if self._wholes > 1 else b""


def _uid(value: Any) -> str:
    metadata = value.get("metadata") if isinstance(value, dict) else None
    return str(metadata.get("uid", "")) if isinstance(metadata, dict) else ""


def _indented(value: Any, level: int) -> str:
    text = json.dumps(value, ensure_ascii=False, indent=4)
    return text.replace("\n", "\n" + level * " ")


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _quote(key: str) -> str:
    return json.dumps(key, ensure_ascii=False)


def _yaml(value: Any) -> bytes:
    if not value and isinstance(value, Mapping):
        return b""
    from obi_mcp.policy.yaml_writer import to_yaml

    return _encode(to_yaml(value))


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "replace")
