"""What a configuration asks of the host: features of the kernel, ports to listen on, endpoints to send to.

Source of fact: OBI's v1 keys as of v0.5.0 to v0.12.0, Beyla 1.8's, the v2 keys of the shipped table; the environment
wins over the file, as in OBI.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from obi_mcp.obi.capabilities import Feature
from obi_mcp.obi.config_text import read_config

_TRUE = frozenset({"1", "t", "true", "y", "yes", "on"})
_APPLICATION_VARIABLES = ("OPEN_PORT", "EXECUTABLE_NAME", "EXECUTABLE_PATH", "AUTO_TARGET_EXE", "TARGET_PID")
_ENDPOINT_VARIABLES = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
)
_SOURCES = {"tc": Feature.NETWORK_TC, "socket_filter": Feature.NETWORK}


@dataclass(frozen=True, slots=True)
class Port:
    """A TCP port that OBI will listen on. ``key``: the setting that says so; ``path`` answers HTTP there."""

    number: int
    key: str
    path: str = "/metrics"


@dataclass(frozen=True, slots=True)
class Asks:
    """``endpoints``: where telemetry goes, with the setting that says so. ``prints``: flows or spans go to the log."""

    features: frozenset[Feature] = frozenset()
    ports: tuple[Port, ...] = ()
    endpoints: tuple[tuple[str, str], ...] = ()
    prints: tuple[str, ...] = ()


def asks_of(text: str, environment: Mapping[str, str]) -> Asks:
    """What this configuration asks; nothing of what cannot be read."""
    read = read_config(text)
    data = read.data if isinstance(read.data, dict) else {}
    variables = {_plain(name): value for name, value in environment.items()}
    if "file_format" in data:
        return _v2(data)
    return Asks(
        frozenset(_features(data, variables)),
        tuple(_ports(data, variables)),
        tuple(_endpoints(data, variables)),
        tuple(_prints(data, variables)),
    )


def _features(data: Mapping[str, Any], variables: Mapping[str, str]) -> Iterator[Feature]:
    exported = {
        name for key in ("prometheus_export", "otel_metrics_export") for name in _list(_at(data, key, "features"))
    }
    network = _at(data, "network", "enable") is True or _is_true(variables.get("NETWORK_METRICS"))
    if network or any(str(name).startswith("network") for name in exported):
        source = variables.get("NETWORK_SOURCE") or _at(data, "network", "source") or "socket_filter"
        yield _SOURCES.get(str(source), Feature.NETWORK)
    if any(str(name).startswith("stats") for name in exported):
        yield Feature.TCP_STATS
    root = any(data.get(key) for key in ("open_port", "executable_name", "executable_path", "autotargetexe"))
    found = any(_at(data, "discovery", key) for key in ("instrument", "services", "survey"))
    if root or found or any(variables.get(name) for name in _APPLICATION_VARIABLES):
        yield Feature.APPLICATION
        propagation = variables.get("BPF_CONTEXT_PROPAGATION") or _at(data, "ebpf", "context_propagation")
        if propagation not in (None, "", "disabled") or _at(data, "ebpf", "enable_context_propagation") is True:
            yield Feature.CONTEXT_PROPAGATION
        if _at(data, "ebpf", "log_enricher"):
            yield Feature.LOG_ENRICHER


def _ports(data: Mapping[str, Any], variables: Mapping[str, str]) -> Iterator[Port]:
    rows = (
        ("PROMETHEUS_PORT", ("prometheus_export",), "/metrics"),
        ("INTERNAL_METRICS_PROMETHEUS_PORT", ("internal_metrics", "prometheus"), "/internal/metrics"),
        ("HEALTH_CHECK_PORT", ("health_check",), "/healthz"),
    )
    seen: set[int] = set()
    for variable, path, default in rows:
        number = _number(variables.get(variable)) or _number(_at(data, *path, "port"))
        if number and number not in seen:
            seen.add(number)
            yield Port(number, ".".join((*path, "port")), str(_at(data, *path, "path") or default))


def _endpoints(data: Mapping[str, Any], variables: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name in _ENDPOINT_VARIABLES:
        if value := variables.get(name):
            yield name, value
    for key in ("otel_metrics_export", "otel_traces_export"):
        if isinstance(value := _at(data, key, "endpoint"), str) and value:
            yield f"{key}.endpoint", value


def _prints(data: Mapping[str, Any], variables: Mapping[str, str]) -> Iterator[str]:
    if _at(data, "network", "print_flows") is True or _is_true(variables.get("NETWORK_PRINT_FLOWS")):
        yield "flows"
    printer = variables.get("TRACE_PRINTER") or data.get("trace_printer")
    if printer not in (None, "", "disabled"):
        yield "spans"


def _v2(data: Mapping[str, Any]) -> Asks:
    capture = _at(data, "extensions", "obi", "capture") or {}
    features: set[Feature] = set()
    if capture.get("network"):
        features.add(Feature.NETWORK)
    if capture.get("rules") or capture.get("instrumentation") or _at(data, "tracer_provider", "processors"):
        features.add(Feature.APPLICATION)
    ports: list[Port] = []
    endpoints: list[tuple[str, str]] = []
    for reader in _list(_at(data, "meter_provider", "readers")):
        number = _number(_at(reader, "pull", "exporter", "prometheus/development", "port"))
        ports += [Port(number, "meter_provider.readers")] if number else []
        endpoints += _otlp(_at(reader, "periodic", "exporter"), "meter_provider.readers")
    for processor in _list(_at(data, "tracer_provider", "processors")):
        endpoints += _otlp(_at(processor, "batch", "exporter"), "tracer_provider.processors")
    return Asks(frozenset(features), tuple(ports), tuple(endpoints))


def _otlp(exporter: Any, key: str) -> list[tuple[str, str]]:
    found = (_at(exporter, name, "endpoint") for name in ("otlp_http", "otlp_grpc"))
    return [(key, value) for value in found if isinstance(value, str) and value]


def _plain(name: str) -> str:
    """``PROMETHEUS_PORT`` of both OBI's and Beyla's variable."""
    return name.removeprefix("OTEL_EBPF_").removeprefix("BEYLA_")


def _at(data: Any, *path: str) -> Any:
    for part in path:
        data = data.get(part) if isinstance(data, dict) else None
    return data


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _number(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        return 0


def _is_true(value: str | None) -> bool:
    return value is not None and value.lower() in _TRUE
