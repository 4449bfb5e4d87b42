"""A configuration's text as plain data, with the line and column of every key: what a finding points at.

More lenient than the reader of the policy: OBI's own reader takes ``yes``, merge keys and tags of the core schema, so
a validator that refused them would speak of other errors than OBI's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from obi_mcp.policy.yaml_reader import plain_scalar

if TYPE_CHECKING:
    from obi_mcp.policy.config_schema import Path

MAX_BYTES = 262_144
MAX_NODES = 50_000
MAX_DEPTH = 60
_REFERENCE = re.compile(r"\$[{(](?:env:)?[A-Za-z_][A-Za-z0-9_]*(?::-[\x20-\x28\x2a-\x7c~]{0,400})?[})]")
_SHIELD_FIRST = 0xE000
_SHIELD = re.compile("[\ue000-\ue07f]")
_CORE = "tag:yaml.org,2002:"
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a text, or a part of it, cannot be read. Line and column count from 1; ``case`` is the finding's."""

    message: str
    line: int
    column: int
    case: str = "yaml.syntax"


@dataclass(frozen=True, slots=True)
class ConfigText:
    """``data`` is None for an empty text. ``places`` holds (line, column) of each key and list item, both from 1."""

    data: Any = None
    places: dict[Path, tuple[int, int]] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


def read_config(text: str | bytes) -> ConfigText:
    """The text's data; where it is no YAML at all, only the problem. Of several documents the first, as OBI does."""
    import yaml

    text = text if isinstance(text, str) else _decode(text)
    problem = _unfit(text)
    if problem is not None:
        return ConfigText(problems=(problem,))
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    problems = []
    text = shielded(text)
    try:
        deep = _too_deep(text, loader)
        if deep is not None:
            return ConfigText(problems=(deep,))
        root = yaml.compose(text, Loader=loader)
    except yaml.composer.ComposerError as error:
        found = _unreadable(error, text)
        if found.case != "yaml.documents":
            return ConfigText(problems=(found,))
        problems.append(found)
        root = next(iter(yaml.compose_all(text, Loader=loader)))
    except (yaml.YAMLError, ValueError) as error:
        return ConfigText(problems=(_unreadable(error, text),))
    if root is None:
        return ConfigText(problems=tuple(problems))
    reader = _Reader()
    reader.problems.extend(problems)
    data = reader.value(root, (), 0)
    return ConfigText(data, reader.places, tuple(reader.problems))


def shielded(text: str) -> str:
    """The text with its ``${VAR}`` as signs that mean nothing to YAML, of the same length: OBI replaces them first.

    ``{port: ${PORT}}`` is no YAML and a good configuration. What is read from it goes through :func:`unshielded`.
    """
    if _SHIELD.search(text):
        return text  # it has such signs of its own: they must stay what they are
    return _REFERENCE.sub(lambda match: "".join(chr(_SHIELD_FIRST + ord(sign)) for sign in match[0]), text)


def unshielded(text: str) -> str:
    """A key or a value of a shielded text as it was written."""
    return _SHIELD.sub(lambda match: chr(ord(match[0]) - _SHIELD_FIRST), text) if _SHIELD.search(text) else text


def _too_deep(text: str, loader: Any) -> Problem | None:
    """Where the text nests too deep: found before libyaml's composer, which goes down without a bound and crashes."""
    import yaml

    depth = 0
    for event in yaml.parse(text, Loader=loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            return Problem("too much nesting", *_place(event), "yaml.bomb")
    return None


def _decode(text: bytes) -> str:
    """The text, what is no UTF-8 as lone surrogates: where they stand is found later."""
    return text.decode("utf-8", "surrogateescape")


def _unfit(text: str) -> Problem | None:
    """Too long, or not Unicode."""
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        return Problem(f"more than {MAX_BYTES} bytes; longer texts are not read here", 1, 1, "yaml.size")
    lone = re.search("[\ud800-\udfff]", text)
    if lone is None:
        return None
    line = text.count("\n", 0, lone.start()) + 1
    return Problem("this is not UTF-8", line, lone.start() - text.rfind("\n", 0, lone.start()), "yaml.encoding")


def _unreadable(error: Exception, text: str) -> Problem:
    mark = getattr(error, "problem_mark", None)
    said = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error).splitlines()[0]
    line, column = (mark.line + 1, mark.column + 1) if mark is not None else _place_of(error, text)
    case = "yaml.syntax"
    if "another document" in said:
        case, said = "yaml.documents", "a second document, which OBI never reads"
    elif mark is not None and _at(text, line, column) == "\t":
        case, said = "yaml.tab", "a tab where YAML wants spaces"
    message = said if case != "yaml.syntax" else f"this is not YAML: {said}"
    return Problem(message, line, column, case)


