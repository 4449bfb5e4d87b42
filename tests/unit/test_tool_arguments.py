"""Arguments of tools: what does not fit is refused before anything runs, with the way out."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.unit.recorded_road import RecordedAudit, RecordedRoad, services
from tests.unit.tool_calls import FULL, GOOD, call, spec

from obi_mcp.config import Settings
from obi_mcp.policy.model import Access
from obi_mcp.toolsets.base import ToolCall
from obi_mcp.toolsets.run import run_tool

BAD_ARGUMENTS: list[tuple[str, dict[str, Any], str, str]] = [
    # what, arguments, the message, the hint
    ("an unknown one", {**GOOD, "namespce": "obi"}, "has no argument 'namespce'", "It takes command, stdin"),
    ("a misspelled one", {**GOOD, "timeout": 3}, "has no argument 'timeout'", "did you mean timeout_s?"),
    ("a long unknown one", {**GOOD, "x" * 10_000: 1}, "has no argument", "It takes command"),
    ("none at all", {}, "needs the argument command", "Beginning with kubectl"),
    ("null", {"command": None}, "command of obi_kubectl is null", "Beginning with kubectl"),
    ("an optional null", {**GOOD, "stdin": None}, "stdin of obi_kubectl is null; leave it out", "Document"),
    ("an empty command", {"command": ""}, "is empty", "Beginning with kubectl"),
    ("a list for text", {"command": ["kubectl", "get"]}, "must be of type string, not array", "Beginning"),
    ("a number for text", {"command": 7}, "must be of type string, not integer", "Beginning"),
    ("a 10 MB command", {"command": "kubectl " + "x" * 10_000_000}, "has 10,000,008 characters; at most 65,536", "b"),
    ("a 10 MB document", {**GOOD, "stdin": "x" * 10_000_000}, "has 10,000,000 characters; at most", "Document"),
    ("half a surrogate pair", {"command": "kubectl get \ud800"}, "half a surrogate pair", "Beginning"),
    ("a higher level", {**GOOD, "access": "root"}, "must be one of read-only, non-destructive, full", "lower"),
    ("a level with a typo", {**GOOD, "access": "ful"}, "must be one of read-only, non-destr", "did you mean full?"),
    ("text for a number", {**GOOD, "timeout_s": "3"}, "must be of type number, not string", "Seconds"),
    ("a bool for a number", {**GOOD, "timeout_s": True}, "must be of type number, not boolean", "Seconds"),
    ("too long a deadline", {**GOOD, "timeout_s": 301}, "is 301; at most 300 is taken", "Seconds"),
    ("no deadline", {**GOOD, "timeout_s": 0}, "is 0; at least 0.1 is taken", "Seconds"),
    ("not a number at all", {**GOOD, "timeout_s": float("nan")}, "is nan; at least 0.1 is taken", "Seconds"),
    ("a fraction of bytes", {**GOOD, "max_bytes": 1.5}, "must be of type integer, not number", "Bytes"),
    ("too many bytes", {**GOOD, "max_bytes": 2_000_000}, "is 2,000,000; at most 1,000,000 is taken", "Bytes"),
    ("an empty context", {**GOOD, "context": ""}, "context of obi_kubectl is empty", "Kubeconfig context"),
]


FORMS: list[tuple[str, dict[str, Any], str]] = [
    # what does not fit an argument whose name says it all, and how it is to be written
    ("obi_k8s_generate_daemonset", {"environment": "prod"}, "environment: one of development, production"),
    ("obi_k8s_generate_daemonset", {"environment": "developmnt"}, "did you mean development?"),
    ("obi_k8s_generate_daemonset", {"features": ["application", "netwrk"]}, "did you mean network?"),
    ("obi_k8s_generate_daemonset", {"features": "x"}, "features: an array, each entry one of application, network"),
    ("obi_k8s_generate_daemonset", {"privileged": "yes"}, "privileged: true or false, without quotes"),
    ("obi_k8s_generate_daemonset", {"prometheus_port": -5}, "prometheus_port: integer from 1 to 65,535"),
    ("obi_k8s_generate_daemonset", {"name": 7}, "name: string"),
    ("obi_deploy_local", {"open_port": "eighty"}, "open_port: The application's: 8080,9000-9010"),
    ("obi_deploy_local", {"open_port": "8080\n"}, "open_port: The application's: 8080,9000-9010"),
    ("obi_deploy_local", {"executable_name": "java|node"}, "executable_name: The application's"),
]


@pytest.mark.parametrize(("tool", "arguments", "hint"), FORMS)
def test_an_argument_that_does_not_fit_says_how_it_is_written(tool: str, arguments: dict[str, Any], hint: str) -> None:
    assert call(tool, arguments).structured["hint"].startswith(hint)


@pytest.mark.parametrize(("what", "arguments", "message", "hint"), BAD_ARGUMENTS, ids=[row[0] for row in BAD_ARGUMENTS])
def test_bad_arguments_are_refused_before_anything_runs(
    what: str, arguments: dict[str, Any], message: str, hint: str
) -> None:
    road = RecordedRoad()
    made = services(road, FULL)
    result = asyncio.run(run_tool(made, spec("obi_kubectl"), ToolCall(arguments, "test")))
    assert (result.is_error, result.structured["code"], result.exit_code) == (True, "invalid_argument", 2)
    assert message in result.structured["message"]
    assert hint in result.structured["hint"]
    assert len(json.dumps(result.structured)) < 2_000
    assert road.calls == []
    assert isinstance(made.audit, RecordedAudit)
    (entry,) = made.audit.entries
    assert (entry.tool, entry.error, len(entry.command) <= 1_000) == ("obi_kubectl", "invalid_argument", True)


def test_a_level_above_the_servers_is_no_argument() -> None:
    result = call("obi_kubectl", {**GOOD, "access": "full"}, settings=Settings())
    assert "must be one of read-only, not 'full'" in result.structured["message"]


def test_arguments_reach_the_road_as_they_were_given() -> None:
    road = RecordedRoad()
    arguments = {
        "command": "kubectl apply -f -",
        "stdin": "{}",
        "context": "kind",
        "access": "non-destructive",
        "timeout_s": 7,
        "max_bytes": 5000,
    }
    call("obi_kubectl", arguments, road)
    call("obi_explain_command", {"command": "helm list"}, road)
    first, second = road.calls
    assert (first.command, first.stdin, first.context, first.access) == (
        "kubectl apply -f -",
        "{}",
        "kind",
        Access.NON_DESTRUCTIVE,
    )
    assert (first.timeout_s, first.max_bytes, first.tool, first.caller) == (7, 5000, "obi_kubectl", "test")
    assert (second.command, second.stdin, second.access, second.tool) == (
        "helm list",
        None,
        None,
        "obi_explain_command",
    )


OTHER_PROGRAM: list[tuple[str, str, str]] = [
    ("obi_kubectl", "helm list", "give this command to obi_helm"),
    ("obi_helm", "kubectl get pods", "give this command to obi_kubectl"),
    ("obi_command", "  kubectl get pods", "give this command to obi_kubectl"),
    ("obi_kubectl", "obi config validate -", "give this command to obi_command"),
]


@pytest.mark.parametrize(("tool", "command", "hint"), OTHER_PROGRAM)
def test_a_command_of_another_tool_is_sent_there(tool: str, command: str, hint: str) -> None:
    road = RecordedRoad()
    result = call(tool, {"command": command}, road)
    assert (result.structured["code"], result.structured["hint"]) == ("invalid_command", hint)
    assert result.structured["at"] == {"stage": 0, "word": 0, "column": len(command) - len(command.lstrip()) + 1}
    assert road.calls == []


def test_what_is_no_program_of_ours_is_left_to_the_policy() -> None:
    road = RecordedRoad()
    call("obi_kubectl", {"command": "get pods"}, road)
    assert [made.command for made in road.calls] == ["get pods"]
