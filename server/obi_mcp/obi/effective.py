"""The configuration that holds: every value with where it comes from, defaults < document < variables.

Of v2 documents only what they say is given: their variables are the ones that they name, and their defaults are not
taken from a run. A default that no source names is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from obi_mcp.errors import InvalidDocument
from obi_mcp.obi.config_text import read_config
from obi_mcp.obi.document import Document
from obi_mcp.obi.environment import expand, expands, kind_of, references, typed, variable
from obi_mcp.obi.finding import Program
from obi_mcp.obi.keys import NO_DEFAULT, known_keys
from obi_mcp.policy.config_schema import Leaf, Misshapen, Path, Unknown, dotted, walk
from obi_mcp.policy.yaml_reader import plain_scalar

Source = Literal["default", "file", "environment"]

_SECRET_NAME = re.compile(r"(?i)(?:token|secret|passw|credential|api_?key|cloud_instance_id|headers)")
_USERINFO = re.compile(r"(?i)[a-z][a-z0-9+.-]*://[^/?#\s@]+@")
_BELOW = re.compile(r"[.\[]")


@dataclass(frozen=True, slots=True)
class EffectiveValue:
    """One value. ``path`` is dotted; that of a variable that sets no single key is the variable's own name.

    ``variable``: the one that gave the value, or that the document names in it. ``line`` from 1, of the document.
    ``secret``: it must not be shown.
    """

    path: str
    value: Any
    source: Source
    variable: str | None
    line: int | None
    kind: str
    secret: bool


def effective(
    text: str | bytes,
    *,
    environment: Mapping[str, str] | None = None,
    version: str | None = None,
    program: Program = "obi",
) -> tuple[EffectiveValue, ...]:
    """Every value that holds, by path. Raises: InvalidDocument for a text that is no YAML mapping."""
    document = _document(text, environment or {}, version, program)
    found: dict[str, EffectiveValue] = {}
    if not document.is_v2:
        found |= {value.path: value for value in _defaults(document)}
    for value in _written(document):
        _replace(found, value)
    if not document.is_v2:
        for value in _of_variables(document):
            _replace(found, value)
    return tuple(sorted(found.values(), key=lambda value: value.path))


def _document(text: str | bytes, environment: Mapping[str, str], version: str | None, program: Program) -> Document:
    read = read_config(text)
    if not isinstance(read.data, dict | None) or (read.data is None and read.problems):
        first = read.problems[0] if read.problems else None
        message = f"line {first.line}: {first.message}" if first else "a configuration is a mapping of keys to values"
        raise InvalidDocument(message, "obi_validate_config says more", line=first.line if first else 1)
    return Document(read, environment, version, "standalone", program, read.data or {})


def _replace(found: dict[str, EffectiveValue], value: EffectiveValue) -> None:
    """A list or a mapping goes as a whole: nothing of the default stays beneath."""
    if value.source == "environment":
        for path in [path for path in found if path.startswith((f"{value.path}.", f"{value.path}["))]:
            del found[path]
    for sign in _BELOW.finditer(value.path):
        above = value.path[: sign.start()]
        if above in found and found[above].source == "default":
            del found[above]
    found[value.path] = value


def _defaults(document: Document) -> Iterator[EffectiveValue]:
    for key, facts in known_keys().keys.items():
        if "[]" in key or "*" in key or facts.seen.has(document.program, document.version) is False:
            continue
        value = facts.default(document.program, document.version)
        if value is not NO_DEFAULT:
            yield EffectiveValue(key, value, "default", None, None, _kind(document, key), False)


def _written(document: Document) -> Iterator[EffectiveValue]:
    for visit in walk(document.schema, document.data):
        match visit:
            case Leaf(path=path, kind=kind, value=value):
                yield _from_file(document, path, kind, value)
            case Misshapen(path=path, value=value):
                yield _from_file(document, path, "", value)
            case Unknown(path=path):
                facts = known_keys().of(path)
                if facts is not None and facts.seen.has(document.program):
                    yield _from_file(document, path, "", _value_at(document.data, path))


def _from_file(document: Document, path: Path, kind: str, value: Any) -> EffectiveValue:
    environment = document.environment or {}
    named: tuple[str, ...] = ()
    if isinstance(value, str) and expands(document.program, document.version):
        named = tuple(reference.name for reference in references(value, environment))
        if named:
            value = _plain(expand(value, environment))
    line = document.read.places.get(path, (1, 1))[0]
    secret = _is_secret(dotted(path), kind, value) or any(_SECRET_NAME.search(name) for name in named)
    return EffectiveValue(dotted(path), value, "file", named[0] if named else None, line, kind, secret)


def _of_variables(document: Document) -> Iterator[EffectiveValue]:
    environment = document.environment or {}
    # Aliases first: the newer name of a key wins over them.
    known = [variable(name, program=document.program, version=document.version) for name in environment]
    for entry in sorted((each for each in known if each is not None), key=lambda each: _rank(each.name, each.key)):
        name, text = entry.name, environment.get(entry.name, "")
        if not text:
            name = next((each for each in environment if each.endswith(entry.name.partition("_")[2])), entry.name)
            text = environment.get(name, "")
        if not text:
            continue
        kind = kind_of(name)
        path = entry.key or name
        value = typed(kind, text)
        yield EffectiveValue(path, value, "environment", name, None, kind, _is_secret(f"{path} {name}", kind, value))


def _rank(name: str, key: str | None) -> tuple[bool, str]:
    primary = known_keys().variable_of(key, "obi")[-1:] if key else ()
    return (name in primary, name)


def _is_secret(path: str, kind: str, value: Any) -> bool:
    if isinstance(value, bool):
        return False  # whether headers are looked at is no header
    return (
        kind == "secret" or bool(_SECRET_NAME.search(path)) or (isinstance(value, str) and bool(_USERINFO.match(value)))
    )


def _plain(text: str) -> Any:
    try:
        return plain_scalar(text)
    except ValueError:
        return text


def _value_at(data: Any, path: Path) -> Any:
    for part in path:
        data = data[part]
    return data


def _kind(document: Document, key: str) -> str:
    kind = f"@{document.schema.root}"
    for part in key.split("."):
        kind = document.schema.shapes.get(kind[1:], {}).get(part, "") if kind.startswith("@") else ""
    return kind
