"""A person is asked through a real client, by the real server, about what is written into a real cluster."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest
from mcp.client import ClientRequestContext
from mcp_types import ElicitRequestParams, ElicitResult
from tests.integration.conftest import Serve, Session
from tests.integration.test_kubernetes import ask
from tests.sandbox.sandbox import Sandbox

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

NAME = "confirmed"
PATH = f"/api/v1/namespaces/observability/configmaps/{NAME}"
DOCUMENT = json.dumps(
    {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": NAME,
            "namespace": "observability",
            "labels": {"app.kubernetes.io/part-of": "obi", "app.kubernetes.io/name": "obi"},
        },
        "data": {"config.yml": "network:\n  enable: true\n"},
    }
)


@dataclass
class Desk:
    """Somebody at the client who gives these replies, one after another."""

    replies: list[str]
    asked: list[str] = field(default_factory=list)

    async def __call__(self, context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        self.asked.append(params.message)
        return ElicitResult.model_validate({"action": self.replies.pop(0), "content": {}})


def lines(session: Session, command: str) -> list[dict[str, object]]:
    """The audit lines of that command."""
    every = [json.loads(line) for line in session.audit.read_text().splitlines()]
    return [line for line in every if line["command"].startswith(command)]


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_what_nobody_confirms_is_not_in_the_cluster(mode: str, serve: Serve, sandbox: Sandbox) -> None:
    desk = Desk(["decline", "accept", "cancel", "accept", "decline", "cancel"])
    options = {"mode": mode, "elicitation_callback": desk}
    async with serve("full", client_options=options, OBI_MCP_CONFIRM="always") as session:
        apply, delete = "kubectl apply -f -", f"kubectl delete configmap {NAME} -n observability"
        refused = await session.call("obi_kubectl", apply, stdin=DOCUMENT)
        assert refused.code == "declined", refused.text
        assert sandbox.api.get(PATH).status == 404
        done = await session.call("obi_kubectl", apply, stdin=DOCUMENT)
        assert not done.is_error and sandbox.api.get(PATH).status == 200, done.text
        assert (await session.call("obi_kubectl", delete)).code == "declined"
        assert sandbox.api.get(PATH).status == 200
        assert not (await session.call("obi_kubectl", delete)).is_error
        assert sandbox.api.get(PATH).status == 404
        assert f"| {delete}" in desk.asked[-1].splitlines()

        before = sandbox.api.get("/api/v1/namespaces/observability/configmaps/obi").require("read it")["data"]
        plan, text, failed = await ask(session, "obi_k8s_config", patch={"log_level": "DEBUG"})
        assert not failed and len(desk.asked) == 4, text  # a plan asks nobody
        for _ in range(2):
            said, text, failed = await ask(session, "obi_k8s_config", plan_id=plan["plan_id"])
            assert failed and said["code"] == "declined", text
        assert "log_level: DEBUG" in desk.asked[-1]
        assert sandbox.api.get("/api/v1/namespaces/observability/configmaps/obi").require("read it")["data"] == before
    confirmed = {line.get("confirmed_by") for line in lines(session, apply) if line["error"] is None}
    assert confirmed == {"client"}
    assert [line["error"] for line in lines(session, "obi_k8s_config plan_id=")] == ["declined", "declined"]


async def test_a_client_that_cannot_ask_may_look_only(serve: Serve, sandbox: Sandbox) -> None:
    async with serve("full", OBI_MCP_CONFIRM="always") as session:
        assert not (await session.kubectl("get pods -n observability")).is_error
        refused = await session.call("obi_kubectl", "kubectl apply -f -", stdin=DOCUMENT)
        assert refused.code == "declined" and "elicitation" in refused.text
    assert sandbox.api.get(PATH).status == 404
