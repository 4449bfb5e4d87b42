"""The configuration file as a flat list of entries with their lines. The only place that reads it as YAML."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from obi_mcp.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Entry:
    """One setting of the file: ``limits.timeout_s``, its plain data, and its line from 1."""

    key: str
    value: Any
    line: int


def read_mapping(text: str, name: str, *, sections: frozenset[str]) -> Iterator[Entry]:
    """The entries of a configuration file, in order.

    Raises: ConfigError for what is no YAML, no mapping, or a key given twice; with file and line.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark else name
        raise ConfigError(f"{where}: not YAML: {getattr(error, 'problem', error)}") from None
    if root is None:
        return
    seen: dict[str, int] = {}
    for key, line, node in _pairs(root, name, ""):
        if key in sections:
            for inner, inner_line, value in _pairs(node, name, key):
                yield _entry(f"{key}.{inner}", inner_line, value, name, seen)
        else:
            yield _entry(key, line, node, name, seen)


def _entry(key: str, line: int, node: yaml.Node, name: str, seen: dict[str, int]) -> Entry:
    if key in seen:
        raise ConfigError(f"{name}:{line}: {key} is set a second time", f"it is set in line {seen[key]} already")
    seen[key] = line
    try:
        value = yaml.constructor.SafeConstructor().construct_document(node)
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}:{line}: {key} cannot be read: {getattr(error, 'problem', error)}") from None
    return Entry(key, value, line)


def _pairs(node: yaml.Node, name: str, section: str) -> Iterator[tuple[str, int, yaml.Node]]:
    if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null":
        return  # a section whose settings are all commented out
    if not isinstance(node, yaml.MappingNode):
        what = f"the section {section}" if section else "the file"
        raise ConfigError(f"{name}:{node.start_mark.line + 1}: {what} must be a mapping of settings to values")
    for key, value in node.value:
        yield str(key.value), key.start_mark.line + 1, value
