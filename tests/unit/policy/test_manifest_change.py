"""Before and after: what a write may change, what it then needs, and the sidecar that is the one exception."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.policy.manifest_cases import good, manifest_policy, put, stored

from obi_mcp.policy.manifest import Judgement, judge_before, judge_change, judge_sidecar
from obi_mcp.policy.manifest.change import LAST_APPLIED
from obi_mcp.policy.model import Access, Document, Resource
from obi_mcp.policy.scope import Scope

SCOPE = Scope()
ANNOTATION = ["metadata", "annotations"]


def live(kind: str, name: str = "complete") -> dict[str, Any]:
    """A fresh copy of the stored object of that kind."""
    return copy.deepcopy(dict(next(document.body for document in stored(name) if document.kind == kind)))


def changed(
    body: dict[str, Any], at: list[str | int], value: Any, *, applied: dict[str, Any] | None = None
) -> Judgement:
    """The judgement of setting one path of a live object."""
    after = copy.deepcopy(body)
    put(after, at, value)
    return judge_change(body, Document(3, after), scope=SCOPE, applied=applied)


def places(judgement: Judgement) -> list[tuple[str, str]]:
    return [(violation.rule, violation.path) for violation in judgement.violations]


BOOKKEEPING = [
    (["metadata", "ownerReferences"], [{"uid": "1"}], "metadata.ownerReferences"),
    (["metadata", "finalizers"], ["x.io/y"], "metadata.finalizers"),
    (["secrets"], [{"name": "db"}], "secrets"),
    ([*ANNOTATION, "meta.helm.sh/release-name"], "obi", "metadata.annotations[meta.helm.sh/release-name]"),
    ([*ANNOTATION, "meta.helm.sh/release-namespace"], "obi", "metadata.annotations[meta.helm.sh/release-namespace]"),
    ([*ANNOTATION, "helm.sh/hook"], "pre-install", "metadata.annotations[helm.sh/hook]"),
    ([*ANNOTATION, LAST_APPLIED], "{}", f"metadata.annotations[{LAST_APPLIED}]"),
]


@pytest.mark.parametrize(("at", "value", "path"), BOOKKEEPING)
def test_bookkeeping_stays_as_it_is(at: list[str | int], value: Any, path: str) -> None:
    judgement = changed(live("DaemonSet"), at, value)
    assert places(judgement) == [("manifest.bookkeeping", path)]
    assert judgement.violations[0].document == 3


@pytest.mark.parametrize(("at", "value", "path"), BOOKKEEPING)
def test_a_new_object_has_no_bookkeeping(at: list[str | int], value: Any, path: str) -> None:
    body = live("DaemonSet")
    del body["metadata"]["annotations"]
    put(body, at, value)
    assert places(judge_change(None, Document(0, body), scope=SCOPE)) == [("manifest.bookkeeping", path)]


@pytest.mark.parametrize("at", [["metadata", "ownerReferences"], ["metadata", "finalizers"]])
def test_bookkeeping_is_not_taken_away(at: list[str | int]) -> None:
    body = live("DaemonSet")
    put(body, at, ["x"])
    assert [rule for rule, _ in places(changed(body, at, None))] == ["manifest.bookkeeping"]


@pytest.mark.parametrize(
    ("key", "value", "rules"),
    [
        ("app.kubernetes.io/part-of", "beyla", ["manifest.scope-label"]),
        ("app.kubernetes.io/part-of", None, ["manifest.scope-label"]),
        ("app.kubernetes.io/name", "obi", []),
        ("team", "x", []),
    ],
)
def test_scope_labels_are_added_but_never_changed(key: str, value: str | None, rules: list[str]) -> None:
    assert [rule for rule, _ in places(changed(live("DaemonSet"), ["metadata", "labels", key], value))] == rules


def test_a_scope_label_is_not_taken_away() -> None:
    before, after = live("DaemonSet"), live("DaemonSet")
    del after["metadata"]["labels"]["app.kubernetes.io/part-of"]
    judged = judge_change(before, Document(0, after), scope=SCOPE)
    assert ("manifest.scope-label", "metadata.labels[app.kubernetes.io/part-of]") in places(judged)


def test_what_helm_manages_keeps_helms_labels() -> None:
    body = live("DaemonSet")
    body["metadata"]["annotations"]["meta.helm.sh/release-name"] = "obi"
    body["metadata"]["labels"]["app.kubernetes.io/managed-by"] = "Helm"
    at: list[str | int] = ["metadata", "labels", "app.kubernetes.io/managed-by"]
    assert [rule for rule, _ in places(changed(body, at, "me"))] == ["manifest.scope-label"]


@pytest.mark.parametrize(
    ("at", "value", "path"),
    [
        (["metadata", "uid"], "another", "metadata.uid"),
        (["metadata", "name"], "another", "metadata.name"),
        (["metadata", "namespace"], "another", "metadata.namespace"),
        (["kind"], "Deployment", "kind"),
    ],
)
def test_another_object_is_no_change_of_this_one(at: list[str | int], value: str, path: str) -> None:
    assert ("manifest.identity", path) in places(changed(live("DaemonSet"), at, value))


def test_kubectl_may_record_what_was_sent() -> None:
    for document in good("complete"):
        before = next((s.body for s in stored("complete") if s.identity == document.identity), None)
        if before is None:
            continue
        first = json.loads(before["metadata"]["annotations"][LAST_APPLIED])
        first["metadata"]["labels"] = {}
        old = copy.deepcopy(dict(before))
        old["metadata"]["annotations"][LAST_APPLIED] = json.dumps(first)
        judgement = judge_change(old, Document(0, dict(before)), scope=SCOPE, applied=document.body)
        assert judgement.violations == (), document.kind
        other = {**document.body, "metadata": {**document.body["metadata"], "labels": {"app": "obi"}}}
        judgement = judge_change(old, Document(0, dict(before)), scope=SCOPE, applied=other)
        assert [rule for rule, _ in places(judgement)] == ["manifest.bookkeeping"], document.kind


def test_forgetting_what_was_applied_is_said() -> None:
    judgement = changed(live("DaemonSet"), [*ANNOTATION, LAST_APPLIED], None)
    assert judgement.passed
    assert [warning.rule for warning in judgement.warnings] == ["manifest.bookkeeping"]


def test_what_was_never_applied_is_not_forgotten() -> None:
    body = live("DaemonSet")
    del body["metadata"]["annotations"][LAST_APPLIED]
    assert changed(body, ["spec", "minReadySeconds"], 1).warnings == ()
    assert changed(live("DaemonSet"), ["spec", "minReadySeconds"], 1).warnings == ()


POD: list[str | int] = ["spec", "template", "spec"]
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


@pytest.mark.parametrize(
    ("kind", "at", "value", "raised"),
    [
        ("Deployment", ["spec", "replicas"], 0, Access.FULL),
        ("Deployment", ["spec", "replicas"], 1, None),
        ("DaemonSet", [*POD, "nodeSelector"], {"kubernetes.io/os": "linux", "no": "where"}, Access.FULL),
        ("DaemonSet", [*POD, "nodeSelector"], {"kubernetes.io/os": "windows"}, Access.FULL),
        ("DaemonSet", [*POD, "nodeSelector"], {}, None),
        ("DaemonSet", [*POD, "nodeSelector"], None, None),
        ("DaemonSet", [*POD, "affinity", "nodeAffinity", REQUIRED, "nodeSelectorTerms"], [{}], Access.FULL),
        ("DaemonSet", [*POD, "affinity"], None, None),
        ("DaemonSet", [*POD, "affinity", "podAntiAffinity"], {REQUIRED: [{}]}, Access.FULL),
        ("DaemonSet", [*POD, "tolerations"], [], Access.FULL),
        ("DaemonSet", [*POD, "tolerations", 1], {"operator": "Exists"}, None),
    ],
)
def test_a_change_to_nothing_needs_full(kind: str, at: list[str | int], value: Any, raised: Access | None) -> None:
    assert changed(live(kind), at, value).raised == raised


def test_nothing_that_stays_nothing_needs_no_more() -> None:
    body = live("Deployment")
    body["spec"]["replicas"] = 0
    assert changed(body, ["spec", "template", "metadata", "annotations"], {"x": "y"}).raised is None
    assert judge_change(None, Document(0, body), scope=SCOPE).raised is None


def test_a_daemonset_may_get_the_selector_that_it_has() -> None:
    body = live("DaemonSet")
    body["spec"]["template"]["spec"]["nodeSelector"] = {"pool": "a"}
    assert changed(body, [*POD, "nodeSelector"], {"pool": "a", "kubernetes.io/os": "linux"}).raised is None
    assert changed(body, [*POD, "nodeSelector"], {"pool": "b"}).raised == Access.FULL


def resource(kind: str) -> Resource:
    plurals = {"DaemonSet": ("daemonsets", "apps"), "Namespace": ("namespaces", ""), "ConfigMap": ("configmaps", "")}
    plural, group = plurals[kind]
    return Resource(plural, kind, group, "v1", kind != "Namespace")


def test_what_is_there_must_be_obis() -> None:
    daemonset = resource("DaemonSet")
    assert judge_before(None, daemonset, scope=SCOPE).passed
    assert judge_before(live("DaemonSet"), daemonset, scope=SCOPE).passed
    foreign = live("DaemonSet")
    put(foreign, [*POD, "containers", 0, "image"], "alpine")
    assert places(judge_before(foreign, daemonset, scope=SCOPE)) == [("manifest.not-obi", "metadata")]
    unlabelled = live("ConfigMap")
    unlabelled["metadata"]["labels"] = {}
    assert places(judge_before(unlabelled, resource("ConfigMap"), scope=SCOPE)) == [("manifest.not-obi", "metadata")]


def test_a_namespace_is_created_and_then_left_alone() -> None:
    body = live("Namespace")
    assert judge_before(body, resource("Namespace"), scope=SCOPE).passed
    system = copy.deepcopy(body)
    system["metadata"]["name"] = "kube-system"
    assert not judge_before(system, resource("Namespace"), scope=SCOPE).passed
    same = changed(body, ["metadata", "resourceVersion"], "99")
    assert same.passed
    relabelled = changed(body, ["metadata", "labels", "pod-security.kubernetes.io/warn"], "restricted")
    assert places(relabelled) == [("manifest.namespace", "metadata")]


# --- the sidecar ---

INSTRUMENTED = replace(SCOPE, instrumented_namespaces=("shop",))
SIDECAR: dict[str, Any] = {
    "name": "obi",
    "image": "otel/ebpf-instrument:v0.12.0",
    "args": ["-config", "/etc/obi/obi-config.yml"],
    "env": [{"name": "OTEL_EBPF_OPEN_PORT", "value": "8080"}],
    "securityContext": {"runAsUser": 0, "capabilities": {"add": ["BPF", "SYS_PTRACE"]}},
    "volumeMounts": [{"name": "obi-config", "mountPath": "/etc/obi"}],
}


def shop() -> dict[str, Any]:
    """Somebody else's Deployment, as it is."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "shop",
            "namespace": "shop",
            "uid": "1",
            "resourceVersion": "5",
            "labels": {"app": "shop"},
        },
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "shop"}},
            "template": {
                "metadata": {"labels": {"app": "shop"}},
                "spec": {"containers": [{"name": "shop", "image": "shop:1", "command": ["run"]}]},
            },
        },
    }


