"""How objects are shown to be OBI's: honest ones, impostors, and objects of any shape."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obi_mcp.policy.membership import (
    DEFAULT_CONTAINER,
    OwnerRef,
    controller_of,
    default_container,
    foreign_containers,
    is_our_release,
    object_is_candidate,
    object_is_obi,
    owner_is_obi,
    pod_is_obi,
    workload_is_obi,
)
from obi_mcp.policy.model import Resource
from obi_mcp.policy.scope import Scope

SCOPE = Scope()
OBI = "otel/ebpf-instrument:v0.12.0"
EVIL = "alpine:3"
OURS = {"app.kubernetes.io/part-of": "obi"}
HELM = {"meta.helm.sh/release-name": "obi", "meta.helm.sh/release-namespace": "observability"}
FOREIGN_HELM = {**HELM, "meta.helm.sh/release-name": "vendor"}


def container(image: object, name: str = "obi", **more: object) -> dict[str, Any]:
    return {"name": name, "image": image, **more}


def meta(name: str = "obi", namespace: str = "observability", **more: Any) -> dict[str, Any]:
    return {"name": name, "uid": f"uid-{name}", **({"namespace": namespace} if namespace else {}), **more}


def owner(kind: str = "DaemonSet", name: str = "obi", **more: Any) -> dict[str, Any]:
    base = {"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": f"uid-{name}", "controller": True}
    return {**base, **more}


def pod(*containers: dict[str, Any], owners: list[dict[str, Any]] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta("obi-x7", labels=OURS, ownerReferences=owners or []),
        "spec": {"containers": list(containers), **spec},
    }


def workload(
    kind: str, *containers: dict[str, Any], namespace: str = "observability", **metadata: Any
) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": meta(namespace=namespace, **metadata),
        "spec": {"template": {"spec": {"containers": list(containers)}}},
    }


def resource(kind: str, group: str = "", version: str = "v1", *, namespaced: bool = True) -> Resource:
    return Resource(kind.lower() + "s", kind, group, version, namespaced)


BOTH = (container(OBI), container(EVIL, "shop"))


@pytest.mark.parametrize(
    ("body", "name", "write", "expected"),
    [
        (pod(container(OBI)), None, False, "yes"),
        (pod(container(OBI)), None, True, "yes"),
        (pod(container(OBI)), "obi", False, "yes"),
        (pod(container(OBI)), "other", False, "no"),
        # A label says nothing.
        (pod(container(EVIL)), None, False, "no"),
        (pod(container("evil.example/otel/ebpf-instrument")), None, False, "no"),
        # An impostor beside OBI's image, and a sidecar in a foreign pod.
        (pod(*BOTH), None, False, "no"),
        (pod(*BOTH), None, True, "no"),
        (pod(*BOTH), "obi", False, "yes"),
        (pod(*BOTH), "shop", False, "no"),
        (pod(*reversed(BOTH)), None, False, "no"),
        # A mesh's sidecar in a pod that a DaemonSet controls: ask the DaemonSet.
        (pod(*BOTH, owners=[owner()]), None, False, "needs_owner"),
        (pod(*BOTH, owners=[owner()]), None, True, "needs_owner"),
        (pod(*BOTH, owners=[owner()]), "shop", False, "needs_owner"),
        (pod(container(EVIL), owners=[owner()]), None, False, "needs_owner"),
        (pod(container(EVIL), owners=[owner()]), None, True, "no"),
        # Owners that prove nothing.
        (pod(*BOTH, owners=[owner(controller=False)]), None, False, "no"),
        (pod(*BOTH, owners=[owner(controller="true")]), None, False, "no"),
        (pod(*BOTH, owners=[owner(kind="Job")]), None, False, "no"),
        (pod(*BOTH, owners=[owner(apiVersion="evil/v1")]), None, False, "no"),
        (pod(*BOTH, owners=[owner(uid="")]), None, False, "no"),
        (pod(*BOTH, owners=[owner(), owner(name="x")]), None, False, "no"),
        # Init containers: those that end may be foreign for reading; those that stay may not.
        (pod(container(OBI), initContainers=[container(EVIL, "init")]), None, False, "yes"),
        (pod(container(OBI), initContainers=[container(EVIL, "init")]), None, True, "no"),
        (pod(container(OBI), initContainers=[container(EVIL, "init")]), "init", False, "no"),
        (pod(container(OBI), initContainers=[container(EVIL, "init", restartPolicy="Always")]), None, False, "no"),
        (pod(container(EVIL), initContainers=[container(OBI, "i", restartPolicy="Always")]), None, False, "no"),
        (pod(container(EVIL, "app"), initContainers=[container(OBI, restartPolicy="Always")]), "obi", False, "yes"),
        (pod(container(OBI), ephemeralContainers=[container(EVIL, "debug")]), None, False, "no"),
        (pod(container(OBI), ephemeralContainers=[container(EVIL, "debug")]), "debug", False, "no"),
        # Two containers of one name, and shapes that are not a pod's.
        (pod(container(OBI), container(EVIL)), "obi", False, "no"),
        (pod(), None, False, "no"),
        (pod(container([OBI])), None, False, "no"),
        ({}, None, False, "no"),
        ({"metadata": [], "spec": "x"}, None, False, "no"),
        ({"metadata": None, "spec": {"containers": OBI}}, None, False, "no"),
        ({"metadata": {}, "spec": {"containers": [container(OBI), "x"]}}, None, False, "no"),
    ],
)
def test_pod(body: dict[str, Any], name: str | None, write: bool, expected: str) -> None:
    proof = pod_is_obi(body, SCOPE, name, write=write)
    assert proof.kind == expected
    assert proof.why
    assert (proof.owner is not None) is (expected == "needs_owner")


def test_a_pod_is_written_only_in_scope() -> None:
    body = pod(container(OBI))
    body["metadata"]["namespace"] = "shop"
    assert pod_is_obi(body, SCOPE).proven
    assert pod_is_obi(body, SCOPE, write=True).kind == "no"


REF = OwnerRef("apps/v1", "DaemonSet", "obi", "uid-obi", "observability")
RS = OwnerRef("apps/v1", "ReplicaSet", "obi", "uid-obi", "observability")


@pytest.mark.parametrize(
    ("ref", "body", "name", "expected"),
    [
        (REF, workload("DaemonSet", container(OBI)), None, "yes"),
        (REF, workload("DaemonSet", container(OBI)), "obi", "yes"),
        (REF, workload("DaemonSet", container(OBI)), "istio-proxy", "no"),
        (REF, workload("DaemonSet", *BOTH), None, "no"),
        (REF, workload("DaemonSet", *BOTH), "obi", "yes"),
        (REF, workload("DaemonSet", *BOTH), "shop", "no"),
        (REF, workload("DaemonSet", container(EVIL)), None, "no"),
        (REF, None, None, "no"),
        (REF, workload("DaemonSet", container(OBI), uid="uid-other"), None, "no"),
        (REF, workload("DaemonSet", container(OBI), name="other"), None, "no"),
        (REF, workload("DaemonSet", container(OBI), namespace="shop"), None, "no"),
        (REF, workload("Deployment", container(OBI)), None, "no"),
        (RS, workload("ReplicaSet", container(OBI)), None, "yes"),
        (RS, workload("ReplicaSet", container(EVIL)), None, "no"),
        (RS, workload("ReplicaSet", container(EVIL), ownerReferences=[owner("Deployment")]), None, "needs_owner"),
        (RS, workload("ReplicaSet", container(EVIL), ownerReferences=[owner("DaemonSet")]), None, "no"),
        (OwnerRef("v1", "Pod", "obi-x7", "", "observability"), pod(container(OBI)), None, "yes"),
        (OwnerRef("v1", "Pod", "obi-x7", "", "observability"), pod(*BOTH, owners=[owner()]), None, "needs_owner"),
        (OwnerRef("v1", "Node", "n", "", ""), {"metadata": {"name": "n", "labels": OURS}}, None, "no"),
        (OwnerRef("v1", "Secret", "n", "", ""), {"metadata": {"name": "n", "labels": OURS}}, None, "no"),
    ],
)
def test_owner(ref: OwnerRef, body: dict[str, Any] | None, name: str | None, expected: str) -> None:
    assert owner_is_obi(ref, body, SCOPE, name).kind == expected


@pytest.mark.parametrize(
    ("body", "write", "expected"),
    [
        (workload("DaemonSet", container(OBI)), False, "yes"),
        (workload("DaemonSet", container(OBI), namespace="shop"), False, "yes"),
        (workload("DaemonSet", *BOTH, labels=OURS), False, "no"),
        (workload("DaemonSet", container(EVIL), labels=OURS), False, "no"),
        (workload("DaemonSet", container(OBI), labels=OURS), True, "yes"),
        (workload("DaemonSet", container(OBI)), True, "no"),
        (workload("DaemonSet", container(OBI), annotations=HELM), True, "yes"),
        (workload("DaemonSet", container(OBI), labels=OURS, annotations=FOREIGN_HELM), True, "no"),
        (workload("DaemonSet", container(OBI), labels=OURS, namespace="shop"), True, "no"),
        ({"spec": {"template": {"spec": {"containers": []}}}}, False, "no"),
        ({"spec": {"template": []}}, False, "no"),
    ],
)
def test_workload(body: dict[str, Any], write: bool, expected: str) -> None:
    assert workload_is_obi(body, SCOPE, write=write).kind == expected


def thing(kind: str, api: str = "v1", namespace: str = "observability", **metadata: Any) -> dict[str, Any]:
    return {"apiVersion": api, "kind": kind, "metadata": meta(namespace=namespace, **metadata)}


RBAC = "rbac.authorization.k8s.io"
CONFIG = resource("ConfigMap")
ACCOUNT = resource("ServiceAccount")
ROLE = resource("ClusterRole", RBAC, namespaced=False)
EVENT = resource("Event")
METRICS = resource("PodMetrics", "metrics.k8s.io", "v1beta1")
REVISION = resource("ControllerRevision", "apps")


HOSTILE_METRICS = {
    "apiVersion": "metrics.k8s.io/v1beta1",
    "kind": "PodMetrics",
    "metadata": {**meta(), "kind": "Secret", "apiVersion": "evil/v1"},
}


@pytest.mark.parametrize(
    ("body", "kind", "write", "expected"),
    [
        (thing("ConfigMap", labels=OURS), CONFIG, False, "yes"),
        (thing("ConfigMap", labels=OURS), CONFIG, True, "yes"),
        (thing("ConfigMap"), CONFIG, False, "no"),
        (thing("ConfigMap", annotations=HELM), CONFIG, False, "no"),
        (thing("ConfigMap", labels=OURS, namespace="shop"), CONFIG, False, "no"),
        (thing("ConfigMap", labels=OURS, namespace=""), CONFIG, False, "no"),
        (thing("ConfigMap", labels={"app": "shop"}), CONFIG, False, "no"),
        (thing("ConfigMap", labels={"app": ["obi"]}), CONFIG, False, "no"),
        (thing("ConfigMap", labels=["app"]), CONFIG, False, "no"),
        (thing("ConfigMap", labels=OURS, annotations=FOREIGN_HELM), CONFIG, False, "yes"),
        (thing("ConfigMap", labels=OURS, annotations=FOREIGN_HELM), CONFIG, True, "no"),
        (thing("Secret", labels=OURS), CONFIG, False, "no"),
        (thing("ConfigMap", "example.com/v1", labels=OURS), CONFIG, False, "no"),
        ({"metadata": meta(labels=OURS)}, CONFIG, False, "yes"),
        (thing("Secret", labels=OURS), resource("Secret"), False, "no"),
        (thing("Foo", "example.com/v1", labels=OURS), resource("Foo", "example.com"), False, "no"),
        (thing("Node", labels=OURS, namespace=""), resource("Node"), False, "no"),
        (thing("ServiceAccount", name="default", labels=OURS), ACCOUNT, False, "yes"),
        (thing("ServiceAccount", name="default", labels=OURS), ACCOUNT, True, "no"),
        (thing("ClusterRole", f"{RBAC}/v1", "", labels=OURS), ROLE, True, "yes"),
        (thing("ClusterRole", f"{RBAC}/v1", "", name="view", labels=OURS), ROLE, False, "no"),
        (thing("ClusterRole", f"{RBAC}/v1", "", name="view"), ROLE, False, "no"),
        (thing("ClusterRole", f"{RBAC}/v1", "", name=["obi"], labels=OURS), ROLE, False, "no"),
        (thing("ClusterRole", f"{RBAC}/v1", "", name="x", labels=OURS, annotations=HELM), ROLE, False, "yes"),
        (thing("ClusterRole", f"{RBAC}/v1", "", name="x", labels=OURS, annotations=HELM), ROLE, True, "no"),
        (thing("Namespace", namespace="", labels=OURS), resource("Namespace"), False, "yes"),
        (thing("Namespace", namespace="", labels=OURS), resource("Namespace"), True, "no"),
        (thing("Namespace", namespace=""), resource("Namespace"), False, "no"),
        (workload("DaemonSet", container(OBI)), resource("DaemonSet", "apps"), False, "yes"),
        (pod(container(OBI)), resource("Pod"), True, "yes"),
        (
            {
                **thing("ControllerRevision", "apps/v1"),
                "data": {"spec": {"template": {"spec": {"containers": [container(OBI)]}}}},
            },
            REVISION,
            False,
            "yes",
        ),
        (thing("ControllerRevision", "apps/v1", labels=OURS), REVISION, False, "no"),
        (thing("ControllerRevision", "apps/v1", ownerReferences=[owner()]), REVISION, False, "needs_owner"),
        (thing("ControllerRevision", "apps/v1", ownerReferences=[owner()]), REVISION, True, "no"),
        (thing("PodMetrics", "metrics.k8s.io/v1beta1", labels=OURS), METRICS, False, "needs_owner"),
        (HOSTILE_METRICS, METRICS, False, "needs_owner"),
        (thing("Event", labels=OURS), EVENT, False, "no"),
    ],
)
def test_object(body: dict[str, Any], kind: Resource, write: bool, expected: str) -> None:
    assert object_is_obi(body, kind, SCOPE, write=write).kind == expected


def test_metrics_are_proven_by_the_pod_of_their_name() -> None:
    proof = object_is_obi(HOSTILE_METRICS, METRICS, SCOPE)
    assert proof.owner == OwnerRef("v1", "Pod", "obi", "", "observability")


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ({"apiVersion": "v1", "kind": "Pod", "name": "p", "namespace": "observability", "uid": "u"}, "needs_owner"),
        ({"apiVersion": "v1", "kind": "Pod", "name": "p", "namespace": "observability"}, "no"),
        ({"apiVersion": "v1", "kind": "Pod", "name": "p", "namespace": "shop", "uid": "u"}, "no"),
        ({"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}, "no"),
        ({"kind": ["Pod"], "name": "p", "namespace": "observability", "uid": "u"}, "no"),
        ({}, "no"),
    ],
)
def test_an_event_is_proven_by_what_it_is_about(subject: dict[str, Any], expected: str) -> None:
    body = {**thing("Event", labels=OURS), "involvedObject": subject}
    assert object_is_obi(body, EVENT, SCOPE).kind == expected


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, None),
        ({"annotations": HELM}, True),
        ({"annotations": HELM, "labels": {"helm.sh/chart": "opentelemetry-ebpf-instrumentation-0.12.0"}}, True),
        ({"annotations": HELM, "labels": {"helm.sh/chart": "shop-1.0.0"}}, False),
        ({"annotations": HELM, "labels": {"helm.sh/chart": "obi-1.0.0"}}, True),
        ({"annotations": HELM, "labels": {"helm.sh/chart": "obi-evil-1.0.0"}}, False),
        ({"annotations": FOREIGN_HELM}, False),
        ({"annotations": {**HELM, "meta.helm.sh/release-namespace": "shop"}}, False),
        ({"annotations": {"meta.helm.sh/release-name": "obi"}}, False),
        ({"annotations": {**HELM, "meta.helm.sh/release-name": ["obi"]}}, False),
    ],
)
def test_release(metadata: dict[str, Any], expected: bool | None) -> None:
    assert is_our_release({"metadata": metadata}, SCOPE) is expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (pod(*BOTH), "obi"),
        (pod(*reversed(BOTH)), "shop"),
        ({**pod(*BOTH), "metadata": {"annotations": {DEFAULT_CONTAINER: "shop"}}}, "shop"),
        ({**pod(*BOTH), "metadata": {"annotations": {DEFAULT_CONTAINER: "gone"}}}, "obi"),
        ({**pod(*BOTH), "metadata": {"annotations": {DEFAULT_CONTAINER: ["shop"]}}}, "obi"),
        (pod(), None),
        ({}, None),
    ],
)
def test_default_container(body: dict[str, Any], expected: str | None) -> None:
    assert default_container(body) == expected


def test_foreign_containers_and_controllers() -> None:
    body = pod(*BOTH, owners=[owner()], initContainers=[container(EVIL, "init")])
    assert foreign_containers(body, SCOPE) == ("shop", "init")
    assert controller_of(body, "Pod") == REF
    assert controller_of(pod(container(OBI)), "Pod") is None
    assert object_is_candidate(body, SCOPE)
    assert not object_is_candidate({"metadata": {"labels": {"app": "shop"}}}, SCOPE)


def test_pinning_holds_for_membership() -> None:
    pinned = Scope(image_digests=("sha256:" + "a" * 64,))
    assert pod_is_obi(pod(container(OBI)), pinned).kind == "no"
    assert pod_is_obi(pod(container(f"{OBI}@sha256:{'a' * 64}")), pinned).proven


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from([OBI, EVIL, "obi", "observability", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "metadata",
                    "spec",
                    "template",
                    "containers",
                    "initContainers",
                    "ephemeralContainers",
                    "image",
                    "name",
                    "labels",
                    "annotations",
                    "ownerReferences",
                    "controller",
                    "kind",
                    "apiVersion",
                    "uid",
                    "namespace",
                    "data",
                    "involvedObject",
                    "app",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(("metadata", "spec", "data", "involvedObject", "kind")), JSON))
@settings(max_examples=300, deadline=None)
def test_any_shape_gets_an_answer(body: dict[str, Any]) -> None:
    for kind in (resource("Pod"), resource("DaemonSet", "apps"), CONFIG, ROLE, EVENT, METRICS, REVISION):
        for write in (False, True):
            assert object_is_obi(body, kind, SCOPE, write=write).why
    assert pod_is_obi(body, SCOPE, "obi").why
    assert owner_is_obi(REF, body, SCOPE).why
    default_container(body)
