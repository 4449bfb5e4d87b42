"""The harmless fields of kinds as a tree, and positions in it that an expression has reached.

A path like ``spec.containers[].{name,image}`` makes the nodes ``spec``, ``containers`` (a list), its item, and two
harmless nodes. A harmless node stands for everything at and below it. An expression may pass through nodes that are
not harmless, but must end at one that is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from obi_mcp.policy.resource import ResourceEntry

# Lists below harmless nodes. An index or filter on anything else makes kubectl fail, and it then prints the object.
_LISTS = frozenset(
    {
        "addresses",
        "conditions",
        "containerStatuses",
        "containers",
        "currentMetrics",
        "endpoints",
        "ephemeralContainerStatuses",
        "hostIPs",
        "ingress",
        "initContainerStatuses",
        "ownerReferences",
        "podIPs",
        "ports",
        "resourceClaimStatuses",
        "rules",
        "subjects",
        "subsets",
        "taints",
    }
)


@dataclass(frozen=True, slots=True)
class Node:
    """A position in objects of one kind. ``item`` is set for lists. ``harmless``: everything here may be shown."""

    children: dict[str, Node] = field(default_factory=dict)
    item: Node | None = None
    harmless: bool = False

    def child(self, name: str) -> Node | None:
        """The field of that name, or None if nothing at or below it may be shown."""
        if self.harmless and self.item is None:
            return _OPEN_LIST if name in _LISTS else _OPEN
        return self.children.get(name)


_OPEN = Node(harmless=True)
_OPEN_LIST = Node(harmless=True, item=_OPEN)


@dataclass(frozen=True, slots=True)
class Paths:
    """Where an expression stands: one node per kind that is asked for (and per branch of a union).

    What is asked of it must hold for every node. ``text`` is the path so far, for messages.
    """

    nodes: tuple[Node, ...]
    text: str = ""

    @property
    def harmless(self) -> bool:
        """Everything here may be shown."""
        return all(node.harmless for node in self.nodes)

    @property
    def is_list(self) -> bool:
        """Surely a list, so that it has items and a length."""
        return all(node.item is not None for node in self.nodes)

    def child(self, name: str) -> Paths | None:
        """The field of that name, or None where nothing at or below it may be shown for one of the kinds."""
        found = tuple(node.child(name) for node in self.nodes)
        nodes = tuple(node for node in found if node is not None)
        return Paths(_distinct(nodes), f"{self.text}.{name}") if len(nodes) == len(found) else None

    def item(self) -> Paths | None:
        """An element of the list, or None if this is not surely a list."""
        nodes = tuple(node.item for node in self.nodes if node.item is not None)
        return Paths(_distinct(nodes), f"{self.text}[]") if len(nodes) == len(self.nodes) else None

    def any_value(self) -> Paths | None:
        """What a wildcard yields: an element of a list, or any value below something harmless; else None."""
        return self.item() or (Paths((_OPEN,), f"{self.text}.*") if self.harmless else None)

    def joined(self, other: Paths) -> Paths:
        """Both positions at once, for the branches of a union."""
        return Paths(_distinct((*self.nodes, *other.nodes)), self.text)


def _distinct(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """Each node once, so that a chain of unions stays small."""
    return nodes if len(nodes) == 1 else tuple({id(node): node for node in nodes}.values())


def paths_for(entries: Iterable[ResourceEntry]) -> Paths:
    """The root for an expression over objects of these kinds: one object, or the List that kubectl makes of several.

    Raises: ValueError if there are no entries, or a path of one is malformed.
    """
    roots = tuple(_root(entry.paths) for entry in entries)
    if not roots:
        raise ValueError("an expression is judged for at least one kind")
    return Paths(roots)


@lru_cache(maxsize=128)
def _root(paths: tuple[str, ...]) -> Node:
    root = Node()
    for path in paths:
        for plain in _expanded(path):
            _grow(root, plain)
    return Node({**root.children, "items": Node(item=Node(root.children))})


def _expanded(path: str) -> list[str]:
    """``a.{b,c}`` is ``a.b`` and ``a.c``."""
    before, brace, rest = path.partition("{")
    if not brace:
        return [path]
    inside, closing, after = rest.partition("}")
    if not closing:
        raise ValueError(f"unclosed {{ in path {path!r}")
    return [done for choice in inside.split(",") for done in _expanded(before + choice + after)]


def _grow(root: Node, path: str) -> None:
    """Add one path without braces to the tree, in place (trees are built once and never changed afterwards)."""
    node = root
    *inner, leaf = path.split(".")
    for segment in inner:
        name = segment.removesuffix("[]")
        following = node.children.get(name)
        if following is None:
            following = Node(item=Node()) if segment.endswith("[]") else Node()
            node.children[name] = following
        node = following if following.item is None else following.item
    name = leaf.removesuffix("[]")
    if not name or name in node.children:
        raise ValueError(f"path {path!r} is empty or given twice")
    node.children[name] = _OPEN_LIST if leaf.endswith("[]") or name in _LISTS else _OPEN
