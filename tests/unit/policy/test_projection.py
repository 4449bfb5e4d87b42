"""Projection: the harmless remains, a canary put into every other field does not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from obi_mcp.policy.projection import FACTS, STATUSES, project_fact, project_status

CANARY = "canary"


def metadata(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": "shop",
        "labels": {"app": name},
        "uid": "u",
        "creationTimestamp": "2024-01-01T00:00:00Z",
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": CANARY},
        "managedFields": [{"manager": CANARY}],
        "finalizers": [CANARY],
        "ownerReferences": [{"kind": "ReplicaSet", "name": "r"}],
    }


CONTAINER = {
    "name": "app",
    "image": "shop:1",
    "ports": [{"containerPort": 80}],
    "resources": {"limits": {"memory": "1Gi"}},
    "env": [{"name": "TOKEN", "value": CANARY}],
    "envFrom": [{"secretRef": {"name": CANARY}}],
    "args": [CANARY],
    "command": [CANARY],
    "volumeMounts": [{"name": CANARY}],
    "livenessProbe": {"httpGet": {"httpHeaders": [{"name": "A", "value": CANARY}]}},
    "lifecycle": {"postStart": {"exec": {"command": [CANARY]}}},
}
POD_SPEC = {
    "containers": [CONTAINER],
    "initContainers": [CONTAINER],
    "ephemeralContainers": [CONTAINER],
    "volumes": [{"name": CANARY, "secret": {"secretName": CANARY}}],
    "imagePullSecrets": [{"name": CANARY}],
    "hostAliases": [{"hostnames": [CANARY]}],
}
ENDED = {"terminated": {"exitCode": 1, "reason": "Error", "message": CANARY}}
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": metadata("p"),
    "spec": {**POD_SPEC, "nodeName": "n1", "shareProcessNamespace": True},
    "status": {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [
            {
                "name": "app",
                "restartCount": 3,
                "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
                "lastState": ENDED,
            }
        ],
    },
}
NODE = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": metadata("n"),
    "spec": {"taints": [{"key": "x"}], "providerID": CANARY},
    "status": {
        "nodeInfo": {"kernelVersion": "6.18"},
        "capacity": {"cpu": "4"},
        "images": [{"names": [CANARY]}],
        "volumesAttached": [{"name": CANARY}],
        "config": {"x": CANARY},
    },
}


def workload(kind: str) -> dict[str, Any]:
    template = {"metadata": {"annotations": {"a": CANARY}}, "spec": POD_SPEC}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": metadata("d"),
        "spec": {"replicas": 2, "template": template, "volumeClaimTemplates": [{"x": CANARY}]},
        "status": {"readyReplicas": 1},
    }


SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata("s"), "data": {"k": CANARY}, "type": CANARY}


@pytest.mark.parametrize(
    ("body", "project"),
    [
        (NODE, project_fact),
        ({**NODE, "kind": "Namespace"}, project_fact),
        (SECRET, project_fact),
        (POD, project_fact),
        (POD, project_status),
        (workload("Deployment"), project_status),
        (workload("ReplicaSet"), project_status),
        (workload("StatefulSet"), project_status),
        (NODE, project_status),
        (SECRET, project_status),
        ({"kind": "List", "items": [POD, SECRET, CANARY], "metadata": {"x": CANARY}}, project_status),
        ({"kind": "PodList", "items": [{**POD, "kind": "Pod"}]}, project_status),
        ({"kind": "ConfigMap", "items": [POD], "data": {"k": CANARY}}, project_status),
        ({"kind": "Pod", "spec": CANARY, "status": [CANARY, {"containerStatuses": CANARY}]}, project_status),
        ({"kind": "Pod", "spec": {"containers": CANARY}, "status": {"phase": "x"}}, project_status),
        ({"kind": ["Pod"], "spec": {"x": CANARY}}, project_status),
    ],
)
def test_no_canary_remains(body: dict[str, Any], project: Any) -> None:
    assert CANARY in json.dumps(body)
    before = json.dumps(body)
    assert CANARY not in json.dumps(project(body))
    assert json.dumps(body) == before


def test_status_of_a_pod() -> None:
    shown = project_status(POD)
    kept = {"name": "app", "image": "shop:1", "ports": [{"containerPort": 80}], "resources": CONTAINER["resources"]}
    assert shown["metadata"]["labels"] == {"app": "p"}
    assert shown["spec"]["containers"] == [kept]
    assert shown["spec"]["shareProcessNamespace"] is True
    status = shown["status"]["containerStatuses"][0]
    assert status["restartCount"] == 3
    assert status["state"]["waiting"]["message"] == "back-off"
    assert status["lastState"]["terminated"] == {"exitCode": 1, "reason": "Error"}


def test_status_of_a_deployment_and_facts_of_a_node() -> None:
    deployment = project_status(workload("Deployment"))
    assert deployment["spec"]["replicas"] == 2 and deployment["status"] == {"readyReplicas": 1}
    node = project_fact(NODE)
    assert node["status"] == {"nodeInfo": {"kernelVersion": "6.18"}, "capacity": {"cpu": "4"}}
    assert node["spec"] == {"taints": [{"key": "x"}]}


def test_a_raw_list_gives_its_items_their_kind() -> None:
    bare = {key: value for key, value in POD.items() if key not in {"apiVersion", "kind"}}
    listed = {"kind": "PodList", "apiVersion": "v1", "items": [bare]}
    assert project_status(listed)["items"][0]["status"]["phase"] == "Running"
    assert project_status(bare, "Pod")["status"]["phase"] == "Running"
    assert "status" not in project_status(bare)


def test_the_kinds_are_those_of_the_policy() -> None:
    assert set(FACTS) == {"Node", "Namespace", "PriorityClass"}
    assert set(STATUSES) == {
        *("Pod", "Deployment", "ReplicaSet", "StatefulSet", "HorizontalPodAutoscaler"),
        *("ResourceQuota", "LimitRange", "Event"),
    }
