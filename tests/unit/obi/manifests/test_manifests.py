"""Generated manifests: each passes the manifest check, holds what was asked for, and is what the snapshots say."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from tests.snapshots.update import MANIFESTS, manifest_snapshots
from tests.unit.policy.manifest_cases import manifest_policy

from obi_mcp.obi.capabilities import Feature
from obi_mcp.obi.config import validate
from obi_mcp.obi.manifests.install import Environment, Format, Install
from obi_mcp.obi.manifests.json_form import body_of
from obi_mcp.obi.manifests.objects import installed_objects
from obi_mcp.obi.manifests.own_config import FILE_NAME
from obi_mcp.obi.manifests.render import render
from obi_mcp.obi.manifests.sidecar import Sidecar, with_sidecar
from obi_mcp.policy.documents import documents_of, read_documents
from obi_mcp.policy.manifest.sidecar import judge_sidecar
from obi_mcp.policy.scope import Scope

FEATURES = (*((feature,) for feature in Feature), (Feature.APPLICATION, Feature.NETWORK), tuple(Feature))
INSTALLS = [
    Install(
        environment=environment,
        features=features,
        privileged=privileged,
        cache=more,
        service_monitor=more,
        otlp_endpoint="http://${HOST_IP}:4318" if more else None,
        # In development what OBI sees is printed, so that it needs no exporter.
        prometheus_port=None if environment is Environment.DEVELOPMENT and Feature.APPLICATION in features else 9090,
    )
    for environment, features, privileged, more in itertools.product(
        Environment, FEATURES, (False, True), (False, True)
    )
]
BEYLA = Install(repository="grafana/beyla", version="1.8.0", otlp_endpoint="http://${HOST_IP}:4318")
NODE = {"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://$(HOST_IP):4318"}
"""An older Beyla puts nothing in for a variable in its configuration, and ends; Kubernetes does in its environment."""


def name_of(install: Install) -> str:
    return f"{install.environment}-{'+'.join(install.features)}-{install.privileged}-{install.cache}"


@pytest.mark.parametrize("install", [*INSTALLS, BEYLA], ids=name_of)
def test_what_is_generated_passes_the_manifest_check_and_the_configuration_check(install: Install) -> None:
    (text,) = render(install, Format.YAML).values()
    batch = read_documents(text)
    assert [document.body for document in batch] == [body_of(thing) for thing in installed_objects(install)]
    for document in batch:
        judgement = manifest_policy().judge(document, scope=Scope(), batch=batch)
        assert judgement.violations == (), document.kind
    (config,) = [document.body["data"][FILE_NAME] for document in batch if document.kind == "ConfigMap"]
    assert not (install is BEYLA and "HOST_IP" in config)
    assert [finding for finding in validate(config) if finding.severity == "error"] == []


@pytest.mark.parametrize(
    ("install", "path", "expected"),
    [
        (Install(), "hostNetwork", None),
        (Install(features=(Feature.NETWORK,)), "hostNetwork", True),
        (Install(features=(Feature.NETWORK,)), "dnsPolicy", "ClusterFirstWithHostNet"),
        (Install(), "hostPID", True),
        (Install(privileged=True), "containers.0.securityContext", {"privileged": True}),
        (
            Install(features=(Feature.NETWORK,)),
            "containers.0.securityContext.capabilities",
            {"add": ["BPF", "PERFMON", "NET_RAW"], "drop": ["ALL"]},
        ),
        (
            Install(features=(Feature.NETWORK,), kernel=(5, 10)),
            "containers.0.securityContext.capabilities.add",
            ["BPF", "PERFMON", "NET_RAW", "SYS_RESOURCE"],
        ),
        (
            Install(features=(Feature.NETWORK,), perf_event_paranoid=3),
            "containers.0.securityContext.capabilities.add",
            ["BPF", "PERFMON", "NET_RAW"],
        ),
        (
            Install(perf_event_paranoid=3),
            "containers.0.securityContext.capabilities.add.6",
            "SYS_ADMIN",
        ),
        (Install(digest="sha256:" + "a" * 64), "containers.0.image", f"{Install().repository}@sha256:{'a' * 64}"),
        (Install(version="v0.12.2"), "containers.0.image", f"{Install().repository}:v0.12.2"),
        (Install(image_pull_secrets=("mirror",)), "imagePullSecrets", [{"name": "mirror"}]),
        (Install(prometheus_port=None), "containers.0.readinessProbe", None),
        (Install(env={"OTEL_EBPF_LOG_LEVEL": "DEBUG"}), "containers.0.env.2.name", "OTEL_EBPF_LOG_LEVEL"),
        (BEYLA, "containers.0.env.2", NODE),
    ],
)
def test_the_pod_is_what_was_asked_for(install: Install, path: str, expected: object) -> None:
    (workload,) = [body_of(thing) for thing in installed_objects(install) if thing.kind == "DaemonSet"]
    value: Any = workload["spec"]["template"]["spec"]
    for step in path.split("."):
        value = value[int(step)] if isinstance(value, list) else value.get(step)
    assert value == expected


def test_an_installation_that_sends_nothing_anywhere_does_not_pass() -> None:
    (text,) = render(Install(prometheus_port=None), Format.YAML).values()
    (config,) = [document.body["data"][FILE_NAME] for document in read_documents(text) if document.kind == "ConfigMap"]
    assert "nothing is exported" in " ".join(
        finding.message for finding in validate(config) if finding.severity == "error"
    )


def test_a_changed_configuration_restarts_the_pods() -> None:
    def checksum(install: Install) -> str:
        (workload,) = [body_of(thing) for thing in installed_objects(install) if thing.kind == "DaemonSet"]
        return str(workload["spec"]["template"]["metadata"]["annotations"]["checksum/config"])

    assert checksum(Install()) != checksum(Install(prometheus_port=9400))


@pytest.mark.parametrize("privileged", [False, True])
def test_a_sidecar_passes_the_sidecar_check(privileged: bool) -> None:
    container = {"name": "web", "image": "registry.example.org/shop:1"}
    before = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "shop", "namespace": "shop"},
        "spec": {
            "selector": {"matchLabels": {"app": "shop"}},
            "template": {"metadata": {"labels": {"app": "shop"}}, "spec": {"containers": [container]}},
        },
    }
    endpoint = "http://${HOST_IP}:4318" if privileged else None
    sidecar = Sidecar(
        deployment="shop", namespace="shop", open_port="8080", privileged=privileged, otlp_endpoint=endpoint
    )
    (after,) = documents_of([with_sidecar(before, sidecar)])
    scope = Scope(instrumented_namespaces=("shop",))
    assert (NODE in after.body["spec"]["template"]["spec"]["containers"][1]["env"]) == privileged
    assert judge_sidecar(manifest_policy(), before, after, scope=scope).violations == ()
    assert with_sidecar(after.body, sidecar) == after.body  # asked for twice it is there once


def test_snapshots_are_what_is_generated() -> None:
    wanted = manifest_snapshots()
    assert set(MANIFESTS.rglob("*.yaml")) == set(wanted), "run tests/snapshots/update.py"
    for path, text in wanted.items():
        assert path.read_text() == text, "run tests/snapshots/update.py"
