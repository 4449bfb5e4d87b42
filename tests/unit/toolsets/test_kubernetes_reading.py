"""Status, verification and metrics over recorded objects: what the sandbox does not show, as tables."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.unit.recorded_road import NARROWED, RecordedRoad, services

from obi_mcp.enforcer.model import Call
from obi_mcp.enforcer.reading import LogReading, PodLog, Reading, TakeLog
from obi_mcp.enforcer.scraping import Scraping, Wanted
from obi_mcp.errors import InvalidArgument, NotFound, ObiMcpError, ProgramFailed
from obi_mcp.toolsets.base import ToolCall, ToolResult
from obi_mcp.toolsets.kubernetes import logs, metrics, status, verify

Outcome = list[dict[str, Any]] | ObiMcpError
NO_API = ProgramFailed("the API server answered 404 for pods: the server could not find the requested resource")
FORBIDDEN = ProgramFailed("the API server does not let this server read pods (403): forbidden")


@dataclass
class Cluster(RecordedRoad):
    """Answers each read by its kind, and each log by its pod: one text as it is, another of the container before."""

    kinds: dict[str, Outcome] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    before: dict[str, str] = field(default_factory=dict)
    rounds: list[dict[str, bytes | str]] = field(default_factory=list)

    async def read(self, call: Call) -> Reading:
        self.calls.append(call)
        found = self.kinds.get(call.command.split()[2], [])
        if isinstance(found, ObiMcpError):
            raise found
        return Reading(tuple(found), NARROWED)

    async def read_logs(self, call: Call, take: TakeLog | None = None, *, follow_s: float = 0.0) -> LogReading:
        self.calls.append(call)
        pod = call.command.split()[2]
        texts = self.before if "--previous" in call.command else self.logs
        problem = None if pod in texts else "the kubelet has none"
        return LogReading((PodLog(pod, "observability", "obi", "n", texts.get(pod, ""), problem=problem),), NARROWED)

    async def scrape(self, call: Call, wanted: Wanted) -> Scraping:
        self.scrapes = {call.command: self.rounds.pop(0)}
        return await super().scrape(call, wanted)


def node(name: str) -> dict[str, Any]:
    ready = {"type": "Ready", "status": "True"}
    return {"metadata": {"name": name}, "spec": {}, "status": {"conditions": [ready], "nodeInfo": {}}}


def pod(name: str, on: str, *, ready: bool = True, **status: Any) -> dict[str, Any]:
    limits = {"limits": {"memory": "512Mi", "cpu": "500m"}}
    container = {"name": "obi", "image": "otel/ebpf-instrument:v0.11.0", "resources": limits}
    return {
        "metadata": {"name": name, "namespace": "observability", "ownerReferences": [{"uid": "ds"}]},
        "spec": {"nodeName": on, "containers": [container]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": str(ready)}], **status},
    }


def crashed(**more: Any) -> dict[str, Any]:
    ended = {"reason": "Error", "exitCode": 255}
    waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
    one = {"name": "obi", "restartCount": 5, "state": waiting, "lastState": {"terminated": ended}, **more}
    return {"containerStatuses": [one]}


DAEMONSET: dict[str, Any] = {
    "metadata": {"name": "obi", "namespace": "observability", "uid": "ds", "generation": 1},
    "spec": {"template": {"spec": {"containers": [{"name": "obi", "image": "otel/ebpf-instrument:v0.11.0"}]}}},
    "status": {"desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "observedGeneration": 1},
}


def cache(ready: int, desired: int = 2) -> dict[str, Any]:
    image = "ghcr.io/open-telemetry/opentelemetry-ebpf-instrumentation/opentelemetry-ebpf-k8s-cache:v0.11.0"
    return {
        "metadata": {"name": "obi-k8s-cache", "namespace": "observability"},
        "spec": {"replicas": desired, "template": {"spec": {"containers": [{"image": image}]}}},
        "status": {"readyReplicas": ready},
    }


ENDED_WELL = {"terminated": {"reason": "Completed", "exitCode": 0}}
LONELY: dict[str, Any] = {**cache(0), "spec": {**cache(0)["spec"], "selector": {"matchLabels": {"app": "cache"}}}}
STUCK = {
    "metadata": {"name": "obi-k8s-cache-1", "namespace": "observability", "labels": {"app": "cache"}},
    "spec": {},
    "status": {"conditions": [{"type": "PodScheduled", "status": "False", "message": "Insufficient cpu"}]},
}
ON_DELETE = {
    **DAEMONSET,
    "spec": {**DAEMONSET["spec"], "updateStrategy": {"type": "OnDelete"}},
    "status": {**DAEMONSET["status"], "updatedNumberScheduled": 1},
}
_MOUNTS = {**DAEMONSET["spec"]["template"]["spec"], "volumes": [{"configMap": {"name": "obi"}}]}
MOUNTING: dict[str, Any] = {**DAEMONSET, "spec": {"template": {"spec": _MOUNTS}}}
CONFIGURED = {
    "metadata": {"name": "obi", "namespace": "observability"},
    "data": {"obi.yml": "network: {enable: true}\npromtheus_export: {port: 9090}\n"},
}


def measured(name: str, cpu: str, memory: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "containers": [{"name": "obi", "usage": {"cpu": cpu, "memory": memory}}]}


def cluster(**kinds: Outcome) -> Cluster:
    known: dict[str, Outcome] = {
        "nodes": [node("a"), node("b")],
        "daemonsets": [DAEMONSET],
        "pods": [pod("obi-1", "a"), pod("obi-2", "b")],
        "pods.metrics.k8s.io": [measured("obi-1", "20m", "100Mi"), measured("obi-2", "40m", "120Mi")],
    }
    named = {name.replace("__", "."): outcome for name, outcome in kinds.items()}
    return Cluster(kinds={**known, **named}, logs={"obi-1": "", "obi-2": ""})


def asked(tool: Any, road: Cluster, **arguments: Any) -> ToolResult:
    result: ToolResult = asyncio.run(tool.run(services(road), ToolCall(arguments, "test")))
    return result


@pytest.mark.parametrize(
    ("measurements", "usage"),
    [
        (
            [measured("obi-1", "20m", "100Mi"), measured("obi-2", "40m", "120Mi")],
            {"pods": 2, "cpu_m": {"median": 30.0, "max": 40.0}, "memory_mib": {"median": 110.0, "max": 120.0}},
        ),
        ([], {"unknown": "the metrics API has nothing about these pods yet"}),
        (NO_API, {"unknown": "the cluster has no metrics API that answers (metrics-server)"}),
        (FORBIDDEN, {"unknown": FORBIDDEN.message}),
    ],
)
def test_usage_is_shown_or_said_to_be_unknown_with_the_reason(measurements: Outcome, usage: dict[str, Any]) -> None:
    result = asked(status, cluster(pods__metrics__k8s__io=measurements))
    (workload,) = result.structured["workloads"]
    assert workload["usage"] == usage
    assert ("unknown" in usage) == ("usage: unknown" in result.text)


def test_the_last_error_stands_beside_a_pod_that_is_not_well() -> None:
    road = cluster(pods=[pod("obi-1", "a"), pod("obi-2", "b", ready=False, **crashed())])
    road.before = {
        "obi-2": 'time=1 level=ERROR msg=first\ntime=2 level=ERROR msg="wrong configuration"\ntime=3 level=INFO'
    }
    first, second = asked(status, road).structured["pods"]
    assert first["name"] == "obi-2" and first["last_error"].endswith('msg="wrong configuration"')
    assert "last_error" not in second


def test_caches_are_shown_and_deployments_that_cannot_be_read_are_left_out() -> None:
    shown = asked(status, cluster(deployments=[cache(1), {**cache(0), "spec": DAEMONSET["spec"]}]))
    assert shown.structured["k8s_caches"] == [
        {"name": "obi-k8s-cache", "namespace": "observability", "version": "v0.11.0", "desired": 2, "ready": 1}
    ]
    assert "k8s_caches" not in asked(status, cluster(deployments=FORBIDDEN)).structured


@pytest.mark.parametrize(
    ("road", "id", "severity", "says"),
    [
        (cluster(deployments=[cache(0)]), "cache", "error", "0 of 2 pods of the k8s-cache"),
        (cluster(deployments=[cache(1)]), "cache", "warning", "1 of 2 pods"),
        (
            cluster(pods__metrics__k8s__io=[measured("obi-1", "20m", "500Mi"), measured("obi-2", "490m", "1Mi")]),
            "usage.memory",
            "warning",
            "1 pods use 90% or more of their memory limit",
        ),
        (cluster(pods__metrics__k8s__io=[measured("obi-2", "490m", "1Mi")]), "usage.cpu", "warning", "cpu limit"),
        (
            cluster(
                pods=[pod("obi-1", "a"), pod("obi-2", "b", ready=False, phase="Pending")],
                events=[{"type": "Warning", "message": 'MountVolume.SetUp failed: configmap "obi" not found'}],
            ),
            "pending",
            "error",
            "cannot be started on its node",
        ),
        (
            cluster(
                pods=[pod("obi-1", "a")],
                events=[
                    {"type": "Warning", "message": "older", "lastTimestamp": "2026-11-21T07:00:00Z"},
                    {"type": "Warning", "message": "exceeded quota: x", "lastTimestamp": "2026-11-21T08:00:00Z"},
                    {"type": "Normal", "message": "later", "lastTimestamp": "2026-11-21T09:00:00Z"},
                ],
            ),
            "uncovered",
            "error",
            "1 node has no OBI: no pod could be made: exceeded quota: x",
        ),
        (
            cluster(
                pods=[pod("obi-1", "a"), pod("obi-2", "b", ready=False)],
                events=[
                    {"type": "Warning", "reason": "MissingClusterDNS", "message": "no DNS", "lastTimestamp": "2026-12"},
                    {"type": "Warning", "message": "Back-off restarting", "lastTimestamp": "2026-11"},
                    {"type": "Warning", "message": "Readiness probe failed: 404", "lastTimestamp": "2026-10"},
                ],
            ),
            "probe",
            "error",
            "seen: Readiness probe failed: 404",
        ),
        (
            cluster(
                pods=[pod("obi-1", "a"), pod("obi-2", "b", ready=False, **crashed(lastState=ENDED_WELL))],
                events=[{"type": "Warning", "message": "Liveness probe failed: 404"}],
            ),
            "crash.probe",
            "error",
            "Kubernetes ended it because a probe of it fails",
        ),
        (cluster(deployments=[LONELY], pods=[STUCK]), "cache", "error", "seen: not scheduled: Insufficient cpu"),
        (cluster(daemonsets=[ON_DELETE]), "rollout", "warning", "its update strategy is OnDelete"),
        (cluster(daemonsets=[MOUNTING], configmap=[]), "config", "error", "it mounts obi, which is not there"),
        (
            cluster(daemonsets=[MOUNTING], configmap=[CONFIGURED]),
            "config.unknown-key",
            "error",
            "ConfigMap observability/obi: ",
        ),
    ],
)
def test_findings(road: Cluster, id: str, severity: str, says: str) -> None:
    result = asked(verify, road)
    found = {finding["id"]: finding for finding in result.structured["findings"]}
    assert id in found and found[id]["severity"] == severity and says in result.text, found


def test_a_pod_that_goes_is_no_crash_and_one_that_never_ran_has_no_log() -> None:
    going, made = pod("obi-2", "b", ready=False, **crashed()), pod("obi-3", "b", ready=False, phase="Pending")
    going["metadata"] |= {"deletionTimestamp": "2026-11-21T07:00:00Z", "finalizers": ["example.org/stuck"]}
    made["status"]["containerStatuses"] = [{"name": "obi", "state": {"waiting": {"reason": "ContainerCreating"}}}]
    both, alone = (asked(verify, cluster(pods=[pod("obi-1", "a"), *rest])) for rest in ([going, made], [going]))
    found = [{finding["id"]: finding for finding in result.structured["findings"]} for result in (both, alone)]
    assert not {"log", "crash.unknown"} & (found[0].keys() | found[1].keys())
    assert "waits: ContainerCreating" in found[0]["unhealthy"]["what"]
    assert found[0]["unhealthy"]["next_step"] == "kubectl events --for pod/obi-3 -n observability"
    for id in ("unhealthy", "terminating"):
        assert "held by the finalizers example.org/stuck" in found[1][id]["what"]


def test_a_cache_that_is_whole_and_usage_within_limits_are_no_findings() -> None:
    found = asked(verify, cluster(deployments=[cache(2)])).structured["findings"]
    assert {finding["id"] for finding in found} == {"metrics.port", "limits"}


@pytest.mark.parametrize(
    ("before", "now", "id"),
    [
        ("level=ERROR msg=yaml: bad", "level=INFO msg=starting", "crash.config"),
        # The kubelet has removed it meanwhile; of a container that waits, the log now is the same.
        (None, "level=ERROR msg=yaml: bad", "crash.config"),
        ("nothing of note", "level=ERROR msg=yaml: bad", "crash.config"),
        ("nothing of note", None, "crash.unknown"),
        (None, None, "crash.unknown"),
    ],
)
def test_the_end_is_explained_from_what_the_kubelet_still_has(before: str | None, now: str | None, id: str) -> None:
    road = cluster(pods=[pod("obi-1", "a"), pod("obi-2", "b", ready=False, **crashed())])
    road.before = {} if before is None else {"obi-2": before}
    road.logs = {"obi-1": ""} if now is None else {"obi-1": "", "obi-2": now}
    found = {finding["id"]: finding for finding in asked(verify, road).structured["findings"]}
    assert id in found and found[id]["severity"] == "error", found


COUNTED = b"# TYPE c_total counter\nc_total %d\n"


def test_metrics_of_pods_that_fail_are_left_out_whole() -> None:
    road = cluster()
    road.rounds = [{"good": COUNTED % 5, "refused": "connection refused", "half": COUNTED % 7 + b'c_total{a="'}]
    result = asked(metrics, road)
    (row,) = result.structured["metrics"]
    assert (row["total"], row["pods"], result.structured["pods"]) == (5.0, 1, 1)
    problems = {entry["pod"]: entry["problem"] for entry in result.structured["unread"]}
    assert problems == {"refused": "connection refused", "half": "what it serves ends in the middle of a line"}
    assert result.text.startswith("1 of 3 pods scraped")


def test_a_window_is_the_increase_and_a_pod_that_came_in_it_is_not_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    waited = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr("obi_mcp.toolsets.kubernetes.metrics.asyncio.sleep", sleep)
    road = cluster()
    road.rounds = [
        {"grew": COUNTED % 5, "began-again": COUNTED % 50, "went": COUNTED % 9},
        {"grew": COUNTED % 8, "began-again": COUNTED % 4, "came": COUNTED % 100},
    ]
    result = asked(metrics, road, window_s=30, per_node=True)
    (row,) = result.structured["metrics"]
    assert waited == [30]
    assert row["total"] == 7.0 and row["per_node"] == {"node-of-grew": 3.0, "node-of-began-again": 4.0}
    assert result.structured["pods"] == 2
    assert [entry["pod"] for entry in result.structured["unread"]] == ["came"]


def test_long_answers_are_cut_and_say_so() -> None:
    road = cluster()
    text = b"".join(b"# TYPE m%d gauge\nm%d 1\n" % (n, n) for n in range(9))
    road.rounds = [{**{f"p{n}": "no answer" for n in range(5)}, "good": text}]
    result = asked(metrics, road, limit=3)
    assert len(result.structured["metrics"]) == len(result.structured["unread"]) == 3
    assert result.structured["left_out"] == {"metrics": 6, "unread": 2}
    assert result.text.startswith("1 of 6 pods scraped")


def test_a_window_over_too_many_series_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("obi_mcp.obi.metric_merge.MAX_SERIES", 1)
    road = cluster()
    road.rounds = [{"a": COUNTED % 1, "b": COUNTED % 1}]
    with pytest.raises(InvalidArgument, match="name the metrics"):
        asked(metrics, road, window_s=1)


class Logs(RecordedRoad):
    """Logs by namespace; none where there is none of OBI's."""

    async def read(self, call: Call) -> Reading:
        self.calls.append(call)
        return Reading(tuple({"metadata": {"namespace": namespace}} for namespace in ("obi", "shop", "obi")), NARROWED)

    async def read_logs(self, call: Call, take: TakeLog | None = None, *, follow_s: float = 0.0) -> LogReading:
        self.calls.append(call)
        if "-n obi " not in call.command or "part-of" not in call.command:
            raise NotFound("pods", None)
        assert take is not None
        take(PodLog("p", "obi", "obi", "n", "level=WARN msg=a\nlevel=WARN msg=a\n"))
        take(PodLog("q", "obi", "obi", "n", problem="gone"))
        return LogReading((), NARROWED, 1, 2)


@pytest.mark.parametrize(
    ("namespace", "reads", "pods"),
    [(None, ["get", "logs", "logs"], 2), ("obi", ["logs"], 2), ("shop", ["logs"] * 3, 0)],
)
def test_logs_are_looked_for_where_pods_are(namespace: str | None, reads: list[str], pods: int) -> None:
    road = Logs()
    arguments = {"namespace": namespace} if namespace else {}

    async def run() -> ToolResult:
        return await logs.all_spec().run(services(road), ToolCall(arguments, "test"))

    result = asyncio.run(run())
    assert [call.command.split()[1] for call in road.calls] == reads and result.structured["pods"] == pods
    if pods:
        (pattern,) = result.structured["patterns"]
        assert (pattern["count"], pattern["pods"], result.structured["skipped"]) == (2, 1, 1)
        assert result.structured["unread"] == [{"pod": "q", "problem": "gone"}]
