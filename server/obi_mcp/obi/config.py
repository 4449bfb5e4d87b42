"""Whether OBI would start with a configuration, and do what its author meant: our own validator, v1 and v2.

OBI ignores unknown keys of a v1 document silently, so a typo shows only as its consequence; here it is an error with
the key that was meant. Source of fact for what else OBI refuses: runs of OBI v0.5.0 with broken configurations, and
the published Config v2 reference.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from obi_mcp.obi.config_text import ConfigText, read_config
from obi_mcp.policy.config_schema import (
    ConfigSchema,
    Leaf,
    Misshapen,
    Unknown,
    config_schema,
    dotted,
    nearest,
    version_of,
    walk,
)
from obi_mcp.policy.config_types import expected

if TYPE_CHECKING:
    from obi_mcp.policy.config_schema import Path, Visit

Mode = Literal["standalone", "receiver"]
MODES: tuple[Mode, ...] = ("standalone", "receiver")

FIRST_V2 = (0, 11, 0)
"""The first version that reads v2; older ones take it for a v1 document without any key that they know."""

_INTERPOLATION = re.compile(r"\$\{[^}\n]+\}|\$\([^)\n]+\)")
_ENDPOINT = re.compile(r"https?://(?:[^/?#\s@]+@)?(?:\[[0-9A-Fa-f:]+\]|[^/?#\s@:]+)(?::[0-9]{1,5})?(?:[/?#]\S*)?")
_NUMBERS = re.compile(r"v?([0-9]+)\.([0-9]+)(?:\.([0-9]+))?")


@dataclass(frozen=True, slots=True)
class ConfigFinding:
    """One thing that is wrong (``error``: OBI would not start, or not do it) or doubtful (``warning``).

    ``rule`` is yaml, unknown-key, value, version, pipeline, exporter, target, deprecated or beyla. ``key`` is dotted,
    empty for the whole document; line and column count from 1 and point at the key.
    """

    rule: str
    severity: Literal["error", "warning"]
    key: str
    line: int
    column: int
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        where = f"line {self.line}, column {self.column}"
        key = f" {self.key}:" if self.key else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{where}:{key} {self.message}{hint}"


def validate(
    text: str, *, environment: Mapping[str, str] | None = None, version: str | None = None, mode: Mode = "standalone"
) -> tuple[ConfigFinding, ...]:
    """What is wrong with a configuration, in the order of its lines; nothing when OBI would start with it.

    ``environment``: OBI's variables, which win over the document. ``version``: OBI's (``v0.12.0``); None: the newest.
    ``receiver``: the body of the Collector's ``receivers.obi``, whose exporters are the Collector's.
    """
    read = read_config(text)
    found = [
        ConfigFinding("yaml", "error", "", problem.line, problem.column, problem.message) for problem in read.problems
    ]
    if read.data is None and read.problems:
        return tuple(found)
    if not isinstance(read.data, dict | None):
        return (*found, ConfigFinding("yaml", "error", "", 1, 1, "a configuration is a mapping of keys to values"))
    check = _Validator(read, environment or {}, version, mode)
    found.extend(check.shape())
    if not read.problems:
        found.extend(check.meaning())
    # What is said of the whole document is often the consequence of a typo: the typo comes first.
    return tuple(sorted(found, key=lambda finding: (not finding.key, finding.line, finding.column)))


class _Validator:
    """One document on its way through the checks."""

    def __init__(self, read: ConfigText, environment: Mapping[str, str], version: str | None, mode: Mode) -> None:
        self._read = read
        self._data: dict[str, Any] = read.data or {}
        self._environment = environment
        self._version = version
        self._mode: Mode = mode
        receiver_v2 = mode == "receiver" and "version" in self._data
        self._schema: ConfigSchema = config_schema("v2" if receiver_v2 else version_of(self._data))
        self._root = "Receiver" if receiver_v2 else ""

    def shape(self) -> Iterator[ConfigFinding]:
        """Unknown keys, wrong types, keys of another program, deprecated keys."""
        for visit in walk(self._schema, self._data, self._root):
            yield from self._judge(visit)
        for key, instead in self._schema.deprecated.items():
            if self._get(key) is not None:
                yield self._at("deprecated", key, "this key is deprecated", f"use {instead}")
        for key in sorted(self._schema.beyla_only):
            if self._get(key) is not None:
                yield self._at("beyla", key, "only Grafana Beyla reads this key; OBI ignores it", None)

    def meaning(self) -> Iterator[ConfigFinding]:
        """What OBI asks of a document besides its shape: versions, an exporter, something to instrument."""
        if self._schema.version == "v2":
            yield from self._versions()
            yield from self._pipelines()
            if self._mode == "standalone" and not self._exports_v2():
                yield self._at("exporter", "", *_NO_EXPORTER_V2)
            return
        if self._mode == "standalone":
            if not self._exports_v1():
                yield self._at("exporter", "", *_NO_EXPORTER_V1)
            elif not (self._instruments_v1() or self._sees_network_v1()):
                yield self._at("target", "", *_NOTHING_TO_DO)

    def _judge(self, visit: Visit) -> Iterator[ConfigFinding]:
        match visit:
            case Unknown(path=path, nearest=near):
                hint = f"did you mean {near}?" if near else "remove it"
                yield self._place("unknown-key", path, f"{self._program()} has no key {dotted(path)}", hint)
            case Misshapen(path=path, expected=shape, value=value):
                yield self._place("value", path, f"{shape} was expected, not {_shown(value)}", None)
            # What a variable holds is known only where OBI runs.
            case Leaf(value=value) as leaf if not (isinstance(value, str) and _INTERPOLATION.search(value)):
                yield from self._judge_leaf(leaf)

    def _judge_leaf(self, leaf: Leaf) -> Iterator[ConfigFinding]:
        words = expected(self._schema, leaf.kind, leaf.value)
        if words is not None:
            choices = self._schema.choices(leaf.kind)
            near = nearest(str(leaf.value), choices) if choices else None
            hint = f"did you mean {near}?" if near else None
            yield self._place("value", leaf.path, f"{words} was expected, not {_shown(leaf.value)}", hint)
        elif leaf.kind == "endpoint" and leaf.value and not _ENDPOINT.fullmatch(str(leaf.value)):
            hint = "write it like http://collector.observability.svc:4318"
            yield self._place("value", leaf.path, f"the URL {_shown(leaf.value)} must have a scheme and a host", hint)

    def _versions(self) -> Iterator[ConfigFinding]:
        numbers = _NUMBERS.match(self._version or "")
        if numbers and tuple(int(part or 0) for part in numbers.groups()) < FIRST_V2:
            hint = "write a v1 document, or use OBI v0.11.0 or newer"
            yield self._at("version", "", f"OBI {self._version} does not read v2 documents", hint)
        if self._mode == "receiver":
            return
        if self._get("file_format") is None:
            yield self._at("version", "", "file_format is missing", 'write file_format: "1.0"')
        if self._get("extensions.obi.version") is None:
            yield self._at(
                "error", "", "extensions.obi.version is missing", 'write extensions: {obi: {version: "2.0"}}'
            )

    def _pipelines(self) -> Iterator[ConfigFinding]:
        """OBI reports what of the standard's pipelines it does not do."""
        if self._get("disabled") is True:
            yield self._at("pipeline", "disabled", "OBI does not support disabled: true", "remove it")
        if self._get("propagator"):
            yield self._at("pipeline", "propagator", "OBI does not support a propagator", "remove it")
        if len(_list(self._get("tracer_provider.processors"))) > 1:
            yield self._at("pipeline", "tracer_provider.processors", "OBI supports one batch processor", None)
        readers = _list(self._get("meter_provider.readers"))
        for kind in ("periodic", "pull"):
            if sum(isinstance(reader, dict) and kind in reader for reader in readers) > 1:
                yield self._at("pipeline", "meter_provider.readers", f"OBI supports one {kind} reader", None)

    # --- v1: what OBI asks for before it starts ---

    def _exports_v1(self) -> bool:
        return (
            self._get("trace_printer", "OTEL_EBPF_TRACE_PRINTER") not in (None, "", "disabled")
            or self._exports_metrics_v1()
            or bool(self._get("otel_traces_export.endpoint", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))
            or bool(self._get("grafana.otlp.cloud_zone"))
            or self._get("otel_traces_export.protocol") == "debug"
            or (self._get("network.print_flows", "OTEL_EBPF_NETWORK_PRINT_FLOWS") is True and self._sees_network_v1())
        )

    def _exports_metrics_v1(self) -> bool:
        return (
            bool(self._environment.get("OTEL_EXPORTER_OTLP_ENDPOINT"))
            or bool(self._get("otel_metrics_export.endpoint", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"))
            or self._get("otel_metrics_export.protocol") == "debug"
            or self._get("prometheus_export.port", "OTEL_EBPF_PROMETHEUS_PORT") not in (None, 0, "0", "")
            or bool(self._get("grafana.otlp.cloud_zone"))
        )

    def _instruments_v1(self) -> bool:
        """Application telemetry is on where something selects processes."""
        return any(
            self._get(key, variable)
            for key, variable in (
                ("open_port", "OTEL_EBPF_OPEN_PORT"),
                ("executable_path", "OTEL_EBPF_EXECUTABLE_PATH"),
                ("executable_name", ""),
                ("target_pids", "OTEL_EBPF_TARGET_PID"),
                ("discovery.instrument", "OTEL_EBPF_AUTO_TARGET_EXE"),
                ("discovery.services", "OTEL_EBPF_AUTO_TARGET_LANGUAGE"),
                ("discovery.survey", ""),
            )
        )

    def _sees_network_v1(self) -> bool:
        if self._get("network.enable", "OTEL_EBPF_NETWORK_METRICS") in (True, "true"):
            return True
        features = self._get("metrics.features", "OTEL_EBPF_METRICS_FEATURES")
        names = features.split(",") if isinstance(features, str) else _list(features)
        names += _list(self._get("otel_metrics_export.features")) + _list(self._get("prometheus_export.features"))
        beyond = any(str(name).strip().startswith(("network", "stats", "*", "all")) for name in names)
        return beyond and self._exports_metrics_v1()

    # --- v2 ---

    def _exports_v2(self) -> bool:
        obi = "extensions.obi"
        readers = _list(self._get("meter_provider.readers"))
        return (
            self._get(f"{obi}.daemon.logging.debug_trace_output") not in (None, "", "disabled")
            or self._get(f"{obi}.capture.network.capture.diagnostics.print_flows") is True
            or any(_endpoint_in(processor) for processor in _list(self._get("tracer_provider.processors")))
            or any(_endpoint_in(reader) or _port_in(reader) for reader in readers)
        )

    # --- places ---

    def _get(self, key: str, variable: str = "") -> Any:
        """The value of a key; a variable that OBI reads for it wins."""
        if variable and variable in self._environment:
            return self._environment[variable]
        value: Any = self._data
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value

    def _at(self, rule: str, key: str, message: str, hint: str | None) -> ConfigFinding:
        return self._place(rule, tuple(key.split(".")) if key else (), message, hint)

    def _place(self, rule: str, path: Path, message: str, hint: str | None) -> ConfigFinding:
        line, column = self._read.places.get(path, (1, 1))
        severity: Literal["error", "warning"] = "warning" if rule in _DOUBTFUL else "error"
        return ConfigFinding(rule, severity, dotted(path), line, column, message, hint)

    def _program(self) -> str:
        return "OBI's v1 configuration" if self._schema.version == "v1" else "OBI's v2 configuration"


_DOUBTFUL = frozenset({"deprecated", "beyla"})
_NO_EXPORTER_V1 = (
    "nothing is exported: OBI needs one of trace_printer, otel_metrics_export, otel_traces_export, prometheus_export",
    "set otel_traces_export.endpoint, or trace_printer: text to try it out",
)
_NOTHING_TO_DO = (
    "neither application nor network telemetry is on: nothing selects a process, and no network feature is enabled",
    "add discovery.instrument, or metrics.features: [network] with a metrics exporter",
)
_NO_EXPORTER_V2 = (
    "nothing is exported: OBI needs a processor in tracer_provider, a reader in meter_provider, or debug_trace_output",
    "set extensions.obi.daemon.logging.debug_trace_output: text to try it out",
)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _endpoint_in(value: Any) -> bool:
    """Whether an exporter below has an endpoint."""
    if isinstance(value, dict):
        return bool(value.get("endpoint")) or any(_endpoint_in(below) for below in value.values())
    return False


def _port_in(value: Any) -> bool:
    if isinstance(value, dict):
        return value.get("port") not in (None, 0) or any(_port_in(below) for below in value.values())
    return False


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
