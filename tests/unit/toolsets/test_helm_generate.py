"""The tools that write charts and values: what they give, what they say of it, and what they refuse."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import yaml
from tests.unit.policy.policies import over
from tests.unit.recorded_road import NARROWED, RecordedRoad, services

from obi_mcp.config import Settings
from obi_mcp.enforcer.model import Answer, Call
from obi_mcp.policy.model import Access, Decision
from obi_mcp.policy.scope import Scope
from obi_mcp.toolsets.base import ToolCall, ToolResult, ToolSpec
from obi_mcp.toolsets.helm import generate
from obi_mcp.toolsets.helm.values import requested_values
from obi_mcp.toolsets.rendering import MAX_TEXT
from obi_mcp.toolsets.run import run_tool

SPECS = {
    spec.name: spec
    for spec in (generate.chart_spec(Settings()), generate.values_spec(Settings()), generate.template_spec(Settings()))
}


class PolicyRoad(RecordedRoad):
    """What the policy says of a command line is the policy's own word."""

    def explain(self, call: Call) -> Decision:
        return over({}).decide(call.command, stdin=call.stdin, access=Access.READ_ONLY)


def ask(tool: str, /, *, scope: Scope | None = None, **arguments: Any) -> ToolResult:
    spec: ToolSpec = SPECS[f"obi_helm_{tool}"]
    made = services(PolicyRoad(), Settings(scope=scope or Scope()))
    return asyncio.run(run_tool(made, spec, ToolCall(arguments, "test")))


def rendered(answer: Answer, /, **arguments: Any) -> ToolResult:
    road = PolicyRoad(answers={"helm template obi obi -n observability --values -": answer})
    return asyncio.run(run_tool(services(road), SPECS["obi_helm_template"], ToolCall(arguments, "test")))


def values_in(answer: ToolResult) -> dict[str, Any]:
    (text,) = answer.structured["files"].values()
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def test_values_come_as_a_file_with_the_source_of_each_setting() -> None:
    answer = ask("generate_values", preset="aws", features=["application", "network"])
    assert list(answer.structured["files"]) == ["values.yaml"]
    assert answer.payload == answer.structured["files"]["values.yaml"]
    assert values_in(answer)["affinity"]["nodeAffinity"]
    (setting,) = answer.structured["settings"]
    assert setting["path"] == "affinity" and setting["source"].startswith("https://docs.aws.amazon.com/")
    assert {entry["blocks"] for entry in answer.structured["warnings"]} == {False}
    assert answer.text.endswith(answer.structured["files"]["values.yaml"])  # short: in the text, too
    long = ask("generate_values", preset="aws", format="helmrelease")
    (text,) = long.structured["files"].values()
    assert (
        text not in long.text and text[:MAX_TEXT] in long.text and "more characters, all of them in files" in long.text
    )


def test_what_a_platform_forbids_stands_first_in_the_text() -> None:
    answer = ask("generate_values", preset="gcp-autopilot")
    assert answer.text.splitlines()[1].startswith("does not run: GKE Autopilot refuses")
    assert not answer.is_error and answer.exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"preset": name}, None)
        for name in ("development", "production", "aws", "gcp", "gcp-autopilot", "azure", "bottlerocket", "openshift")
    ]
    + [
        ({"namespace": "shop"}, "namespace"),
        ({"release": "shop"}, "release"),
        ({"image": "registry.example.org/obi"}, "image"),
        ({"otlp_endpoint": "https://collector.example.org"}, "endpoint"),
        ({"otlp_endpoint": "http://collector.observability:4318"}, None),
        ({"config": "trace_printer: text\nopen_port: 8080\n", "prometheus_port": 9400}, None),
    ],
    ids=str,
)
def test_what_this_server_would_refuse_is_said(arguments: dict[str, Any], says: str | None) -> None:
    answer = ask("generate_values", **arguments)
    refused = [note for note in answer.structured["notes"] if "this server would refuse" in note]
    assert bool(refused) is (says is not None), refused
    assert says is None or any(says in note for note in refused)


@pytest.mark.parametrize(
    ("tool", "arguments", "code"),
    [
        ("generate_values", {"preset": "on-premises"}, "invalid_argument"),
        ("generate_values", {"features": []}, "invalid_argument"),
        ("generate_values", {"values": "- a\n"}, "invalid_document"),
        ("generate_values", {"values": "a: 1\na: 2\n"}, "invalid_document"),
        ("generate_values", {"values": "env: {A: '{{ lookup 1 }}'}"}, "invalid_document"),
        ("generate_values", {"config": "open_port: '{{ .Values.x }}'\ntrace_printer: text\n"}, "invalid_document"),
        ("generate_values", {"config": "promtheus_export: {port: 1}\n"}, "invalid_document"),
        ("generate_values", {"format": "helmrelease", "repository": "file:///etc"}, "invalid_argument"),
        ("generate_values", {"chart": "../obi"}, "invalid_argument"),
        ("generate_chart", {"name": "Obi"}, "invalid_argument"),
        ("generate_chart", {"version": "latest"}, "invalid_argument"),
        ("generate_chart", {"app_version": "v1; x"}, "invalid_argument"),
        ("template", {"chart": "./obi"}, "invalid_argument"),
        ("template", {"chart": "https://x/obi"}, "invalid_argument"),
        ("template", {"version": "1 --kubeconfig=x"}, "invalid_argument"),
        ("template", {"release": "obi; ls"}, "invalid_argument"),
    ],
)
def test_what_cannot_be_meant_is_refused(tool: str, arguments: dict[str, Any], code: str) -> None:
    answer = ask(tool, **arguments)
    assert answer.is_error and answer.structured["code"] == code, answer.text


