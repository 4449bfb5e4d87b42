"""The configuration that holds, with where every value comes from; and the variables that make it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from obi_mcp.errors import InvalidDocument
from obi_mcp.obi.agreement import BinaryAnswer, compare, has_config_command
from obi_mcp.obi.config import validate
from obi_mcp.obi.effective import EffectiveValue, effective
from obi_mcp.obi.environment import expand, variable
from obi_mcp.obi.keys import known_keys
from obi_mcp.policy.config_schema import config_schema
from obi_mcp.policy.shipped import shipped_policy

# Text, variables, more arguments, and PATH -> (value, source, variable).
HOLDS: dict[str, tuple[str, dict[str, str], dict[str, Any], dict[str, tuple[Any, str, str | None]]]] = {
    "defaults": ("", {}, {}, {"shutdown_timeout": ("10s", "default", None), "open_port": ("", "default", None)}),
    "Beyla's defaults": (
        "",
        {},
        {"program": "beyla", "version": "v1.8.0"},
        {"channel_buffer_len": (10, "default", None), "otel_metrics_export.ttl": ("876000h", "default", None)},
    ),
    "the document wins over a default": (
        "ebpf: {wakeup_len: 7}\n",
        {},
        {},
        {"ebpf.wakeup_len": (7, "file", None), "ebpf.batch_length": (100, "default", None)},
    ),
    "a variable wins over the document": (
        "trace_printer: text\n",
        {"OTEL_EBPF_TRACE_PRINTER": "json"},
        {},
        {"trace_printer": ("json", "environment", "OTEL_EBPF_TRACE_PRINTER")},
    ),
    "an empty variable is none": (
        "trace_printer: text\n",
        {"OTEL_EBPF_TRACE_PRINTER": ""},
        {},
        {"trace_printer": ("text", "file", None)},
    ),
    "OBI does not read Beyla's": (
        "trace_printer: text\n",
        {"BEYLA_TRACE_PRINTER": "json"},
        {},
        {"trace_printer": ("text", "file", None)},
    ),
    "Beyla does": (
        "trace_printer: text\n",
        {"BEYLA_TRACE_PRINTER": "json", "OTEL_EBPF_TRACE_PRINTER": "counter"},
        {"program": "beyla", "version": "1.8.0"},
        {"trace_printer": ("json", "environment", "BEYLA_TRACE_PRINTER")},
    ),
    "a variable within the document": (
        "prometheus_export: {port: ${PORT:-9090}}\n",
        {"PORT": "9091"},
        {},
        {"prometheus_export.port": (9091, "file", "PORT")},
    ),
    "its default": (
        "prometheus_export: {port: ${PORT:-9090}}\n",
        {},
        {},
        {"prometheus_export.port": (9090, "file", "PORT")},
    ),
    "Beyla 1 takes it as text": (
        "trace_printer: ${P:-text}\n",
        {"P": "json"},
        {"program": "beyla", "version": "1.8.0"},
        {"trace_printer": ("${P:-text}", "file", None)},
    ),
    "a list from a variable replaces the document's": (
        "network: {exclude_interfaces: [a, b]}\n",
        {"OTEL_EBPF_NETWORK_EXCLUDE_INTERFACES": "lo, eth0"},
        {},
        {
            "network.exclude_interfaces": (
                ["lo", "eth0"],
                "environment",
                "OTEL_EBPF_NETWORK_EXCLUDE_INTERFACES",
            )
        },
    ),
    "a newer name wins over an alias": (
        "",
        {"OTEL_EBPF_AUTO_TARGET_EXE": "new", "OTEL_GO_AUTO_TARGET_EXE": "old"},
        {},
        {"autotargetexe": ("new", "environment", "OTEL_EBPF_AUTO_TARGET_EXE")},
    ),
    "a variable without a key": (
        "",
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"},
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ("http://c:4318", "environment", "OTEL_EXPORTER_OTLP_ENDPOINT")},
    ),
    "v2 is not overridden": (
        "file_format: '1.0'\nextensions: {obi: {version: '2.0', daemon: {shutdown: {timeout: 5s}}}}\n",
        {"OTEL_EBPF_SHUTDOWN_TIMEOUT": "9s"},
        {},
        {"extensions.obi.daemon.shutdown.timeout": ("5s", "file", None)},
    ),
}
SECRETS = {
    "otel_traces_export: {endpoint: 'https://user:pass@c:4318'}\n": "otel_traces_export.endpoint",
    "service_name: ${API_TOKEN}\n": "service_name",
    "grafana: {otlp: {cloud_api_key: abc}}\n": "grafana.otlp.cloud_api_key",
}


def by_path(text: str, environment: dict[str, str], **more: Any) -> dict[str, EffectiveValue]:
    return {value.path: value for value in effective(text, environment=environment, **more)}


@pytest.mark.parametrize("name", HOLDS)
def test_the_value_that_holds_and_its_source(name: str) -> None:
    text, environment, more, wanted = HOLDS[name]
    found = by_path(text, environment, **more)
    assert {path: (found[path].value, found[path].source, found[path].variable) for path in wanted} == wanted
    assert not any(path.startswith("network.exclude_interfaces[") for path in found) or name != "a list from a variable"


def test_a_list_or_a_mapping_of_the_document_replaces_the_default() -> None:
    text = (
        "name_resolver: {sources: [dns, k8s]}\nattributes: {select: {http_server_request_duration: {include: [a]}}}\n"
    )
    found = by_path(text, {})
    assert [path for path in found if path.startswith("attributes.select")] == [
        "attributes.select.http_server_request_duration.include[0]"
    ]
    assert [path for path in found if path.startswith("name_resolver.sources")] == [
        "name_resolver.sources[0]",
        "name_resolver.sources[1]",
    ]
    assert found["name_resolver.sources[1]"].line == 1


@pytest.mark.parametrize(("text", "path"), SECRETS.items())
def test_secrets_are_marked(text: str, path: str) -> None:
    program = "beyla" if "grafana" in text else "obi"
    found = by_path(text, {"API_TOKEN": "abc"}, program=program)
    assert found[path].secret
    assert not found["log_level"].secret
    assert not found["ebpf.track_request_headers"].secret


@pytest.mark.parametrize("text", ["[1]", "a: [", "a: 1\n---\nb: 2\n"])
def test_a_text_without_a_mapping_has_no_values(text: str) -> None:
    if text.startswith("a: 1"):
        assert by_path(text, {})["shutdown_timeout"].source == "default"  # OBI reads the first document
        return
    with pytest.raises(InvalidDocument):
        effective(text)


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("${A}", "one"),
        ("$(A)", "one"),
        ("${env:A}", "one"),
        ("${B:-two}", "two"),
        ("${B}", ""),
        ("${EMPTY:-two}", "two"),
        ("$${A}", "${A}"),
        ("$A", "$A"),
        ("http://${A}:4318/${B:-x}", "http://one:4318/x"),
    ],
)
def test_variables_are_replaced_as_obi_does(text: str, expanded: str) -> None:
    assert expand(text, {"A": "one", "EMPTY": ""}) == expanded


@pytest.mark.parametrize(
    ("name", "program", "version", "read"),
    [
        ("OTEL_EBPF_OPEN_PORT", "obi", None, True),
        ("OTEL_EBPF_LOG_FORMAT", "obi", "v0.5.0", False),
        ("OTEL_EBPF_LOG_FORMAT", "obi", "v0.12.1", True),
        ("OTEL_EBPF_LOG_FORMAT", "obi", "v0.8.0", True),  # not known to be unread
        ("BEYLA_OPEN_PORT", "obi", None, False),
        ("BEYLA_OPEN_PORT", "beyla", "v1.8.0", True),
        ("OTEL_EBPF_OPEN_PORT", "beyla", "v1.8.0", False),
        ("BEYLA_HTTP_GEMINI_ENABLED", "beyla", "v3.0.0", True),
    ],
)
def test_variables_belong_to_programs_and_versions(name: str, program: Any, version: str | None, read: bool) -> None:
    assert (variable(name, program=program, version=version) is not None) == read


def test_every_key_and_variable_has_a_source() -> None:
    keys = known_keys()
    assert all(address.startswith("https://") for address in keys.sources.values())
    seen = [facts.seen for facts in keys.keys.values()] + [entry.seen for entry in keys.variables.values()]
    assert all(entry.versions and set(entry.versions) <= set(keys.sources) for entry in seen)
    raw = json.loads((shipped_policy() / "obi" / "keys.json").read_text("utf-8"))
    assert len(raw["keys"]) > 700


def test_every_v2_key_says_where_it_was_read() -> None:
    def below(name: str, prefix: str, above: tuple[str, ...]) -> Iterator[str]:
        for key, kind in config_schema("v2").shapes[name].items():
            path, inner = prefix + key, kind
            yield path
            while inner.startswith(("list ", "map ")):
                path += "[]" if inner.startswith("list ") else ".*"
                inner = inner.split(" ", 1)[1]
            if inner.startswith("@") and inner[1:] not in above:
                yield from below(inner[1:], f"{path}.", (*above, inner[1:]))

    data = json.loads((shipped_policy() / "obi" / "keys-v2.json").read_text("utf-8"))
    assert set(below("Config", "", ())) == set(data["keys"])
    assert all(sources and set(sources) <= set(data["sources"]) for sources in data["keys"].values())
    assert all(address.startswith("https://") for address in data["sources"].values())


def test_beylas_keys_are_not_obis() -> None:
    mistaken = [key for key in config_schema("v1").beyla_only if known_keys().keys[key].seen.has("obi")]
    assert mistaken == []


@pytest.mark.parametrize(
    ("version", "has"),
    [(None, False), ("", False), ("v0.5.0", False), ("v0.10.9", False), ("v0.11.0", True), ("1.2", True)],
)
def test_the_sub_command_is_there_since(version: str | None, has: bool) -> None:
    assert has_config_command(version) == has


GOOD = "file_format: '1.0'\nextensions: {obi: {version: '2.0', daemon: {logging: {debug_trace_output: text}}}}\n"


@pytest.mark.parametrize(
    ("text", "answer", "says"),
    [
        (GOOD, BinaryAnswer(0, "configuration is valid\n", ""), None),
        (GOOD + "x: 1\n", BinaryAnswer(1, "", "validation failed: x\n"), None),
        (
            GOOD,
            BinaryAnswer(1, "", "validation failed: rules[0]: no such key\n"),
            "we found nothing: validation failed: rules",
        ),
        (
            GOOD + "x: 1\n",
            BinaryAnswer(0, "configuration is valid\n", ""),
            "takes this document, and we do not: line 3",
        ),
        (GOOD, BinaryAnswer(2, "", "usage: obi config validate\n"), "gave no answer to config validate: exit code 2"),
        (GOOD, BinaryAnswer(0, "", ""), "gave no answer"),
        (GOOD, BinaryAnswer(255, "level=ERROR\n", ""), "exit code 255, level=ERROR"),
    ],
)
def test_a_disagreement_is_one_finding(text: str, answer: BinaryAnswer, says: str | None) -> None:
    found = compare(validate(text), answer, version="v0.12.0")
    assert len(found) == (says is not None)
    if says is not None:
        assert found[0].rule == "disagreement"
        assert says in found[0].message
