"""The kubernetes toolset against the sandbox, through a real MCP client."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.integration.conftest import Serve, Session
from tests.sandbox.api import wait_until
from tests.sandbox.archive import OBI_IMAGE
from tests.sandbox.sandbox import Sandbox
from tests.sandbox.traffic import METRIC, Traffic

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

SPACE = "opentelemetry"
TOOLSETS = {"OBI_MCP_TOOLSETS": '["kubernetes"]'}
PATIENCE_S = 300.0


async def ask(session: Session, tool: str, **arguments: Any) -> tuple[dict[str, Any], str, bool]:
    answer = await session.client.call_tool(tool, arguments)
    text = "\n".join(getattr(part, "text", "") for part in answer.content)
    return dict(answer.structured_content or {}), text, bool(answer.is_error)


def until_namespaces_are_settled(sandbox: Sandbox) -> None:
    """What one test removes goes by and by; the next must not find half of it."""

    def settled() -> bool:
        items = sandbox.api.get("/api/v1/namespaces").require("list namespaces")["items"]
        return all("deletionTimestamp" not in item["metadata"] for item in items)

    wait_until("no namespace is being removed", settled, within_s=PATIENCE_S)


async def test_status_shows_every_node_and_no_pod_of_others(serve: Serve, sandbox: Sandbox) -> None:
    pods = sandbox.pods_by_node()
    async with serve(**TOOLSETS) as session:
        seen, text, failed = await ask(session, "obi_k8s_status")
        page, _, _ = await ask(session, "obi_k8s_status", limit=1, namespace="observability")
        rest, _, _ = await ask(session, "obi_k8s_status", limit=50, cursor=page["next_cursor"])
        refused, _, wrong = await ask(session, "obi_k8s_status", namespace="a b")
    assert not failed, text
    (workload,) = seen["workloads"]
    assert (workload["name"], workload["desired"], workload["covered"], seen["nodes"]) == ("obi", 4, 4, 4)
    assert {pod["name"]: pod["node"] for pod in seen["pods"]} == {name: node for node, name in pods.items()}
    assert len(page["pods"]) == 1 and len(rest["pods"]) == 3
    assert wrong and refused["code"] == "invalid_argument"


async def test_a_node_that_obi_may_not_use_is_named_with_its_taint(serve: Serve, sandbox: Sandbox) -> None:
    path = "/api/v1/nodes/kwok-2"
    taints = sandbox.api.get(path).require("read a node")["spec"].get("taints") or []

    def put(wanted: list[dict[str, str]]) -> None:
        body = json.dumps({"spec": {"taints": wanted}}).encode()
        sandbox.api.request("PATCH", path, body, "application/merge-patch+json").require("change its taints")

    put([*taints, {"key": "maintenance", "value": "yes", "effect": "NoExecute"}])
    try:
        async with serve(**TOOLSETS) as session:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    seen, text, _ = await ask(session, "obi_k8s_verify_deployment")
                    if "3/4 nodes covered" in seen["verdict"]:
                        break
                    await asyncio.sleep(0.1)  # until the pod is gone
    finally:
        put(taints)
        await asyncio.to_thread(wait_until, "OBI is on every node again", sandbox.whole, within_s=PATIENCE_S)
    finding = next(entry for entry in seen["findings"] if entry["id"] == "uncovered")
    assert "the taint maintenance=yes:NoExecute is not tolerated" in finding["what"], text
    assert finding["evidence"] == "kwok-2"


async def test_a_pod_that_serves_no_metrics_is_an_error_with_evidence(serve: Serve) -> None:
    async with serve(**TOOLSETS) as session:
        seen, text, failed = await ask(session, "obi_k8s_verify_deployment", namespace="observability")
    assert not failed and not seen["healthy"]  # the simulated pods listen on no port
    finding = next(entry for entry in seen["findings"] if entry["id"] == "metrics")
    assert "does not serve its metrics" in finding["what"] and "connection refused" in finding["evidence"], text


async def test_nothing_of_obis_is_a_finding_not_a_failure(serve: Serve) -> None:
    async with serve(**TOOLSETS) as session:
        seen, text, failed = await ask(session, "obi_k8s_verify_deployment", namespace="kube-system")
    assert not failed and not seen["healthy"]
    assert seen["verdict"] == "0/4 nodes covered" and "obi_k8s_deploy" in text


FEATURES = (["application"], ["network"], ["application", "context-propagation", "network"])


async def test_generated_manifests_pass_the_road(serve: Serve, sandbox: Sandbox) -> None:
    """Judged, and taken by the API server in a dry run: what is generated can be applied as it is."""
    known = {"OBI_MCP_SCOPE__CLUSTER_OBJECTS": '["obi", "obi-two"]'}  # the sandbox's own OBI is called obi
    async with serve("full", **TOOLSETS, **known) as session:

        async def generated(features: list[str]) -> str:
            made, text, failed = await ask(
                session,
                "obi_k8s_generate_daemonset",
                features=features,
                name="obi-two",
                namespace=SPACE,
                k8s_cache=True,
            )
            assert not failed, text
            return str(made["files"]["obi-two.yaml"])

        outcome = await session.kubectl("apply -f -", stdin=(await generated(FEATURES[0])).partition("---\n")[0])
        try:
            assert not outcome.is_error, outcome.text
            for features in FEATURES:
                outcome = await session.kubectl("apply -f - --dry-run=server", stdin=await generated(features))
                assert not outcome.is_error, outcome.text
                assert "daemonset.apps/obi-two created (server dry run)" in outcome.stdout
        finally:
            sandbox.api.request("DELETE", f"/api/v1/namespaces/{SPACE}")
            until_namespaces_are_settled(sandbox)


async def test_logs_of_all_pods_come_as_patterns_or_by_time(serve: Serve, sandbox: Sandbox) -> None:
    real = sandbox.real_pod()
    async with serve(**TOOLSETS) as session:
        seen, text, failed = await ask(session, "obi_k8s_logs")
        lines, _, _ = await ask(session, "obi_k8s_logs", show="lines", limit=5, level="WARN", tail=2000)
        one, _, _ = await ask(session, "obi_k8s_get_pod_logs", pod=real, grep="network_flow", limit=3)
        absent, _, wrong = await ask(session, "obi_k8s_get_pod_logs", pod="obi-helper")
    assert not failed and seen["pods"] == 4, text
    simulated = next(entry for entry in seen["patterns"] if "this agent is simulated" in entry["text"])
    assert (simulated["level"], simulated["count"], simulated["pods"]) == ("WARN", 3, 3)
    assert {entry["level"] for entry in lines["lines"]} <= {"WARN", "ERROR"} and len(lines["lines"]) <= 5
    assert [entry["pod"] for entry in one["lines"]] == [real] * 3
    assert all("network_flow" in entry["text"] for entry in one["lines"])
    assert wrong and absent["code"] == "not_found"


async def test_metrics_are_those_that_the_agent_counted(serve: Serve, sandbox: Sandbox) -> None:
    async with serve(**TOOLSETS) as session:
        before = sum(flow.bytes for flow in sandbox.flows())
        seen, text, failed = await ask(session, "obi_k8s_aggregate_metrics", per_node=True)
        after = sum(flow.bytes for flow in sandbox.flows())
    assert not failed, text
    family = next(entry for entry in seen["metrics"] if entry["name"] == "beyla_network_flow_bytes_total")
    assert before <= family["total"] <= after and family["total"] > 0
    assert family["per_node"] == {"real-0": family["total"]}
    assert len(seen["unread"]) == 3 and "connection refused" in seen["unread"][0]["problem"]


async def traffic_until_done(sandbox: Sandbox, asking: asyncio.Task[Any]) -> Traffic:
    """Makes requests again and again, so that it does not matter when the looking begins; one round of them."""
    while True:
        sent = await asyncio.to_thread(sandbox.traffic)
        if asking.done():
            return sent


async def test_a_window_tells_what_was_added_in_it(serve: Serve, sandbox: Sandbox) -> None:
    async with serve(**TOOLSETS) as session:
        before = sum(flow.bytes for flow in sandbox.flows())
        asking = asyncio.create_task(ask(session, "obi_k8s_aggregate_metrics", metrics=[METRIC], window_s=3))
        sent = await traffic_until_done(sandbox, asking)
        seen, text, failed = await asking
        after = sum(flow.bytes for flow in sandbox.flows())
    assert not failed and seen["window"]["seconds"] >= 3 and seen["window"]["from"] < seen["window"]["to"], text
    (family,) = seen["metrics"]
    # More than one round of what was sent all the while, and nothing of before.
    assert sent.body_bytes / 2 < family["total"] <= after - before and family["per_second"] > 0


async def test_a_log_is_followed_for_a_while(serve: Serve, sandbox: Sandbox) -> None:
    real = sandbox.real_pod()
    async with serve(**TOOLSETS) as session:
        asking = asyncio.create_task(
            ask(session, "obi_k8s_get_pod_logs", pod=real, tail=1, follow_s=5, limit=1000, grep="network_flow")
        )
        await traffic_until_done(sandbox, asking)
        seen, text, failed = await asking
        all_of_them, said, wrong = await ask(session, "obi_k8s_logs", follow_s=1, tail=1)
    assert not failed and len(seen["lines"]) > 1, text  # what came after the one line that was there
    assert not wrong and all_of_them["pods"] == 4, said


CRASHES = {
    # Misspelt, so that OBI finds nothing to do; it ends with an error.
    "misspelt": ("netwrok: {enable: true}\nprometheus_export: {port: 9190}\n", "no-feature"),
    # The port of the sandbox's own OBI, on the same node; it ends as if all were well.
    "port-taken": (
        "network: {enable: true, source: socket_filter, agent_ip: 127.0.0.1}\nprometheus_export: {port: 9090}\n",
        "port",
    ),
}


def crashing(name: str, config: str, node: str) -> list[tuple[str, dict[str, Any]]]:
    """A real agent that ends by itself: its config map and its DaemonSet, by the collections that they go to."""
    labels = {"app.kubernetes.io/part-of": "obi", "app.kubernetes.io/instance": "obi", "app.kubernetes.io/name": name}
    metadata = {"name": name, "labels": labels}
    container = {
        "name": "obi",
        "image": OBI_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "args": ["-config", "/etc/obi/config.yml"],
        "securityContext": {"privileged": True},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/obi"}],
    }
    spec = {
        "nodeSelector": {"kubernetes.io/hostname": node},
        "hostNetwork": True,
        "hostPID": True,
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": name}}],
    }
    body = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}}
    return [
        ("/api/v1/namespaces/obi-system/configmaps", {"metadata": metadata, "data": {"config.yml": config}}),
        ("/apis/apps/v1/namespaces/obi-system/daemonsets", {"metadata": metadata, "spec": body}),
    ]


async def test_a_real_agent_that_ends_is_explained_from_its_last_lines(serve: Serve, sandbox: Sandbox) -> None:
    node = sandbox.facts["nodes"]["real"]
    if node is None:
        pytest.skip("; ".join(sandbox.facts["left_out"]))
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "obi-system"}}
    sandbox.api.post("/api/v1/namespaces", space).require("a namespace")
    try:
        for name, (config, _) in CRASHES.items():
            for path, body in crashing(name, config, node):
                sandbox.api.post(path, body).require(f"create {name}")

        def ended() -> bool:
            pods = sandbox.api.pods("obi-system")
            counts = [one.get("restartCount", 0) for pod in pods for one in pod["status"].get("containerStatuses", ())]
            return len(counts) == len(CRASHES) and all(counts)

        await asyncio.to_thread(wait_until, "both agents have ended and were started again", ended, within_s=PATIENCE_S)
        async with serve(**TOOLSETS) as session:
            seen, text, _ = await ask(session, "obi_k8s_verify_deployment", namespace="obi-system")
            status, said, _ = await ask(session, "obi_k8s_status", namespace="obi-system")
    finally:
        sandbox.api.request("DELETE", "/api/v1/namespaces/obi-system")
        until_namespaces_are_settled(sandbox)
    found = {finding["id"]: finding for finding in seen["findings"]}
    for name, (_, symptom) in CRASHES.items():
        assert f"crash.{symptom}" in found, text
        finding = found[f"crash.{symptom}"]
        assert finding["what"].startswith(f"{name}-") and "ended and was started again" in finding["what"], text
        assert finding["evidence"] and finding["next_step"]
    assert not seen["healthy"] and all(pod["restarts"] for pod in status["pods"]), said


async def test_preflight_knows_the_nodes_the_rights_and_what_is_there(serve: Serve) -> None:
    async with serve(**TOOLSETS) as session:
        seen, text, failed = await ask(session, "obi_k8s_preflight", name="beyla", features=["application"])
        again, _, _ = await ask(session, "obi_k8s_preflight")
        taken, _, _ = await ask(session, "obi_k8s_preflight", name="beyla", features=["network"])
        outside, _, _ = await ask(session, "obi_k8s_preflight", namespace="kube-system")
    assert not failed and seen["ready"], text
    by_id = {finding["id"]: finding for finding in seen["findings"]}
    assert "observability/obi runs already on 4 nodes" in by_id["existing"]["what"]
    assert by_id["rights"]["severity"] == "info" and "6.1.0" in text
    # The sandbox's own was made otherwise, and has the port of the nodes.
    assert (
        not again["ready"]
        and "immutable" in next(one for one in again["findings"] if one["id"] == "dry-run")["evidence"]
    )
    assert not taken["ready"] and "9090" in next(one for one in taken["findings"] if one["id"] == "port")["what"]
    assert not outside["ready"]
    assert "scope.namespaces" in next(entry for entry in outside["findings"] if entry["id"] == "scope")["what"]


async def test_a_fleet_has_a_line_per_cluster_and_one_that_is_down_costs_only_itself(
    serve: Serve, sandbox: Sandbox, tmp_path: Path
) -> None:
    config = yaml.safe_load(sandbox.kubeconfig.read_text())
    (cluster,), (context,) = config["clusters"], config["contexts"]
    # Nothing listens on port 1 of the sandbox's own address.
    server = f"{cluster['cluster']['server']}:1"
    config["clusters"].append({"name": "down", "cluster": {**cluster["cluster"], "server": server}})
    config["contexts"].append({"name": "down", "context": {**context["context"], "cluster": "down"}})
    path = tmp_path / "fleet"
    path.write_text(yaml.safe_dump(config))
    scope = json.dumps([context["name"], "down"])
    settings = {"KUBECONFIG": str(path), "OBI_MCP_PROGRAMS__KUBECONFIG": str(path), "OBI_MCP_SCOPE__CONTEXTS": scope}
    async with serve(**TOOLSETS, **settings) as session:
        seen, text, failed = await ask(session, "obi_k8s_fleet_status")
        foreign, _, _ = await ask(session, "obi_k8s_fleet_status", contexts=["theirs"])
    assert not failed, text
    up, dead = seen["clusters"]
    assert (up["context"], up["nodes"], up["workloads"][0]["covered"]) == (context["name"], 4, 4)
    assert dead["context"] == "down" and dead.get("code") == "cluster_unreachable", dead
    assert foreign["clusters"][0]["code"] == "denied"
