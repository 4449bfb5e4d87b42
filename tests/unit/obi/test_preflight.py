"""Preflight: what nodes, a namespace and the account's rights say of whether OBI can run."""

from __future__ import annotations

from typing import Any

import pytest

from obi_mcp.obi.capabilities import Feature, needed
from obi_mcp.obi.findings import Severity
from obi_mcp.obi.preflight import namespace_finding, node_findings, rights_findings


def node(name: str = "n", *, kernel: str = "6.8.0", taints: list[dict[str, str]] | None = None, **more: Any) -> Any:
    info = {"kernelVersion": kernel, "operatingSystem": "linux", "architecture": "amd64", **more.get("info", {})}
    return {
        "metadata": {"name": name, "labels": more.get("labels", {})},
        "spec": {"taints": taints or []},
        "status": {"nodeInfo": info},
    }


@pytest.mark.parametrize(
    ("nodes", "features", "id", "severity", "says"),
    [
        ([node()], ["application"], "kernel", Severity.INFO, "runs OBI with BPF, PERFMON, NET_RAW, SYS_PTRACE"),
        ([node(kernel="5.10.1")], ["network"], "kernel", Severity.INFO, "BPF, PERFMON, NET_RAW, SYS_RESOURCE"),
        ([node(kernel="5.4.0-1")], ["network"], "kernel", Severity.ERROR, "older than 5.8"),
        ([node(kernel="4.18.0-553.el8_10.x86_64")], ["network"], "kernel", Severity.INFO, "SYS_ADMIN"),
        ([node(kernel="weird")], ["network"], "kernel", Severity.WARNING, "is not known"),
        ([node(kernel="6.12.80")], ["context-propagation"], "tracefs", Severity.INFO, "/sys/kernel/tracing"),
        ([node(info={"architecture": "s390x"})], ["network"], "architecture", Severity.WARNING, "linux/s390x"),
        ([node(info={"operatingSystem": "windows"})], ["network"], "architecture", Severity.WARNING, "windows/amd64"),
        ([node(labels={"eks.amazonaws.com/nodegroup": "a"})], ["network"], "platform", Severity.INFO, "Amazon EKS"),
        ([node(labels={"cloud.google.com/gke-nodepool": "a"})], ["network"], "platform", Severity.INFO, "GKE"),
        ([node(labels={"kubernetes.azure.com/cluster": "a"})], ["network"], "platform", Severity.INFO, "AKS"),
        (
            [node(labels={"eks.amazonaws.com/compute-type": "fargate"})],
            ["network"],
            "platform",
            Severity.ERROR,
            "no DaemonSets on Fargate",
        ),
        (
            [node(taints=[{"key": "gpu", "effect": "NoSchedule"}])],
            ["network"],
            "taint",
            Severity.WARNING,
            "n have the taint gpu:NoSchedule",
        ),
    ],
)
def test_nodes_are_looked_at(nodes: list[Any], features: list[str], id: str, severity: Severity, says: str) -> None:
    found = [finding for finding in node_findings(nodes, [Feature(text) for text in features]) if finding.id == id]
    assert any(finding.severity is severity and says in finding.what for finding in found), found


def test_nodes_with_the_same_kernel_are_one_finding() -> None:
    found = node_findings([node(f"n{number}") for number in range(9)], [Feature.NETWORK])
    assert [finding.what for finding in found] == [
        "the kernel 6.8.0 of n0, n1, n2, n3, n4 and 4 more runs OBI with BPF, PERFMON, NET_RAW"
    ]


@pytest.mark.parametrize(
    ("level", "severity"),
    [("restricted", Severity.ERROR), ("baseline", Severity.ERROR), ("privileged", Severity.INFO), ("", Severity.INFO)],
)
def test_pod_security_decides(level: str, severity: Severity) -> None:
    labels = {"pod-security.kubernetes.io/enforce": level} if level else {}
    assert namespace_finding("obi", {"metadata": {"labels": labels}}).severity is severity


def test_a_namespace_that_is_not_there_is_no_obstacle() -> None:
    assert namespace_finding("obi", None).severity is Severity.INFO


def test_missing_rights_are_named() -> None:
    (finding,) = rights_findings("obi", {"create daemonsets.apps": True, "create clusterroles": False})
    assert finding.severity is Severity.ERROR and finding.evidence == "create clusterroles"
    assert "obi-mcp rbac" in finding.next_step
    assert rights_findings("obi", {"create daemonsets.apps": True})[0].severity is Severity.INFO


@pytest.mark.parametrize(
    ("features", "kernel", "paranoid", "expected"),
    [
        (["network"], None, None, "BPF PERFMON NET_RAW"),
        (["network-tc"], None, None, "BPF PERFMON NET_ADMIN"),
        (["application"], None, None, "BPF PERFMON NET_RAW SYS_PTRACE DAC_READ_SEARCH CHECKPOINT_RESTORE"),
        (["tcp-stats"], None, None, "BPF PERFMON NET_RAW SYS_PTRACE"),
        (
            ["context-propagation"],
            None,
            None,
            "BPF PERFMON NET_RAW NET_ADMIN SYS_PTRACE DAC_READ_SEARCH CHECKPOINT_RESTORE",
        ),
        (
            ["go-context-propagation"],
            (6, 8),
            1,
            "BPF PERFMON NET_RAW NET_ADMIN SYS_PTRACE DAC_READ_SEARCH CHECKPOINT_RESTORE SYS_ADMIN",
        ),
        (["network"], (5, 9), None, "BPF PERFMON NET_RAW SYS_RESOURCE"),
        (["network"], (5, 7), None, "BPF PERFMON NET_RAW SYS_RESOURCE SYS_ADMIN"),
        (["network"], None, 4, "BPF PERFMON NET_RAW"),
        (["tcp-stats"], None, 3, "BPF PERFMON NET_RAW SYS_PTRACE SYS_ADMIN"),
    ],
)
def test_capabilities_by_feature_and_kernel(
    features: list[str], kernel: tuple[int, int] | None, paranoid: int | None, expected: str
) -> None:
    wanted = needed([Feature(text) for text in features], kernel=kernel, perf_event_paranoid=paranoid)
    assert " ".join(wanted.capabilities) == expected
    assert all(fact.source and fact.why for fact in wanted.facts)
