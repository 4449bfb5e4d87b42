"""Plans carried out on a cluster that fails in the middle: what stood there before and after, and what was claimed."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.faults.place import REDACTOR, Place
from tests.faults.writes import FAILURES, FailingServer, Failure
from tests.sandbox.api import Api, wait_until

from obi_mcp.cli.services import build_services
from obi_mcp.config import Audit, Limits, Programs, Settings
from obi_mcp.enforcer.model import Progress
from obi_mcp.log import StderrWriter
from obi_mcp.obi.manifests.install import Install
from obi_mcp.obi.manifests.json_form import body_of
from obi_mcp.obi.manifests.objects import installed_objects
from obi_mcp.policy.held import RESTARTED
from obi_mcp.policy.model import Access
from obi_mcp.policy.scope import Scope
from obi_mcp.process.runner import Runner
from obi_mcp.toolsets.base import Services, ToolCall, ToolResult
from obi_mcp.toolsets.kubernetes.objects import LAST_APPLIED
from obi_mcp.toolsets.registry import listed_tools
from obi_mcp.toolsets.run import run_tool

CALL_S = 8.0
"""What a command may take here: a write that hangs is given up after it."""
WAIT_S = 3
"""What the second call may wait for pods and for an API server that is away."""
BACK_S = 120
"""What its recovery may wait for: a Namespace is removed when its pods have gone."""
MOST = 600
NAMES = tuple(f"f{number}" for number in range(1, MOST))
CLUSTER_OBJECTS = (*NAMES, *(f"{name}-k8s-cache" for name in NAMES))
BOOKKEEPING = ("managedFields", "resourceVersion", "uid", "generation", "creationTimestamp")
COLLECTIONS = {
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "Service": "/api/v1/namespaces/{}/services",
    "DaemonSet": "/apis/apps/v1/namespaces/{}/daemonsets",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
}
CLUSTER = {
    "Namespace": "/api/v1/namespaces",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
}
MERGE = "application/merge-patch+json"
State = dict[str, Any]
CallTool = Callable[..., Awaitable[ToolResult]]


def collection(kind: str, namespace: str) -> str:
    return CLUSTER[kind] if kind in CLUSTER else COLLECTIONS[kind].format(namespace)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A plan: what stands there before it, and the tool with its arguments. ``{}`` is the name of the case."""

    name: str
    tool: str
    arguments: Mapping[str, Any]
    installed: bool = True
    changed: bool = False


SCENARIOS = (
    Scenario("deploy", "obi_k8s_deploy", {"features": ["application"]}, installed=False),
    Scenario(
        "deploy with k8s-cache", "obi_k8s_deploy", {"features": ["application"], "k8s_cache": True}, installed=False
    ),
    Scenario("deploy over another", "obi_k8s_deploy", {"version": "v0.10.0", "prometheus_port": 9191}, changed=True),
    Scenario("config", "obi_k8s_config", {"patch": {"log_level": "DEBUG"}}),
    Scenario("config after others", "obi_k8s_config", {"patch": {"log_level": "DEBUG"}}, changed=True),
    Scenario("upgrade", "obi_k8s_upgrade", {"version": "v0.10.0"}, changed=True),
    Scenario("undeploy", "obi_k8s_undeploy", {}, changed=True),
)


