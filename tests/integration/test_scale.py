"""Two hundred simulated nodes: what the tools say of many pods is right, and a few dead ones cost only themselves.

How long it takes is not tested here: ``make bench`` measures it over a thousand.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.conftest import Serve
from tests.integration.test_kubernetes import PATIENCE_S, TOOLSETS, ask
from tests.sandbox.api import Api, pod_ready, wait_until
from tests.sandbox.archive import OBI_IMAGE
from tests.sandbox.sandbox import Sandbox
from tests.sandbox.simulated import node_address, start_replay

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

NODES = 200
RECORDED = Path(__file__).parents[1] / "cases" / "obi-metrics" / "metrics-app-go.prom"
CALLS = "traces_spanmetrics_calls_total"
LABELS = {"app.kubernetes.io/part-of": "obi", "app.kubernetes.io/name": "picky", "app.kubernetes.io/instance": "obi"}
CACHE_IMAGE = "ghcr.io/open-telemetry/opentelemetry-ebpf-instrumentation/opentelemetry-ebpf-k8s-cache:v0.11.0"
MERGE = "application/merge-patch+json"
LOUD, SILENT, DOWN = 7, 9, 11


def recorded_calls() -> float:
    """What one pod has counted, by the recording."""
    return sum(float(line.rsplit(" ", 1)[1]) for line in RECORDED.read_text().splitlines() if line.startswith(CALLS))


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A sandbox of this module's own, whose pods answer with recorded metrics: one with far more calls, one never."""
    loud = tmp_path_factory.mktemp("replay") / "loud.prom"
    loud.write_text(re.sub(rf"(?m)^({CALLS}{{.*}}) .*$", r"\g<1> 99999", RECORDED.read_text()))
    with Sandbox.up(f"scale-{os.getpid()}", kwok_nodes=NODES, real_node=False) as running:
        if running.instance.index is None:
            pytest.skip("pods have no addresses here: that needs root")
        others = {node_address(running.instance, LOUD): str(loud), node_address(running.instance, SILENT): "silence"}
        start_replay(running.instance, RECORDED, others)
        yield running


def patch(api: Api, path: str, body: dict[str, Any]) -> None:
    api.request("PATCH", path, json.dumps(body).encode(), MERGE).require(f"patch {path}")


def change_node(sandbox: Sandbox, number: int, body: dict[str, Any], *, status: bool = False) -> None:
    patch(sandbox.api, f"/api/v1/nodes/kwok-{number}" + ("/status" if status else ""), body)


async def test_of_many_pods_every_one_is_counted_and_a_silent_one_is_named(serve: Serve, sandbox: Sandbox) -> None:
    pods = sandbox.pods_by_node()
    async with serve(**TOOLSETS) as session:
        verified, verdict, _ = await ask(session, "obi_k8s_verify_deployment", namespace="observability")
        status, text, _ = await ask(session, "obi_k8s_status", namespace="observability", limit=5)
        logs, _, _ = await ask(session, "obi_k8s_logs", namespace="observability")
        lines, _, _ = await ask(
            session, "obi_k8s_logs", namespace="observability", show="lines", limit=10, level="WARN"
        )
        metrics, said, _ = await ask(session, "obi_k8s_aggregate_metrics", namespace="observability", limit=500)
    assert verified["verdict"] == f"{NODES}/{NODES} nodes covered, {NODES} healthy", verdict
    (workload,) = status["workloads"]
    assert (workload["desired"], workload["healthy"], workload["versions"]) == (NODES, NODES, {"v0.11.0": NODES}), text
    # Usage is what the sandbox has stored for each pod.
    assert workload["usage"]["pods"] == NODES and workload["usage"]["cpu_m"]["max"] > 0
    assert all(pod["usage"]["memory_mib"] >= 20 for pod in status["pods"])
    (pattern,) = [entry for entry in logs["patterns"] if "this agent is simulated" in entry["text"]]
    assert (logs["pods"], pattern["count"], pattern["pods"]) == (NODES, NODES, NODES)
    assert len(lines["lines"]) == 10 and lines["left_out"] == NODES - 10
    assert [entry["pod"] for entry in lines["lines"]] == sorted(pods.values())[-10:]  # of one time, by name
    (silent,) = metrics["unread"]
    assert silent["pod"] == pods[f"kwok-{SILENT}"] and "no answer within" in silent["problem"], said
    family = next(entry for entry in metrics["metrics"] if entry["name"] == CALLS)
    series = sum(line.startswith(CALLS) for line in RECORDED.read_text().splitlines())
    assert family["total"] == pytest.approx((NODES - 2) * recorded_calls() + series * 99999)
    duration = next(entry for entry in metrics["metrics"] if entry["name"] == "http_server_request_duration_seconds")
    assert duration["pods"] == NODES - 1 and duration["count"] % (NODES - 1) == 0 and duration["p95"] > 0
    (far,) = [entry for entry in metrics["outliers"] if entry["metric"] == CALLS]
    assert (far["pod"], far["node"]) == (pods[f"kwok-{LOUD}"], f"kwok-{LOUD}")


