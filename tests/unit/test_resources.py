"""Resources on both generations of the protocol: listed, read, completed, subscribed to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError
from mcp_types import ResourceTemplateReference, TextResourceContents
from tests.unit.policy.policies import built_in
from tests.unit.recorded_road import NARROWED, REFUSED, RecordedRoad, services

from obi_mcp.agent.record import CONFIG
from obi_mcp.app import ObiServer
from obi_mcp.audit import AuditLog
from obi_mcp.config import Audit, Settings
from obi_mcp.enforcer.effects import EffectRoad
from obi_mcp.enforcer.model import Call
from obi_mcp.enforcer.reading import LogReading, PodLog, Reading
from obi_mcp.enforcer.watching import Contexts
from obi_mcp.errors import ClusterUnreachable, ConfigError, Denied
from obi_mcp.policy.effects import Host
from obi_mcp.policy.scope import DEFAULT_SELECTORS, Scope
from obi_mcp.resources import kubernetes, local, policy
from obi_mcp.resources.address import TEMPLATES, Address
from obi_mcp.toolsets.base import Services

each_generation = pytest.mark.parametrize("mode", ["legacy", "auto"])
LOCAL = Settings(toolsets=("command", "local"))
CLUSTERS = Settings(toolsets=("command", "kubernetes"), scope=Scope(selectors=DEFAULT_SELECTORS[:1]))
TEXT = "network: {enable: true}\nprometheus_export: {port: 9090}\n"
STATUS = "obi://k8s/{context}/{namespace}/status"
LOGS = "obi://k8s/{context}/{namespace}/pods/{pod}/logs"
HERE = "obi://k8s/current/observability/status"
PODS, SETS, DEPLOYMENTS = (
    f"kubectl get {kind} -n obi -l '{DEFAULT_SELECTORS[0]}' -o json" for kind in ("pods", "daemonsets", "deployments")
)
PLACE = sorted([PODS, SETS, DEPLOYMENTS])


def local_services(directory: Path, settings: Settings = LOCAL, road: RecordedRoad | None = None) -> Services:
    audit = AuditLog(replace(settings, audit=Audit(f"{directory}/audit.ndjson")))
    effects = EffectRoad(settings, built_in(), audit, Host((), str(directory)))
    return replace(services(road or RecordedRoad(), settings), audit=audit, effects=effects)


def with_client(
    mode: str,
    made: Services,
    use: Callable[[Client], Awaitable[None]],
    heard: Callable[[Any], None] | None = None,
    after: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """``after``: when the client has left, and the server has not been told to stop."""

    async def handler(message: Any) -> None:
        if heard is not None:
            heard(message)

    async def run() -> None:
        server = ObiServer(made)
        async with asyncio.timeout(120):
            async with Client(server, mode=mode, message_handler=handler) as client:
                await use(client)
            if after is not None:
                await after()
            await server.end_calls()
        made.agents.close()
        made.audit.close()

    asyncio.run(run())


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.002)


async def text_of(client: Client, uri: str) -> str:
    (content,) = (await client.read_resource(uri)).contents
    assert isinstance(content, TextResourceContents)
    return content.text


@each_generation
def test_resources_are_listed_by_toolset_and_read(mode: str, tmp_path: Path) -> None:
    made = local_services(tmp_path)
    (tmp_path / CONFIG).write_text(f"# password=hunter2secret\n{TEXT}")

    async def use(client: Client) -> None:
        assert [one.uri for one in (await client.list_resources()).resources] == [
            "obi://config/current",
            "obi://status/health",
            "obi://logs/recent",
            "obi://policy/rules",
            "obi://audit/recent",
        ]
        config = json.loads(await text_of(client, "obi://config/current"))
        assert config["values"]["prometheus_export.port"] == {"value": 9090, "source": "file", "line": 3}
        assert "hunter2secret" not in json.dumps(config)
        rules = json.loads(await text_of(client, "obi://policy/rules"))
        assert {"kubectl.get", "local.read"} <= {rule["id"] for rule in rules["rules"]}
        assert "local.start" not in {rule["id"] for rule in rules["rules"]}
        assert json.loads(await text_of(client, "obi://status/health"))["state"] == "absent"
        assert json.loads(await text_of(client, "obi://logs/recent"))["records"] == []
        lines = [json.loads(line) for line in (await text_of(client, "obi://audit/recent")).splitlines()]
        assert [line["command"].partition(" ")[0] for line in lines] == [
            "config-read",
            "obi://policy/rules",
            "agent-read",
            "agent-read",
        ]
        for absent in ("obi://config/other", HERE):
            with pytest.raises(MCPError, match="was not found") as refused:
                await client.read_resource(absent)
            assert refused.value.error.data["code"] == "not_found"
        assert (await client.list_resource_templates()).resource_templates == []

    with_client(mode, made, use)


def test_without_the_toolset_its_resources_are_not_there(tmp_path: Path) -> None:
    async def use(client: Client) -> None:
        listed = [one.uri for one in (await client.list_resources()).resources]
        assert listed == ["obi://policy/rules", "obi://audit/recent"]

    with_client("auto", local_services(tmp_path, Settings(toolsets=("command",))), use)


# --- of clusters ---

ADDRESSES = [
    ("obi://k8s/a/obi/status", Address("a", "obi")),
    ("obi://k8s/arn%3Aaws%3Aeks%3Aeu%2Fx/obi/pods/obi-1/logs", Address("arn:aws:eks:eu/x", "obi", "obi-1")),
    ("obi://k8s/admin%40prod/obi/status", Address("admin@prod", "obi")),
    ("obi://k8s/a/obi", None),
    ("obi://k8s/a/b/c/status", None),
    ("obi://k8s/a/obi/pods//logs", None),
    ("obi://k8s/a/obi/status?x=1", None),
    ("obi://k8s/daemonset/template", None),
]


@pytest.mark.parametrize(("uri", "address"), ADDRESSES)
def test_an_address_is_read_and_written_alike(uri: str, address: Address | None) -> None:
    assert Address.parse(uri) == address
    assert address is None or address.uri == uri


ARGUMENTS = [
    ("current", Contexts("a"), None),
    ("a", Contexts("a"), None),
    ("a", Contexts("a", ("a", "b")), "a"),
    ("b", Contexts("a", ("a", "b")), "b"),
    ("b", Contexts("a"), "b"),  # which the policy refuses
    ("current", Contexts("a", ("current",)), "current"),
]


@pytest.mark.parametrize(("written", "known", "argument"), ARGUMENTS)
def test_the_current_context_is_meant_by_its_name_or_as_current(
    written: str, known: Contexts, argument: str | None
) -> None:
    assert Address(written, "obi").argument(known) == argument


LISTED: list[tuple[Contexts | ConfigError, list[str]]] = [
    (Contexts("admin@prod"), ["obi://k8s/admin%40prod/observability/status"]),
    (Contexts(""), [HERE]),
    (ConfigError("the kubeconfig is a directory"), []),
]


@pytest.mark.parametrize(("known", "concrete"), LISTED)
def test_listing_asks_no_cluster(known: Contexts | ConfigError, concrete: list[str]) -> None:
    road = RecordedRoad(known=known)

    async def use(client: Client) -> None:
        listed = [one.uri for one in (await client.list_resources()).resources]
        assert listed == [
            "obi://k8s/daemonset/template",
            "obi://k8s/sidecar/template",
            "obi://policy/rules",
            "obi://audit/recent",
            *concrete,
        ]
        templates = [one.uri_template for one in (await client.list_resource_templates()).resource_templates]
        assert templates == [STATUS, LOGS]

    with_client("auto", services(road, CLUSTERS), use)
    assert road.calls == []


def test_templates_are_what_the_generate_tools_write() -> None:
    async def use(client: Client) -> None:
        made = await client.call_tool("obi_k8s_generate_daemonset", {})
        (text,) = (made.structured_content or {})["files"].values()
        assert await text_of(client, "obi://k8s/daemonset/template") == text
        asked = {"deployment": "my-app", "namespace": "default", "open_port": "8080"}
        made = await client.call_tool("obi_k8s_generate_sidecar", asked)
        (text,) = (made.structured_content or {})["files"].values()
        assert await text_of(client, "obi://k8s/sidecar/template") == text

    with_client("auto", services(RecordedRoad(), CLUSTERS), use)


class Empty(RecordedRoad):
    """A cluster without any of OBI's but what is recorded."""

    async def read(self, call: Call) -> Reading:
        self.calls.append(call)
        return await super().read(call) if call.command in self.readings else Reading((), NARROWED)


