"""From a handful of arguments to a configuration: what somebody says who has none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from obi_mcp.agent.asks import asks_of
from obi_mcp.errors import InvalidArgument
from obi_mcp.obi.capabilities import Feature

OPTIONS = ("open_port", "executable_name", "network", "otlp_endpoint")
FIRST_PORT = 9090
_TRIED_PORTS = 50


def patch_of(arguments: Mapping[str, Any], *, beyla: bool) -> dict[str, Any]:
    """The options as a change of a configuration: keys that both OBI v0.5.0 to v0.12.0 and Beyla read, save for the
    selection by name, which each spells in its own way."""
    patch: dict[str, Any] = {}
    selector: dict[str, Any] = {}
    if name := arguments.get("executable_name"):
        selector["exe_path"] = name if beyla else f"*{name}*"
    if port := arguments.get("open_port"):
        if selector:
            selector["open_ports"] = port
        else:
            patch["open_port"] = port
    if selector:
        patch["discovery"] = {"services" if beyla else "instrument": [selector]}
    if "network" in arguments:
        patch["network"] = {"enable": arguments["network"]}
    if endpoint := arguments.get("otlp_endpoint"):
        patch["otel_metrics_export"] = {"endpoint": endpoint}
        patch["otel_traces_export"] = {"endpoint": endpoint}
    return patch


def whole_config(arguments: Mapping[str, Any], *, beyla: bool, taken: frozenset[int]) -> str:
    """A whole configuration from options alone, with a Prometheus port of its own, and spans printed to the log where
    there is no endpoint for them. Raises: InvalidArgument when they do not say what OBI should look at."""
    from obi_mcp.obi.config_text import write_config

    data = patch_of(arguments, beyla=beyla)
    asks = asks_of(write_config(data), {})
    if not asks.features:
        raise InvalidArgument(
            "nothing says what OBI should look at",
            "give open_port or executable_name for an application's requests, network: true for flows, or config",
        )
    data["prometheus_export"] = {"port": free_port(taken)}
    if Feature.APPLICATION in asks.features and not arguments.get("otlp_endpoint"):
        data["trace_printer"] = "text"
    return write_config(data)


def free_port(taken: frozenset[int]) -> int:
    """The first from 9090 on that nobody listens on."""
    return next(port for port in range(FIRST_PORT, FIRST_PORT + _TRIED_PORTS + len(taken)) if port not in taken)
