"""What configurations ask of a host, and configurations from a handful of words."""

from __future__ import annotations

from typing import Any

import pytest

from obi_mcp.agent.asks import asks_of
from obi_mcp.errors import InvalidArgument
from obi_mcp.obi.config import validate
from obi_mcp.toolsets.local.options import free_port, whole_config

V2 = """
file_format: "1.0"
extensions: {obi: {version: "2.0", capture: {network: {enabled: true}}}}
meter_provider: {readers: [{pull: {exporter: {prometheus/development: {port: 9095}}}}]}
"""
ASKS: list[tuple[str, dict[str, str], set[str], set[int], set[str]]] = [
    # text, environment, features, ports, endpoints
    ("network: {enable: true}", {}, {"network"}, set(), set()),
    ("network: {enable: true, source: tc}", {}, {"network-tc"}, set(), set()),
    ("network: {enable: false}", {}, set(), set(), set()),
    ("prometheus_export: {port: 9090, features: [network]}", {}, {"network"}, {9090}, set()),
    ("open_port: 8080", {}, {"application"}, set(), set()),
    ("discovery: {instrument: [{open_ports: 80}]}", {}, {"application"}, set(), set()),
    ("discovery: {services: [{exe_path: x}]}", {}, {"application"}, set(), set()),
    ("{open_port: 1, ebpf: {context_propagation: all}}", {}, {"application", "context-propagation"}, set(), set()),
    ("{open_port: 1, ebpf: {context_propagation: disabled}}", {}, {"application"}, set(), set()),
    ("", {"BEYLA_OPEN_PORT": "80", "BEYLA_PROMETHEUS_PORT": "9091"}, {"application"}, {9091}, set()),
    ("", {"OTEL_EBPF_NETWORK_METRICS": "true"}, {"network"}, set(), set()),
    ("otel_traces_export: {endpoint: 'http://a:4318'}", {}, set(), set(), {"http://a:4318"}),
    ("", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://b:4318"}, set(), set(), {"http://b:4318"}),
    ("{health_check: {port: 8081}, internal_metrics: {prometheus: {port: 9099}}}", {}, set(), {8081, 9099}, set()),
    (V2, {}, {"network"}, {9095}, set()),
    ("prometheus_export: {port: nonsense}", {}, set(), set(), set()),
    ("- a list", {}, set(), set(), set()),
    ("{broken", {}, set(), set(), set()),
    ("network: true", {}, set(), set(), set()),
]


@pytest.mark.parametrize(("text", "environment", "features", "ports", "endpoints"), ASKS)
def test_a_configuration_asks(
    text: str, environment: dict[str, str], features: set[str], ports: set[int], endpoints: set[str]
) -> None:
    found = asks_of(text, environment)
    assert {feature.value for feature in found.features} == features
    assert {port.number for port in found.ports} == ports
    assert {endpoint for _, endpoint in found.endpoints} == endpoints


OPTIONS: list[dict[str, Any]] = [
    {"open_port": "8080"},
    {"executable_name": "shop"},
    {"open_port": "8080,9000-9010", "executable_name": "shop"},
    {"network": True},
    {"network": True, "open_port": "8080", "otlp_endpoint": "http://127.0.0.1:4318"},
]


@pytest.mark.parametrize("arguments", OPTIONS)
@pytest.mark.parametrize("beyla", [False, True])
def test_words_become_a_configuration_without_errors(arguments: dict[str, Any], beyla: bool) -> None:
    text = whole_config(arguments, beyla=beyla, taken=frozenset({9090}))
    found = validate(text, program="beyla" if beyla else "obi", environment={})
    assert [str(one) for one in found if one.severity == "error"] == []
    assert {port.number for port in asks_of(text, {}).ports} == {9091}


def test_nothing_to_look_at_is_refused() -> None:
    for arguments in ({}, {"network": False}, {"otlp_endpoint": "http://127.0.0.1:4318"}):
        with pytest.raises(InvalidArgument, match="nothing says what OBI should look at"):
            whole_config(arguments, beyla=False, taken=frozenset())
    assert free_port(frozenset(range(9090, 9095))) == 9095
