"""OBI as a sidecar beside the containers of a real Deployment of somebody else's, and away again.

The Deployment runs on the sandbox's real node, and the sidecar is Beyla.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.conftest import Outcome, Serve, Session
from tests.integration.test_kubernetes import PATIENCE_S, ask
from tests.sandbox.api import pod_ready, wait_until
from tests.sandbox.archive import OBI_IMAGE
from tests.sandbox.sandbox import Sandbox

from obi_mcp.obi.manifests.sidecar import removal_command

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

SPACE = "shop"
REAL, SIMULATED = "storefront", "cart"
BEYLA = "docker.io/grafana/beyla"
PORT = 9400
SETTINGS = {"OBI_MCP_TOOLSETS": '["kubernetes"]', "OBI_MCP_SCOPE__INSTRUMENTED_NAMESPACES": f'["{SPACE}"]'}
WANTED: dict[str, Any] = {
    "mode": "sidecar",
    "namespace": SPACE,
    "deployment": REAL,
    "open_port": "8080",
    "image": "grafana/beyla",
    "version": "1.8.0",
    "prometheus_port": PORT,
    "privileged": True,
}


def deployment(sandbox: Sandbox, name: str) -> dict[str, Any]:
    """What its owner wrote of it."""
    body = sandbox.api.get(f"/apis/apps/v1/namespaces/{SPACE}/deployments/{name}").require("read it")
    kept = {key: body["metadata"].get(key) for key in ("labels", "ownerReferences", "finalizers")}
    return {"metadata": kept, "spec": body["spec"]}


def pods(sandbox: Sandbox, name: str) -> list[dict[str, Any]]:
    found = sandbox.api.pods(SPACE, f"app={name}")
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


@pytest.fixture
def as_it_was(sandbox: Sandbox) -> Iterator[dict[str, dict[str, Any]]]:
    """Both Deployments before; after the test they are the same, and their pods well."""
    sandbox.name_image(OBI_IMAGE, f"{BEYLA}:1.8.0")
    before = {name: deployment(sandbox, name) for name in (REAL, SIMULATED)}
    yield before
    for name, body in before.items():
        assert deployment(sandbox, name) == body
        count = body["spec"]["replicas"]

        def settled(name: str = name, count: int = count) -> bool:
            alive = sandbox.api.pods(SPACE, f"app={name}")
            return len(alive) == count and all(map(pod_ready, alive))

        wait_until(f"{name} is as it was", settled, within_s=300)


async def planned(session: Session, tool: str, **arguments: Any) -> dict[str, Any]:
    plan, text, failed = await ask(session, tool, **arguments)
    assert not failed and plan["plan_id"], text
    return plan


async def until_it_serves(session: Session, pod: str) -> Outcome:
    """The sidecar's metrics once it has begun. It sees no request here: this kernel has no probes for it."""
    command = f"get --raw /api/v1/namespaces/{SPACE}/pods/{pod}:{PORT}/proxy/metrics"
    async with asyncio.timeout(PATIENCE_S):
        while (metrics := await session.kubectl(command)).is_error:
            await asyncio.sleep(0.1)
        return metrics


