"""What the operator's configuration lets a manifest have: privileges, secrets, digests, selectors, helm's documents."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.policy.judging import SCOPE, found, judged
from tests.unit.policy.manifest_cases import body_of, good, manifest_policy, path_of, put

from obi_mcp.policy.manifest import Mode
from obi_mcp.policy.model import Document


def test_the_shared_account_is_allowed_with_a_warning() -> None:
    body = body_of("DaemonSet")
    for value in ("default", None):
        body["spec"]["template"]["spec"]["serviceAccountName"] = value
        judgement = manifest_policy().judge(Document(0, body), scope=SCOPE, batch=good("complete"))
        assert judgement.passed
        assert "manifest.service-account" in {warning.rule for warning in judgement.warnings}


def test_privileges_are_the_configurations_choice() -> None:
    body = body_of("DaemonSet")
    security = body["spec"]["template"]["spec"]["containers"][0]["securityContext"]
    security.clear()
    security["privileged"] = True
    path = "spec.template.spec.containers[0].securityContext.privileged"
    judgement = manifest_policy().judge(Document(0, body), scope=SCOPE, batch=good("complete"))
    assert judgement.violations == ()
    assert [(warning.rule, warning.path) for warning in judgement.warnings] == [("manifest.privileged", path)]
    assert "PERFMON" in (judgement.warnings[0].hint or "")
    assert found(judged(body, replace(SCOPE, allow_privileged=False))) == [("manifest.privileged", path)]


CONTAINER: list[str | int] = ["spec", "template", "spec", "containers", 0, "securityContext"]


@pytest.mark.parametrize(
    ("at", "value", "rule", "without"),
    [
        ([*CONTAINER, "capabilities", "add", 0], "SYS_ADMIN", "manifest.capability", []),
        ([*CONTAINER, "seccompProfile"], {"type": "Unconfined"}, "manifest.confinement", ["manifest.confinement"]),
        ([*CONTAINER, "appArmorProfile"], {"type": "Unconfined"}, "manifest.confinement", []),
        (["spec", "template", "spec", "priorityClassName"], "obi-high", "manifest.priority", []),
    ],
)
def test_what_weakens_is_said_once(at: list[str | int], value: Any, rule: str, without: list[str]) -> None:
    """``without``: what is refused where no privileged containers are allowed."""
    body = body_of("DaemonSet")
    put(body, at, value)
    judgement = manifest_policy().judge(Document(0, body), scope=SCOPE, batch=good("complete"))
    assert judgement.passed
    before = manifest_policy().judge(Document(0, body_of("DaemonSet")), scope=SCOPE, batch=good("complete")).warnings
    assert {warning.rule for warning in before} == {"manifest.confinement"}
    more = {(warning.rule, warning.path) for warning in judgement.warnings} - {(w.rule, w.path) for w in before}
    where = at if value != {"type": "Unconfined"} else [*at, "type"]
    assert more == ({(rule, path_of(where))} if at[-1] != "appArmorProfile" else set())
    assert [rule for rule, _ in found(judged(body, replace(SCOPE, allow_privileged=False)))] == without


@pytest.mark.parametrize("listed", ["registry", "obi/registry"])
def test_a_listed_secret_may_be_used(listed: str) -> None:
    body = body_of("DaemonSet")
    pod = body["spec"]["template"]["spec"]
    pod["imagePullSecrets"] = [{"name": "registry"}]
    source = {"secretKeyRef": {"name": "registry", "key": "x"}}
    pod["containers"][0]["env"].append({"name": "OTEL_EXPORTER_OTLP_HEADERS", "valueFrom": source})
    assert judged(body, replace(SCOPE, allowed_secrets=(listed,))) == ()
    assert len(judged(body, replace(SCOPE, allowed_secrets=("monitoring/registry",)))) == 2
    # OBI prints or sends everything but its headers.
    pod["containers"][0]["env"].append({"name": "OTEL_SERVICE_NAME", "valueFrom": source})
    assert {rule for rule, _ in found(judged(body, replace(SCOPE, allowed_secrets=(listed,))))} == {"manifest.variable"}


def test_images_can_be_pinned_by_digest() -> None:
    digest = "sha256:" + "a" * 64
    body = body_of("DaemonSet")
    pinned = replace(SCOPE, image_digests=(digest,))
    assert [rule for rule, _ in found(judged(body, pinned))] == ["manifest.image"]
    body["spec"]["template"]["spec"]["containers"][0]["image"] = f"otel/ebpf-instrument@{digest}"
    assert judged(body, pinned) == ()


def test_labels_of_a_configured_selector_may_be_set() -> None:
    body = body_of("ConfigMap")
    body["metadata"]["labels"] = {"example.org/obi": "yes"}
    assert judged(body, replace(SCOPE, selectors=("example.org/obi=yes",))) == ()
    assert {rule for rule, _ in found(judged(body))} == {"manifest.label", "manifest.scope-label"}


def test_a_rendered_document_may_leave_its_namespace_to_helm_and_be_a_hook() -> None:
    body = body_of("ConfigMap")
    del body["metadata"]["namespace"]
    body["metadata"]["annotations"] = {"helm.sh/hook": "pre-install", "helm.sh/hook-weight": "-5"}
    document = Document(0, body)
    policy = manifest_policy()
    rendered = policy.judge(document, scope=SCOPE, batch=(document,), namespace="obi", mode=Mode.RENDERED)
    assert rendered.violations == ()
    outside = policy.judge(document, scope=SCOPE, batch=(document,), namespace="default", mode=Mode.RENDERED)
    assert found(outside.violations) == [("manifest.namespace", "metadata.namespace")]
    submitted = policy.judge(document, scope=SCOPE, batch=(document,))
    assert {rule for rule, _ in found(submitted.violations)} == {"manifest.namespace", "manifest.not-yours"}
