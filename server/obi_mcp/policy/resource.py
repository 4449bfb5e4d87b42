"""The table of kinds: what a word of the caller names, and how that kind may be read and written.

The data is ``policy/resources.yaml``; this module only builds the table from plain data, so that the compiled policy
needs no YAML. Source of fact for spellings: ``schema.ParseResourceArg``, the REST mapper (which lower-cases plural,
singular and kind) and ``shortcutExpander`` (which does not lower-case short names) of kubectl 1.36.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from obi_mcp.policy.model import Resource

if TYPE_CHECKING:
    from collections.abc import Mapping

Reading = Literal["obi", "fact", "status", "status+obi", "limit", "never"]
_READINGS: frozenset[str] = frozenset(get_args(Reading))


@dataclass(frozen=True, slots=True)
class ResourceEntry:
    """One kind and the policy for it.

    ``reading``: ``obi`` when shown to be OBI's, ``fact`` always and projected, ``status`` in an instrumented namespace
    and projected, ``status+obi`` both, ``limit`` as ``status`` and in OBI's own namespaces too, ``never`` by nobody
    (then ``because`` says why). ``written``: may be created or changed through the manifest check. ``paths``: what
    kubectl may render of it (see ``expressions.paths``).
    """

    resource: Resource
    reading: Reading
    written: bool = False
    paths: tuple[str, ...] = ()
    because: str = ""
    short: tuple[str, ...] = ()

    @property
    def read_as_obi(self) -> bool:
        """May be read, as it is, once shown to be OBI's."""
        return self.reading in {"obi", "status+obi"}

    @property
    def read_as_status(self) -> bool:
        """May be read in an instrumented namespace, projected."""
        return self.reading in {"status", "status+obi", "limit"}

    @property
    def read_as_limit(self) -> bool:
        """May be read, projected, where OBI is installed: it bounds OBI's own pods."""
        return self.reading == "limit"

    @property
    def read_as_fact(self) -> bool:
        """May be read by anybody, projected."""
        return self.reading == "fact"


class ResourceTable:
    """All kinds, found by any spelling that kubectl takes or by an object's apiVersion and kind.

    INVARIANT: never changed after it was built, so it may be shared.
    """

    def __init__(self, entries: tuple[ResourceEntry, ...]) -> None:
        self.entries = entries
        self._exact: dict[str, ResourceEntry] = {}
        self._folded: dict[str, ResourceEntry] = {}
        self._kinds: dict[tuple[str, str], ResourceEntry] = {}
        for entry in entries:
            self._add(entry)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> ResourceTable:
        """The table from the data of ``resources.yaml``. Raises: ValueError that names the wrong entry."""
        common = tuple(data["common"])
        taken: set[str] = set()
        entries = []
        for item in data["resources"]:
            try:
                entry = _entry(item, common, taken)
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise ValueError(f"resource {item!r} is not usable: {error}") from error
            taken.update(entry.resource.names)
            entries.append(entry)
        return cls(tuple(entries))

    def find(self, word: str) -> ResourceEntry | None:
        """The kind that kubectl would take ``word`` for, or None if the table has no such kind.

        Plural, singular and kind in any case, short names as they are; bare, or followed by ``.GROUP``, ``.VERSION``
        and a dot for the core group, or ``.VERSION.GROUP``. A word for several kinds is the first of them in the
        table; none of kubectl's own guesses (prefixes of groups, other versions, ``all``) are made.
        """
        entry = self._exact.get(word)
        if entry is not None:
            return entry
        if not word.isascii():
            return None
        name, dot, rest = word.partition(".")
        return self._folded.get(name.lower() + dot + rest)

    def for_object(self, api_version: str, kind: str) -> ResourceEntry | None:
        """The kind of an object, by its ``apiVersion`` and ``kind`` exactly."""
        return self._kinds.get((api_version, kind))

    def _add(self, entry: ResourceEntry) -> None:
        resource = entry.resource
        api_version = f"{resource.group}/{resource.version}" if resource.group else resource.version
        self._kinds[(api_version, resource.kind)] = entry
        suffixes = [f".{resource.version}.{resource.group}"]
        if resource.group:
            suffixes.append(f".{resource.group}")
        for name in {*resource.names, resource.plural}:
            tables = (self._exact,) if name in entry.short else (self._exact, self._folded)
            for table in tables:
                if name in resource.names:
                    table.setdefault(name, entry)
                for suffix in suffixes:
                    table.setdefault(name + suffix, entry)


def _entry(item: Mapping[str, Any], common: tuple[str, ...], taken: set[str]) -> ResourceEntry:
    reading: Reading = item["reading"]
    if reading not in _READINGS:
        raise ValueError(f"reading is {reading!r}, expected one of {sorted(_READINGS)}")
    names = dict.fromkeys([item["plural"], item["singular"], *item.get("short", ()), item["kind"].lower()])
    resource = Resource(
        plural=item["plural"],
        kind=item["kind"],
        group=item["group"],
        version=item["version"],
        namespaced=item["namespaced"],
        names=tuple(name for name in names if name not in taken),
    )
    return ResourceEntry(
        resource=resource,
        reading=reading,
        written=item.get("written", False),
        paths=(*common, *item.get("paths", ())) if reading != "never" else (),
        because=item.get("because", ""),
        short=tuple(item.get("short", ())),
    )
