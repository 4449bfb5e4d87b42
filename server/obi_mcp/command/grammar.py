"""What a program's command line can be: flags, shorthands, sub-commands, read from ``policy/grammar/*.json``.

kubectl's and helm's files are generated from the programs' own command trees; those of obi and of the filters are
written by hand in the same format. A grammar only describes: what may be used is the rules' business.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from obi_mcp.command.model import Style
from obi_mcp.errors import PolicyError


@dataclass(frozen=True, slots=True)
class FlagSpec:
    """One flag. ``optional``: the value it takes when none is given (NoOptDefVal). ``nargs``: words that follow it."""

    name: str
    short: str = ""
    type: str = "string"
    optional: str | None = None
    repeat: bool = False
    nargs: int = 1
    long: bool = True

    @property
    def takes_value(self) -> bool:
        """Whether a getopt flag has a required argument."""
        return self.type != "bool" and self.optional is None


class CommandSpec:
    """One command with the flags that pflag would know there: its own, and those of its parents that persist.

    Sub-commands are built when first looked up: one line uses two of kubectl's hundred and more.
    """

    __slots__ = ("_built", "_children", "_names", "flags", "hidden", "name", "persistent", "runnable", "shorts")

    def __init__(self, name: str, data: dict[str, Any], inherited: dict[str, FlagSpec]) -> None:
        self.name = name
        self.persistent = {**inherited, **_flags(data.get("persistent", {}))}
        self.flags = {**self.persistent, **_flags(data.get("flags", {}))}
        self.shorts = {spec.short: spec for spec in self.flags.values() if spec.short}
        self.runnable: bool = data.get("runnable", False)
        self.hidden: bool = data.get("hidden", False)
        self._children: dict[str, dict[str, Any]] = data.get("commands", {})
        self._built: dict[str, CommandSpec] = {}
        self._names = {child: child for child in self._children}
        for child, entry in self._children.items():
            for alias in entry.get("aliases", ()):
                self._names.setdefault(alias, child)

    def child(self, word: str) -> CommandSpec | None:
        """The sub-command of that name or alias."""
        name = self._names.get(word)
        if name is None:
            return None
        if name not in self._built:
            self._built[name] = CommandSpec(name, self._children[name], self.persistent)
        return self._built[name]

    def child_names(self) -> tuple[str, ...]:
        """Every name and alias, for suggestions."""
        return tuple(self._names)


@dataclass(slots=True)
class ProgramGrammar:
    """One program's grammar."""

    program: str
    version: str
    style: Style
    root: CommandSpec
    numeric: str = ""
    """Name of the flag that ``-20`` stands for; empty: not accepted."""
    interspersed: bool = True
    normalize: bool = False
    """Whether ``_`` in flag names is read as ``-`` (kubectl's word separator normalisation)."""


@dataclass(slots=True)
class Grammars:
    """The heads by program name, and the filters."""

    heads: dict[str, ProgramGrammar] = field(default_factory=dict)
    filters: dict[str, ProgramGrammar] = field(default_factory=dict)

    @classmethod
    def load(cls, directory: Path) -> Grammars:
        """Read kubectl.json, helm.json, obi.json and filters.json. Raises: PolicyError naming the file."""
        return cls.from_data(
            {name: _read(directory / f"{name}.json") for name in ("kubectl", "helm", "obi", "filters")}
        )

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Grammars:
        """The same from parsed JSON: ``{"kubectl": …, "helm": …, "obi": …, "filters": {"programs": …}}``."""
        heads = {name: _program(data[name]) for name in ("kubectl", "helm", "obi")}
        filters = {name: _program(entry) for name, entry in data["filters"]["programs"].items()}
        return cls(heads, filters)


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PolicyError(f"{path}: the grammar cannot be read: {error}", "run make grammar") from error
    if not isinstance(data, dict):
        raise PolicyError(f"{path}: a grammar is a JSON object", "run make grammar")
    return data


def _program(data: dict[str, Any]) -> ProgramGrammar:
    style: Style = data["style"]
    own, persistent = data.get("local", {}), data.get("flags", {})
    root = CommandSpec(
        data["program"], {"flags": own, "persistent": persistent, "commands": data.get("commands", {})}, {}
    )
    numeric = data.get("numeric", "")
    if numeric is True:
        numeric = "lines" if "lines" in root.flags else "context"
    return ProgramGrammar(
        program=data["program"],
        version=data["version"],
        style=style,
        root=root,
        numeric=numeric or "",
        interspersed=data.get("interspersed", True),
        normalize=data["program"] == "kubectl",
    )


def _flags(data: dict[str, Any]) -> dict[str, FlagSpec]:
    return {
        name: FlagSpec(
            name=name,
            short=entry.get("short", ""),
            type=entry.get("type", "string"),
            optional=entry.get("optional"),
            repeat=entry.get("repeat", False),
            nargs=entry.get("nargs", 0 if entry.get("type") == "bool" else 1),
            long=not (len(name) == 1 and entry.get("short") == name),
        )
        for name, entry in data.items()
    }
