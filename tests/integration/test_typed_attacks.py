"""Every manifest attack against the typed tools: a plan is a manifest, and an argument is a part of one.

Each text of each attack goes into each argument that takes text. It is refused, or it is harmless because it stays the
text that it is: the documents have no other path than with a good value, differ from them by that text alone, and pass
the closed schema. Nothing is written meanwhile: the API server's own audit log says so.
"""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any

import pytest
import yaml
from tests.integration import hostile
from tests.integration.conftest import Serve, Session
from tests.integration.test_kubernetes import ask
from tests.sandbox.sandbox import Sandbox
from tests.unit.policy.manifest_cases import manifest_policy
from tests.unit.policy.policies import built_in
from tests.unit.recorded_road import RecordedRoad, services

from obi_mcp.config import Settings
from obi_mcp.enforcer.model import Call
from obi_mcp.policy.documents import documents_of
from obi_mcp.policy.model import Access, Decision
from obi_mcp.policy.scope import Scope
from obi_mcp.toolsets.base import ToolCall
from obi_mcp.toolsets.kubernetes.generate import daemonset_spec, sidecar_spec
from obi_mcp.toolsets.run import run_tool

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

IN_FLIGHT = 8
SAMPLED = 3
REDACTED = "[redacted]"
LOADER = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
EVERY = 6
REFUSALS = {"denied", "invalid_argument", "invalid_document", "invalid_command", "not_found", "program_failed"}
SETTINGS = {
    "OBI_MCP_TOOLSETS": '["kubernetes"]',
    "OBI_MCP_SCOPE__INSTRUMENTED_NAMESPACES": '["shop"]',
    "OBI_MCP_SCOPE__CLUSTER_OBJECTS": '["obi", "marker"]',
}
BASE: dict[str, Any] = {"name": "marker", "namespace": "monitoring", "otlp_endpoint": "http://127.0.0.1:4318"}
MARKED = {
    "name": "marker",
    "namespace": "monitoring",
    "image": "otel/ebpf-instrument",
    "version": "v9.9.9",
    "otlp_endpoint": "http://127.0.0.1:4318",
}
BESIDE: dict[str, Any] = {"deployment": "cart", "namespace": "shop", "open_port": "8080", "version": "v9.9.9"}
BESIDE_MARKED = {
    "deployment": "cart",
    "namespace": "shop",
    "open_port": "8080",
    "image": "otel/ebpf-instrument",
    "version": "v9.9.9",
    "otlp_endpoint": "http://127.0.0.1:4318",
}
DERIVED = ("checksum/config", "app.kubernetes.io/version")


@pytest.fixture
async def quiet(serve: Serve, sandbox: Sandbox) -> AsyncIterator[Session]:
    """A server at full whose calls may write nothing at all."""
    _, place = sandbox.requests()
    async with serve("full", **SETTINGS) as session:
        yield session
    made, _ = sandbox.requests(place)
    assert [f"{one.verb} {one.path}" for one in made if one.writes] == []


@dataclass(frozen=True)
class Tried:
    """One call with one hostile value."""

    argument: str
    value: Any
    structured: dict[str, Any]
    text: str
    refused: bool


async def tried(
    session: Session, tool: str, base: Mapping[str, Any], argument: str, values: Iterable[Any]
) -> list[Tried]:
    """The same call with each value for that argument."""
    gate = asyncio.Semaphore(IN_FLIGHT)

    async def one(value: Any) -> Tried:
        async with gate:
            structured, text, failed = await ask(session, tool, **{**base, argument: value})
        if failed:
            assert structured["code"] in REFUSALS, f"{tool} {argument}={value!r}: {text}"
        return Tried(argument, value, structured, text, failed)

    return list(await asyncio.gather(*(one(value) for value in values)))


# --- what an argument may become ---


def objects_of(files: Mapping[str, str]) -> list[dict[str, Any]]:
    """The documents of generated YAML, as Kubernetes reads them."""
    return [body for text in files.values() for body in yaml.load_all(text, LOADER)]


def comparable(body: Any) -> Any:
    """Without what is derived, and OBI's own configuration as the data that it is."""
    if isinstance(body, dict):
        kept = {key: comparable(value) for key, value in body.items() if key not in DERIVED}
        if body.get("kind") == "ConfigMap":
            kept["data"] = {key: yaml.load(text, LOADER) for key, text in body["data"].items()}
        return kept
    return [comparable(one) for one in body] if isinstance(body, list) else body


def with_text(body: Any, marker: str, text: str) -> Any:
    """The same with another text where the marker stood."""
    if isinstance(body, dict):
        return {with_text(key, marker, text): with_text(value, marker, text) for key, value in body.items()}
    if isinstance(body, list):
        return [with_text(one, marker, text) for one in body]
    return body.replace(marker, text) if isinstance(body, str) else body


def passes_the_schema(bodies: list[dict[str, Any]]) -> None:
    """Wherever it was put: its namespace and names are taken to be in scope."""
    spaces = tuple({body["metadata"].get("namespace", body["metadata"]["name"]) for body in bodies})
    names = tuple(body["metadata"]["name"] for body in bodies)
    scope = replace(Scope(), namespaces=spaces, cluster_objects=names)
    batch = documents_of(bodies)
    for document in batch:
        judged = manifest_policy().judge(document, scope=scope, batch=batch)
        assert judged.passed, (document.body, judged.violations)


