"""Plan and apply on the sandbox, through a real MCP client: nothing before the second call, nothing half done after."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.integration.conftest import Serve, Session
from tests.integration.test_kubernetes import ask, until_namespaces_are_settled
from tests.sandbox.sandbox import Sandbox

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

SPACE = "obi"
SETTINGS = {"OBI_MCP_TOOLSETS": '["kubernetes"]', "OBI_MCP_SCOPE__CLUSTER_OBJECTS": '["obi", "obi-two"]'}
DAEMONSET = f"/apis/apps/v1/namespaces/{SPACE}/daemonsets/obi-two"
CONFIG_MAP = f"/api/v1/namespaces/{SPACE}/configmaps/obi-two"
MARK = {"labels": {"team": "a"}, "annotations": {"field.cattle.io/publicEndpoints": "[]", "who": "me"}}


@pytest.fixture
async def session(serve: Serve) -> AsyncIterator[Session]:
    async with serve("full", **SETTINGS) as made:
        yield made


@pytest.fixture
def own(sandbox: Sandbox) -> dict[str, Any]:
    """A deployment that the agent of the sandbox can run: its configuration with another port."""
    text = sandbox.api.get("/api/v1/namespaces/observability/configmaps/obi").require("read it")["data"]
    config = next(iter(text.values())).replace("9090", "9191")
    return {
        "name": "obi-two",
        "namespace": SPACE,
        "features": ["network"],
        "privileged": True,
        "prometheus_port": 9191,
        "config": config,
        "environment": "development",
    }


def there(sandbox: Sandbox, path: str) -> bool:
    return sandbox.api.get(path).status == 200


async def planned(session: Session, tool: str, **arguments: Any) -> dict[str, Any]:
    plan, text, failed = await ask(session, tool, **arguments)
    assert not failed and plan["plan_id"], text
    return plan


async def carried_out(session: Session, tool: str, plan: dict[str, Any], **more: Any) -> dict[str, Any]:
    done, text, failed = await ask(session, tool, plan_id=plan["plan_id"], **more)
    assert not failed and done["applied"], text
    return done


def mark(sandbox: Sandbox, path: str) -> None:
    """What people and controllers of others put beside an object."""
    body = json.dumps({"metadata": MARK}).encode()
    sandbox.api.request("PATCH", path, body, "application/merge-patch+json").require(f"mark {path}")


async def test_from_nothing_to_running_to_changed_to_gone(
    session: Session, sandbox: Sandbox, own: dict[str, Any]
) -> None:
    until_namespaces_are_settled(sandbox)
    before = sandbox.foreign()
    # deploy: the plan writes nothing, the second call all of it
    plan = await planned(session, "obi_k8s_deploy", **own)
    actions = {change["object"]: change["action"] for change in plan["changes"]}
    assert actions[f"DaemonSet {SPACE}/obi-two"] == "create" and actions[f"Namespace {SPACE}"] == "create"
    assert not there(sandbox, f"/api/v1/namespaces/{SPACE}")
    await carried_out(session, "obi_k8s_deploy", plan)
    seen, text, _ = await ask(session, "obi_k8s_status", namespace=SPACE)
    assert [(row["name"], row["covered"], row["ready"]) for row in seen["workloads"]] == [("obi-two", 4, 4)], text

    # a plan is good once, and only for what it was made from
    again, _, failed = await ask(session, "obi_k8s_deploy", plan_id=plan["plan_id"])
    assert failed and again["code"] == "invalid_argument"
    other, _, failed = await ask(session, "obi_k8s_deploy", plan_id="x", namespace=SPACE)
    assert failed and other["code"] == "invalid_argument"

    # the same again changes nothing
    plan = await planned(session, "obi_k8s_deploy", **own)
    assert {change["action"] for change in plan["changes"]} == {"same"}, plan["changes"]

    # configuration: a wrong one is refused by key and line
    read, _, _ = await ask(session, "obi_k8s_config", name="obi-two", namespace=SPACE)
    assert "9191" in read["config"]
    wrong = read["config"].replace("prometheus_export", "promtheus_export")
    _, text, failed = await ask(session, "obi_k8s_config", name="obi-two", namespace=SPACE, config=wrong)
    assert failed and "promtheus_export" in text and "prometheus_export" in text, text

    # a plan is refused when the cluster has changed since
    change = {"network": {"cache_active_timeout": "2s"}}
    plan = await planned(session, "obi_k8s_config", name="obi-two", namespace=SPACE, patch=change)
    mark(sandbox, CONFIG_MAP)
    mark(sandbox, DAEMONSET)
    late, text, failed = await ask(session, "obi_k8s_config", plan_id=plan["plan_id"])
    assert failed and late["code"] == "conflict" and "has changed since" in text

    # and carried out when it has not, though others have marked what it is about
    plan = await planned(session, "obi_k8s_config", name="obi-two", namespace=SPACE, patch=change)
    await carried_out(session, "obi_k8s_config", plan)
    data = sandbox.api.get(CONFIG_MAP).require("read it")["data"]
    assert "cache_active_timeout: 2s" in next(iter(data.values()))

    # an upgrade to an image that nobody has is rolled back, and says why
    plan = await planned(session, "obi_k8s_upgrade", name="obi-two", namespace=SPACE, version="v9.9.9")
    failure, text, failed = await ask(session, "obi_k8s_upgrade", plan_id=plan["plan_id"], wait_s=60)
    assert failed and "cannot be pulled" in text and failure["taken_back"], text
    image = sandbox.api.get(DAEMONSET).require("read it")["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image.endswith(":v0.11.0")
    marked = sandbox.api.get(DAEMONSET).require("read it")["metadata"]
    assert marked["annotations"].items() >= MARK["annotations"].items() and marked["labels"]["team"] == "a"

    # undeploy: only what carries the mark
    foreign = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "theirs"}, "data": {"a": "b"}}
    sandbox.api.post(f"/api/v1/namespaces/{SPACE}/configmaps", foreign).require("theirs")
    plan = await planned(session, "obi_k8s_undeploy", name="obi-two", namespace=SPACE)
    assert {change["action"] for change in plan["changes"]} == {"delete"}
    await carried_out(session, "obi_k8s_undeploy", plan)
    assert not there(sandbox, DAEMONSET) and not there(sandbox, CONFIG_MAP)
    assert not there(sandbox, "/apis/rbac.authorization.k8s.io/v1/clusterroles/obi-two")
    assert there(sandbox, f"/api/v1/namespaces/{SPACE}/configmaps/theirs")
    sandbox.api.request("DELETE", f"/api/v1/namespaces/{SPACE}")
    until_namespaces_are_settled(sandbox)
    assert sandbox.foreign() == before


async def test_a_plan_that_the_policy_refuses_is_refused_before_anything_is_written(
    session: Session, sandbox: Sandbox, own: dict[str, Any]
) -> None:
    for change, says in (
        ({"namespace": "kube-system"}, "kube-system"),
        ({"image": "docker.io/library/alpine", "version": "latest"}, "alpine"),
        ({"config": own["config"] + "otel_traces_export: {endpoint: 'https://collect.example.net'}\n"}, "example.net"),
    ):
        refused, text, failed = await ask(session, "obi_k8s_deploy", **{**own, **change})
        assert failed and refused["code"] == "denied" and says in text, text
    assert not there(sandbox, f"/api/v1/namespaces/{SPACE}")