def with_sidecar() -> dict[str, Any]:
    """The same with OBI beside it."""
    body = shop()
    pod = body["spec"]["template"]["spec"]
    pod["containers"].append(copy.deepcopy(SIDECAR))
    pod["shareProcessNamespace"] = True
    pod["volumes"] = [{"name": "obi-config", "configMap": {"name": "obi-config"}}]
    body["metadata"].update(resourceVersion="6", generation=2, managedFields=[{}])
    return body


def judge(after: dict[str, Any], scope: Scope = INSTRUMENTED) -> Judgement:
    return judge_sidecar(manifest_policy(), shop(), Document(0, after), scope=scope)


def test_a_sidecar_may_be_added() -> None:
    judgement = judge(with_sidecar())
    assert judgement.violations == ()
    assert [(need.kind, need.name, need.namespace) for need in judgement.needs] == [("ConfigMap", "obi-config", "shop")]


@pytest.mark.parametrize("shared", [False, True, None])
def test_a_sidecar_may_find_the_process_namespace_in_any_state(shared: bool | None) -> None:
    before = shop()
    before["spec"]["template"]["spec"]["shareProcessNamespace"] = shared
    judgement = judge_sidecar(manifest_policy(), before, Document(0, with_sidecar()), scope=INSTRUMENTED)
    assert judgement.violations == ()


