"""OBI's own configuration (v1) for the features asked for.

Sources of the keys: the recorded configurations of OBI v0.5.0, upstream's chart 0.12.0 and the configuration schema of
v0.12, all in ``policy/obi``.
"""

from __future__ import annotations

from typing import Any

from obi_mcp.obi.capabilities import Feature
from obi_mcp.obi.manifests.install import Install

CACHE_PORT = 50055
FILE_NAME = "ebpf-instrument-config.yml"
DIRECTORY = "/etc/ebpf-instrument/config"
# OBI would instrument itself and whoever it sends to.
_EXCLUDED = "{*ebpf-instrument*,*otelcol*}"
_METRICS: tuple[tuple[Feature, str], ...] = (
    (Feature.APPLICATION, "application"),
    (Feature.NETWORK, "network"),
    (Feature.NETWORK_TC, "network"),
    (Feature.TCP_STATS, "stats"),
)
_PROBING = frozenset(Feature) - {Feature.NETWORK, Feature.NETWORK_TC, Feature.TCP_STATS}


def own_config(install: Install) -> dict[str, Any]:
    """The configuration as data, in the order in which a person would write it."""
    features = set(install.features)
    config: dict[str, Any] = {"log_level": "INFO" if install.production else "DEBUG"}
    if features & _PROBING:
        spaces = install.instrument_namespaces or ("*",)
        config["discovery"] = {
            "instrument": [{"k8s_namespace": name} for name in spaces],
            "exclude_instrument": [{"exe_path": _EXCLUDED}],
        }
    config |= _network(install, features) | _ebpf(features)
    kubernetes: dict[str, Any] = {"enable": True}
    if install.cache:
        kubernetes["meta_cache_address"] = f"{install.cache_name}.{install.namespace}:{CACHE_PORT}"
    config["attributes"] = {"kubernetes": kubernetes}
    return config | _exporters(install, features)


def _network(install: Install, features: set[Feature]) -> dict[str, Any]:
    if not features & {Feature.NETWORK, Feature.NETWORK_TC}:
        return {}
    network: dict[str, Any] = {
        "enable": True,
        "source": "tc" if Feature.NETWORK_TC in features else "socket_filter",
    }
    if _prints(install):
        network["print_flows"] = True
    return {"network": network}


def _ebpf(features: set[Feature]) -> dict[str, Any]:
    # Off by default, and then traces are not joined. Source: OBI's source.
    joined = features & {Feature.CONTEXT_PROPAGATION, Feature.GO_CONTEXT_PROPAGATION}
    return {"ebpf": {"context_propagation": "all"}} if joined else {}


def _exporters(install: Install, features: set[Feature]) -> dict[str, Any]:
    names = list(dict.fromkeys(name for feature, name in _METRICS if feature in features))
    made: dict[str, Any] = {"metrics": {"features": names}} if names else {}
    if install.configured_endpoint is not None:
        made["otel_metrics_export"] = {"endpoint": install.configured_endpoint}
        if features & _PROBING:
            made["otel_traces_export"] = {"endpoint": install.configured_endpoint}
    if install.prometheus_port is not None:
        made["prometheus_export"] = {"port": install.prometheus_port, "path": "/metrics"}
    if _prints(install) and features & _PROBING:
        made["trace_printer"] = "text"
    return made


def _prints(install: Install) -> bool:
    """Development without a collector: what OBI sees stands in its log."""
    return not install.production and install.otlp_endpoint is None
