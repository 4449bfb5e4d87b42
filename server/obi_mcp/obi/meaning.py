"""What OBI asks of a v1 document besides its shape: something to instrument, an exporter, nothing that clashes.

Source of fact: the checks of OBI v0.5.0 and Beyla v1.8.0 at start, in their order, and runs of both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from obi_mcp.obi.document import Document
from obi_mcp.obi.finding import PROGRAM_NAMES, ConfigFinding

_BEYOND = ("network", "stats", "*", "all")
_SELECTING = (
    "open_port",
    "executable_path",
    "autotargetexe",
    "autotargetlanguage",
    "target_pids",
    "discovery.instrument",
    "discovery.services",
)
_SELECTING_BEYLA = ("executable_name", "discovery.survey", "discovery.system_wide", "execotelgo")
_NO_EXPORTER = (
    "nothing is exported: {} needs one of trace_printer, otel_metrics_export, otel_traces_export, prometheus_export"
)
_EXPORTER_HINT = "set otel_traces_export.endpoint, or trace_printer: text to try it out"
_NO_METRICS = "network flows are on, and nothing exports them: they need otel_metrics_export or prometheus_export"
_METRICS_HINT = "set prometheus_export.port, or network.print_flows: true to try it out"
_NOTHING_TO_DO = (
    "neither application nor network telemetry is on: nothing selects a process, and no network feature is enabled"
)
_TARGET_HINT = "add discovery.instrument, or metrics.features: [network] with a metrics exporter"
_EMPTY_HINT = "begin with discovery.instrument and otel_traces_export.endpoint"


def meaning_v1(document: Document) -> Iterator[ConfigFinding]:
    """What is wrong with the document as a whole."""
    yield from _conflicts(document)
    yield from _idle(document)
    if document.mode == "receiver":
        return
    instruments, network = _instruments(document), _sees_network(document)
    if not instruments and not network:
        if not document.data:
            yield document.at(
                "empty", "", "the document is empty: nothing is selected and nothing exported", _EMPTY_HINT
            )
        elif exports(document):
            yield document.at("target", "", _NOTHING_TO_DO, _TARGET_HINT)
        else:
            yield document.at("target", "", f"{_NOTHING_TO_DO}; nothing is exported either", _TARGET_HINT)
    elif network and not _exports_metrics(document) and not _is_true(document.value("network.print_flows")):
        yield document.at("exporter.network", "", _NO_METRICS, _METRICS_HINT)
    elif instruments and not exports(document):
        yield document.at("exporter", "", _NO_EXPORTER.format(PROGRAM_NAMES[document.program]), _EXPORTER_HINT)


def exports(document: Document) -> bool:
    """Whether spans or metrics of applications go anywhere."""
    return (
        document.value("trace_printer") not in (None, "", "disabled", False)
        or (_is_true(document.value("print_traces")) and document.program == "beyla")
        or _exports_metrics(document)
        or bool(document.value("otel_traces_export.endpoint"))
        or bool(document.variable("OTEL_EXPORTER_OTLP_ENDPOINT"))
        or document.value("otel_traces_export.protocol") == "debug"
    )


def _exports_metrics(document: Document) -> bool:
    port = document.value("prometheus_export.port")
    return (
        bool(document.variable("OTEL_EXPORTER_OTLP_ENDPOINT"))
        or bool(document.value("otel_metrics_export.endpoint"))
        or document.value("otel_metrics_export.protocol") == "debug"
        or port not in (None, 0, "0", "")
        or (document.program == "beyla" and bool(document.value("grafana.otlp.cloud_zone")))
    )


def _instruments(document: Document) -> bool:
    """Application telemetry is on where something selects processes."""
    keys = _SELECTING if document.program == "obi" else (*_SELECTING, *_SELECTING_BEYLA)
    named = ("OTEL_EBPF_AUTO_TARGET_LANGUAGE",)
    return any(document.value(key) for key in keys) or any(document.variable(name) for name in named)


def _sees_network(document: Document) -> bool:
    if _is_true(document.value("network.enable")):
        return True
    return _exports_metrics(document) and any(name.startswith(_BEYOND) for name in features(document))


def features(document: Document) -> tuple[str, ...]:
    """The names of ``metrics.features`` and of its two older places."""
    names: list[str] = []
    for key in ("metrics.features", "otel_metrics_export.features", "prometheus_export.features"):
        value = document.value(key)
        names += value.split(",") if isinstance(value, str) else value if isinstance(value, list) else []
    return tuple(str(name).strip() for name in names)


def _conflicts(document: Document) -> Iterator[ConfigFinding]:
    """Settings that OBI refuses together, or that take the same port."""
    if document.program == "beyla":
        if _is_true(document.value("print_traces")) and document.value("trace_printer") not in (None, "", "disabled"):
            yield document.at(
                "conflict.printers",
                "print_traces",
                "print_traces and trace_printer exclude each other",
                "keep trace_printer",
            )
        yield from _ports(document)
        return
    names = set(features(document))
    if _exports_metrics(document) and (names & {"*", "all"} or {"application_span", "application_span_otel"} <= names):
        message = "this turns on application_span and application_span_otel, two formats of the same metrics"
        yield document.at("conflict.span-formats", "metrics.features", message, "name the features, with one of them")
    if document.value("internal_metrics.exporter") == "otel":
        if document.value("internal_metrics.prometheus.port") not in (None, 0, "0"):
            message = "internal metrics go out by OTLP or by Prometheus, not both"
            yield document.at("conflict.internal-both", "internal_metrics.prometheus.port", message, "remove the port")
        elif not _exports_metrics(document) or not _sends_metrics(document):
            message = "internal metrics by OTLP need the OTLP metrics exporter"
            yield document.at(
                "conflict.internal-otel", "internal_metrics.exporter", message, "set otel_metrics_export.endpoint"
            )
    if document.value("discovery.instrument") and document.value("discovery.services"):
        message = "discovery.services is not looked at where discovery.instrument is set"
        yield document.at(
            "conflict.selectors", "discovery.services", message, "move its selectors to discovery.instrument, as globs"
        )
    yield from _ports(document)


def _sends_metrics(document: Document) -> bool:
    return bool(document.value("otel_metrics_export.endpoint") or document.variable("OTEL_EXPORTER_OTLP_ENDPOINT"))


def _ports(document: Document) -> Iterator[ConfigFinding]:
    """Two listeners on one port. The two Prometheus endpoints may share theirs, if their paths differ."""
    taken: dict[str, str] = {}
    for key in ("prometheus_export.port", "internal_metrics.prometheus.port", "profile_port", "health_check.port"):
        value = document.value(key)
        port = str(value) if value not in (None, "", 0, "0") else ""
        first = taken.setdefault(port, key) if port else key
        if first == key or document.written(key) is None:
            continue
        if {first, key} == {"prometheus_export.port", "internal_metrics.prometheus.port"}:
            if _path(document, "prometheus_export", "/metrics") == _path(
                document, "internal_metrics.prometheus", "/internal/metrics"
            ):
                message = f"port {port} and path are those of prometheus_export: only one of the two can be read there"
                yield document.at("conflict.path", key, message, "give it a path of its own")
            continue
        message = f"port {port} is taken by {first}"
        yield document.at("conflict.port", key, message, "use another port")


def _path(document: Document, section: str, default: str) -> str:
    return str(document.value(f"{section}.path") or default)


def _idle(document: Document) -> Iterator[ConfigFinding]:
    """Network settings in a document that does not turn network flows on."""
    section = document.written("network")
    if not isinstance(section, dict) or not section or document.mode == "receiver":
        return
    said = [key for key, value in section.items() if key != "enable" and value not in (None, "", [], {}, False)]
    # A typo for enable is an unknown key already.
    known = [key for key in said if key in document.schema.shapes["Network"]]
    if known and len(known) == len(said) and "enable" not in section and not _sees_network(document):
        message = "network flows are off, so that the settings of this section do nothing"
        yield document.at("target.network-off", f"network.{known[0]}", message, "add network.enable: true")


def _is_true(value: Any) -> bool:
    return value is True or (isinstance(value, str) and value.lower() in ("true", "yes", "on", "y", "1"))