@dataclass
class PolicyRoad(RecordedRoad):
    """What the policy says of a command line is the policy's own word; no cluster is asked."""

    def explain_elsewhere(self, call: Call, namespace: str, names: AbstractSet[str] = frozenset()) -> Decision:
        decided = built_in().with_place(namespace, names)
        return decided.decide(call.command, stdin=call.stdin, access=Access.FULL)


SPECS = {spec.name: spec for spec in (daemonset_spec(Settings()), sidecar_spec(Settings()))}


async def written(tool: str, base: Mapping[str, Any], argument: str, values: Iterable[Any]) -> list[Tried]:
    """What the generate tools make of each value, in this process: there are some thousands."""
    made, found = services(PolicyRoad()), []
    for value in values:
        answer = await run_tool(made, SPECS[tool], ToolCall({**base, argument: value}, "test"))
        if answer.is_error:
            assert answer.structured["code"] in REFUSALS, f"{tool} {argument}={value!r}: {answer.text}"
        found.append(Tried(argument, value, answer.structured, answer.text, answer.is_error))
    return found


async def test_a_generated_daemonset_holds_the_text_and_nothing_of_it() -> None:
    tool, whole = "obi_k8s_generate_daemonset", {**BASE, **MARKED}
    (good,) = await written(tool, whole, "name", ["marker"])
    pattern = comparable(objects_of(good.structured["files"]))
    accepted: dict[str, int] = {}
    for argument, marker in MARKED.items():
        for one in await written(tool, whole, argument, hostile.texts()):
            if one.refused or REDACTED in one.structured["files"].values():  # a file called password.yaml
                continue
            accepted[argument] = accepted.get(argument, 0) + 1
            bodies = objects_of(one.structured["files"])
            passes_the_schema(bodies)
            assert comparable(bodies) == with_text(pattern, marker, one.value), one
    assert accepted["version"] > 10 and accepted["name"] > 10, accepted
    for one in await written(tool, BASE, "config", hostile.texts() + hostile.documents()):
        if one.refused:
            continue
        bodies = objects_of(one.structured["files"])
        passes_the_schema(bodies)
        (config,) = [body for body in bodies if body["kind"] == "ConfigMap"]
        assert list(config["data"].values()) == [one.value], one


async def test_a_generated_sidecar_is_one_word_of_one_command() -> None:
    tool, whole = "obi_k8s_generate_sidecar", {**BESIDE, **BESIDE_MARKED}
    (good,) = await written(tool, whole, "open_port", ["8080"])
    (pattern,) = objects_of(good.structured["files"])
    for argument, marker in BESIDE_MARKED.items():
        for one in await written(tool, whole, argument, hostile.texts()):
            if one.refused:
                continue
            (patch,) = objects_of(one.structured["files"])
            assert patch == with_text(pattern, marker, one.value), one
            words = shlex.split(one.structured["command"])
            assert words[:3] == ["kubectl", "patch", "deployment"] and len(words) == 10, words
            assert json.loads(words[-1]) == patch, words


# --- plans ---


