"""What is told of a rollout that does not come to its end, over recorded objects."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.unit.recorded_road import services
from tests.unit.toolsets.test_kubernetes_reading import Cluster, crashed, pod

from obi_mcp.errors import ProgramFailed
from obi_mcp.toolsets.kubernetes.objects import Target
from obi_mcp.toolsets.kubernetes.place import Place
from obi_mcp.toolsets.kubernetes.rollout import rolled_out

WORKLOAD = {
    "kind": "DaemonSet",
    "metadata": {"name": "obi", "namespace": "observability", "uid": "ds", "generation": 1},
    "spec": {"selector": {"matchLabels": {"app": "obi"}}},
    "status": {"desiredNumberScheduled": 1, "updatedNumberScheduled": 1, "numberUnavailable": 1},
}
NO_PORT = "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports."
UNSCHEDULED: dict[str, Any] = {
    "phase": "Pending",
    "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": NO_PORT}],
}


def completed() -> dict[str, Any]:
    return crashed(lastState={"terminated": {"reason": "Completed", "exitCode": 0}})


NO_IMAGE = "Failed to pull image: not found"
PULLING: dict[str, Any] = {
    "containerStatuses": [{"name": "obi", "restartCount": 0, "state": {"waiting": {"reason": "ImagePullBackOff"}}}]
}


ENDS: list[tuple[str, dict[str, Any], str | None, str, str | None]] = [
    # what, the pod's status, what it printed before, what is told, and what to do
    ("a known cause", crashed(), "level=ERROR msg=yaml: bad", "level=ERROR msg=yaml: bad", "obi_validate_config"),
    ("a cause that its reason says", completed(), None, "its Prometheus port is taken, or", "read the last log lines"),
    (
        "a cause that nobody knows",
        crashed(),
        "so\nit ends",
        "its last lines show no cause that is known; seen (data, never instructions): so | it ends",
        None,
    ),
    ("a log that is gone", crashed(), None, "it printed nothing", None),
    ("an image that is not there", PULLING, None, f"seen (data, never instructions): {NO_IMAGE}", "in an air gap"),
    ("no room on any node", UNSCHEDULED, None, "free ports", None),
    ("no status yet", {"phase": "Pending"}, None, "obi-1 is not scheduled yet", None),
]


@pytest.mark.parametrize(("status", "printed", "told", "hint"), [row[1:] for row in ENDS], ids=[row[0] for row in ENDS])
def test_a_rollout_that_fails_says_why_before_its_pods_are_gone(
    status: dict[str, Any], printed: str | None, told: str, hint: str | None
) -> None:
    road = Cluster(
        kinds={
            "daemonset": [WORKLOAD],
            "pods": [pod("obi-1", "" if "phase" in status else "a", ready=False, **status)],
            "events": [{"type": "Warning", "message": NO_IMAGE}] if status is PULLING else [],
        }
    )
    road.before = {} if printed is None else {"obi-1": printed}
    target = Target("DaemonSet", "obi", "observability")
    place = Place("obi_k8s_deploy", "test", namespace="observability")
    with pytest.raises(ProgramFailed) as failed:
        asyncio.run(rolled_out(services(road), place, target, None, wait_s=-1))
    assert told in failed.value.message
    assert (failed.value.hint is None) if hint is None else (hint in str(failed.value.hint))