@dataclass
class Ground:
    """A cluster behind a failing server, and the tools of a server that knows only that one."""

    api: Api
    double: FailingServer
    services: Services
    call: CallTool
    numbers: list[int]

    def new_name(self) -> str:
        """Of a case: everything it makes is called so, and goes into a namespace of that name."""
        self.numbers[0] += 1
        assert self.numbers[0] < MOST
        return f"f{self.numbers[0]}"

    # --- what stands there ---

    def state(self, name: str) -> State:
        """Everything of that name, as somebody would write it; what the cluster gives by itself is left out."""
        found: State = {}
        for kind, path in {**{kind: collection(kind, name) for kind in COLLECTIONS}, **CLUSTER}.items():
            bodies = (
                [answer.body for answer in [self.api.get(f"{path}/{name}")] if answer.status == 200]
                if kind in CLUSTER
                else self.api.get(path).require("list")["items"]
            )
            for body in bodies:
                kept = plain(body, kind)
                if kept is not None:
                    found[f"{kind} {body['metadata']['name']}"] = kept
        return found

    def uid(self, kind: str, name: str) -> str:
        answer = self.api.get(f"{collection(kind, name)}/{name}")
        return str(answer.body["metadata"]["uid"]) if answer.status == 200 else ""

    def patch(self, kind: str, name: str, body: dict[str, Any]) -> None:
        """What somebody else does."""
        path = f"{collection(kind, name)}/{name}"
        self.api.request("PATCH", path, json.dumps(body).encode(), MERGE).require(f"patch {kind}")

    def prepare(self, scenario: Scenario, name: str) -> None:
        """What stands there before: an installation as obi_k8s_deploy makes it, and what others made of it."""
        if not scenario.installed:
            return
        for thing in installed_objects(Install(name=name, namespace=name)):
            body = body_of(thing)
            body["metadata"]["annotations"] = {}  # as kubectl notes it
            noted = json.dumps(body, separators=(",", ":"), sort_keys=True) + "\n"
            if not (scenario.changed and body["kind"] == "ServiceAccount"):  # that one was made by kubectl create
                body["metadata"] = {**body["metadata"], "annotations": {LAST_APPLIED: noted}}
            self.api.post(collection(body["kind"], name), body).require(f"make {body['kind']}")
        if scenario.changed:
            data = self.api.get(f"{collection('ConfigMap', name)}/{name}").body["data"]
            new = {key: f"# somebody's note\n{text}" for key, text in data.items()}
            self.patch("ConfigMap", name, {"data": new, "metadata": {"labels": {"team": "a"}}})
            self.patch("Service", name, {"metadata": {"annotations": {"kubernetes.io/description": "kept"}}})
            self.patch(
                "DaemonSet",
                name,
                {"spec": {"template": {"metadata": {"annotations": {"kubernetes.io/description": "kept"}}}}},
            )
        wait_until("the pods are ready", lambda: self.rolled_out(name), within_s=300)

    def rolled_out(self, name: str) -> bool:
        body = self.api.get(f"{collection('DaemonSet', name)}/{name}").body
        status, wanted = body["status"], body["status"].get("desiredNumberScheduled", 0)
        current = status.get("observedGeneration") == body["metadata"]["generation"]
        ready = min(status.get("updatedNumberScheduled", 0), status.get("numberReady", 0))
        return bool(current and wanted and ready == wanted)

    def remove(self, name: str) -> None:
        """What is left of a case. Nobody waits for it."""
        for kind in ("ClusterRoleBinding", "ClusterRole", "Namespace"):
            self.api.request("DELETE", f"{collection(kind, name)}/{name}")

    # --- the two calls ---

    async def plan(self, scenario: Scenario, name: str) -> str:
        given = {"name": name, "namespace": name, **scenario.arguments}
        made = await self.call(scenario.tool, **given)
        assert made.structured.get("plan_id"), made.text
        return str(made.structured["plan_id"])

    async def carry_out(self, scenario: Scenario, plan_id: str, wait_s: int = WAIT_S, **more: Any) -> ToolResult:
        return await self.call(scenario.tool, plan_id=plan_id, wait_s=wait_s, **more)


def plain(body: dict[str, Any], kind: str) -> State | None:
    """An object for a comparison: without status and books; None for what every namespace has."""
    metadata = {key: value for key, value in body["metadata"].items() if key not in BOOKKEEPING}
    if (kind, metadata["name"]) in {("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")}:
        return None
    if "deletionTimestamp" in metadata:
        return None
    annotations = {**(metadata.get("annotations") or {})}
    annotations.pop("deprecated.daemonset.template.generation", None)
    annotations.pop("deployment.kubernetes.io/revision", None)
    metadata["annotations"] = annotations
    rest = {key: value for key, value in body.items() if key not in ("metadata", "status", "apiVersion", "kind")}
    if kind in ("Service", "Namespace"):
        rest["spec"] = {k: v for k, v in (rest.get("spec") or {}).items() if k not in ("clusterIP", "clusterIPs")}
    return {**rest, "metadata": metadata}


def nameless(state: State, name: str) -> State:
    """The state of a case, to be compared with another's; every restart was at the same time."""
    text = re.sub(rf"\b{name}\b", "NAME", json.dumps(state, sort_keys=True))
    body: State = json.loads(re.sub(r"\b[0-9a-f]{64}\b", "CHECKSUM", text))  # of a configuration that holds the name
    for entry in body.values():
        template = ((entry.get("spec") or {}).get("template") or {}).get("metadata") or {}
        if RESTARTED in (template.get("annotations") or {}):
            template["annotations"][RESTARTED] = "then"
    return body


