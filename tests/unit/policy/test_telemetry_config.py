"""What OBI may be configured to do: the tables of ``tests/cases/obi-config``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from obi_mcp.policy.config_schema import config_schema, nearest
from obi_mcp.policy.scope import Scope
from obi_mcp.policy.telemetry_config import judge_config, judge_endpoint, judge_variable

CASES = Path(__file__).parents[2] / "cases" / "obi-config"
ENDPOINTS: list[dict[str, Any]] = yaml.safe_load((CASES / "endpoints.yaml").read_text("utf-8"))
JUDGED: list[dict[str, Any]] = yaml.safe_load((CASES / "judged.yaml").read_text("utf-8"))
GOOD = ["chart-default", "net-full", "v1-app-prom", "v1-network", "v1-otlp", "v2"]


@pytest.mark.parametrize("case", ENDPOINTS, ids=lambda case: str(case.get("allow", case.get("deny"))))
def test_telemetry_goes_only_where_the_scope_says(case: dict[str, Any]) -> None:
    scope = Scope(endpoints=tuple(case.get("scope", ())), instrumented_namespaces=tuple(case.get("instrumented", ())))
    reason = judge_endpoint(case.get("allow", case.get("deny")), scope)
    assert (reason is None) == ("allow" in case), reason


@pytest.mark.parametrize("case", JUDGED, ids=lambda case: case["name"])
def test_a_configuration_is_refused_for_what_it_does(case: dict[str, Any]) -> None:
    found = judge_config(case["text"], scope=Scope(), path="data")
    assert [f"{v.rule} {v.path.removeprefix('data').removeprefix('.')}".rstrip() for v in found] == case["refused"]


@pytest.mark.parametrize("name", GOOD)
def test_recorded_configurations_pass(name: str) -> None:
    assert judge_config((CASES / f"{name}.yaml").read_text("utf-8"), scope=Scope(), path="data") == ()


def test_an_unknown_key_names_the_nearest() -> None:
    (violation,) = judge_config("network: {enabled: true}\n", scope=Scope(), path='data["obi.yml"]')
    assert violation.path == 'data["obi.yml"].network.enabled'
    assert violation.hint == "did you mean network.enable?"


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("OTEL_EBPF_TRACE_PRINTER", "text", True),
        ("OTEL_EBPF_OPEN_PORT", "8080", True),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://$(HOST_IP):4318", True),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://evil.example", False),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://evil.example", False),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://$(TOKEN).collector.observability.svc", False),
        ("OTEL_EBPF_KUBE_META_CACHE_ADDRESS", "evil.example:50055", False),
        ("OTEL_EBPF_GEOIP_IPINFO_PATH", "/etc/shadow", False),
        ("OTEL_EBPF_HEALTH_CHECK_UNIX_SOCKET_PATH", "/run/x.sock", False),
        ("OTEL_EBPF_BPF_FS_PATH", "/sys/fs/bpf", True),
        ("OTEL_EBPF_PROFILE_PORT", "6060", False),
        ("OTEL_EBPF_PROFILE_PORT", "0", True),
        ("OTEL_EBPF_PROTOCOL_DEBUG_PRINT", "true", False),
        ("OTEL_EBPF_HOST_ID", "$(TOKEN)", False),
        ("OTEL_SERVICE_NAME", "http://evil.example", False),
        ("KUBECONFIG", "/etc/shadow", False),
        ("LD_PRELOAD", "/x.so", False),
        ("BEYLA_TRACE_PRINTER", "text", False),
        ("HTTPS_PROXY", "http://evil.example", False),
    ],
)
def test_a_variable_is_one_that_obi_reads_and_sends_nothing_away(name: str, value: str, allowed: bool) -> None:
    reason = judge_variable(name, value, scope=Scope())
    assert (reason is None) == allowed, reason


@pytest.mark.parametrize(
    ("word", "expected"),
    [("promtheus_export", "prometheus_export"), ("enpdoint", "endpoint"), ("zzz", None), ("Endpoint", "endpoint")],
)
def test_the_nearest_key_is_one_slip_away(word: str, expected: str | None) -> None:
    assert nearest(word, ("prometheus_export", "endpoint", "port")) == expected


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_every_shape_is_reached_and_every_type_is_known(version: str) -> None:
    schema = config_schema(version)
    words = {"string", "regex", "endpoint", "address", "file", "bpffs", "secret", "int", "number", "bool", "duration"}
    words |= {"ports", "ip", "cidr", "interface", "propagation", "log level", "severity"}
    reached = {schema.root, "Receiver"} & set(schema.shapes)
    for kind in [kind for shape in schema.shapes.values() for kind in shape.values()]:
        bare = kind
        while bare.startswith(("list ", "map ")):
            bare = bare.partition(" ")[2]
        if bare.startswith("@"):
            reached.add(bare[1:])
        else:
            assert bare in words or schema.choices(bare), kind
    assert reached == set(schema.shapes)
