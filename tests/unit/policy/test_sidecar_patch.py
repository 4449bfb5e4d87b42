"""What may be patched of somebody else's Deployment, from the text alone: OBI's container beside theirs, no more."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.policy.policies import built_in

from obi_mcp.obi.manifests.sidecar import Sidecar, removal_command, sidecar_command, sidecar_patch
from obi_mcp.policy.engine import Policy
from obi_mcp.policy.model import Access, SidecarSpec

GOOD = Sidecar(deployment="web", namespace="shop", open_port="8080", prometheus_port=9400)


def policy() -> Policy:
    return built_in().over(replace(built_in().scope, instrumented_namespaces=("shop", "observability")))


def patched(change: Any = None, *, flags: str = "", where: str = "shop", pod: Any = None) -> str:
    """The command line of a good patch, changed."""
    patch = sidecar_patch(GOOD)
    if change is not None:
        change(patch["spec"]["template"]["spec"])
    text = json.dumps(pod if pod is not None else patch).replace("'", "\\u0027")
    return f"kubectl patch deployment web -n {where} {flags} -p '{text}'"


def container(**fields: Any) -> Any:
    return lambda pod: pod["containers"][0].update(fields)


def env(name: str, value: str) -> Any:
    return lambda pod: pod["containers"][0]["env"].append({"name": name, "value": value})


@pytest.mark.parametrize(
    ("command", "removes"),
    [
        (sidecar_command(GOOD), False),
        (sidecar_command(replace(GOOD, privileged=True)), False),
        (removal_command("web", "shop"), True),
        (removal_command("web", "shop", shared=True), True),
        (sidecar_command(replace(GOOD, namespace="observability")), False),
        (f"{sidecar_command(GOOD)} --dry-run=server -o json", False),
    ],
)
def test_obis_container_may_come_and_go(command: str, removes: bool) -> None:
    decision = policy().decide(command, access=Access.NON_DESTRUCTIVE)
    assert decision.allowed, decision.reason
    (check,) = decision.checks
    assert isinstance(check.spec, SidecarSpec) and check.spec.removes is removes
    assert not policy().decide(command.partition(" --dry")[0], access=Access.READ_ONLY).allowed


def test_what_is_printed_of_a_foreign_deployment_is_projected() -> None:
    decision = policy().decide(f"{sidecar_command(GOOD)} --dry-run=server -o json", access=Access.NON_DESTRUCTIVE)
    assert decision.output.project == "status"


@pytest.mark.parametrize(
    "command",
    [
        sidecar_command(replace(GOOD, namespace="billing")),
        patched(flags="--type merge"),
        patched(flags="--type json"),
        patched(pod={"spec": {"replicas": 0}}),
        patched(
            pod={"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "otel/ebpf-instrument"}]}}}}
        ),
        patched(pod={"metadata": {"labels": {"app": "obi"}}, **sidecar_patch(GOOD)}),
        patched(lambda pod: pod.update(hostPID=True)),
        patched(lambda pod: pod.update(hostNetwork=True)),
        patched(lambda pod: pod.update(serviceAccountName="cluster-admin")),
        patched(lambda pod: pod.update(initContainers=[{"name": "x", "image": "alpine"}])),
        patched(lambda pod: pod.update(shareProcessNamespace=False)),
        patched(lambda pod: pod.pop("shareProcessNamespace")),
        patched(lambda pod: pod["containers"].append({"name": "x", "image": "otel/ebpf-instrument"})),
        patched(lambda pod: pod.update({"$patch": "replace"})),
        patched(lambda pod: pod.update({"$setElementOrder/containers": [{"name": "obi"}]})),
        patched(lambda pod: pod.update({"$retainKeys": ["containers"]})),
        patched(lambda pod: pod.update(containers=[{"name": "web", "$patch": "replace"}])),
        patched(container(image="alpine")),
        patched(container(image="ghcr.io.evil.example/open-telemetry/ebpf-instrument:v1")),
        patched(container(command=["/bin/sh"])),
        patched(container(args=["-config", "/proc/1/environ"])),
        patched(container(lifecycle={"postStart": {"exec": {"command": ["id"]}}})),
        patched(container(envFrom=[{"secretRef": {"name": "db"}}])),
        patched(container(env=[{"name": "X", "valueFrom": {"secretKeyRef": {"name": "db", "key": "p"}}}])),
        patched(container(volumeMounts=[{"name": "theirs", "mountPath": "/theirs"}])),
        patched(container(securityContext={"capabilities": {"add": ["SYS_MODULE"]}})),
        patched(env("LD_PRELOAD", "/tmp/x.so")),
        patched(env("HTTPS_PROXY", "http://evil.example")),
        patched(env("OTEL_EXPORTER_OTLP_ENDPOINT", "https://evil.example")),
        patched(lambda pod: pod.update(volumes=[{"name": "x", "hostPath": {"path": "/"}}])),
        patched(lambda pod: pod.update(volumes=[{"name": "x", "secret": {"secretName": "db"}}])),
        "kubectl set image deployment/web web=otel/ebpf-instrument:v1 -n shop",
        "kubectl set env deployment/web OTEL_EBPF_OPEN_PORT=8080 -n shop",
        "kubectl scale deployment/web --replicas=0 -n shop",
        "kubectl rollout undo deployment/web -n shop",
        "kubectl rollout restart deployment/web -n shop",
        "kubectl delete deployment web -n shop",
        "kubectl label deployment web app=obi -n shop",
    ],
)
def test_nothing_else_of_a_foreign_deployment_is_changed(command: str) -> None:
    decision = policy().decide(command, access=Access.FULL)
    assert not decision.allowed
    assert decision.hint


def test_the_refusal_says_what_may_be_done() -> None:
    decision = policy().decide(patched(pod={"spec": {"replicas": 3}}), access=Access.FULL)
    assert "somebody else's" in decision.reason and "OBI's container beside its own" in decision.reason
    assert "obi_k8s_generate_sidecar" in (decision.hint or "")


def test_what_stands_in_a_patch_stays_one_word() -> None:
    hostile = "http://a' --type json -n kube-system '"
    command = sidecar_command(replace(GOOD, otlp_endpoint=hostile))
    decision = policy().decide(command, access=Access.FULL)
    assert not decision.allowed and decision.rule == "kubectl.patch", decision
    assert decision.pipeline is not None and decision.pipeline.head.value("namespace") == "shop"
