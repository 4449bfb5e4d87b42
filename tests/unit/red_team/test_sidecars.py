"""OBI beside somebody else's container: nothing of theirs is taken, and nothing is taken away."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from tests.unit.policy.policies import built_in

from obi_mcp.enforcer.case import SidecarKey
from obi_mcp.enforcer.sidecar import prove_sidecar
from obi_mcp.obi.manifests.sidecar import Sidecar, removal_command, sidecar_patch
from obi_mcp.policy.manifest import judge_sidecar
from obi_mcp.policy.model import Access, Document, SidecarSpec
from obi_mcp.policy.scope import Scope

SCOPE = Scope(instrumented_namespaces=("shop",), allowed_secrets=("otlp", "db"), namespaces=("observability",))


def shop() -> dict[str, Any]:
    """A Deployment of somebody else's, whose Service leads to the port ``http``."""
    ports = [{"name": "http", "containerPort": 8080}, {"name": "admin", "containerPort": 9000}]
    helper = {"name": "proxy", "image": "proxy:1", "ports": [{"name": "mesh", "containerPort": 15001}]}
    containers = [{"name": "web", "image": "web:1", "ports": ports, "volumeMounts": [{"name": "d", "mountPath": "/d"}]}]
    pod = {"containers": containers, "initContainers": [helper], "volumes": [{"name": "d", "emptyDir": {}}]}
    metadata = {"name": "web", "namespace": "shop", "uid": "1"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {"template": {"metadata": {"labels": {"app": "web"}}, "spec": pod}},
    }


def beside(change: dict[str, Any], pod: dict[str, Any] | None = None) -> dict[str, Any]:
    """The same with OBI first, as the API server puts it, its container changed."""
    body = shop()
    spec = body["spec"]["template"]["spec"]
    sidecar = sidecar_patch(Sidecar(deployment="web", namespace="shop", open_port="8080", prometheus_port=9400))
    (container,) = sidecar["spec"]["template"]["spec"]["containers"]
    for key, value in change.items():
        container[key] = [*container.get(key, []), *value] if isinstance(value, list) else value
    spec.update(shareProcessNamespace=True, containers=[container, *spec["containers"]], **(pod or {}))
    return body


def env(name: str, **value: Any) -> dict[str, Any]:
    return {"env": [{"name": name, **value}]}


def secret(name: str) -> dict[str, Any]:
    return env("OTEL_EXPORTER_OTLP_HEADERS", valueFrom={"secretKeyRef": {"name": name, "key": "headers"}})


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({}, None),
        ({"ports": [{"name": "http", "containerPort": 9401}]}, "manifest.port"),
        ({"ports": [{"name": "mesh", "containerPort": 9401}]}, "manifest.port"),
        ({"ports": [{"name": "other", "containerPort": 8080}]}, "manifest.port"),
        (env("OTEL_EBPF_INTERNAL_METRICS_PROMETHEUS_PORT", value="9000"), "manifest.port"),
        (env("OTEL_EBPF_INTERNAL_METRICS_PROMETHEUS_PORT", value="015001"), "manifest.port"),
        (env("OTEL_EBPF_INTERNAL_METRICS_PROMETHEUS_PORT", value="$(OTEL_EBPF_OPEN_PORT)"), "manifest.variable"),
        (env("OTEL_EBPF_PROFILE_PORT", value="15001"), "manifest.variable"),
        ({"ports": [{"name": "x", "containerPort": 9401, "hostPort": 9401}]}, "manifest.host-port"),
        (secret("otlp"), "manifest.secret"),
        (secret("db"), "manifest.secret"),
        (secret("unknown"), "manifest.secret"),
        ({"volumeMounts": [{"name": "d", "mountPath": "/d"}]}, "manifest.mount"),
        ({"volumeMounts": [{"name": "kube-api-access", "mountPath": "/x"}]}, "manifest.mount"),
        ({"name": "web"}, "manifest.sidecar"),
        ({"restartPolicy": "Always"}, None),
        ({"command": ["/bin/sh"]}, None),
        ({"stdin": True}, None),
        ({"workingDir": "/d"}, None),
    ],
)
def test_obis_container_takes_nothing_of_theirs(change: dict[str, Any], rule: str | None) -> None:
    judgement = judge_sidecar(built_in().grounds.manifest, shop(), Document(0, beside(change)), scope=SCOPE)
    found = {violation.rule for violation in judgement.violations}
    assert rule in found if rule else bool(found) is bool(change), found


def test_what_took_a_port_of_theirs_can_be_taken_away() -> None:
    after = Document(0, beside({"ports": [{"name": "http", "containerPort": 8080}]}))
    manifest = built_in().grounds.manifest
    assert judge_sidecar(manifest, shop(), after, scope=SCOPE).violations
    assert not judge_sidecar(manifest, shop(), after, scope=SCOPE, stays=False).violations


@pytest.mark.parametrize(
    "pod",
    [
        {"containers": [{"name": "web", "$patch": "delete"}], "shareProcessNamespace": True},
        {"containers": [{"name": "web", "$patch": "delete"}, {"name": "obi", "$patch": "delete"}]},
        {"containers": [{"name": "obi", "$patch": "delete", "image": "x"}]},
        {"containers": [{"name": "obi", "$patch": "merge"}]},
        {"containers": [{"name": "obi", "$patch": "delete"}], "volumes": [{"name": "d", "emptyDir": {}}]},
        {"containers": [{"name": "obi", "$patch": "delete"}], "initContainers": []},
        {"containers": [{"name": "obi", "$patch": "delete"}], "ephemeralContainers": []},
        {"ephemeralContainers": [{"name": "obi", "image": "otel/ebpf-instrument"}]},
        {"containers": [], "shareProcessNamespace": None},
        {"containers": None},
    ],
)
def test_no_patch_of_another_form_takes_anything_away(pod: dict[str, Any]) -> None:
    policy = built_in().over(SCOPE)
    text = json.dumps({"spec": {"template": {"spec": pod}}})
    decision = policy.decide(f"kubectl patch deployment web -n shop -p '{text}'", access=Access.FULL)
    assert not decision.allowed


@pytest.mark.parametrize(
    ("known", "raised"),
    [
        ({("", "shop", "web", "obi")}, None),
        (set(), Access.FULL),
        ({("", "shop", "web", "other"), ("", "shop", "api", "obi"), ("east", "shop", "web", "obi")}, Access.FULL),
    ],
)
def test_below_full_only_what_this_server_added_is_taken_away(
    known: set[SidecarKey], raised: Access | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    decision = built_in().over(SCOPE).decide(removal_command("web", "shop"), access=Access.NON_DESTRUCTIVE)
    assert decision.pipeline is not None
    live, gone = beside({}), shop()
    live["metadata"]["resourceVersion"] = "1"

    async def get(*_: object) -> dict[str, Any]:
        return live

    async def dry_run(*_: object) -> list[Document]:
        return [Document(0, gone)]

    monkeypatch.setattr("obi_mcp.enforcer.sidecar.dry_run", dry_run)
    case: Any = SimpleNamespace(
        decision=decision, head=decision.pipeline.head, scope=SCOPE, cluster=SimpleNamespace(get=get),
        policy=built_in(), sidecars=known,
    )  # fmt: skip
    (check,) = decision.checks
    assert isinstance(check.spec, SidecarSpec) and check.raises_to is Access.FULL
    proved = asyncio.run(prove_sidecar(case, check, check.spec))
    assert proved.result.passed and proved.result.raised == raised, proved.result
