"""The environment variables of a configuration: those that nobody reads, and those with a wrong text."""

from __future__ import annotations

from collections.abc import Iterator

from obi_mcp.obi.document import Document
from obi_mcp.obi.environment import kind_of, obi_name, strangers, typed, variable
from obi_mcp.obi.finding import PROGRAM_NAMES, ConfigFinding
from obi_mcp.obi.keys import known_keys, read_versions
from obi_mcp.obi.values import shown
from obi_mcp.policy.config_schema import config_schema, nearest
from obi_mcp.policy.config_types import expected

_HEADERS = "OTEL_EXPORTER_OTLP_"
"""OBI's exporters read these themselves, whatever the form of the document."""


def surroundings(document: Document) -> Iterator[ConfigFinding]:
    """What is wrong with the variables; nothing where nobody said which are set."""
    environment = document.environment or {}
    for name in strangers(environment, document.program, document.version):
        yield _stranger(document, name)
    for name in sorted(environment):
        found = variable(name, program=document.program, version=document.version)
        if found is None or not environment[name]:
            continue
        if document.is_v2 and not name.startswith(_HEADERS):
            message = "a v2 document is not overridden by variables: it has to name them"
            yield document.about("environment.v2", name, message, f"write ${{{name}}} at the key's place")
        elif not document.is_v2:
            yield from _judge(document, name, environment[name])


def _stranger(document: Document, name: str) -> ConfigFinding:
    program, version = document.program, document.version
    who = PROGRAM_NAMES[program]
    if name.startswith("BEYLA_") and program == "obi":
        instead = obi_name(name) if variable(obi_name(name), version=version) else None
        hint = f"OBI's name is {instead}" if instead else "remove it"
        return document.about(
            "environment.beyla", name, "only Grafana Beyla reads this variable", hint, nearest=instead
        )
    known = known_keys().variables.get(name)
    if known is not None and known.seen.has(program):
        message = f"{who} {version} does not read this variable; {known.seen.first(program)} does"
        return document.about("environment.version", name, message)
    candidates = tuple(each for each in known_keys().variables if variable(each, program=program, version=version))
    swapped = name.replace("OTEL_EBPF_", "BEYLA_", 1)
    near = swapped if program == "beyla" and swapped in candidates else nearest(name, candidates)
    hint = f"did you mean {near}?" if near else "remove it"
    read = " and ".join(f"v{known.partition('-')[2]}" for known in read_versions(program))
    message = f"{who} reads no such variable in {read}, the versions that are known here"
    return document.about("environment.unknown", name, message, hint, nearest=near)


def _judge(document: Document, name: str, text: str) -> Iterator[ConfigFinding]:
    """The text of a variable by the type of its key."""
    schema = config_schema("v1")
    kind = kind_of(name)
    items = typed(kind, text)
    below = kind.partition(" ")[2]
    for value in items if isinstance(items, list) else [items]:
        words = expected(schema, below if isinstance(items, list) else kind, value)
        if words is not None:
            choices = schema.choices(below if isinstance(items, list) else kind)
            near = nearest(str(value), choices) if choices else None
            hint = f"did you mean {near}?" if near else None
            message = f"{words} was expected, not {shown(value)}"
            yield document.about("environment.value", name, message, hint, expected=words, nearest=near)
