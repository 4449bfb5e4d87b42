"""What OBI asks of a v2 document besides its shape. Source of fact: the project's Config v2 reference."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from obi_mcp.obi.document import Document
from obi_mcp.obi.finding import ConfigFinding
from obi_mcp.obi.keys import numbers

FIRST_V2 = (0, 11, 0)
"""The first version that reads v2; older ones take it for a v1 document without any key that they know."""

_OBI = "extensions.obi"
_NO_EXPORTER = (
    "nothing is exported: OBI needs a processor in tracer_provider, a reader in meter_provider, or debug_trace_output",
    "set extensions.obi.daemon.logging.debug_trace_output: text to try it out",
)


def meaning_v2(document: Document) -> Iterator[ConfigFinding]:
    """What is wrong with the document as a whole."""
    yield from _versions(document)
    yield from _pipelines(document)
    if document.mode == "standalone" and not _exports(document):
        yield document.at("exporter", "", *_NO_EXPORTER)


def _versions(document: Document) -> Iterator[ConfigFinding]:
    version = numbers(document.version)
    if document.program == "beyla":
        yield document.at("version.v2", "", "Beyla does not read v2 documents", "write a v1 document")
    elif version is not None and version < FIRST_V2:
        hint = "write a v1 document, or use OBI v0.11.0 or newer"
        yield document.at("version.v2", "", f"OBI {document.version} does not read v2 documents", hint)
    if document.mode == "receiver":
        return
    if document.written("file_format") is None:
        yield document.at("version.format", "", "file_format is missing", 'write file_format: "1.0"')
    if document.written(f"{_OBI}.version") is None:
        message, hint = "extensions.obi.version is missing", 'write extensions: {obi: {version: "2.0"}}'
        yield document.at("version.extension", "", message, hint)


def _pipelines(document: Document) -> Iterator[ConfigFinding]:
    """OBI reports what of the standard's pipelines it does not do."""
    if document.written("disabled") is True:
        yield document.at("pipeline", "disabled", "OBI does not support disabled: true", "remove it")
    if document.written("propagator"):
        yield document.at("pipeline", "propagator", "OBI does not support a propagator", "remove it")
    if len(_list(document.written("tracer_provider.processors"))) > 1:
        yield document.at("pipeline", "tracer_provider.processors", "OBI supports one batch processor")
    readers = _list(document.written("meter_provider.readers"))
    for kind in ("periodic", "pull"):
        if sum(isinstance(reader, dict) and kind in reader for reader in readers) > 1:
            yield document.at("pipeline", "meter_provider.readers", f"OBI supports one {kind} reader")


def _exports(document: Document) -> bool:
    readers = _list(document.written("meter_provider.readers"))
    return (
        document.written(f"{_OBI}.daemon.logging.debug_trace_output") not in (None, "", "disabled")
        or document.written(f"{_OBI}.capture.network.capture.diagnostics.print_flows") is True
        or any(_has(processor, "endpoint") for processor in _list(document.written("tracer_provider.processors")))
        or any(_has(reader, "endpoint") or _has(reader, "port") for reader in readers)
    )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _has(value: Any, key: str) -> bool:
    """Whether a key below has a value."""
    if isinstance(value, dict):
        return bool(value.get(key)) or any(_has(below, key) for below in value.values())
    return False
