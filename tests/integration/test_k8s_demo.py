"""The demo of OBI in a cluster, through a real MCP client over stdio, at each access level.

preflight → plan → deploy → verify → logs → metrics → a configuration with a mistake → one that breaks the pods →
upgrade → undeploy. Each server runs under exactly the rights that ``obi-mcp rbac`` writes for its level and namespace:
no cluster administrator. What a level does not allow is refused with a code and a way out, and what is left in the
cluster is compared with what was: every object of every kind in every namespace. The agent is Beyla.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from mcp.shared.exceptions import MCPError
from tests.integration.accounts import Account, Administrator, account, remove
from tests.integration.conftest import Serve, Session
from tests.integration.test_kubernetes import PATIENCE_S, ask
from tests.sandbox.api import wait_until
from tests.sandbox.archive import OBI_IMAGE
from tests.sandbox.everything import everything
from tests.sandbox.sandbox import Sandbox

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

NEXT = "v0.11.1"
TAINTED = "kwok-2"


@dataclass(frozen=True)
class Wanted:
    """One installation among several: pods on the node's own network need ports of their own."""

    name: str
    namespace: str
    port: int

    def arguments(self, sandbox: Sandbox) -> dict[str, Any]:
        """What the real agent of the sandbox can run: its configuration with another port."""
        data = sandbox.api.get("/api/v1/namespaces/observability/configmaps/obi").require("read it")["data"]
        return {
            "name": self.name,
            "namespace": self.namespace,
            "features": ["network"],
            "privileged": True,
            "prometheus_port": self.port,
            "config": next(iter(data.values())).replace("9090", str(self.port)),
            "environment": "development",
        }


BELOW = Wanted("beyla", "obi", 9191)
FULL = Wanted("obi-obi", "obi-system", 9292)