def test_a_sidecar_is_only_for_instrumented_namespaces() -> None:
    assert places(judge(with_sidecar(), SCOPE)) == [("manifest.namespace", "metadata.namespace")]


@pytest.mark.parametrize(
    ("at", "value", "rule", "path"),
    [
        ([*POD, "containers", 1, "image"], "alpine", "manifest.image", "spec.template.spec.containers[1].image"),
        ([*POD, "containers", 0, "image"], "shop:2", "manifest.sidecar", "spec"),
        ([*POD, "containers", 0, "env"], [{"name": "X", "value": "y"}], "manifest.sidecar", "spec"),
        ([*POD, "containers", 2], {"name": "z", "image": "z"}, "manifest.sidecar", "spec.template.spec.containers"),
        ([*POD, "initContainers"], [{"name": "z", "image": "z"}], "manifest.sidecar", "spec"),
        ([*POD, "hostPID"], True, "manifest.sidecar", "spec"),
        ([*POD, "serviceAccountName"], "admin", "manifest.sidecar", "spec"),
        ([*POD, "shareProcessNamespace"], False, "manifest.sidecar", "spec.template.spec.shareProcessNamespace"),
        (["spec", "replicas"], 5, "manifest.sidecar", "spec"),
        (["spec", "template", "metadata", "labels", "app"], "other", "manifest.sidecar", "spec"),
        (["metadata", "labels", "app"], "obi", "manifest.sidecar", "spec"),
        (["metadata", "ownerReferences"], [{}], "manifest.bookkeeping", "metadata.ownerReferences"),
        ([*POD, "volumes", 1], {"name": "r", "hostPath": {"path": "/"}}, "manifest.host-path", None),
        ([*POD, "volumes", 1], {"name": "s", "secret": {"secretName": "db"}}, "manifest.never", None),
        ([*POD, "containers", 1, "volumeMounts", 0, "name"], "other", "manifest.mount", None),
        ([*POD, "containers", 1, "lifecycle"], {}, "manifest.never", None),
        ([*POD, "containers"], "x", "manifest.type", "spec.template.spec.containers"),
        (["spec", "template"], None, "manifest.sidecar", "spec.template.spec"),
        (["kind"], "StatefulSet", "manifest.sidecar", "kind"),
    ],
)
def test_a_sidecar_brings_nothing_else(at: list[str | int], value: Any, rule: str, path: str | None) -> None:
    after = with_sidecar()
    put(after, at, value)
    judgement = judge(after)
    assert (rule, path) in places(judgement) if path else rule in {v.rule for v in judgement.violations}


def test_without_a_container_nothing_is_added() -> None:
    after = shop()
    after["spec"]["template"]["spec"]["shareProcessNamespace"] = True
    assert ("manifest.sidecar", "spec.template.spec.containers") in places(judge(after))


def test_a_sidecar_does_not_read_the_volumes_of_others() -> None:
    after = with_sidecar()
    after["spec"]["template"]["spec"]["volumes"] = [{"name": "obi-config", "configMap": {"name": "obi-config"}}]
    before = shop()
    before["spec"]["template"]["spec"]["volumes"] = [{"name": "obi-config", "configMap": {"name": "obi-config"}}]
    judgement = judge_sidecar(manifest_policy(), before, Document(0, after), scope=INSTRUMENTED)
    assert "manifest.mount" in {rule for rule, _ in places(judgement)}
