"""Which version of which program has which v1 key and variable, what a key is without it, and how we know.

The data is ``policy/obi/keys.json``; its ``sources`` give the address of every version. Between two versions that we
have read nothing is guessed: what one has and the other has not is ``None`` there, not known.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from obi_mcp.obi.finding import Program
from obi_mcp.policy.shipped import shipped_policy

if TYPE_CHECKING:
    from obi_mcp.policy.config_schema import Path

NO_DEFAULT = object()
"""What stands for the value of a key whose default no source names."""

_NUMBERS = re.compile(r"v?([0-9]+)(?:\.([0-9]+))?(?:\.([0-9]+))?")


@dataclass(frozen=True, slots=True)
class Seen:
    """The versions in which something was seen, as ``obi-0.5.0``, the oldest first."""

    versions: tuple[str, ...]

    def has(self, program: Program, version: str | None = None) -> bool | None:
        """Whether that version has it; without one, whether any has. None: between two versions that differ."""
        known = read_versions(program)
        number = numbers(version)
        if number is None:
            return any(each in self.versions for each in known)
        older = [each for each in known if _number(each) <= number]
        newer = [each for each in known if _number(each) > number]
        exact = bool(older) and _number(older[-1]) == number
        around = older[-1:] if exact else [*older[-1:], *newer[:1]]
        said = {each in self.versions for each in around}
        return said.pop() if len(said) == 1 else None

    def first(self, program: Program) -> str:
        """The first version that we have read which has it, as ``v0.12.0``; empty for none."""
        return next((_shown(known) for known in self.versions if known.startswith(f"{program}-")), "")

    def last(self, program: Program) -> str:
        """The last one, as ``v0.5.0``."""
        mine = [known for known in self.versions if known.startswith(f"{program}-")]
        return _shown(mine[-1]) if mine else ""


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """One v1 key. ``defaults`` by version; ``limit`` is Go's (``gt=0``), checked by OBI at start."""

    seen: Seen
    defaults: Mapping[str, Any]
    limit: str | None

    def default(self, program: Program, version: str | None = None) -> Any:
        """The value without the key, of the newest version up to ``version``; NO_DEFAULT where no source names it."""
        if "" in self.defaults:
            return self.defaults[""]
        number = numbers(version)
        found = NO_DEFAULT
        for known in read_versions(program):
            beyond = number is not None and _number(known) > number
            if known in self.defaults and (found is NO_DEFAULT or not beyond):
                found = self.defaults[known]
        return found


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable. ``key`` is the v1 key that it sets; None: read by other code, or by several."""

    name: str
    key: str | None
    seen: Seen


@dataclass(frozen=True, slots=True)
class Keys:
    """The whole table. ``sources``: version to the address that it was read from."""

    sources: Mapping[str, str]
    keys: Mapping[str, KeyFacts]
    variables: Mapping[str, Variable]

    def of(self, path: Path) -> KeyFacts | None:
        """The facts of a key in a document."""
        return self.keys.get(general(path)) or self._in_map(path)

    def variable_of(self, key: str, program: Program, version: str | None = None) -> tuple[str, ...]:
        """The variables that set a key, the one that is read first at the end."""
        mine = [entry for entry in self.variables.values() if entry.key == key and entry.seen.has(program, version)]
        return tuple(entry.name for entry in sorted(mine, key=lambda entry: entry.name not in _ALIASES))

    def _in_map(self, path: Path) -> KeyFacts | None:
        """Keys of the author's own choice (``attributes.select.NAME``) are ``*`` in the table."""
        for index in range(1, len(path)):
            facts = self.keys.get(
                f"{general(path[:index])}.*{'.' if path[index + 1 :] else ''}{general(path[index + 1 :])}"
            )
            if facts is not None:
                return facts
        return None


_ALIASES = frozenset({"OTEL_GO_AUTO_TARGET_EXE", "OTEL_EBPF_SERVICE_NAME", "OTEL_EBPF_METRIC_FEATURES"})


def general(path: Path) -> str:
    """``discovery.instrument[].exe_path``: a path without its indexes."""
    text = ""
    for part in path:
        # A key with a dot in it is not the two keys that it looks like.
        text += "[]" if isinstance(part, int) else f".{part}" if text else str(part).replace(".", "\0")
    return text


def numbers(version: str | None) -> tuple[int, int, int] | None:
    """``v0.12.1`` as numbers, missing ones 0; None where it does not begin with any."""
    found = _NUMBERS.match(version or "")
    return (int(found[1]), int(found[2] or 0), int(found[3] or 0)) if found else None


@lru_cache(maxsize=1)
def known_keys() -> Keys:
    """The table, read once."""
    data = json.loads((shipped_policy() / "obi" / "keys.json").read_text("utf-8"))
    return Keys(
        sources=data["sources"],
        keys={key: _facts(entry) for key, entry in data["keys"].items()},
        variables={
            name: Variable(name, entry["key"], Seen(tuple(entry["in"]))) for name, entry in data["variables"].items()
        },
    )


def read_versions(program: Program) -> tuple[str, ...]:
    """The versions of a program that we have read, the oldest first."""
    return tuple(known for known in known_keys().sources if known.startswith(f"{program}-"))


def newest_version(program: Program) -> str:
    """The newest version of a program that we have read, as ``v0.12.0``."""
    return _shown(read_versions(program)[-1])


def _facts(entry: dict[str, Any]) -> KeyFacts:
    defaults = entry.get("defaults", {})
    if "default" in entry:
        defaults = {"": entry["default"]}
    return KeyFacts(Seen(tuple(entry["in"])), defaults, entry.get("limit"))


def _shown(known: str) -> str:
    return f"v{known.partition('-')[2]}"


def _number(known: str) -> tuple[int, int, int]:
    """The numbers of a version as the table has it; of one without any, the oldest there could be."""
    return numbers(known.partition("-")[2]) or (0, 0, 0)
