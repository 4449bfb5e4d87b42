"""Which nodes OBI covers, and the reason for each that it does not: tables of nodes, templates and pods."""

from __future__ import annotations

from typing import Any

import pytest

from obi_mcp.obi.coverage import cover, unexplained

OS = {"kubernetes.io/os": "linux"}


def node(name: str = "n", **more: Any) -> dict[str, Any]:
    """A healthy Linux node; ``more`` replaces labels, taints, info, ready."""
    is_ready = more.get("ready", True)
    ready = {"type": "Ready", "status": str(is_ready), "reason": "KubeletReady" if is_ready else "KubeletNotReady"}
    info = {"kernelVersion": "6.8.0-1", "architecture": "amd64", **more.get("info", {})}
    return {
        "metadata": {"name": name, "labels": {**OS, **more.get("labels", {})}},
        "spec": {"taints": more.get("taints", []), "unschedulable": more.get("unschedulable", False)},
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
        ({}, node(ready=False), "the node is not ready (KubeletNotReady)"),
        # A DaemonSet's pods go to cordoned nodes too: that is no reason.
        ({}, node(unschedulable=True), "that the node is cordoned does not keep it away"),
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


def unscheduled(message: str, *, on: str = "n") -> dict[str, Any]:
    """A pod that its controller has made for a node, as the API server shows it while the scheduler cannot place it."""
    fields = [{"key": "metadata.name", "operator": "In", "values": [on]}]
    required = {"nodeSelectorTerms": [{"matchFields": fields}]}
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {
        "metadata": {"name": "obi-1"},
        "spec": {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}},
        "status": {"phase": "Pending", "conditions": [condition] if message else []},
    }


OTHERS = "3 node(s) didn't satisfy plugin(s) [NodeAffinity]"
PREEMPTION = "preemption: 0/4 nodes are available: 1 No preemption victims found for incoming pod."


@pytest.mark.parametrize(
    ("message", "why", "step"),
    [
        (f"0/4 nodes are available: 1 Insufficient cpu, {OTHERS}. {PREEMPTION}", "Insufficient cpu", "requests"),
        (
            f"0/4 nodes are available: 1 Insufficient cpu. no new claims to deallocate, {PREEMPTION}",
            "Insufficient cpu",
            "requests",
        ),
        (
            f"0/4 nodes are available: 1 Insufficient cpu, 1 Insufficient memory, {OTHERS}. {PREEMPTION}",
            "Insufficient cpu, Insufficient memory",
            "requests",
        ),
        (f"0/4 nodes are available: 1 Too many pods, {OTHERS}. {PREEMPTION}", "Too many pods", "as many pods"),
        (
            f"0/4 nodes are available: 1 node(s) didn't have free ports for the requested pod ports, {OTHERS}.",
            "didn't have free ports for the requested pod ports",
            "OBI's port",
        ),
        (
            f"0/4 nodes are available: 1 node(s) had untolerated taint(s) {{gpu: yes}}, {OTHERS}. {PREEMPTION}",
            "had untolerated taint(s) {gpu: yes}",
            "toleration",
        ),
        ("0/1 nodes are available: 1 node(s) were unschedulable.", "were unschedulable", "cordoned"),
        (f"0/4 nodes are available: {OTHERS}.", "didn't satisfy plugin(s) [NodeAffinity]", "events"),
        ("something else altogether", "something else altogether", "events"),
        ("", "not scheduled yet", "scheduler"),
    ],
)
def test_a_pod_that_is_made_for_a_node_and_not_there_has_the_schedulers_reason(
    message: str, why: str, step: str
) -> None:
    other, entry = cover(workload(), [unscheduled(message)], [node(), node("m")])
    assert (other.node, other.pod, entry.node, entry.pod, entry.state) == ("m", None, "n", "obi-1", "uncovered")
    assert entry.why.endswith(why) and step in entry.next_step, entry


@pytest.mark.parametrize(
    ("said", "why", "step"),
    [
        (
            'Error creating: pods "obi-x7k2p" is forbidden: exceeded quota: small, requested: pods=1, used: pods=2',
            "no pod could be made: exceeded quota: small, requested: pods=1, used: pods=2",
            "quota raised",
        ),
        (
            '(combined from similar events): Error creating: pods "obi-x" is forbidden: exceeded quota: none, used: 0',
            "no pod could be made: exceeded quota: none, used: 0",
            "quota raised",
        ),
        (
            'Error creating: pods "obi-x7k2p" is forbidden: violates PodSecurity "baseline:latest": privileged',
            'violates PodSecurity "baseline:latest": privileged',
            "pod-security.kubernetes.io/enforce=privileged",
        ),
        ('Error creating: serviceaccount "obi" not found', 'serviceaccount "obi" not found', "create the service"),
        ("something else", "no pod could be made: something else", "do what the message asks for"),
    ],
)  # fmt: skip
def test_what_the_controller_complains_of_is_the_reason_where_nothing_else_is(said: str, why: str, step: str) -> None:
    tainted, plain = cover(workload(), [], [node("a", taints=[GPU]), node("b")], [said, "older"])
    assert "taint" in tainted.why
    assert plain.why.endswith(why) and step in plain.next_step
    assert unexplained(cover(workload(), [], [node("b")])) and not unexplained([tainted, plain])


def test_of_a_pod_on_a_node_that_is_lost_the_node_is_the_reason() -> None:
    (entry,) = cover(workload(), [pod(ready=False)], [node(ready=False)])
    assert (entry.state, entry.why) == ("unhealthy", "the node is not ready (KubeletNotReady)")


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