async def test_beside_a_real_application_and_away_again(
    serve: Serve, sandbox: Sandbox, as_it_was: dict[str, dict[str, Any]]
) -> None:
    answers: list[str] = []
    async with serve("full", **SETTINGS) as session:
        _, place = sandbox.requests()
        plan = await planned(session, "obi_k8s_deploy", **WANTED)
        answers.append(json.dumps(plan))
        (change,) = plan["changes"]
        assert (change["object"], change["action"]) == (f"Deployment {SPACE}/{REAL}", "change")
        assert "+" in change["diff"] and "grafana/beyla:1.8.0" in change["diff"]
        assert plan["restarts"] == f"Deployment {SPACE}/{REAL}"
        assert not [one for one in sandbox.requests(place)[0] if one.writes]

        done, text, failed = await ask(session, "obi_k8s_deploy", plan_id=plan["plan_id"])
        assert not failed and done["applied"], text
        (pod,) = pods(sandbox, REAL)
        name = pod["metadata"]["name"]
        assert {one["name"] for one in pod["spec"]["containers"]} == {REAL, "obi"}
        assert pod["spec"]["shareProcessNamespace"] is True

        # It runs, and nothing of the application beside it is shown.
        metrics = await until_it_serves(session, name)
        assert "promhttp_metric_handler" in metrics.stdout, metrics.text
        logs = await session.kubectl(f"logs {name} -c obi -n {SPACE} --tail=50")
        assert not logs.is_error and "Application Observability mode" in logs.stdout, logs.text
        for command in (
            f"logs {name} -c {REAL} -n {SPACE} --tail=5",
            f"get --raw /api/v1/namespaces/{SPACE}/pods/{name}:8080/proxy/metrics",
        ):
            refused = await session.kubectl(command)
            assert refused.is_error, refused.text
        answers += [logs.text, metrics.text]

        plan = await planned(session, "obi_k8s_undeploy", namespace=SPACE, deployment=REAL)
        done, text, failed = await ask(session, "obi_k8s_undeploy", plan_id=plan["plan_id"])
        assert not failed and done["applied"], text
        nothing, text, failed = await ask(session, "obi_k8s_undeploy", namespace=SPACE, deployment=REAL)
        assert not failed and nothing["plan_id"] == "", text
    canaries = [canary["text"] for canary in sandbox.facts["canaries"]]
    assert [answer for answer in answers if any(canary in answer for canary in canaries)] == []


async def test_one_that_does_not_start_is_taken_back_at_the_level_that_added_it(
    serve: Serve, sandbox: Sandbox, as_it_was: dict[str, dict[str, Any]]
) -> None:
    async with serve("non-destructive", **SETTINGS) as session:
        plan = await planned(session, "obi_k8s_deploy", **{**WANTED, "version": "9.9.9"})
        failure, text, failed = await ask(session, "obi_k8s_deploy", plan_id=plan["plan_id"], wait_s=3)
    assert failed and failure["taken_back"] and not failure["left"], text
    assert deployment(sandbox, REAL) == as_it_was[REAL]


async def test_many_simulated_pods(serve: Serve, sandbox: Sandbox, as_it_was: dict[str, dict[str, Any]]) -> None:
    async with serve("full", **SETTINGS) as session:
        plan = await planned(session, "obi_k8s_deploy", **{**WANTED, "deployment": SIMULATED, "privileged": False})
        done, text, failed = await ask(session, "obi_k8s_deploy", plan_id=plan["plan_id"])
        assert not failed and done["applied"], text
        assert all(len(pod["spec"]["containers"]) == 2 for pod in pods(sandbox, SIMULATED))
        # The same again: there is nothing to change.
        again = await planned(session, "obi_k8s_deploy", **{**WANTED, "deployment": SIMULATED, "privileged": False})
        assert [change["action"] for change in again["changes"]] == ["same"], again
        async with serve("non-destructive", **SETTINGS) as other:
            # Only the server that has added it takes it back below full.
            refused = await other.kubectl(removal_command(SIMULATED, SPACE).removeprefix("kubectl "))
            assert refused.is_error and "full" in refused.text, refused.text
        plan = await planned(session, "obi_k8s_undeploy", namespace=SPACE, deployment=SIMULATED)
        done, text, failed = await ask(session, "obi_k8s_undeploy", plan_id=plan["plan_id"])
        assert not failed and done["applied"], text


async def test_where_nothing_is_instrumented_a_person_gets_the_patch(serve: Serve, sandbox: Sandbox) -> None:
    """The policy refuses the foreign Deployment and says why; what is generated is for its owner to apply."""
    _, place = sandbox.requests()
    async with serve("full", OBI_MCP_TOOLSETS='["kubernetes"]') as session:
        refused, text, failed = await ask(session, "obi_k8s_deploy", **WANTED)
        assert failed and refused["code"] == "denied" and SPACE in refused["message"], text
        arguments = {key: value for key, value in WANTED.items() if key != "mode"}
        made, text, failed = await ask(session, "obi_k8s_generate_sidecar", **arguments)
        assert not failed and "not in scope.instrumented_namespaces" in text, text
        patch = made["files"]["sidecar-patch.yaml"]
        assert "shareProcessNamespace: true" in patch and "image: grafana/beyla:1.8.0" in patch, patch
    assert not [one for one in sandbox.requests(place)[0] if one.writes]