@dataclass
class Demo:
    """One session with its server, which speaks as ``user``, and the installation that it is about."""

    session: Session
    sandbox: Sandbox
    wanted: Wanted
    user: str
    texts: list[str] = field(default_factory=list)

    async def asked(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The answer of a call that succeeds."""
        structured, text, failed = await ask(self.session, tool, **arguments)
        self.texts.append(text)
        assert not failed, f"{tool}: {text}"
        return structured

    async def about(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The same for this installation by its name."""
        return await self.asked(tool, name=self.wanted.name, namespace=self.wanted.namespace, **arguments)

    async def refused(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The answer of a call that is refused: with a code, a message and a hint."""
        structured, text, failed = await ask(self.session, tool, **arguments)
        self.texts.append(text)
        assert failed, f"{tool} was to be refused: {text}"
        assert structured["code"] and structured["message"] and structured["hint"], structured
        return structured

    async def planned(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """A plan, which writes nothing."""
        _, place = self.sandbox.requests()
        plan = await self.asked(tool, **{"namespace": self.wanted.namespace, "name": self.wanted.name, **arguments})
        assert plan["plan_id"] and plan["changes"], plan
        assert self.writes(place) == []
        return plan

    async def done(self, tool: str, plan: dict[str, Any], **more: Any) -> dict[str, Any]:
        """The plan carried out."""
        outcome = await self.asked(tool, plan_id=plan["plan_id"], **more)
        assert outcome["applied"], outcome
        return outcome

    def writes(self, place: int) -> list[str]:
        """What this server wrote since that place of the API server's log."""
        made, _ = self.sandbox.requests(place)
        return [f"{one.verb} {one.path}" for one in made if one.writes and one.user == self.user]

    def get(self, path: str) -> Any:
        return self.sandbox.api.get(path).require(f"read {path}")

    @property
    def image(self) -> str:
        body = self.get(f"/apis/apps/v1/namespaces/{self.wanted.namespace}/daemonsets/{self.wanted.name}")
        return str(body["spec"]["template"]["spec"]["containers"][0]["image"])

    @property
    def config(self) -> str:
        data = self.get(f"/api/v1/namespaces/{self.wanted.namespace}/configmaps/{self.wanted.name}")["data"]
        return str(next(iter(data.values())))

    @property
    def real_pod(self) -> str:
        """The pod on the real node, as it is called now."""
        real = self.sandbox.facts["nodes"]["real"]
        pods = self.get(f"/api/v1/namespaces/{self.wanted.namespace}/pods")["items"]
        return next(
            str(pod["metadata"]["name"])
            for pod in pods
            if pod["spec"].get("nodeName") == real and "deletionTimestamp" not in pod["metadata"]
        )


# --- the steps ---

Step = Callable[[Demo], Awaitable[None]]


async def preflight(demo: Demo) -> None:
    wanted = {
        key: demo.wanted.arguments(demo.sandbox)[key] for key in ("name", "namespace", "features", "prometheus_port")
    }
    seen = await demo.asked("obi_k8s_preflight", **wanted)
    assert seen["ready"], seen
    assert {"kernel", "rights", "taint"} <= {finding["id"] for finding in seen["findings"]}


async def deploy(demo: Demo) -> None:
    plan = await demo.planned("obi_k8s_deploy", **demo.wanted.arguments(demo.sandbox))
    actions = {change["object"]: change["action"] for change in plan["changes"]}
    assert actions[f"DaemonSet {demo.wanted.namespace}/{demo.wanted.name}"] == "create", actions
    await demo.done("obi_k8s_deploy", plan)


async def verify(demo: Demo) -> None:
    """Every node is covered, or it is said why not; simulated pods serve nothing, which is said, too."""
    seen = await demo.asked("obi_k8s_verify_deployment", namespace=demo.wanted.namespace)
    assert seen["verdict"].startswith("3/4 nodes covered"), seen
    uncovered = next(finding for finding in seen["findings"] if finding["id"] == "uncovered")
    assert uncovered["evidence"] == TAINTED and "demo=true:NoSchedule" in uncovered["what"], uncovered
    status = await demo.asked("obi_k8s_status", namespace=demo.wanted.namespace)
    (workload,) = status["workloads"]
    assert (workload["name"], workload["covered"], workload["ready"]) == (demo.wanted.name, 3, 3), workload
    assert workload["uncovered"][0]["next_step"]


async def logs(demo: Demo) -> None:
    seen = await demo.asked("obi_k8s_logs", namespace=demo.wanted.namespace, tail=200)
    assert seen["pods"] == 3 and seen["patterns"], seen
    real = await demo.asked("obi_k8s_get_pod_logs", namespace=demo.wanted.namespace, pod=demo.real_pod, limit=200)
    assert any("beyla" in line["text"].lower() for line in real["lines"]), real


async def metrics(demo: Demo) -> None:
    """The bytes that the agent counted are those that were sent."""

    async def counted() -> float:
        seen = await demo.asked(
            "obi_k8s_aggregate_metrics", namespace=demo.wanted.namespace, metrics=["beyla_network_flow_bytes"]
        )
        assert len(seen["unread"]) == 2, seen
        return float(sum(family.get("total", 0) for family in seen["metrics"]))

    before = await counted()
    sent = await asyncio.to_thread(demo.sandbox.traffic, 40, 20_000)
    least = before + sent.sent_bytes + sent.received_bytes
    async with asyncio.timeout(PATIENCE_S):
        while await counted() < least:  # never: the metric does not grow from before to that
            pass


async def config_with_a_mistake(demo: Demo) -> None:
    read = await demo.about("obi_k8s_config")
    assert read["config"] == demo.config
    line = 1 + read["config"].splitlines().index("prometheus_export:")
    wrong = read["config"].replace("prometheus_export", "promtheus_export")
    named = {"name": demo.wanted.name, "namespace": demo.wanted.namespace}
    refusal = await demo.refused("obi_k8s_config", **named, config=wrong)
    assert refusal["code"] == "invalid_document", refusal
    assert f"line {line}" in demo.texts[-1] and "promtheus_export" in refusal["message"], demo.texts[-1]


async def config_that_breaks_the_pods(demo: Demo) -> None:
    """Valid, and the readiness probe asks another port: the pods never become ready, and all of it is taken back."""
    before = demo.config
    plan = await demo.planned("obi_k8s_config", patch={"prometheus_export": {"port": demo.wanted.port + 1}})
    failure = await demo.refused("obi_k8s_config", plan_id=plan["plan_id"], wait_s=3)
    assert failure["taken_back"] and not failure["left"], failure
    assert demo.config == before


async def upgrade(demo: Demo) -> None:
    plan = await demo.planned("obi_k8s_upgrade", version=NEXT)
    await demo.done("obi_k8s_upgrade", plan)
    assert demo.image.endswith(f":{NEXT}")
    seen = await demo.asked("obi_k8s_status", namespace=demo.wanted.namespace)
    assert seen["workloads"][0]["versions"] == {NEXT: 3}, seen


async def undeploy(demo: Demo) -> None:
    plan = await demo.planned("obi_k8s_undeploy")
    assert {change["action"] for change in plan["changes"]} == {"delete"}
    await demo.done("obi_k8s_undeploy", plan)


async def nothing_is_changed_at_read_only(demo: Demo) -> None:
    """A change has no plan, who starts the server is named, and the tools that only write are not there."""
    named = {"name": demo.wanted.name, "namespace": demo.wanted.namespace}
    refusal = await demo.refused("obi_k8s_config", **named, patch={"network": {"cache_active_timeout": "3s"}})
    assert refusal["code"] == "denied" and "non-destructive" in refusal["message"], refusal
    assert "--access non-destructive" in refusal["hint"], refusal
    for tool, level in (
        ("obi_k8s_deploy", "non-destructive"),
        ("obi_k8s_upgrade", "non-destructive"),
        ("obi_k8s_undeploy", "full"),
    ):
        await not_at_this_level(demo, tool, level)


async def not_at_this_level(demo: Demo, tool: str, level: str) -> None:
    with pytest.raises(MCPError) as refused:
        await ask(demo.session, tool)
    assert f"needs the access level {level}" in refused.value.error.message, refused.value
    data = refused.value.error.data
    assert data["code"] == "denied" and f"--access {level}" in data["hint"], data


LOOKS: tuple[Step, ...] = (verify, logs, metrics, config_with_a_mistake)
CHANGES: tuple[Step, ...] = (config_that_breaks_the_pods, upgrade)


async def play(demo: Demo, *steps: Step) -> None:
    for step in steps:
        await step(demo)


# --- what stands before and after ---


@dataclass(frozen=True)
class Stage:
    """The cluster before the demo, and the accounts by their level."""

    sandbox: Sandbox
    accounts: dict[str, Account]
    before: dict[str, str]

    def changed(self) -> set[str]:
        """The objects that are not as they were."""
        now = everything(self.sandbox.api)
        return {path for path in {*self.before, *now} if self.before.get(path) != now.get(path)}


@pytest.fixture
def stage(sandbox: Sandbox, programs_bin: Path, tmp_path: Path) -> Iterator[Stage]:
    """Two namespaces, an account for each level, and a node that OBI may not use."""
    administrator = Administrator(sandbox, programs_bin)
    sandbox.name_image(OBI_IMAGE, f"{OBI_IMAGE.rpartition(':')[0]}:{NEXT}")
    everything(sandbox.api)  # what another test removes is gone
    for namespace in (BELOW.namespace, FULL.namespace):
        administrator.kubectl("create", "namespace", namespace)
    administrator.kubectl("taint", "node", TAINTED, "demo=true:NoSchedule")
    made: list[Account] = []
    try:
        for access, wanted in (("read-only", BELOW), ("non-destructive", BELOW), ("full", FULL)):
            made.append(account(administrator, tmp_path, access, wanted.namespace))
        yield Stage(sandbox, {one.name.removeprefix("obi-mcp-"): one for one in made}, everything(sandbox.api))
    finally:
        administrator.kubectl("taint", "node", TAINTED, "demo-")
        for one in made:
            remove(administrator, one)
        administrator.kubectl("delete", "namespace", BELOW.namespace, FULL.namespace)


async def test_the_whole_demo_at_each_level_under_its_own_rights(serve: Serve, stage: Stage) -> None:
    accounts, (_, begin) = stage.accounts, stage.sandbox.requests()
    async with (
        serve("read-only", **accounts["read-only"].settings) as low,
        serve("non-destructive", **accounts["non-destructive"].settings) as middle,
        serve("full", **accounts["full"].settings) as high,
    ):
        looking = Demo(low, stage.sandbox, BELOW, accounts["read-only"].user)
        changing = Demo(middle, stage.sandbox, BELOW, accounts["non-destructive"].user)
        removing = Demo(high, stage.sandbox, FULL, accounts["full"].user)
        async with asyncio.TaskGroup() as levels:
            levels.create_task(play(changing, preflight, deploy, *LOOKS, *CHANGES))
            levels.create_task(play(removing, preflight, deploy, *LOOKS, *CHANGES, undeploy))
        standing = everything(stage.sandbox.api)
        await play(looking, *LOOKS, nothing_is_changed_at_read_only)
        await not_at_this_level(changing, "obi_k8s_undeploy", "full")
        assert everything(stage.sandbox.api) == standing
    made, _ = stage.sandbox.requests(begin)
    refused = {(one.user, one.verb, one.resource, one.namespace) for one in made if one.status == 403}
    assert {what for what in refused if what[3] or what[2] not in {"daemonsets", "pods"}} == set(), refused
    assert [one for one in made if one.writes and one.user == accounts["read-only"].user] == []
    # What the second level may not remove, somebody does who may.
    async with serve("full", OBI_MCP_TOOLSETS='["kubernetes"]') as session:
        await undeploy(Demo(session, stage.sandbox, BELOW, "admin"))
    assert stage.changed() == set()
    canaries = [canary["text"] for canary in stage.sandbox.facts["canaries"]]
    texts = [text for demo in (looking, changing, removing) for text in demo.texts]
    assert [text for text in texts if any(canary in text for canary in canaries)] == []


@pytest.fixture
def no_room_on_the_real_node(sandbox: Sandbox, programs_bin: Path) -> Iterator[dict[str, str]]:
    """The k8s-cache runs on simulated nodes, since its image is not on the real one; DaemonSets do not mind."""
    administrator = Administrator(sandbox, programs_bin)
    before = everything(sandbox.api)
    administrator.kubectl("cordon", sandbox.facts["nodes"]["real"])
    try:
        yield before
    finally:
        administrator.kubectl("uncordon", sandbox.facts["nodes"]["real"])
        administrator.kubectl("delete", "namespace", FULL.namespace, "--ignore-not-found")


async def test_the_k8s_cache_comes_and_goes_with_the_agents(
    serve: Serve, sandbox: Sandbox, no_room_on_the_real_node: dict[str, str]
) -> None:
    async with serve("full", OBI_MCP_TOOLSETS='["kubernetes"]') as session:
        demo = Demo(session, sandbox, FULL, "admin")
        made = await demo.about("obi_k8s_generate_daemonset", k8s_cache=True, features=["application"])
        text = made["files"][f"{FULL.name}.yaml"]
        assert f"meta_cache_address: {FULL.name}-k8s-cache.{FULL.namespace}:" in text
        for kind in ("Deployment", "PodDisruptionBudget", "NetworkPolicy"):
            assert f"kind: {kind}\n" in text, kind
        # The sandbox's agent needs a configuration of its own; on the nodes' network no policy could let it in.
        wished = {**FULL.arguments(sandbox), "k8s_cache": True, "environment": "production"}
        plan = await demo.planned("obi_k8s_deploy", **wished)
        cache = f"{FULL.namespace}/{FULL.name}-k8s-cache"
        actions = {change["object"]: change["action"] for change in plan["changes"]}
        for kind in ("Deployment", "Service", "PodDisruptionBudget"):
            assert actions[f"{kind} {cache}"] == "create", actions
        assert any(f"deployment/{FULL.name}-k8s-cache" in warning for warning in plan["warnings"]), plan["warnings"]
        await demo.done("obi_k8s_deploy", plan)
        path = f"/apis/apps/v1/namespaces/{FULL.namespace}/deployments/{FULL.name}-k8s-cache"
        wait_until("the cache is ready", lambda: demo.get(path)["status"].get("readyReplicas") == 2, within_s=180)
        status = await demo.asked("obi_k8s_status", namespace=FULL.namespace)
        assert [row["name"] for row in status["workloads"]] == [FULL.name], status
        await undeploy(demo)
    now, before = everything(sandbox.api), no_room_on_the_real_node
    real = f"/api/v1/nodes/-/{sandbox.facts['nodes']['real']}"
    left = {path for path in {*before, *now} if before.get(path) != now.get(path)} - {real}
    assert {path for path in left if FULL.namespace not in path} == set(), left
    assert not {path for path in left if "/deployments/" in path or "/daemonsets/" in path}, left