def _place_of(error: Exception, text: str) -> tuple[int, int]:
    """Where a reader's error stands, which has an offset at most."""
    control = _CONTROL.search(text)
    position = control.start() if control else getattr(error, "position", 0)
    return text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position)


def _at(text: str, line: int, column: int) -> str:
    """The character at a place; libyaml's column may stand behind the blanks that it could not read."""
    lines = text.splitlines()
    row = lines[line - 1] if line <= len(lines) else ""
    return "\t" if "\t" in row[: len(row) - len(row.lstrip())] else row[column - 1 : column]


class _Reader:
    """Nodes to data."""

    __slots__ = ("_count", "_open", "places", "problems")

    def __init__(self) -> None:
        self.places: dict[Path, tuple[int, int]] = {}
        self.problems: list[Problem] = []
        self._count = 0
        self._open: set[int] = set()

    def value(self, node: Any, path: Path, depth: int) -> Any:
        """The node's data; what cannot be read becomes None, with a problem."""
        self._count += 1
        if self._count > MAX_NODES or depth > MAX_DEPTH:
            # Aliases can stand for far more than the text holds, or for themselves.
            if self._count <= MAX_NODES + 1 or depth > MAX_DEPTH:
                self._complain(node, "too much nesting, or too many aliases", "yaml.bomb")
            self._count = MAX_NODES + 1
            return None
        if node.id == "scalar":
            return self._scalar(node)
        if id(node) in self._open or node.tag not in (f"{_CORE}map", f"{_CORE}seq"):
            if id(node) in self._open:
                self._complain(node, "an alias that stands for itself", "yaml.alias-itself")
            else:
                self._complain(node, f"the tag {node.tag!r}, which OBI does not look at", "yaml.tag")
            return None
        self._open.add(id(node))
        data = self._mapping(node, path, depth) if node.id == "mapping" else self._sequence(node, path, depth)
        self._open.discard(id(node))
        return data

    def _sequence(self, node: Any, path: Path, depth: int) -> list[Any]:
        items = []
        for index, item in enumerate(node.value):
            self.places[(*path, index)] = _place(item)
            items.append(self.value(item, (*path, index), depth + 1))
        return items

    def _mapping(self, node: Any, path: Path, depth: int) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = unshielded(key_node.value) if key_node.id == "scalar" else None
            if not isinstance(key, str):
                self._complain(key_node, "a key that is not a plain word", "yaml.key")
                continue
            if key_node.tag == f"{_CORE}merge":
                inherited = self.value(value_node, path, depth + 1)
                for mapping in inherited if isinstance(inherited, list) else [inherited]:
                    merged = {**(mapping if isinstance(mapping, dict) else {}), **merged}
                continue
            if key in fields:
                first = self.places[(*path, key)][0]
                self._complain(key_node, f"the key {key!r} is there twice (first on line {first})", "yaml.duplicate")
                continue
            self.places[(*path, key)] = _place(key_node)
            fields[key] = self.value(value_node, (*path, key), depth + 1)
        return {**merged, **fields}

    def _scalar(self, node: Any) -> Any:
        value = unshielded(node.value)
        if node.style or node.tag == f"{_CORE}str":
            return value
        if not node.tag.startswith(_CORE):
            self._complain(node, f"the tag {node.tag!r}, which OBI does not look at", "yaml.tag")
            return None
        try:
            return plain_scalar(value)
        except ValueError:
            # `yes`, `0x1f`: what it is depends on the type of the key.
            return value

    def _complain(self, node: Any, message: str, case: str) -> None:
        self.problems.append(Problem(message, *_place(node), case))


def _place(node: Any) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def write_config(data: Any) -> str:
    """A configuration as YAML, keys in the order given, nothing folded or shared."""
    import yaml

    class Plain(yaml.SafeDumper):
        """Writes every value out: an alias in a configuration is hard to read and to change."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    return yaml.dump(data, Dumper=Plain, sort_keys=False, allow_unicode=True, width=10_000)
