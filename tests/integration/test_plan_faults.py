"""Plans on a cluster that fails in the middle, or that others change meanwhile: all of it, or nothing. docs/faults.md.

Here is what covers every kind of write and of failure once; ``make faults`` plays each write with each failure.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.faults.place import Place, place, write_kubeconfig
from tests.faults.plans import (
    CLUSTER_OBJECTS,
    NAMES,
    SCENARIOS,
    Case,
    Ground,
    Scenario,
    clean_run,
    collection,
    difference,
    every_case,
    play,
    tools_of,
)
from tests.faults.process import server
from tests.faults.writes import FAILURES, FailingServer, failing_server
from tests.sandbox.api import wait_until
from tests.sandbox.sandbox import Sandbox

from obi_mcp.audit_chain import verify
from obi_mcp.policy.model import Access
from obi_mcp.toolsets.kubernetes import carry_out

pytestmark = pytest.mark.integration
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
FAILURE = {failure.name: failure for failure in FAILURES}
CASES = [
    ("deploy", "POST /api/v1/namespaces", "killed after it was executed, comes back"),
    ("deploy", "POST /apis/rbac.authorization.k8s.io/v1/clusterrolebindings", "connection cut after it was executed"),
    ("deploy", "POST /apis/apps/v1/namespaces/NAME/daemonsets", "500"),
    ("deploy", "POST /api/v1/namespaces/NAME/services", "killed after it was executed, stays away"),
    ("deploy over another", "PATCH /api/v1/namespaces/NAME/services/NAME", "500"),
    ("config after others", "PATCH /api/v1/namespaces/NAME/configmaps/NAME", "hangs, executed"),
    ("config after others", "PATCH /apis/apps/v1/namespaces/NAME/daemonsets/NAME", "500 again and again"),
    ("upgrade", "PATCH /apis/apps/v1/namespaces/NAME/daemonsets/NAME", "connection cut before the request arrives"),
    ("upgrade", "PATCH /apis/apps/v1/namespaces/NAME/daemonsets/NAME", "409"),
    ("undeploy", "DELETE /api/v1/namespaces/NAME/serviceaccounts/NAME", "503"),
    ("undeploy", "DELETE /api/v1/namespaces/NAME/services/NAME", "500"),
]


@pytest.fixture(scope="module")
def faulty() -> Iterator[Sandbox]:
    """A cluster without a real node: its pods are ready at once, and nobody else uses it."""
    with Sandbox.up(f"faulty-{os.getpid()}", real_node=False, kwok_nodes=2) as running:
        yield running


@pytest.fixture(scope="module")
def double(faulty: Sandbox) -> Iterator[FailingServer]:
    with failing_server(faulty) as running:
        yield running


@pytest.fixture(scope="module")
def numbers() -> list[int]:
    return [0]


@pytest.fixture
def at(double: FailingServer, programs_bin: Path) -> Iterator[Place]:
    with place() as made:
        made.kubectl.unlink()
        for name in ("kubectl", "helm", "jq"):
            (made.programs / name).symlink_to(programs_bin / name)
        write_kubeconfig(made.kubeconfig, double.address)
        yield made


Use = Callable[[Ground], Awaitable[None]]
On = Callable[..., None]


@pytest.fixture
def on(at: Place, programs_bin: Path, double: FailingServer, faulty: Sandbox, numbers: list[int]) -> On:
    """Uses the tools of a server before that cluster."""

    def used(use: Use, **settings: Any) -> None:
        async def main() -> None:
            async with tools_of(at, programs_bin, double, faulty.api, numbers=numbers, **settings) as ground:
                await use(ground)

        asyncio.run(main())

    return used


def audited(at: Place) -> list[dict[str, Any]]:
    return [json.loads(line) for line in at.audit.read_text().splitlines()]


# --- the API server fails in the middle of a write ---


@pytest.mark.parametrize("name", list(dict.fromkeys(row[0] for row in CASES)))
def test_a_plan_that_fails_in_the_middle_is_done_or_taken_back_and_says_which(on: On, name: str) -> None:
    async def use(ground: Ground) -> None:
        scenario = BY_NAME[name]
        writes, planned = await clean_run(ground, scenario)
        for _, write, failure in (row for row in CASES if row[0] == name):
            assert write in writes
            await play(ground, Case(scenario, write, FAILURE[failure]), planned)

    on(use)


def test_every_write_meets_every_failure_in_the_full_run() -> None:
    writes = ["POST /a", "PATCH /b"]
    assert len({case.id for case in every_case(BY_NAME["config"], writes)}) == 2 * len(FAILURES)


def test_what_cannot_be_removed_again_at_that_level_is_told_before_and_after(on: On) -> None:
    async def use(ground: Ground) -> None:
        scenario, name = BY_NAME["deploy"], ground.new_name()
        given = {"name": name, "namespace": name, **scenario.arguments}
        plan = (await ground.call(scenario.tool, **given)).structured
        assert any("could not be removed again" in warning for warning in plan["warnings"])
        ground.double.arm(FAILURE["500"], f"POST /apis/apps/v1/namespaces/{name}/daemonsets")
        said = (await ground.carry_out(scenario, plan["plan_id"])).structured
        made = {f"{kind} {name}/{name}" for kind in ("ServiceAccount", "ConfigMap", "Service")}
        made |= {f"ClusterRole {name}", f"ClusterRoleBinding {name}", f"Namespace {name}"}
        assert {key for key, state in said["state"].items() if state == "as planned"} == made
        assert {line.partition("  #")[0] for line in said["left"]} == {
            *(f"kubectl delete {kind} {name} -n {name}" for kind in ("serviceaccount", "configmap", "service")),
            *(f"kubectl delete {kind} {name}" for kind in ("clusterrole", "clusterrolebinding", "namespace")),
        }
        # A new plan goes on from what stands there.
        ground.double.arm(None)
        plan_id = await ground.plan(scenario, name)
        assert (await ground.carry_out(scenario, plan_id, wait_s=30)).structured["applied"]
        ground.remove(name)

    on(use, access=Access.NON_DESTRUCTIVE)


# --- the call is cancelled, the server is stopped or killed ---


def test_a_cancelled_plan_is_taken_back(on: On, at: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carry_out, "ON_CANCEL_S", 100.0)

    async def use(ground: Ground) -> None:
        scenario, name = BY_NAME["config after others"], ground.new_name()
        ground.prepare(scenario, name)
        plan_id, before = await ground.plan(scenario, name), ground.state(name)
        ground.double.arm(FAILURE["hangs, executed"], f"PATCH /api/v1/namespaces/{name}/configmaps/{name}")
        running = asyncio.ensure_future(ground.carry_out(scenario, plan_id))
        await asyncio.to_thread(ground.double.struck.wait, 120)
        await asyncio.to_thread(wait_until, "it was written", lambda: ground.state(name) != before, within_s=120)
        while not running.done():  # whoever cancels again does not keep it from taking back
            running.cancel()
            await asyncio.wait({running}, timeout=0.2)
        assert running.cancelled()
        assert ground.state(name) == before, difference(ground.state(name), before)
        ground.remove(name)

    on(use)
    (line,) = [line for line in audited(at) if line.get("outcome") == "taken_back"]
    assert line["error"] == "cancelled" and line["command"].startswith("obi_k8s_config plan_id=")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_that_is_ended_in_the_middle_takes_back_or_has_written_that_it_began(
    at: Place, faulty: Sandbox, double: FailingServer, numbers: list[int], number: signal.Signals
) -> None:
    config = at.root / ".config" / "obi-mcp"
    config.mkdir(parents=True)
    scope = {"namespaces": list(NAMES), "cluster_objects": list(CLUSTER_OBJECTS), "default_namespace": "f1"}
    (config / "config.yaml").write_text(json.dumps({"access": "full", "toolsets": ["kubernetes"], "scope": scope}))
    ground = Ground(faulty.api, double, None, None, numbers)  # type: ignore[arg-type]  # the tools are another process's
    scenario, name = BY_NAME["config"], ground.new_name()
    ground.prepare(scenario, name)
    before = ground.state(name)
    double.arm(None)
    with server(at, patient=True) as running:
        running.initialize()
        given = {"name": name, "namespace": name, **scenario.arguments}
        running.ask(1, "tools/call", name=scenario.tool, arguments=given)
        plan_id = running.answer(1)["result"]["structuredContent"]["plan_id"]
        double.arm(FAILURE["hangs, executed"], f"PATCH /api/v1/namespaces/{name}/configmaps/{name}")
        running.ask(2, "tools/call", name=scenario.tool, arguments={"plan_id": plan_id})
        wait_until("it was written", lambda: ground.state(name) != before, within_s=120)
        running.process.send_signal(number)
        running.process.wait(120)
    double.arm(None)
    lines, found = audited(at), verify(at.audit)
    began = [line for line in lines if line.get("outcome") == "began"]
    assert found.good and began[0]["command"].startswith("kubectl patch configmap")
    if number == signal.SIGTERM:
        assert ground.state(name) == before, difference(ground.state(name), before)
        assert found.notices == ()
        assert [line["error"] for line in lines if line.get("outcome") == "taken_back"] == ["cancelled"]
    else:
        assert [notice for notice in found.notices if "began a write that has no end" in notice]
        assert lines[-1] == began[-1]
    ground.remove(name)


# --- somebody else writes, too ---

KINDS = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "ConfigMap", "DaemonSet", "Service")


def test_a_plan_is_refused_when_an_object_of_it_has_changed(on: On) -> None:
    async def use(ground: Ground) -> None:
        scenario, name = BY_NAME["undeploy"], ground.new_name()
        ground.prepare(scenario, name)
        ground.double.arm(None)
        for kind in KINDS:
            plan_id = await ground.plan(scenario, name)
            ground.patch(kind, name, {"metadata": {"labels": {"team": kind.lower()}}})
            refused = await ground.carry_out(scenario, plan_id)
            assert refused.structured["code"] == "conflict", refused.text
            assert f"{kind} " in refused.text and "has changed since the plan was made" in refused.text
        again = BY_NAME["deploy over another"]
        plan_id = await ground.plan(again, name)
        ground.api.request("DELETE", f"{collection('Service', name)}/{name}").require("delete it")
        assert "is gone since the plan was made" in (await ground.carry_out(again, plan_id)).text
        ground.remove(name)
        plan_id, name = await ground.plan(BY_NAME["deploy"], (other := ground.new_name())), other
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        ground.api.post("/api/v1/namespaces", space).require("make it")
        assert "has been made since the plan was made" in (await ground.carry_out(BY_NAME["deploy"], plan_id)).text
        ground.remove(name)
        assert ground.double.writes == [], "nothing was written"

    on(use)


def nobody_may_make_pods(ground: Ground, name: str) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    ground.api.post(f"/api/v1/namespaces/{name}/resourcequotas", quota).require("make a quota")


def pods_are_restricted(ground: Ground, name: str) -> None:
    ground.patch("Namespace", name, {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}})


ROLLOUTS: list[tuple[Callable[[Ground, str], None], str]] = [
    (nobody_may_make_pods, "exceeded quota"),
    (pods_are_restricted, "violates PodSecurity"),
]


@pytest.mark.parametrize(("hinder", "says"), ROLLOUTS, ids=["quota", "Pod Security"])
def test_a_rollout_that_makes_no_pods_says_why_and_is_taken_back(
    on: On, hinder: Callable[[Ground, str], None], says: str
) -> None:
    async def use(ground: Ground) -> None:
        scenario, name = BY_NAME["upgrade"], ground.new_name()
        ground.prepare(scenario, name)
        hinder(ground, name)
        ground.double.arm(None)
        plan_id, before = await ground.plan(scenario, name), ground.state(name)
        failed = await ground.carry_out(scenario, plan_id)
        assert failed.is_error and says in failed.structured["problem"], failed.text
        assert failed.structured["left"] == [] and failed.structured["taken_back"]
        assert ground.state(name) == before, difference(ground.state(name), before)
        ground.remove(name)

    on(use)


def test_what_somebody_else_changed_while_we_wait_is_left_to_them(on: On) -> None:
    async def use(ground: Ground) -> None:
        scenario, name = BY_NAME["config after others"], ground.new_name()
        ground.prepare(scenario, name)
        nobody_may_make_pods(ground, name)
        ground.double.arm(None)
        plan_id = await ground.plan(scenario, name)
        theirs = {"spec": {"template": {"metadata": {"labels": {"theirs": "yes"}}}}}
        edited: list[str] = []

        async def edit(done: float, total: float | None, message: str) -> None:
            if "pods of" in message and not edited:
                edited.append(message)
                await asyncio.to_thread(ground.patch, "DaemonSet", name, theirs)

        said = (await ground.carry_out(scenario, plan_id, progress=edit)).structured
        assert edited and said["state"][f"DaemonSet {name}/{name}"] == "changed by somebody else"
        after = ground.state(name)
        assert after[f"DaemonSet {name}"]["spec"]["template"]["metadata"]["labels"]["theirs"] == "yes"
        # Their workload may need what we wrote: it stays, and that is told.
        assert said["state"][f"ConfigMap {name}/{name}"] == "as planned" and "log_level: DEBUG" in str(after)
        assert any(f"configmap {name}" in line for line in said["left"])
        ground.remove(name)

    on(use)


def refuse_services(ground: Ground, name: str) -> dict[str, Any]:
    """An admission that looks at real writes only: a dry run does not meet it."""
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["services"]}]
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": rules},
            "matchConditions": [{"name": "real", "expression": "!has(request.dryRun) || request.dryRun != true"}],
            "validations": [{"expression": "false", "message": "no services here"}],
        },
    }


def test_an_object_that_an_admission_refuses_takes_the_others_with_it(on: On) -> None:
    async def use(ground: Ground) -> None:
        scenario, name = BY_NAME["deploy"], ground.new_name()
        path = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolic"
        ground.api.post(f"{path}ies", refuse_services(ground, name)).require("make a policy")
        bound = {"policyName": name, "validationActions": ["Deny"]}
        binding = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": bound,
        }
        ground.api.post(f"{path}ybindings", binding).require("bind it")
        probe = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "probe"}, "spec": {"ports": [{"port": 1}]}}
        try:
            await asyncio.to_thread(
                wait_until,
                "the policy holds",
                lambda: ground.api.post("/api/v1/namespaces/default/services", probe).status == 422,
                within_s=180,
            )
            ground.double.arm(None)
            plan_id, before = await ground.plan(scenario, name), ground.state(name)
            failed = await ground.carry_out(scenario, plan_id, wait_s=20)
            assert "no services here" in failed.text and failed.structured["left"] == [], failed.text
            assert ground.state(name) == before == {}, difference(ground.state(name), before)
        finally:
            ground.api.request("DELETE", f"{path}ybindings/{name}")
            ground.api.request("DELETE", f"{path}ies/{name}")
            ground.api.request("DELETE", "/api/v1/namespaces/default/services/probe")

    on(use)


def test_pods_that_never_become_ready_are_named_and_taken_back(
    at: Place, programs_bin: Path, double: FailingServer, sandbox: Sandbox, numbers: list[int]
) -> None:
    """On a real node: the agent listens on another port than the one that is asked whether it is ready."""
    shutil.copyfile(sandbox.kubeconfig, at.kubeconfig)
    text = next(iter(sandbox.api.get("/api/v1/namespaces/observability/configmaps/obi").body["data"].values()))
    given = {"features": ["network"], "privileged": True, "environment": "development", "prometheus_port": 9393}
    scenario = Scenario("deploy", "obi_k8s_deploy", {**given, "config": text.replace("9090", "9292")}, installed=False)

    async def main() -> None:
        async with tools_of(at, programs_bin, double, sandbox.api, numbers=numbers) as ground:
            name = ground.new_name()
            plan_id, before = await ground.plan(scenario, name), ground.state(name)
            failed = await ground.carry_out(scenario, plan_id, wait_s=5)
            assert f"pods of DaemonSet {name}/{name} are new" in failed.structured["problem"], failed.text
            assert " on real-0: the pod is " in failed.structured["problem"], failed.text
            gone = ground.state(name) == before or await _gone_later(ground, failed.structured, name, before)
            assert gone, difference(ground.state(name), before)
            space = f"/api/v1/namespaces/{name}"
            await asyncio.to_thread(wait_until, "it is gone", lambda: ground.api.get(space).status == 404, within_s=300)

    asyncio.run(main())


async def _gone_later(ground: Ground, said: dict[str, Any], name: str, before: dict[str, Any]) -> bool:
    """The agent takes its time to end, so the namespace may not be empty at once: its recovery removes it."""
    assert [line.partition("  #")[0] for line in said["left"]] == [f"kubectl delete namespace {name}"], said
    again = await ground.call("obi_k8s_deploy", plan_id=said["recovery"], wait_s=30)
    return again.structured["left"] == [] and ground.state(name) == before
