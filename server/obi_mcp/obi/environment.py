"""OBI's environment variables: which are read, by which program and version, and the ``${VAR}`` forms of its YAML.

Precedence is defaults, then the document, then variables; an empty variable counts as unset. Sources of fact: the
module of OBI v0.5.0 (run, and its struct tags), the names in v0.12.0, Beyla v1.8.0 (run). OBI reads no ``BEYLA_*``,
and Beyla 1.8 expands nothing in its YAML.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from obi_mcp.obi.finding import Program
from obi_mcp.obi.keys import Variable, known_keys, numbers
from obi_mcp.policy.config_schema import config_schema

# Longer defaults are none: a bound keeps a hostile text from costing its length squared.
_FORM = re.compile(r"\$?\$[{(](?:env:)?([A-Za-z_][A-Za-z0-9_]*)(?::-([^})]{0,400}))?[})]")
_OURS = ("OTEL_EBPF_", "BEYLA_")
_ASIDE = frozenset({"OTEL_EBPF_CONFIG_PATH", "BEYLA_CONFIG_PATH"})


@dataclass(frozen=True, slots=True)
class Reference:
    """A ``${VAR}`` in a text. ``value`` is None where the variable is unset and the form has no default."""

    name: str
    value: str | None


def variable(name: str, *, program: Program = "obi", version: str | None = None) -> Variable | None:
    """What we know of a variable, if the program (in that version) reads it."""
    found = known_keys().variables.get(name)
    if found is not None and found.seen.has(program, version) is not False:
        return found
    if program == "beyla" and name.startswith("BEYLA_") and (numbers(version) or (3,))[0] >= 3:
        # Beyla 3 embeds OBI and takes its variables under both names.
        return known_keys().variables.get(name.replace("BEYLA_", "OTEL_EBPF_", 1))
    return None


def kind_of(name: str) -> str:
    """The type of a variable's text in the words of the v1 schema; ``string`` where it is not known."""
    known = config_schema("v1").environment
    return known.get(name) or known.get(name.replace("BEYLA_", "OTEL_EBPF_", 1)) or "string"


def expand(text: str, environment: Mapping[str, str]) -> str:
    """A text with its ``${VAR}`` replaced as OBI replaces them: unset is empty, ``$${VAR}`` stays literal."""

    def replace(match: re.Match[str]) -> str:
        if match[0].startswith("$$"):
            return match[0][1:]
        return environment.get(match[1]) or match[2] or ""

    return _FORM.sub(replace, text)


def references(text: str, environment: Mapping[str, str]) -> Iterator[Reference]:
    """The variables that a text takes its value from."""
    for match in _FORM.finditer(text):
        if not match[0].startswith("$$"):
            yield Reference(match[1], environment.get(match[1]) or match[2])


def expands(program: Program, version: str | None) -> bool:
    """Whether the program replaces ``${VAR}`` in its YAML at all. Beyla 1 and 2 do not."""
    return program == "obi" or (numbers(version) or (3,))[0] >= 3


def strangers(environment: Mapping[str, str], program: Program, version: str | None) -> Iterator[str]:
    """Variables that look like the program's own and are not read by it, sorted."""
    for name in sorted(environment):
        if name.startswith(_OURS) and name not in _ASIDE and variable(name, program=program, version=version) is None:
            yield name


def obi_name(name: str) -> str:
    """The name that OBI reads for a variable of Beyla's, whether or not there is one."""
    return name.replace("BEYLA_", "OTEL_EBPF_", 1) if name.startswith("BEYLA_") else name


def typed(kind: str, text: str) -> Any:
    """A variable's text as the value that it is for its key: lists by comma, numbers, true and false."""
    if kind.startswith("list "):
        return [part.strip() for part in text.split(",") if part.strip()]
    if kind == "bool" and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if kind == "int" and re.fullmatch(r"[-+]?[0-9]+", text):
        return int(text)
    return text
