"""Calls in the form of the TypeScript obi-mcp: each of its tools and arguments, and what becomes of it here."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from mcp import Client
from tests.unit.recorded_road import RecordedRoad, services

from obi_mcp.app import ObiServer
from obi_mcp.config import Settings
from obi_mcp.errors import InvalidArgument
from obi_mcp.policy.model import Access
from obi_mcp.toolsets.arguments import check_arguments
from obi_mcp.toolsets.base import ToolCall, ToolResult
from obi_mcp.toolsets.predecessor import translate
from obi_mcp.toolsets.predecessor_table import ALIASES, RULES
from obi_mcp.toolsets.registry import ALL, callable_tools, listed_tools
from obi_mcp.toolsets.run import run_tool

DOCUMENT = Path(__file__).parents[3] / "docs/migration.md"
EVERYTHING = Settings(access=Access.FULL, toolsets=(ALL,))
TOOLS = callable_tools(EVERYTHING)

# Its tools and their arguments, from its source.
THEIRS: dict[str, tuple[str, ...]] = {
    "obi_get_status": ("verbose",),
    "obi_deploy_local": ("config", "configPath", "binaryPath"),
    "obi_get_config": (),
    "obi_update_config": ("config", "merge", "restart"),
    "obi_get_logs": ("lines", "level"),
    "obi_stop": ("force",),
    "obi_k8s_deploy": (
        "namespace",
        "image",
        "imageTag",
        "otlpEndpoint",
        "privileged",
        "resourcesLimitMemory",
        "resourcesLimitCpu",
        "resourcesRequestMemory",
        "resourcesRequestCpu",
        "kubeconfig",
        "context",
        "dryRun",
    ),
    "obi_k8s_status": ("namespace", "verbose", "kubeconfig", "context"),
    "obi_k8s_logs": ("namespace", "podName", "tail", "since", "timestamps", "kubeconfig", "context"),
    "obi_k8s_config": ("namespace", "config", "otlpEndpoint", "merge", "restart", "kubeconfig", "context"),
    "obi_k8s_upgrade": ("namespace", "image", "imageTag", "waitForRollout", "kubeconfig", "context"),
    "obi_k8s_undeploy": ("namespace", "keepConfig", "deleteNamespace", "deleteRbac", "kubeconfig", "context"),
    "obi_k8s_helm_install": (
        "release",
        "namespace",
        "values",
        "version",
        "createNamespace",
        "wait",
        "timeout",
        "chart",
    ),
    "obi_k8s_helm_upgrade": (
        "release",
        "namespace",
        "values",
        "version",
        "install",
        "wait",
        "timeout",
        "reuseValues",
        "chart",
    ),
    "obi_docker_deploy": ("config", "configPath", "targetPort", "network", "mode", "otlpEndpoint", "resources"),
    "obi_docker_status": ("verbose",),
    "obi_docker_logs": ("lines", "follow", "since", "level"),
    "obi_docker_stop": ("force", "removeVolumes"),
    "obi_docker_compose": (
        "network",
        "targetPort",
        "includeCollector",
        "otlpEndpoint",
        "exportEndpoint",
        "resources",
        "volumes",
    ),
}


@pytest.mark.parametrize("name", THEIRS)
def test_each_of_its_tools_is_called_by_its_name_and_listed_once(name: str) -> None:
    assert TOOLS[name].name == ALIASES.get(name, name)
    assert (name in {spec.name for spec in listed_tools(EVERYTHING)}) is (name not in ALIASES)


@pytest.mark.parametrize("name", THEIRS)
def test_each_of_its_arguments_is_known_here(name: str) -> None:
    spec = TOOLS[name]
    ruled = {rule.old for rule in RULES.get(spec.name, ())}
    assert set(THEIRS[name]) <= ruled | set(spec.input_schema["properties"])
    assert ruled <= set(THEIRS[name]), "a rule for an argument that it did not have"


def test_no_rule_is_of_a_tool_that_is_none() -> None:
    assert RULES.keys() <= {ALIASES.get(name, name) for name in THEIRS}
    names = {rule.tool for rules in RULES.values() for rule in rules if rule.tool}
    assert names <= TOOLS.keys()


OTEL = {"endpoint": "collector:4317", "protocol": "grpc"}
THEIR_CONFIG = {"network": {"enable": True}, "export": {"otlp": {"endpoint": "collector:4317"}}}
OWN_CONFIG = {"network": {"enable": True}, "otel_metrics_export": OTEL, "otel_traces_export": OTEL}

TRANSLATED: list[tuple[str, dict[str, Any], dict[str, Any], list[str]]] = [
    # its tool, its arguments, those of today, what is said
    ("obi_get_status", {"verbose": True}, {}, ["verbose is not needed"]),
    (
        "obi_deploy_local",
        {"configPath": "/etc/obi/a.yml"},
        {"config_path": "/etc/obi/a.yml"},
        ["configPath is config_p"],
    ),
    ("obi_deploy_local", {"config": {"open_port": "80"}}, {"config": {"open_port": "80"}}, ["config has another form"]),
    (
        "obi_deploy_local",
        {"config": THEIR_CONFIG},
        {"config": OWN_CONFIG},
        ["config has another form here: it is text"],
    ),
    (
        "obi_update_config",
        {"config": {"network": {"enable": True}}, "merge": True, "restart": True},
        {"patch": {"network": {"enable": True}}, "restart": "auto"},
        ["config is patch here", "merge is not needed", "restart has another form here"],
    ),
    (
        "obi_update_config",
        {"config": THEIR_CONFIG},
        {"patch": OWN_CONFIG, "restart": "never"},
        ["config is patch here", "restart is never: it did not restart OBI by itself"],
    ),
    (
        "obi_get_logs",
        {"lines": 9, "level": "warn"},
        {"tail": 9, "level": "WARN"},
        ["lines is tail", "level has another"],
    ),
    (
        "obi_get_logs",
        {"lines": 10_000, "level": "all"},
        {"tail": 500},
        ["lines is tail here: up to 500", "level is not"],
    ),
    ("obi_stop", {"force": True}, {"timeout_s": 0}, ["force is timeout_s here: KILL comes"]),
    ("obi_stop", {"force": False}, {}, ["force is not needed"]),
    (
        "obi_k8s_deploy",
        {"imageTag": "v0.11.0", "otlpEndpoint": "http://c:4318", "privileged": False, "dryRun": False},
        {"version": "v0.11.0", "otlp_endpoint": "http://c:4318", "privileged": False},
        ["imageTag is version", "otlpEndpoint is otlp_endpoint", "dryRun is not needed: this call gives a plan"],
    ),
    ("obi_k8s_deploy", {"dryRun": True}, {}, ["dryRun is not needed: a call without plan_id never writes"]),
    ("obi_k8s_status", {"namespace": "obi", "verbose": True}, {"namespace": "obi"}, ["verbose is not needed"]),
    ("obi_k8s_logs", {"tail": 5, "timestamps": True}, {"tail": 5}, ["timestamps is not needed"]),
    (
        "obi_k8s_logs",
        {"podName": "obi-1"},
        {"pod": "obi-1"},
        ["obi_k8s_get_pod_logs is the tool for it", "podName is pod"],
    ),
    (
        "obi_k8s_config",
        {"config": {"log_level": "DEBUG"}, "otlpEndpoint": "http://c:4318", "merge": True, "restart": False},
        {
            "patch": {
                "log_level": "DEBUG",
                "otel_metrics_export": {"endpoint": "http://c:4318"},
                "otel_traces_export": {"endpoint": "http://c:4318"},
            }
        },
        ["config is patch", "otlpEndpoint is patch", "merge is not needed", "restart is not needed: the pods restart"],
    ),
    (
        "obi_k8s_upgrade",
        {"imageTag": "v1", "waitForRollout": True},
        {"version": "v1"},
        ["imageTag is v", "waitForRollout"],
    ),
    (
        "obi_k8s_undeploy",
        {"keepConfig": False, "deleteRbac": True, "deleteNamespace": False},
        {},
        ["keepConfig", "deleteRbac", "deleteNamespace"],
    ),
    (
        "obi_docker_deploy",
        {"targetPort": 8080, "network": "host", "mode": "standalone", "resources": {"memory": "1g"}},
        {"open_port": "8080", "memory_mib": 1024},
        ["targetPort is open_port", "network is not needed", "mode is not needed", "resources is memory_mib"],
    ),
    ("obi_docker_status", {"verbose": False}, {}, ["verbose is not needed"]),
    (
        "obi_docker_logs",
        {"lines": 7, "level": "warn", "follow": False, "since": "10m"},
        {"tail": 7, "level": "WARN", "since": "10m"},
        ["lines is tail", "level has another form", "follow is not needed"],
    ),
    ("obi_docker_stop", {"force": True, "removeVolumes": True}, {}, ["force is not needed", "removeVolumes"]),
    (
        "obi_docker_compose",
        {"targetPort": 80, "includeCollector": False, "resources": {"memory": "512m"}},
        {"open_port": "80", "memory_mib": 512},
        ["targetPort is open_port", "includeCollector is not needed", "resources is memory_mib"],
    ),
    (
        "obi_k8s_helm_install",
        {"namespace": "obi", "values": {"a": 1}, "createNamespace": True, "wait": True, "timeout": "5m"},
        {"namespace": "obi", "values": {"a": 1}, "create_namespace": True},
        [
            "values has another form",
            "createNamespace is create_namespace",
            "wait is not",
            "timeout is not needed: wait_s",
        ],
    ),
    (
        "obi_k8s_helm_upgrade",
        {"reuseValues": True, "install": True, "version": "1.0.0"},
        {"reuse_values": True, "version": "1.0.0"},
        ["reuseValues is reuse_values", "install is not needed: a release that is not there yet"],
    ),
]


@pytest.mark.parametrize(("name", "given", "wanted", "said"), TRANSLATED)
def test_a_call_in_the_old_form_becomes_one_of_today(
    name: str, given: dict[str, Any], wanted: dict[str, Any], said: list[str]
) -> None:
    moved = translate(TOOLS[name].name, given)
    assert moved is not None
    got = dict(moved.arguments)
    check_arguments(TOOLS[moved.tool], got)
    for text in ("config", "values"):
        if isinstance(got.get(text), str):
            got[text] = yaml.safe_load(got[text])
    assert got == wanted
    assert len(moved.notices) == len(said)
    assert all(notice.startswith(start) for notice, start in zip(moved.notices, said, strict=True))


TRANSLATED += [
    ("obi_update_config", {"patch": {}, "restart": False}, {"patch": {}, "restart": "never"}, ["restart has another"]),
    (
        "obi_k8s_helm_upgrade",
        {"values": {"a": 1}, "install": False},
        {"values": {"a": 1}},
        ["values", "install is not"],
    ),
    ("obi_k8s_helm_upgrade", {"wait": False, "timeout": "5m"}, {}, ["wait is not", "timeout is not"]),
    (
        "obi_docker_compose",
        {"network": "host", "otlpEndpoint": "http://c:4318"},
        {"otlp_endpoint": "http://c:4318"},
        ["network", "otlpEndpoint"],
    ),
    (
        "obi_docker_deploy",
        {"config": {"open_port": "80"}, "otlpEndpoint": "http://c:4318"},
        {"config": {"open_port": "80"}, "otlp_endpoint": "http://c:4318"},
        ["config", "otlpEndpoint"],
    ),
]

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("obi_deploy_local", {"binaryPath": "/opt/obi"}, "local.binary"),
    ("obi_deploy_local", {"config": {"export": {"otlp": {"endpoint": "x", "headers": "a"}}}}, "leave it out"),
    ("obi_update_config", {"config": {}, "merge": False}, "obi_deploy_local"),
    ("obi_k8s_deploy", {"kubeconfig": "/root/.kube/config"}, "--kubeconfig"),
    ("obi_k8s_deploy", {"resourcesLimitMemory": "1Gi"}, "obi_k8s_generate_daemonset"),
    ("obi_k8s_deploy", {"resourcesLimitCpu": "1"}, "obi_k8s_generate_daemonset"),
    ("obi_k8s_deploy", {"resourcesRequestMemory": "1Gi"}, "obi_k8s_generate_daemonset"),
    ("obi_k8s_deploy", {"resourcesRequestCpu": "1"}, "obi_k8s_generate_daemonset"),
    ("obi_k8s_status", {"kubeconfig": "x"}, "context"),
    ("obi_k8s_logs", {"kubeconfig": "x"}, "context"),
    ("obi_k8s_config", {"kubeconfig": "x"}, "context"),
    ("obi_k8s_config", {"config": {}, "merge": False}, "as config, a text"),
    ("obi_k8s_upgrade", {"image": "x"}, "obi_k8s_deploy"),
    ("obi_k8s_upgrade", {"kubeconfig": "x"}, "context"),
    ("obi_k8s_undeploy", {"keepConfig": True}, "obi_k8s_config"),
    ("obi_k8s_undeploy", {"deleteNamespace": True}, "who runs the cluster"),
    ("obi_k8s_undeploy", {"deleteRbac": False}, "as a whole"),
    ("obi_k8s_undeploy", {"kubeconfig": "x"}, "context"),
    ("obi_docker_deploy", {"configPath": "/etc/obi.yml"}, "as config"),
    ("obi_docker_deploy", {"network": "bridge"}, "leave it out"),
    ("obi_docker_deploy", {"mode": "compose"}, "obi_docker_generate_compose"),
    ("obi_docker_deploy", {"resources": {"cpus": "1.5"}}, "no limit of CPUs"),
    ("obi_docker_deploy", {"resources": {"memory": "much"}}, "memory_mib"),
    ("obi_docker_logs", {"follow": True}, "since"),
    ("obi_docker_compose", {"includeCollector": True}, "otlp_endpoint"),
    ("obi_docker_compose", {"network": "mine"}, "leave it out"),
    ("obi_docker_compose", {"resources": {"cpus": "1"}}, "no limit of CPUs"),
    ("obi_docker_compose", {"exportEndpoint": "x"}, "collector"),
    ("obi_docker_compose", {"volumes": {"/a": "/b"}}, "mounts"),
    ("obi_k8s_helm_install", {"chart": "oci://ghcr.io/raibid-labs/charts/obi"}, "scope.repositories"),
    ("obi_k8s_helm_upgrade", {"chart": "oci://ghcr.io/raibid-labs/charts/obi"}, "scope.repositories"),
]


@pytest.mark.parametrize(("name", "given", "hint"), REFUSED)
def test_what_has_no_counterpart_names_the_way_out(name: str, given: dict[str, Any], hint: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        translate(TOOLS[name].name, given)
    assert hint in f"{caught.value.message} {caught.value.hint}"


def test_every_rule_is_in_one_of_the_tables_above() -> None:
    calls = [(row[0], row[1]) for row in TRANSLATED] + [(row[0], row[1]) for row in REFUSED]
    for tool, rules in RULES.items():
        for rule in rules:
            given = [given for name, given in calls if TOOLS[name].name == tool and rule.old in given]
            assert any(rule.when(one[rule.old]) for one in given), f"{tool} {rule.old}"


@pytest.mark.parametrize("name", THEIRS)
def test_calls_of_today_are_left_alone(name: str) -> None:
    assert translate(TOOLS[name].name, {"namespace": "obi", "nonsense": 1}) is None


# --- in an answer ---


def call(name: str, arguments: dict[str, Any]) -> ToolResult:
    made = services(RecordedRoad(), EVERYTHING)
    return asyncio.run(run_tool(made, TOOLS[name], ToolCall(arguments, "test", called=name)))


def test_the_answer_says_what_was_called_otherwise() -> None:
    result = call("obi_docker_compose", {"targetPort": 8080})
    assert not result.is_error
    said = ["obi_docker_compose is obi_docker_generate_compose here", "targetPort is open_port here"]
    assert result.structured["notes"][:2] == said
    assert result.text.splitlines()[:2] == [f"note: {line}" for line in said]
    assert result.notes[:2] == tuple(said)


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_a_client_calls_by_the_old_name(mode: str) -> None:
    async def run() -> None:
        server = ObiServer(services(RecordedRoad(), EVERYTHING))
        async with asyncio.timeout(120), Client(server, mode=mode) as client:
            assert "obi_docker_compose" not in {tool.name for tool in (await client.list_tools()).tools}
            result = await client.call_tool("obi_docker_compose", {"targetPort": 8080})
            assert result.structured_content is not None
            assert result.structured_content["notes"][0] == "obi_docker_compose is obi_docker_generate_compose here"

    asyncio.run(run())


def test_a_refusal_says_it_too() -> None:
    result = call("obi_docker_compose", {"targetPort": 8080, "includeCollector": True})
    assert (result.is_error, result.structured["code"]) == (True, "invalid_argument")
    assert result.structured["message"].startswith("includeCollector of the TypeScript obi-mcp has no counterpart")
    assert result.structured["notes"] == ["obi_docker_compose is obi_docker_generate_compose here"]


def test_a_misspelled_argument_is_refused_as_ever() -> None:
    result = call("obi_k8s_deploy", {"imageTagg": "v1"})
    assert "has no argument 'imageTagg'" in result.structured["message"]
    assert "notes" not in result.structured


# --- in the document ---


def test_the_document_has_every_tool_and_argument() -> None:
    rows = re.findall(r"^\| `(obi_\w+)` \| (`\w+`|—) \| (.+) \|$", DOCUMENT.read_text("utf-8"), re.MULTILINE)
    assert {(name, argument.strip("`")) for name, argument, _ in rows} == {
        (name, argument)
        for name, arguments in THEIRS.items()
        for argument in (arguments or ("—",))
        if argument == "—" or argument in {rule.old for rule in RULES.get(TOOLS[name].name, ())}
    }