def test_status_and_logs_are_the_tools_own_calls() -> None:
    nodes = {"metadata": {"name": "n"}, "status": {}}
    road = Empty(
        known=Contexts("a", ("b",)),
        readings={"kubectl get nodes -o json": Reading((nodes,), NARROWED)},
        log_readings={
            "kubectl logs obi-1 -n obi --tail=100": LogReading(
                (PodLog("obi-1", "obi", "obi", "n", "time=x level=INFO msg=hello\n"),), NARROWED
            )
        },
    )

    async def use(client: Client) -> None:
        status = json.loads(await text_of(client, "obi://k8s/b/obi/status"))
        assert (status["nodes"], status["workloads"], status["pods"]) == (1, [], [])
        assert {(call.tool, call.context) for call in road.calls} == {("obi_k8s_status", "b")}
        logs = json.loads(await text_of(client, "obi://k8s/a/obi/pods/obi-1/logs"))
        assert [line["text"] for line in logs["lines"]] == ["time=x level=INFO msg=hello"]
        assert (road.calls[-1].tool, road.calls[-1].context) == ("obi_k8s_get_pod_logs", None)

    with_client("auto", services(road, CLUSTERS), use)


def test_a_refusal_is_the_tools_own_with_code_and_hint() -> None:
    road = RecordedRoad(
        readings={"kubectl get nodes -o json": Denied(REFUSED), **{command: Denied(REFUSED) for command in PLACE}}
    )

    async def use(client: Client) -> None:
        with pytest.raises(MCPError, match="secrets are never read") as refused:
            await client.read_resource("obi://k8s/current/obi/status")
        data = refused.value.error.data
        assert (data["code"], data["hint"]) == ("denied", "kubectl get configmaps -A")
        assert data["decision"]["rule"] == "hard.secrets"
        for wrong in (
            "obi://k8s/a%20b/obi/status",
            "obi://k8s/current/OBI/status",
            "obi://k8s/current/obi/pods/$x/logs",
        ):
            with pytest.raises(MCPError) as refused:
                await client.read_resource(wrong)
            assert refused.value.error.data["code"] == "invalid_argument"

    with_client("auto", services(road, CLUSTERS), use)


