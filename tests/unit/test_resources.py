"""Resources on both generations of the protocol: listed and read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from tests.unit.recorded_road import NARROWED, REFUSED, RecordedRoad, services
from tests.unit.resource_clients import (
    CLUSTERS,
    HERE,
    LOCAL,
    LOGS,
    PLACE,
    STATUS,
    TEXT,
    each_generation,
    local_services,
    text_of,
    with_client,
)

from obi_mcp.agent.record import CONFIG
from obi_mcp.app import ObiServer
from obi_mcp.config import Settings
from obi_mcp.enforcer.model import Call
from obi_mcp.enforcer.reading import LogReading, PodLog, Reading
from obi_mcp.enforcer.watching import Contexts
from obi_mcp.errors import ConfigError, Denied
from obi_mcp.resources import kubernetes, local, policy
from obi_mcp.resources.address import TEMPLATES, Address


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


def test_the_sdk_still_has_the_private_attributes_that_we_use(tmp_path: Path) -> None:
    made = local_services(tmp_path, replace(LOCAL, toolsets=("local", "kubernetes")))
    low = ObiServer(made)._lowlevel_server
    made.audit.close()
    for method in ("resources/subscribe", "resources/unsubscribe", "subscriptions/listen", "completion/complete"):
        assert low.get_request_handler(method) is not None