async def test_a_plan_is_made_of_what_passes_and_of_nothing_else(quiet: Session) -> None:
    """What is refused as a manifest is refused as a plan; of the rest some are planned, and nothing is written."""
    planned = 0
    for tool, base, marked, mode in (
        ("obi_k8s_generate_daemonset", BASE, MARKED, {}),
        ("obi_k8s_generate_sidecar", BESIDE, BESIDE_MARKED, {"mode": "sidecar"}),
    ):
        for argument in marked:
            made = await written(tool, {**base, **marked}, argument, hostile.texts()[::EVERY])
            refused = [one.value for one in made if one.refused]
            accepted = [one.value for one in made if not one.refused]
            whole = {**base, **marked, **mode}
            for one in await tried(quiet, "obi_k8s_deploy", whole, argument, refused):
                assert one.refused, one
            step = max(1, len(accepted) // SAMPLED)
            for one in await tried(quiet, "obi_k8s_deploy", whole, argument, accepted[::step]):
                planned += not one.refused
                for change in one.structured.get("changes", ()):
                    assert change["object"].split()[0] in {*KINDS, "Deployment"}, change
    assert planned >= SAMPLED


KINDS = {"Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "ConfigMap", "DaemonSet", "Service"}
NAMED = {"namespace": "observability", "name": "obi"}


async def test_a_configuration_is_one_text_of_one_config_map(quiet: Session) -> None:
    texts = [*hostile.documents()[::EVERY], *hostile.INJECTIONS]
    tries = await tried(quiet, "obi_k8s_config", NAMED, "config", texts)
    tries += await tried(quiet, "obi_k8s_config", NAMED, "patch", hostile.mappings())
    for one in tries:
        if one.refused or "plan_id" not in one.structured:  # an empty patch reads
            continue
        write, restart = one.structured["commands"]
        words = shlex.split(write)
        assert words[:3] == ["kubectl", "patch", "configmap"] and len(words) == 10, words
        ((key, value),) = json.loads(words[-1])["data"].items()
        assert key.endswith(".yml") and isinstance(value, str), words
        assert restart == "kubectl rollout restart daemonset obi -n observability"


async def test_names_and_versions_are_no_more_than_that(quiet: Session) -> None:
    for tool, base, arguments in (
        ("obi_k8s_upgrade", {**NAMED, "version": "v9.9.9"}, ("name", "namespace")),
        ("obi_k8s_undeploy", NAMED, ("name", "namespace", "deployment")),
        ("obi_k8s_config", NAMED, ("name", "namespace")),
        ("obi_k8s_get_pod_logs", {"namespace": "observability", "pod": "obi-x"}, ("pod", "namespace", "context")),
        ("obi_k8s_preflight", {}, ("namespace", "context")),
    ):
        for argument in arguments:
            for one in await tried(quiet, tool, base, argument, hostile.INJECTIONS[::2]):
                assert one.refused or one.structured.get("plan_id", "") == "" or argument == "version", one
    for one in await tried(quiet, "obi_k8s_upgrade", NAMED, "version", hostile.texts()[::12]):
        for command in one.structured.get("commands", ()):
            words = shlex.split(command)
            assert words[:3] == ["kubectl", "set", "image"] and words[4].endswith(f":{one.value}"), words


PLACES: tuple[Callable[[str], dict[str, Any]], ...] = (
    lambda text: {"image": {"tag": text}},
    lambda text: {"image": {"repository": text}},
    lambda text: {"nodeSelector": {"kubernetes.io/os": text}},
    lambda text: {"config": {"otel_traces_export": {"endpoint": text}}},
)


async def test_values_of_a_chart_are_no_more_than_values(serve: Serve, sandbox: Sandbox) -> None:
    """What helm renders is judged; a value that is a template never gets that far."""
    _, place = sandbox.requests()
    named = {"fullnameOverride": "marker"}
    base = {"namespace": "monitoring", "create_namespace": True, "values": json.dumps(named)}
    inside = [{**named, **at(text)} for at in PLACES for text in hostile.INJECTIONS[::12]]
    texts = [*hostile.documents()[:: 4 * EVERY], *hostile.INJECTIONS[::8], *map(json.dumps, inside)]
    async with serve("full", **{**SETTINGS, "OBI_MCP_TOOLSETS": '["helm"]'}) as session:
        good = await tried(session, "obi_helm_install", base, "release", ["obi"])
        tries = await tried(session, "obi_helm_install", base, "values", texts)
        tries += await tried(session, "obi_helm_install", base, "namespace", hostile.INJECTIONS[::12])
        tries += await tried(session, "obi_helm_install", base, "release", hostile.INJECTIONS[::12])
    assert [one.refused for one in good] == [False], good[0].text
    for one in (*good, *tries):
        if not one.refused:
            assert {change["object"].split()[0] for change in one.structured["changes"]} <= {*KINDS, "Deployment"}, one
            assert "{{" not in str(one.value), one
    assert any(not one.refused for one in tries)
    made, _ = sandbox.requests(place)
    assert [f"{one.verb} {one.path}" for one in made if one.writes] == []


# --- plan ids ---


async def test_a_plan_id_is_good_for_its_plan_and_nothing_else(serve: Serve, quiet: Session) -> None:
    planned, text, failed = await ask(quiet, "obi_k8s_deploy", **BASE)
    assert not failed, text
    plan_id = planned["plan_id"]
    forged: list[tuple[str, Callable[[], dict[str, Any]]]] = [
        ("obi_k8s_deploy", lambda: {"plan_id": plan_id[:-1] + ("0" if plan_id[-1] != "0" else "1")}),
        ("obi_k8s_deploy", lambda: {"plan_id": plan_id.upper() + " "}),
        ("obi_k8s_deploy", lambda: {"plan_id": f"{plan_id}\n"}),
        ("obi_k8s_deploy", lambda: {"plan_id": ""}),
        ("obi_k8s_deploy", lambda: {"plan_id": "../plans/1"}),
        ("obi_k8s_deploy", lambda: {"plan_id": plan_id, **BASE}),
        ("obi_k8s_deploy", lambda: {"plan_id": plan_id, "context": "elsewhere"}),
        ("obi_k8s_deploy", lambda: {"plan_id": plan_id, "wait_s": 0}),
        ("obi_k8s_undeploy", lambda: {"plan_id": plan_id}),
        ("obi_k8s_upgrade", lambda: {"plan_id": plan_id}),
        ("obi_k8s_config", lambda: {"plan_id": plan_id}),
    ]
    for tool, arguments in forged:
        refused, text, failed = await ask(quiet, tool, **arguments())
        assert failed and refused["code"] == "invalid_argument", f"{tool} {arguments()}: {text}"
    async with serve("non-destructive", **SETTINGS) as another:
        refused, text, failed = await ask(another, "obi_k8s_deploy", plan_id=plan_id)
    assert failed and refused["code"] == "invalid_argument" and "there is no plan" in text, text