@asynccontextmanager
async def tools_of(
    at: Place,
    programs: Path,
    double: FailingServer,
    api: Api,
    access: Access = Access.FULL,
    *,
    toolsets: tuple[str, ...] = ("kubernetes",),
    numbers: list[int] | None = None,
) -> AsyncIterator[Ground]:
    """The tools of a server at that level, in this process. ``numbers``: of cases that there were before."""
    scope = Scope(namespaces=NAMES, default_namespace="f1", cluster_objects=CLUSTER_OBJECTS)
    given = Settings()
    settings = replace(
        given,
        access=access,
        toolsets=toolsets,
        programs=Programs(path=(str(programs),), kubeconfig=str(at.kubeconfig)),
        limits=Limits(timeout_s=CALL_S, max_timeout_s=max(CALL_S, 10.0)),
        audit=Audit(file=str(at.audit)),
        scope=scope,
    )
    runner = Runner(settings, REDACTOR, environ=at.environment())
    services = build_services(settings, StderrWriter(), runner)
    specs = {spec.name: spec for spec in listed_tools(settings)}

    async def call(tool: str, progress: Progress | None = None, **arguments: Any) -> ToolResult:
        return await run_tool(services, specs[tool], ToolCall(arguments, "tests", progress))

    try:
        yield Ground(api, double, services, call, [0] if numbers is None else numbers)
    finally:
        await services.enforcer.close()
        services.audit.close()


# --- one case ---


@dataclass(frozen=True, slots=True)
class Case:
    """A failure of one write of a plan, as ``POST /api/v1/…`` with NAME for the name of the case."""

    scenario: Scenario
    write: str
    failure: Failure

    @property
    def id(self) -> str:
        return f"{self.scenario.name}, {self.write}: {self.failure.name}"


@dataclass(frozen=True, slots=True)
class Seen:
    """How a case went: ``done``, ``taken back``, or ``left`` and taken back later."""

    case: Case
    ended: str


async def clean_run(ground: Ground, scenario: Scenario) -> tuple[list[str], State]:
    """The writes of a plan that nothing fails, and what they make."""
    name = ground.new_name()
    ground.prepare(scenario, name)
    ground.double.arm(None)
    plan_id = await ground.plan(scenario, name)
    assert ground.double.writes == [], "a plan writes nothing"
    done = await ground.carry_out(scenario, plan_id, wait_s=BACK_S)
    assert done.structured["applied"], done.text
    writes = [f"{verb} {path.replace(name, 'NAME')}" for verb, path in ground.double.writes]
    made = nameless(ground.state(name), name)
    ground.remove(name)
    return writes, made


async def play(ground: Ground, case: Case, planned: State) -> Seen:
    """One case: afterwards everything is as before, or everything is as planned, and the answer says which."""
    name = ground.new_name()
    ground.prepare(case.scenario, name)
    ground.double.arm(None)
    plan_id = await ground.plan(case.scenario, name)
    before = ground.state(name)
    ground.double.arm(case.failure, case.write.replace("NAME", name))
    answer = await ground.carry_out(case.scenario, plan_id)
    assert ground.double.struck.is_set(), "the failure struck"
    now, said = ground.state(name), answer.structured
    if said.get("applied"):
        assert nameless(now, name) == planned, difference(nameless(now, name), planned)
        ended = "done"
    elif said.get("left"):
        assert_claims(said, before, now)
        ground.double.arm(None)
        recovery = str(said["recovery"])
        assert recovery in answer.text, "it says which call finishes it"
        again = await ground.carry_out(case.scenario, recovery, wait_s=BACK_S)
        assert again.structured["left"] == [], again.text
        assert ground.state(name) == before, difference(ground.state(name), before)
        ended = "left, then taken back"
    else:
        assert said.get("code"), answer.text
        assert now == before, f"{difference(now, before)}\n{answer.text}"
        assert_claims(said, before, now)
        ended = "taken back"
    ground.remove(name)
    return Seen(case, ended)


def assert_claims(said: Mapping[str, Any], before: State, now: State) -> None:
    """What an answer says of each object is so."""
    for target, state in said.get("state", {}).items():
        kind, _, place = target.partition(" ")
        key = f"{kind} {place.rpartition('/')[2]}"
        if state == "as before":
            assert now.get(key) == before.get(key), f"{key} is not as before"
        elif state in ("as planned", "written"):
            assert now.get(key) != before.get(key), f"{key} is said to be {state}, and is as before"


def difference(one: State, other: State) -> str:
    """Where two states differ, in words."""
    lines = []
    for key in sorted(one.keys() | other.keys()):
        if one.get(key) != other.get(key):
            lines.append(f"{key}:\n  is     {json.dumps(one.get(key), sort_keys=True)}")
            lines.append(f"  not as {json.dumps(other.get(key), sort_keys=True)}")
    return "\n".join(lines)


def every_case(scenario: Scenario, writes: list[str]) -> list[Case]:
    """Each write of a plan with each failure."""
    return [Case(scenario, write, failure) for write in dict.fromkeys(writes) for failure in FAILURES]
