"""The closed schema: per kind, the paths that may occur, each with a predicate. Data from ``policy/manifest/*.yaml``.

The language (``policy/schema/manifest.schema.json``): a node is the name of a predicate, or one of ``is``/``of``,
``fields`` (with ``prefixes`` and ``required``), ``list``, ``map`` (with ``keys``), ``use`` (a named type), ``extends``
(a named type with some fields changed), ``opaque``, ``never``. ``check`` adds predicates that see the whole value.
``only`` lists where a path may come from.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from obi_mcp.errors import PolicyError
from obi_mcp.policy.manifest.findings import Mode

if TYPE_CHECKING:
    from collections.abc import Mapping

_EVERYWHERE = frozenset(Mode)


@dataclass(frozen=True, slots=True)
class Predicate:
    """A predicate by name, with its argument (``of``) as plain data."""

    name: str
    of: Any = None


@dataclass(frozen=True, slots=True)
class Node:
    """What may stand at one path. Exactly one of the shapes is set: leaf, fields, item, value, opaque, never."""

    leaf: Predicate | None = None
    fields: Mapping[str, Node] | None = None
    prefixes: Mapping[str, Node] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    item: Node | None = None
    value: Node | None = None
    keys: Predicate | None = None
    least: int = 0
    most: int | None = None
    opaque: bool = False
    empty: bool = False
    """With ``opaque``: an empty object may come from anywhere (``status: {}`` as kubectl prints it)."""
    never: str | None = None
    because: str | None = None
    modes: frozenset[Mode] = _EVERYWHERE
    checks: tuple[Predicate, ...] = ()


@dataclass(frozen=True, slots=True)
class KindSchema:
    """One kind: ``labelled`` kinds must carry a scope label; the others are known by their name."""

    api_version: str
    kind: str
    namespaced: bool
    labelled: bool
    root: Node


def compile_kinds(files: Mapping[str, Any], known: frozenset[str]) -> dict[str, KindSchema]:
    """The kinds of all files together. ``known``: the names of the predicates there are.

    Raises: PolicyError for a type or predicate that does not exist, or one that is defined twice.
    """
    types: dict[str, Any] = {}
    kinds: dict[str, Any] = {}
    for name, data in sorted(files.items()):
        for section, into in (("types", types), ("kinds", kinds)):
            for key, value in data.get(section, {}).items():
                if key in into:
                    raise PolicyError(f"{name}: {key} is defined twice", "keep one definition")
                into[key] = value
    compiler = _Compiler(types, known)
    return {kind: _kind(kind, data, compiler) for kind, data in kinds.items()}


def _kind(kind: str, data: Mapping[str, Any], compiler: _Compiler) -> KindSchema:
    node = compiler.node({key: data[key] for key in ("fields", "required", "check") if key in data}, kind)
    fields = {
        **(node.fields or {}),
        "apiVersion": Node(leaf=Predicate("enum", [data["apiVersion"]])),
        "kind": Node(leaf=Predicate("enum", [kind])),
    }
    return KindSchema(
        data["apiVersion"], kind, data.get("namespaced", True), data.get("labelled", True), replace(node, fields=fields)
    )


class _Compiler:
    """Turns data into nodes, resolving named types."""

    __slots__ = ("_data", "_done", "_known")

    def __init__(self, types: Mapping[str, Any], known: frozenset[str]) -> None:
        self._data = types
        self._known = known
        self._done: dict[str, Node] = {}

    def node(self, data: Any, at: str) -> Node:
        """The node that the data describe; ``at`` is for messages."""
        if isinstance(data, str):
            return Node(leaf=self._predicate(data, at))
        node = self._shape(data, at)
        return replace(
            node,
            checks=(*node.checks, *(self._predicate(check, at) for check in data.get("check", ()))),
            modes=frozenset(Mode(mode) for mode in data["only"]) if "only" in data else node.modes,
            because=data.get("because", node.because),
        )

    def _shape(self, data: Mapping[str, Any], at: str) -> Node:
        match data:
            case {"use": name}:
                return self._type(name, at)
            case {"extends": _}:
                return self._extended(data, at)
            case {"is": _}:
                node = Node(leaf=self._predicate(data, at))
            case {"list": item}:
                node = Node(item=self.node(item, f"{at}[]"), least=data.get("min", 0), most=data.get("max"))
            case {"map": value, "keys": keys}:
                node = Node(value=self.node(value, f"{at}.*"), keys=self._predicate(keys, at), most=data.get("max"))
            case {"never": why}:
                node = Node(never=why)
            case {"opaque": True}:
                node = Node(opaque=True, empty=data.get("empty", False))
            case _:
                node = self._fields(data, at)
        return node

    def _fields(self, data: Mapping[str, Any], at: str) -> Node:
        return Node(
            fields={name: self.node(child, f"{at}.{name}") for name, child in data.get("fields", {}).items()},
            prefixes={name: self.node(child, f"{at}.{name}*") for name, child in data.get("prefixes", {}).items()},
            required=tuple(data.get("required", ())),
            most=data.get("max"),
        )

    def _type(self, name: str, at: str) -> Node:
        if name not in self._done:
            if name not in self._data:
                raise PolicyError(f"{at}: there is no type {name!r}", f"use one of {', '.join(sorted(self._data))}")
            self._done[name] = self.node(self._data[name], name)
        return self._done[name]

    def _extended(self, data: Mapping[str, Any], at: str) -> Node:
        """The base with fields changed or added. A ``check`` here takes the place of one of the same name there."""
        base = self._type(data["extends"], at)
        mine = self._fields(data, at)
        named = {self._predicate(check, at).name for check in data.get("check", ())}
        return replace(
            base,
            fields={**(base.fields or {}), **(mine.fields or {})},
            required=tuple(dict.fromkeys((*base.required, *mine.required))),
            checks=tuple(check for check in base.checks if check.name not in named),
        )

    def _predicate(self, data: Any, at: str) -> Predicate:
        predicate = Predicate(data) if isinstance(data, str) else Predicate(data["is"], data.get("of"))
        if predicate.name not in self._known:
            raise PolicyError(
                f"{at}: there is no predicate {predicate.name!r}", f"use one of {', '.join(sorted(self._known))}"
            )
        return predicate
