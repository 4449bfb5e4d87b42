"""The walk of an object through the closed schema: what the schema does not name does not pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from obi_mcp.policy.manifest.findings import Inspection, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from obi_mcp.policy.manifest.closed_schema import Node, Predicate

    Check = Callable[[Any, Any, str, Inspection], None]
    """(value, argument, path, inspection): reports to the inspection."""

LONGEST_KEY = 80
"""A longer key is cut in a path."""
_PREFIX_REST = 100


def walk(value: Any, node: Node, path: str, inspection: Inspection, predicates: Mapping[str, Check]) -> None:
    """Report every path of ``value`` that ``node`` does not allow. ``path`` is where ``value`` stands."""
    _Walker(inspection, predicates).at(value, node, path)


def below(path: str, key: str) -> str:
    """The path of a field: ``spec.replicas``; keys that are not plain words in brackets: ``data[obi.yml]``."""
    key = key if len(key) <= LONGEST_KEY else key[: LONGEST_KEY - 1] + "…"
    plain = key.isascii() and key.isidentifier()
    if not plain:
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else key


class _Walker:
    __slots__ = ("_inspection", "_predicates")

    def __init__(self, inspection: Inspection, predicates: Mapping[str, Check]) -> None:
        self._inspection = inspection
        self._predicates = predicates

    def at(self, value: Any, node: Node, path: str) -> None:
        """Judge one value. Checks that see the whole value run when everything in it has passed.

        INVARIANT: a check may rely on the types and the required fields below it.
        """
        inspection = self._inspection
        if node.never is not None:
            inspection.violate("never", f"{_last(path)} may not be set: {node.never}", path, f"remove {_last(path)}")
            return
        if inspection.mode not in node.modes and not (node.empty and value == {}):
            why = node.because or "the API server writes it"
            inspection.violate("not-yours", f"{_last(path)} is not for callers: {why}", path, f"remove {_last(path)}")
            return
        failures = inspection.failures
        self._shape(value, node, path)
        if inspection.failures == failures:
            for check in node.checks:
                self._predicates[check.name](value, check.of, path, inspection)

    def _shape(self, value: Any, node: Node, path: str) -> None:
        if node.opaque:
            return
        if node.leaf is not None:
            self._predicates[node.leaf.name](value, node.leaf.of, path, self._inspection)
        elif node.fields is not None:
            self._object(value, node, path)
        elif node.item is not None:
            self._list(value, node, node.item, path)
        elif node.value is not None and node.keys is not None:
            self._map(value, node.value, node.keys, node.most, path)

    def _object(self, value: Any, node: Node, path: str) -> None:
        if not self._is(dict, "an object", value, path) or not self._few(value, node.most, path):
            return
        fields = node.fields or {}
        for key, child in value.items():
            known = fields.get(key) or _by_prefix(node.prefixes, key)
            if known is None:
                self._unknown(key, [*fields, *(f"{prefix}…" for prefix in node.prefixes)], path)
            elif child is not None or known.never is not None:
                # To the API server null is the same as absent.
                self.at(child, known, below(path, key))
        for key in node.required:
            if value.get(key) is None:
                where = below(path, key)
                self._inspection.violate("missing", f"{where} is missing", where, f"add {where}")

    def _list(self, value: Any, node: Node, item: Node, path: str) -> None:
        if not self._is(list, "a list", value, path) or not self._few(value, node.most, path):
            return
        if len(value) < node.least:
            self._inspection.violate(
                "missing", f"{path} has {len(value)} entries; at least {node.least}", path, "add one"
            )
        for position, child in enumerate(value):
            self.at(child, item, f"{path}[{position}]")

    def _map(self, value: Any, each: Node, keys: Predicate, most: int | None, path: str) -> None:
        if not self._is(dict, "an object", value, path) or not self._few(value, most, path):
            return
        for key, child in value.items():
            where = below(path, key)
            failures = self._inspection.failures
            self._predicates[keys.name](key, keys.of, where, self._inspection)
            if self._inspection.failures == failures:
                self.at(child, each, where)

    def _is(self, kind: type, name: str, value: Any, path: str) -> bool:
        if isinstance(value, kind):
            return True
        self._inspection.violate(
            "type", f"{path or 'the document'} is {shown(value)}, not {name}", path, f"write {name}"
        )
        return False

    def _few(self, value: Any, most: int | None, path: str) -> bool:
        if most is None or len(value) <= most:
            return True
        self._inspection.violate("too-many", f"{path} has {len(value)} entries; at most {most}", path, "leave some out")
        return False

    def _unknown(self, key: str, known: list[str], path: str) -> None:
        from difflib import get_close_matches

        where = below(path, key)
        near = get_close_matches(key[:80], known, n=1)
        names = ", ".join(sorted(known)[:12])
        hint = f"did you mean {near[0]}? otherwise remove it" if near else f"remove it; known here: {names}"
        self._inspection.violate("unknown-path", f"{where} is not on the list of what OBI's objects have", where, hint)


def _by_prefix(prefixes: Mapping[str, Node], key: str) -> Node | None:
    for prefix, node in prefixes.items():
        rest = key.removeprefix(prefix)
        if (
            rest != key
            and 0 < len(rest) <= _PREFIX_REST
            and rest.isascii()
            and rest.replace("-", "").replace(".", "").isalnum()
        ):
            return node
    return None


def _last(path: str) -> str:
    """The last part of a path, without list index."""
    if path.endswith("]") and not path.rpartition("[")[2][:-1].isdigit():
        return path.rpartition("[")[2][:-1]
    return path.rpartition(".")[2]
