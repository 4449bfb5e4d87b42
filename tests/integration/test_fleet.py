"""Two real clusters: one look at both, each with its own deadline, and nothing of one that reaches the other."""

from __future__ import annotations

import base64
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.integration.conftest import Serve, Session
from tests.integration.test_kubernetes import ask
from tests.sandbox import daemon
from tests.sandbox.sandbox import Sandbox

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

EAST, WEST, THEIRS = "east", "west", "theirs"
NOT_OF_A_CLUSTER = {"obi_k8s_generate_daemonset", "obi_k8s_generate_sidecar", "obi_k8s_fleet_status"}
COMMANDS = {"obi_kubectl": "kubectl get pods -A", "obi_helm": "helm list -A"}


@pytest.fixture(scope="module")
def west() -> Iterator[Sandbox]:
    """The second cluster, without a real node: two at once cost memory."""
    with Sandbox.up(f"west-{os.getpid()}", kwok_nodes=2, real_node=False) as running:
        yield running


@pytest.fixture
def fleet(sandbox: Sandbox, west: Sandbox, tmp_path: Path) -> dict[str, str]:
    """The settings of a server that may name the contexts of both, and has a third that it may not name."""
    whole: dict[str, Any] = {"apiVersion": "v1", "kind": "Config", "clusters": [], "users": [], "contexts": []}
    for name, cluster in ((EAST, sandbox), (WEST, west), (THEIRS, west)):
        own = yaml.safe_load(cluster.kubeconfig.read_text())
        server, user = own["clusters"][0]["cluster"], own["users"][0]["user"]
        # The file goes with its sandbox; what stands in it does not change.
        authority = base64.b64encode(Path(server["certificate-authority"]).read_bytes()).decode()
        described = {"server": server["server"], "certificate-authority-data": authority}
        whole["clusters"].append({"name": name, "cluster": described})
        whole["users"].append({"name": name, "user": user})
        whole["contexts"].append({"name": name, "context": {"cluster": name, "user": name}})
    whole["current-context"] = EAST
    path = tmp_path / "fleet"
    path.write_text(yaml.safe_dump(whole))
    path.chmod(0o600)
    return {
        "KUBECONFIG": str(path),
        "OBI_MCP_PROGRAMS__KUBECONFIG": str(path),
        "OBI_MCP_SCOPE__CONTEXTS": json.dumps([EAST, WEST]),
        "OBI_MCP_SCOPE__CLUSTER_OBJECTS": '["obi", "obi-two"]',
        "OBI_MCP_TOOLSETS": '["kubernetes"]',
    }


@contextmanager
def suspended(sandbox: Sandbox) -> Iterator[None]:
    """The API server takes connections and says nothing."""
    (server,) = [one for one in daemon.recorded(sandbox.instance) if one.name == "kube-apiserver"]
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def writes(sandbox: Sandbox, place: int) -> list[str]:
    made, _ = sandbox.requests(place)
    return [f"{one.verb} {one.path}" for one in made if one.writes]


async def rows(session: Session, **arguments: Any) -> dict[str, dict[str, Any]]:
    seen, text, failed = await ask(session, "obi_k8s_fleet_status", **arguments)
    assert not failed, text
    return {row["context"]: row for row in seen["clusters"]}


async def test_every_tool_about_a_cluster_takes_a_context_and_no_foreign_one(
    serve: Serve, fleet: dict[str, str]
) -> None:
    given: dict[str, Any] = {"pod": "obi-x", "version": "v0.12.0", "patch": {"log_level": "DEBUG"}}
    async with serve("full", **fleet) as session:
        tools = (await session.client.list_tools()).tools
        about = [tool for tool in tools if tool.name.startswith("obi_k8s_") and tool.name not in NOT_OF_A_CLUSTER]
        about += [tool for tool in tools if tool.name in COMMANDS]
        assert len(about) >= 10
        for tool in about:
            properties = tool.input_schema["properties"]
            assert "context" in properties, tool.name
            given["command"] = COMMANDS.get(tool.name, "")
            needed = {name: given[name] for name in tool.input_schema.get("required", ())}
            needed |= {name: given[name] for name in ("version", "patch") if name in properties}
            refused, text, failed = await ask(session, tool.name, context=THEIRS, **needed)
            assert failed and refused["code"] == "denied" and THEIRS in text, f"{tool.name}: {text}"
        only = await rows(session, contexts=[WEST, THEIRS])
        assert only[THEIRS]["code"] == "denied" and only[WEST]["nodes"] == 2, only


async def test_what_is_planned_for_one_cluster_stays_there(
    serve: Serve, fleet: dict[str, str], sandbox: Sandbox, west: Sandbox
) -> None:
    wanted = {"name": "obi-two", "namespace": "monitoring", "features": ["network"], "prometheus_port": 9191}
    (_, here), (_, there) = sandbox.requests(), west.requests()
    async with serve("full", **fleet) as session:
        plan, text, failed = await ask(session, "obi_k8s_deploy", context=WEST, **wanted)
        assert not failed, text
        for other in (EAST, WEST):
            moved, text, failed = await ask(session, "obi_k8s_deploy", plan_id=plan["plan_id"], context=other)
            assert failed and moved["code"] == "invalid_argument" and "context" in moved["message"], text
        done, text, failed = await ask(session, "obi_k8s_deploy", plan_id=plan["plan_id"])
        assert not failed and done["applied"], text
        # The same asked of the other cluster is another plan.
        again, text, failed = await ask(session, "obi_k8s_deploy", context=EAST, **wanted)
        assert not failed and again["plan_id"] != plan["plan_id"], text
        assert writes(sandbox, here) == [] and writes(west, there) != []
        both = await rows(session)
        assert {row["name"] for row in both[WEST]["workloads"]} == {"obi", "obi-two"}
        assert {row["name"] for row in both[EAST]["workloads"]} == {"obi"}
        gone, text, _ = await ask(session, "obi_k8s_undeploy", context=WEST, name="obi-two", namespace="monitoring")
        done, text, failed = await ask(session, "obi_k8s_undeploy", plan_id=gone["plan_id"])
        assert not failed and done["applied"], text
        assert writes(sandbox, here) == []


async def test_one_that_says_nothing_or_is_gone_costs_only_itself(
    serve: Serve, fleet: dict[str, str], sandbox: Sandbox, west: Sandbox
) -> None:
    async with serve("full", **fleet) as session:
        both = await rows(session)
        assert (both[EAST]["nodes"], both[WEST]["nodes"]) == (4, 2), both
        with suspended(west):
            seen = await rows(session, timeout_s=15)
            assert (
                seen[WEST]["code"] == "timeout" and "15 s" in seen[WEST]["problem"] and "problem" not in seen[EAST]
            ), seen
            status, text, failed = await ask(session, "obi_k8s_status", context=EAST)
            assert not failed and status["nodes"] == 4, text
        back = await rows(session, timeout_s=60)
        assert back[WEST]["nodes"] == 2, back
        # INVARIANT: the last of the module: the cluster does not come back.
        (server,) = [one for one in daemon.recorded(west.instance) if one.name == "kube-apiserver"]
        daemon.stop([server])
        seen = await rows(session, timeout_s=60)
        assert seen[WEST]["code"] == "cluster_unreachable" and seen[WEST]["problem"], seen
        assert seen[EAST]["workloads"][0]["covered"] == 4, seen
        lost, text, failed = await ask(session, "obi_k8s_status", context=WEST)
        assert failed and lost["code"] == "cluster_unreachable" and lost["hint"], text
        status, text, failed = await ask(session, "obi_k8s_status", context=EAST)
        assert not failed, text