def test_the_document_names_every_resource() -> None:
    page = (Path(__file__).parents[2] / "docs/resources.md").read_text()
    named = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `obi://")]
    specs = (*local.SPECS, *kubernetes.SPECS, *TEMPLATES, *policy.SPECS)
    assert named == [spec.uri for spec in specs]


# --- completion ---


class Silent(RecordedRoad):
    """A cluster that never answers."""

    async def read(self, call: Call) -> Reading:
        self.calls.append(call)
        self.started.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.append(call.command)
        raise AssertionError("it never answers")


@each_generation
def test_completion_of_contexts_and_namespaces_and_pods(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WAIT_S", "FRESH_S"):
        monkeypatch.setattr(f"obi_mcp.resources.completion.{name}", 3_600.0)
    road = RecordedRoad(known=Contexts("dev", ("prod-a", "prod-b")))
    everywhere = f"kubectl get daemonsets -A -l '{DEFAULT_SELECTORS[0]}' -o json"
    road.readings[everywhere] = Reading(({"metadata": {"name": "obi", "namespace": "tracing"}},), NARROWED)
    pods = [{"metadata": {"name": f"obi-{number:03}", "namespace": "obi"}} for number in range(150)]
    road.readings[PODS] = Reading(tuple(pods), NARROWED)

    async def use(client: Client) -> None:
        async def complete(template: str, word: str, begin: str, **given: str) -> tuple[list[str], int | None, Any]:
            ref = ResourceTemplateReference(uri=template)
            found = (await client.complete(ref, {"name": word, "value": begin}, given or None)).completion
            return found.values, found.total, found.has_more

        assert client.server_capabilities.completions is not None
        assert await complete(STATUS, "context", "") == (["dev", "prod-a", "prod-b", "current"], 4, False)
        assert await complete(STATUS, "context", "prod") == (["prod-a", "prod-b"], 2, False)
        names, _, _ = await complete(STATUS, "namespace", "", context="prod-a")
        assert names == ["tracing", "observability", "obi", "obi-system", "opentelemetry", "monitoring"]
        assert road.calls[-1].context == "prod-a"
        names, total, more = await complete(LOGS, "pod", "obi-", context="prod-a", namespace="obi")
        assert (names[0], len(names), total, more) == ("obi-000", 100, 150, True)
        asked = len(road.calls)
        assert (await complete(LOGS, "pod", "obi-14", context="prod-a", namespace="obi"))[1] == 10
        assert len(road.calls) == asked  # remembered for a moment
        for nothing in (
            (LOGS, "pod", ""),
            (STATUS, "pod", ""),
            ("obi://x/{context}", "context", ""),
            (STATUS, "x", ""),
        ):
            assert await complete(*nothing) == ([], 0, False)

    road.readings[PODS.replace("-n obi ", "-n observability ")] = ClusterUnreachable("it is down", "wait")
    with_client(mode, services(road, CLUSTERS), use)


def test_completion_does_not_wait_for_a_cluster_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("obi_mcp.resources.completion.WAIT_S", 0.0)
    road = Silent()

    async def use(client: Client) -> None:
        ref = ResourceTemplateReference(uri=LOGS)
        for word, expected in (("pod", []), ("namespace", list(Scope().namespaces)), ("pod", [])):
            found = await client.complete(ref, {"name": word, "value": ""}, {"namespace": "obi"})
            assert found.completion.values == expected
        await until(lambda: len(road.calls) == 2)  # the pods are asked for once

    with_client("auto", services(road, CLUSTERS), use)
    assert len(road.cancelled) == 2  # nothing is read on when the server has ended


# --- subscriptions ---


def test_the_older_generation_is_told_of_changes_until_it_leaves(tmp_path: Path) -> None:
    made = local_services(tmp_path)
    heard: asyncio.Queue[str] = asyncio.Queue()

    async def use(client: Client) -> None:
        capabilities = client.server_capabilities
        assert capabilities.resources is not None
        assert capabilities.resources.subscribe is True
        with pytest.warns(MCPDeprecationWarning):
            await client.subscribe_resource("obi://config/current")
        (tmp_path / CONFIG).write_text(TEXT)
        assert await heard.get() == "obi://config/current"
        with pytest.warns(MCPDeprecationWarning):
            await client.unsubscribe_resource("obi://config/current")

    with_client("legacy", made, use, hearing(heard))


def hearing(heard: asyncio.Queue[str]) -> Callable[[Any], None]:
    def hear(message: Any) -> None:
        if getattr(message, "method", "") == "notifications/resources/updated":
            heard.put_nowait(str(message.params.uri))

    return hear


def test_the_newer_generation_listens(tmp_path: Path) -> None:
    made = local_services(tmp_path)

    async def use(client: Client) -> None:
        async with client.listen(resource_subscriptions=["obi://logs/recent"]) as events:
            await asyncio.sleep(0)
            (tmp_path / "agent.log").write_text("time=x level=INFO msg=hello\n")
            async for event in events:
                assert getattr(event, "uri", "") == "obi://logs/recent"
                break

    with_client("auto", made, use)


@pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")
@pytest.mark.parametrize("leaves", [True, False], ids=["unsubscribes", "disconnects"])
def test_a_watch_lasts_as_long_as_its_subscriber_of_the_older_generation(leaves: bool) -> None:
    road = RecordedRoad(known=Contexts("a"))
    heard: asyncio.Queue[str] = asyncio.Queue()
    uri, same = "obi://k8s/a/obi/status", "obi://k8s/current/obi/status"

    async def use(client: Client) -> None:
        await client.subscribe_resource(uri)
        await client.subscribe_resource(uri)
        assert await heard.get() == uri  # it stands
        await client.subscribe_resource(same)
        assert sorted(road.open) == PLACE  # once, however many want it
        road.streams[PODS].put_nowait(True)
        assert {await heard.get(), await heard.get()} == {uri, same}
        if leaves:
            await client.unsubscribe_resource(same)
            await client.unsubscribe_resource(uri)
            await until(lambda: not road.open)
            return
        assert road.open

    with_client("legacy", services(road, CLUSTERS), use, hearing(heard), after=lambda: until(lambda: not road.open))
    assert {call.tool for call in road.calls} == {"resources/subscribe"}


def test_a_watch_lasts_as_long_as_its_listeners_of_the_newer_generation() -> None:
    road = RecordedRoad(known=Contexts("a"))
    uri, log = "obi://k8s/a/obi/status", "obi://k8s/a/obi/pods/obi-1/logs"

    async def use(client: Client) -> None:
        async with client.listen(resource_subscriptions=[uri]) as events:
            assert getattr(await anext(events), "uri", "") == uri
            async with client.listen(resource_subscriptions=[uri, log]) as more:
                assert getattr(await anext(more), "uri", "") == log
                assert sorted(road.open) == sorted([*PLACE, "kubectl logs obi-1 -n obi"])
                road.streams["kubectl logs obi-1 -n obi"].put_nowait(True)
                assert getattr(await anext(more), "uri", "") == log
            await until(lambda: len(road.open) == len(PLACE))
            road.streams[SETS].put_nowait(True)
            assert getattr(await anext(events), "uri", "") == uri
        await until(lambda: not road.open)

    with_client("auto", services(road, CLUSTERS), use)


REFUSALS = [
    ("obi://k8s/b/obi/status", "denied"),
    ("obi://k8s/a/o b/status", "invalid_argument"),
    ("obi://nothing", "not_found"),
]


@pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")
@each_generation
@pytest.mark.parametrize(("uri", "code"), REFUSALS)
def test_what_may_not_be_read_cannot_be_subscribed_to(mode: str, uri: str, code: str) -> None:
    road = RecordedRoad(known=Contexts("a"), decisions={SETS: REFUSED})
    made = services(road, CLUSTERS)

    async def use(client: Client) -> None:
        async def subscribe() -> None:
            if mode == "legacy":
                await client.subscribe_resource(uri)
                return
            async with client.listen(resource_subscriptions=[uri]):
                pass

        with pytest.raises(MCPError) as refused:
            await subscribe()
        assert refused.value.error.data["code"] == code
        assert road.open == []

    with_client(mode, made, use)
    assert [entry.error for entry in made.audit.entries] == (["denied"] if code == "denied" else [])  # type: ignore[attr-defined]


def test_the_sdk_still_has_the_private_attributes_that_we_use(tmp_path: Path) -> None:
    made = local_services(tmp_path, replace(LOCAL, toolsets=("local", "kubernetes")))
    low = ObiServer(made)._lowlevel_server
    made.audit.close()
    for method in ("resources/subscribe", "resources/unsubscribe", "subscriptions/listen", "completion/complete"):
        assert low.get_request_handler(method) is not None