async def test_a_pod_whose_kubelet_is_down_does_not_fail_the_others(serve: Serve, sandbox: Sandbox) -> None:
    pod = sandbox.pods_by_node()[f"kwok-{DOWN}"]
    port = sandbox.instance.ports.kwok
    change_node(sandbox, DOWN, {"status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": 1}}}}, status=True)
    try:
        async with serve(**TOOLSETS) as session:
            logs, text, failed = await ask(session, "obi_k8s_logs", namespace="observability")
            one, _, _ = await ask(session, "obi_k8s_get_pod_logs", pod=pod)
    finally:
        change_node(sandbox, DOWN, {"status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}}, status=True)
    assert not failed and logs["pods"] == NODES, text
    assert [entry["pod"] for entry in logs["unread"]] == [pod] and "connection refused" in logs["unread"][0]["problem"]
    assert max(entry["pods"] for entry in logs["patterns"]) == NODES - 1
    assert one["unread_pods"] == 1 and one["lines"] == []


def daemonset(name: str, *, selector: dict[str, str], cpu: str) -> dict[str, Any]:
    container = {"name": "obi", "image": OBI_IMAGE, "resources": {"requests": {"cpu": cpu}}}
    template = {"metadata": {"labels": LABELS}, "spec": {"nodeSelector": selector, "containers": [container]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "labels": LABELS},
        "spec": {"selector": {"matchLabels": LABELS}, "template": template},
    }


def cache(replicas: int) -> dict[str, Any]:
    labels = {**LABELS, "app.kubernetes.io/name": "cache"}
    containers = [{"name": "k8s-cache", "image": CACHE_IMAGE}]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "obi-k8s-cache", "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
        },
    }


