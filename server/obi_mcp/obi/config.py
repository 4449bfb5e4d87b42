"""Whether OBI would start with a configuration, and do what its author meant: our own validator, v1 and v2.

OBI ignores unknown keys of a v1 document silently, so a typo shows only as its consequence; here it is an error with
the key that was meant. Every finding says what OBI itself would do of it, and how we know (``docs/obi-config.md``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from obi_mcp.obi.config_text import ConfigText, read_config
from obi_mcp.obi.document import MODES, Document, Mode
from obi_mcp.obi.finding import PROGRAMS, ConfigFinding, Effect, Program
from obi_mcp.obi.meaning import meaning_v1
from obi_mcp.obi.meaning_v2 import FIRST_V2, meaning_v2
from obi_mcp.obi.shape import shape
from obi_mcp.obi.surroundings import surroundings

__all__ = ["FIRST_V2", "MODES", "PROGRAMS", "ConfigFinding", "Effect", "Mode", "Program", "is_misfit", "validate"]

MOST_FINDINGS = 200
"""More are counted, not listed."""
_MEANT = frozenset(
    f"value.{word}"
    for word in (
        "limit",
        "zero",
        "character",
        "port",
        "range",
        "regex",
        "glob",
        "pattern",
        "selector",
        "endpoint",
        "scheme",
    )
)
"""Values of their key's type that still are not what was meant."""
_ALONE = frozenset({"yaml.size", "yaml.encoding", "yaml.syntax", "yaml.tab", "yaml.bomb"})


def validate(
    text: str | bytes,
    *,
    environment: Mapping[str, str] | None = None,
    version: str | None = None,
    mode: Mode = "standalone",
    program: Program = "obi",
) -> tuple[ConfigFinding, ...]:
    """What is wrong with a configuration, in the order of its lines; nothing when OBI would start with it.

    ``environment``: the program's variables, which win over the document; None: nobody knows them. ``version``: the
    program's (``v0.12.0``); None: any. ``mode``: ``receiver`` for the body of the Collector's ``receivers.obi``, whose
    exporters are the Collector's. ``program``: ``beyla`` for Grafana Beyla, which reads other names.
    """
    read = read_config(text)
    data = read.data if isinstance(read.data, dict) else {}
    document = Document(read, environment, version, mode, program, data)
    # What is said of the whole document is often the consequence of a typo: the typo comes first.
    found = sorted(_findings(document, read), key=lambda each: (not each.key, each.line, each.column))
    if len(found) <= MOST_FINDINGS:
        return tuple(found)
    rest = len(found) - MOST_FINDINGS
    more = document.at("more", "", f"{rest} more findings are not listed", "mend these first")
    return (*found[:MOST_FINDINGS], more)


def is_misfit(finding: ConfigFinding) -> bool:
    """Whether a value is not of its key's type at all."""
    return finding.rule == "value" and finding.case not in _MEANT


def _findings(document: Document, read: ConfigText) -> Iterator[ConfigFinding]:
    for problem in read.problems:
        yield document.finding(problem.case, "", (problem.line, problem.column), problem.message, None)
    if any(problem.case in _ALONE for problem in read.problems):
        return
    if not isinstance(read.data, dict | None):
        yield document.at("yaml.mapping", "", "a configuration is a mapping of keys to values")
        return
    yield from shape(document)
    yield from surroundings(document)
    if not read.problems:
        yield from meaning_v2(document) if document.is_v2 else meaning_v1(document)