@pytest.mark.parametrize("form", ["helmrelease", "argocd"])
def test_a_delivery_without_a_repository_says_what_is_to_be_replaced(form: str) -> None:
    answer = ask("generate_values", format=form)
    assert any(generate.PLACEHOLDER in note for note in answer.structured["notes"])
    named = ask(
        "generate_values", format=form, repository="https://charts.example.org", chart="shop-obi", version="1.0.0"
    )
    assert not any(generate.PLACEHOLDER in note for note in named.structured["notes"])
    (text,) = named.structured["files"].values()
    assert "https://charts.example.org" in text and "shop-obi" in text and "1.0.0" in text


def test_a_chart_comes_as_files_that_begin_with_its_name() -> None:
    answer = ask("generate_chart", name="shop-obi", version="1.2.3", app_version="v0.12.2", features=["network"])
    files = answer.structured["files"]
    assert {path.partition("/")[0] for path in files} == {"shop-obi"}
    assert yaml.safe_load(files["shop-obi/Chart.yaml"])["appVersion"] == "v0.12.2"
    values = yaml.safe_load(files["shop-obi/values.yaml"])
    assert (values["image"]["tag"], values["privileged"]) == ("", False)
    assert values["capabilities"] == ["BPF", "PERFMON", "NET_RAW"]
    assert any("scope.releases" in note for note in answer.structured["notes"])
    known = ask("generate_chart", name="shop-obi", scope=Scope(releases={"obi": ("shop-obi",)}))
    assert not any("scope.releases" in note for note in known.structured["notes"])


def test_a_caller_may_say_more_than_the_preset_and_take_away() -> None:
    answer = ask("generate_values", preset="bottlerocket", values="privileged: false\nserviceMonitor: null\n")
    assert values_in(answer)["privileged"] is False
    assert values_in(answer)["serviceMonitor"] is None


def test_without_a_word_of_values_the_charts_own_are_used() -> None:
    made = services(PolicyRoad())
    assert requested_values(made, {"release": "obi", "namespace": "obi"}).document == ""
    own = requested_values(made, {"values": "privileged: false\n"})
    assert (own.document, own.settings, own.notes) == ("privileged: false\n", (), ())
    assert requested_values(made, {"features": ["network"]}).values["hostNetwork"] is True


# --- what helm rendered ---

CONFIG_MAP = """
# Source: obi/templates/configmap.yaml
apiVersion: v1
kind: ConfigMap
metadata: {name: obi, namespace: observability}
data:
  ebpf-instrument-config.yml: |
    promtheus_export: {port: 9090}
"""
WORKLOAD = """---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: obi, namespace: observability}
spec: {template: {spec: {containers: [{name: ebpf-instrument, securityContext: {privileged: true}}]}}}
---
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata: {name: obi, namespace: observability}
"""


def test_a_rendering_is_objects_with_what_is_to_be_known_of_them() -> None:
    answer = rendered(Answer(CONFIG_MAP + WORKLOAD, "", 0, NARROWED, 5))
    assert [body["kind"] for body in answer.structured["objects"]] == ["ConfigMap", "DaemonSet", "ServiceMonitor"]
    found = [(entry["severity"], entry["object"]) for entry in answer.structured["findings"]]
    assert ("warning", "DaemonSet obi") in found and ("info", "ServiceMonitor obi") in found
    assert any("prometheus_export" in entry["what"] for entry in answer.structured["findings"])
    assert answer.payload == CONFIG_MAP + WORKLOAD


@pytest.mark.parametrize(
    "answer",
    [
        Answer("", "Error: values don't meet the specifications of the schema", 1, NARROWED, 5),
        Answer("apiVersion: v1\n", "", 0, NARROWED, 5, truncated=True, cut="cut after 15 bytes"),
        Answer("a: [\n", "", 0, NARROWED, 5),
    ],
    ids=["failed", "cut", "unreadable"],
)
def test_a_rendering_that_is_not_whole_is_no_answer(answer: Answer) -> None:
    failed = rendered(answer)
    assert failed.is_error and failed.structured["code"] == "program_failed", failed.text