NODE_CHANGES: dict[int, tuple[dict[str, Any], bool, str | None]] = {
    30: ({}, False, None),
    31: (
        {"spec": {"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]}},
        False,
        "the taint gpu=yes:NoSchedule is not tolerated",
    ),
    # A DaemonSet's pods go to cordoned nodes all the same.
    32: ({"spec": {"unschedulable": True}}, False, None),
    33: (
        {"metadata": {"labels": {"kubernetes.io/arch": "s390x"}}},
        False,
        "the architecture s390x is not the one that the node selector wants (kubernetes.io/arch=amd64)",
    ),
    34: ({"status": {"allocatable": {"cpu": "1"}}}, True, "not scheduled: Insufficient cpu"),
    35: (
        {"metadata": {"labels": {"pool": "other"}}},
        False,
        "the node selector wants pool=probe, the node has 'other'",
    ),
}


async def test_every_node_without_obi_has_its_reason(serve: Serve, sandbox: Sandbox) -> None:
    arch = sandbox.api.get("/api/v1/nodes/kwok-0").require("a node")["metadata"]["labels"]["kubernetes.io/arch"]
    for number, (body, status, _) in NODE_CHANGES.items():
        change_node(sandbox, number, {"metadata": {"labels": {"pool": "probe"}}})
        change_node(sandbox, number, body, status=status)
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "obi"}}
    sandbox.api.post("/api/v1/namespaces", namespace).require("a namespace")
    body = daemonset("picky", selector={"kubernetes.io/arch": arch, "pool": "probe"}, cpu="2")
    sandbox.api.post("/apis/apps/v1/namespaces/obi/daemonsets", body).require("a DaemonSet")
    sandbox.api.post("/apis/apps/v1/namespaces/obi/deployments", cache(2)).require("a k8s-cache")

    def settled() -> bool:
        caches = sandbox.api.pods("obi", "app.kubernetes.io/name=cache")
        pods = sandbox.api.pods("obi", "app.kubernetes.io/name=picky")
        if len(caches) != 2 or not all(map(pod_ready, caches)):
            return False
        placed = [pod for pod in pods if pod["status"].get("phase") == "Running"]
        waiting = [pod for pod in pods if pod["status"].get("conditions") and "nodeName" not in pod["spec"]]
        return (len(placed), len(waiting)) == (2, 1)

    wait_until("two pods run, and one cannot be placed", settled, within_s=300)
    async with serve(**TOOLSETS) as session:
        seen, text, _ = await ask(session, "obi_k8s_status", namespace="obi")
        verified, verdict, _ = await ask(session, "obi_k8s_verify_deployment", namespace="obi")
    (workload,) = seen["workloads"]
    uncovered = {entry["node"]: entry["why"] for entry in workload["uncovered"]}
    for number, (_, _, why) in NODE_CHANGES.items():
        found = uncovered.get(f"kwok-{number}")
        assert (found is None) if why is None else why.replace("amd64", arch) in str(found), (number, text)
    (standing,) = seen["k8s_caches"]
    assert (standing["name"], standing["desired"], standing["version"]) == ("obi-k8s-cache", 2, "v0.11.0")
    assert workload["covered"] == 2 and "2/200 nodes covered, 2 healthy" in verdict
    severities = {entry["what"].partition(": ")[2]: entry["severity"] for entry in verified["findings"]}
    # What keeps OBI away may be meant; a pod that is made for a node and finds no room there never is.
    assert severities["the taint gpu=yes:NoSchedule is not tolerated"] == "warning"
    assert severities["its pod is not scheduled: Insufficient cpu"] == "error", verdict


async def test_what_the_controller_may_not_make_is_the_reason(serve: Serve, sandbox: Sandbox) -> None:
    change_node(sandbox, 40, {"metadata": {"labels": {"quota": "yes"}}})
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "monitoring"}}
    sandbox.api.post("/api/v1/namespaces", namespace).require("a namespace")
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    sandbox.api.post("/api/v1/namespaces/monitoring/resourcequotas", quota).require("a quota")

    def counted() -> bool:
        body = sandbox.api.get("/api/v1/namespaces/monitoring/resourcequotas/none").require("the quota")
        return bool(body.get("status", {}).get("hard"))

    wait_until("the quota is in force", counted, within_s=180)
    body = daemonset("picky", selector={"quota": "yes"}, cpu="1")
    sandbox.api.post("/apis/apps/v1/namespaces/monitoring/daemonsets", body).require("a DaemonSet")
    settings = {**TOOLSETS, "OBI_MCP_SCOPE__INSTRUMENTED_NAMESPACES": '["monitoring"]'}
    async with serve(**settings) as session:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                seen, text, _ = await ask(session, "obi_k8s_status", namespace="monitoring")
                reasons = {entry["node"]: entry for entry in seen["workloads"][0]["uncovered"]}
                if "exceeded quota" in reasons["kwok-40"]["why"]:
                    break
                await asyncio.sleep(0.1)  # until the controller has tried
    assert "no pod could be made: exceeded quota: none" in reasons["kwok-40"]["why"], text
    assert "quota" in reasons["kwok-40"]["next_step"] and "quota=yes" in reasons["kwok-41"]["why"]
    assert seen["quotas"] == [{"name": "none", "namespace": "monitoring", "hard": {"pods": "0"}, "used": {"pods": "0"}}]
