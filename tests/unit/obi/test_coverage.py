"""Which nodes OBI covers, and the reason for each that it does not: tables of nodes, templates and pods."""

from __future__ import annotations

from typing import Any

import pytest

from obi_mcp.obi.coverage import cover

OS = {"kubernetes.io/os": "linux"}


def node(name: str = "n", **more: Any) -> dict[str, Any]:
    """A healthy Linux node; ``more`` replaces labels, taints, info, ready."""
    ready = {"type": "Ready", "status": "True" if more.get("ready", True) else "False"}
    info = {"kernelVersion": "6.8.0-1", "architecture": "amd64", **more.get("info", {})}
    return {
        "metadata": {"name": name, "labels": {**OS, **more.get("labels", {})}},
        "spec": {"taints": more.get("taints", [])},
        "status": {"conditions": [ready], "nodeInfo": info},
    }


def workload(**pod: Any) -> dict[str, Any]:
    return {"metadata": {"name": "obi"}, "spec": {"template": {"spec": {"nodeSelector": OS, **pod}}}}


def pod(on: str = "n", *, ready: bool = True, **status: Any) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {
        "metadata": {"name": "obi-1"},
        "spec": {"nodeName": on},
        "status": {"phase": "Running", "conditions": conditions, **status},
    }


def affinity(*expressions: dict[str, Any]) -> dict[str, Any]:
    terms = {"nodeSelectorTerms": [{"matchExpressions": list(expressions)}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}


GPU = {"key": "gpu", "value": "yes", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("template", "nodes", "why"),
    [
        ({}, node(taints=[GPU]), "the taint gpu=yes:NoSchedule is not tolerated"),
        ({"tolerations": [{"operator": "Exists"}]}, node(taints=[GPU]), "no pod was placed there"),
        ({"tolerations": [{"key": "gpu", "value": "yes"}]}, node(taints=[GPU]), "no pod was placed there"),
        ({"tolerations": [{"key": "gpu", "value": "no"}]}, node(taints=[GPU]), "the taint gpu=yes"),
        (
            {"tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoExecute"}]},
            node(taints=[GPU]),
            "the taint",
        ),
        ({}, node(taints=[{**GPU, "effect": "PreferNoSchedule"}]), "no pod was placed there"),
        ({}, node(taints=[{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]), "no pod was placed"),
        (
            {},
            node(taints=[{"key": "node.kubernetes.io/network-unavailable", "effect": "NoSchedule"}]),
            "the taint node.kubernetes.io/network-unavailable:NoSchedule",
        ),
        (
            {"hostNetwork": True},
            node(taints=[{"key": "node.kubernetes.io/network-unavailable", "effect": "NoSchedule"}]),
            "no pod was placed there",
        ),
        (
            {"nodeSelector": {"pool": "a"}},
            node(labels={"pool": "b"}),
            "the node selector wants pool=a, the node has 'b'",
        ),
        ({}, node(labels={"kubernetes.io/os": "windows"}), "the node selector wants kubernetes.io/os=linux"),
        ({}, node(info={"architecture": "s390x"}), "the architecture s390x has no image of OBI"),
        ({}, node(info={"kernelVersion": "5.4.0-1"}), "the kernel 5.4.0-1 is older than 5.8"),
        ({}, node(info={"kernelVersion": "4.18.0-553.el8_10.x86_64"}), "no pod was placed there"),
        ({}, node(ready=False), "the node is not ready"),
        ({"affinity": affinity({"key": "z", "operator": "In", "values": ["1"]})}, node(labels={"z": "2"}), "affinity"),
        (
            {"affinity": affinity({"key": "z", "operator": "NotIn", "values": ["2"]})},
            node(labels={"z": "2"}),
            "affinity",
        ),
        ({"affinity": affinity({"key": "z", "operator": "Exists"})}, node(), "affinity"),
        ({"affinity": affinity({"key": "z", "operator": "DoesNotExist"})}, node(labels={"z": "2"}), "affinity"),
        ({"affinity": affinity({"key": "z", "operator": "Gt", "values": ["2"]})}, node(labels={"z": "2"}), "affinity"),
        (
            {"affinity": affinity({"key": "z", "operator": "Lt", "values": ["3"]})},
            node(labels={"z": "2"}),
            "no pod was",
        ),
    ],
)
def test_a_node_without_a_pod_has_a_reason(template: dict[str, Any], nodes: dict[str, Any], why: str) -> None:
    (entry,) = cover(workload(**template), [], [nodes])
    assert (entry.state, entry.pod) == ("uncovered", None)
    assert why in entry.why and entry.next_step


def container(**state: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"name": "obi", "restartCount": 3, **state}]}


@pytest.mark.parametrize(
    ("status", "ready", "state", "why"),
    [
        ({}, True, "healthy", ""),
        ({}, False, "unhealthy", "the pod is Running and not ready"),
        ({"phase": "Pending", "message": "no room"}, False, "unhealthy", "the pod is Pending and not ready: no room"),
        (
            container(
                state={"waiting": {"reason": "CrashLoopBackOff"}},
                lastState={"terminated": {"reason": "OOMKilled", "exitCode": 137}},
            ),
            False,
            "unhealthy",
            "ends again and again (OOMKilled, exit code 137): the memory limit is too small",
        ),
        (
            container(
                state={"waiting": {"reason": "CrashLoopBackOff"}},
                lastState={"terminated": {"reason": "Completed", "exitCode": 0}},
            ),
            False,
            "unhealthy",
            "Prometheus port is taken",
        ),
        (
            container(state={"waiting": {"reason": "ImagePullBackOff"}}),
            False,
            "unhealthy",
            "the image cannot be pulled",
        ),
        (container(state={"running": {}}), True, "healthy", ""),
    ],
)
def test_a_pod_that_is_not_well_has_a_reason(status: dict[str, Any], ready: bool, state: str, why: str) -> None:
    (entry,) = cover(workload(), [pod(ready=ready, **status)], [node()])
    assert (entry.state, entry.pod) == (state, "obi-1")
    assert why in entry.why and bool(entry.why) == (state == "unhealthy")


def test_of_two_pods_on_a_node_the_one_that_stays_counts() -> None:
    leaving = pod(ready=False)
    leaving["metadata"] = {"name": "obi-0", "deletionTimestamp": "2026-11-21T12:00:00Z"}
    for pods in ([leaving, pod()], [pod(), leaving]):
        (entry,) = cover(workload(), pods, [node()])
        assert (entry.state, entry.pod) == ("healthy", "obi-1")


def test_nodes_are_in_the_order_of_their_names() -> None:
    nodes = [node("b"), node("c"), node("a")]
    assert [entry.node for entry in cover(workload(), [pod("c")], nodes)] == ["a", "b", "c"]
