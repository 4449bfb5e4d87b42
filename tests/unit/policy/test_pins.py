"""Preconditions of writes: what the server adds to a command, and that nothing else may run in its place."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.policy.policies import built_in

from obi_mcp.command.model import Command
from obi_mcp.errors import Denied
from obi_mcp.policy import pins
from obi_mcp.policy.documents import canonical
from obi_mcp.policy.held import RESTARTED, Held
from obi_mcp.policy.model import Access, CheckResult, Decision, Document
from obi_mcp.policy.pins import Pin

PIN = Pin("00000000-0000-0000-0000-000000000001", "7")
CONFIG = (
    "{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: observability, labels: "
    "{app.kubernetes.io/part-of: obi}}, data: {c.yml: 'log_level: INFO'}}"
)


def decided(command: str, stdin: str | None = None) -> Decision:
    decision = built_in().decide(command, stdin=stdin, access=Access.FULL)
    assert decision.allowed, decision.reason
    return decision


def head(decision: Decision) -> Command:
    assert decision.pipeline is not None
    return decision.pipeline.head


def approve(decision: Decision, vectors: list[tuple[str, ...]], stdin: bytes | None = None) -> None:
    results = [CheckResult(check, True) for check in decision.checks]
    built_in().approve(decision, access=Access.FULL, results=results, heads=vectors, stdin=stdin)


# --- the difference ---


@pytest.mark.parametrize(
    ("before", "after", "patch"),
    [
        ({}, {}, {}),
        ({"a": 1}, {"a": 1}, {}),
        ({"a": 1}, {"a": 2}, {"a": 2}),
        ({"a": 1}, {}, {"a": None}),
        ({}, {"a": {"b": 1}}, {"a": {"b": 1}}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}, {"a": {"c": None}}),
        ({"a": [1, 2]}, {"a": [2]}, {"a": [2]}),
        ({"a": {"b": 1}}, {"a": 1}, {"a": 1}),
        ({"a": 1}, {"a": {"b": 1}}, {"a": {"b": 1}}),
        ({"a": {}}, {"a": {}}, {}),
    ],
)
def test_a_merge_patch_makes_the_one_of_the_other(
    before: dict[str, Any], after: dict[str, Any], patch: dict[str, Any]
) -> None:
    assert pins.merge_patch(before, after) == patch


def merged(body: Any, patch: Any) -> Any:
    """What RFC 7386 makes of a body with a patch."""
    if not isinstance(patch, dict):
        return patch
    made = dict(body) if isinstance(body, dict) else {}
    for key, value in patch.items():
        if value is None:
            made.pop(key, None)
        else:
            made[key] = merged(made.get(key), value)
    return made


VALUES = st.recursive(
    st.integers(0, 3) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
BODIES = st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3)


@given(BODIES, BODIES)
def test_the_patch_of_any_two_makes_the_one_of_the_other(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert merged(before, pins.merge_patch(before, after)) == after


BEFORE = {
    "metadata": {"name": "obi", "labels": {"app": "obi", "team": "x"}, "annotations": {"a": "1"}, "finalizers": ["f"]},
    "spec": {"replicas": 1, "template": {"spec": {"containers": [{"name": "obi", "image": "old"}]}}},
    "status": {"ready": 1},
}
AFTER = {
    "metadata": {"name": "obi", "labels": {"app": "obi"}, "annotations": {"a": "2"}, "finalizers": []},
    "spec": {"replicas": 5, "template": {"spec": {"containers": [{"name": "obi", "image": "new"}]}}},
    "status": {"ready": 2},
}
TEMPLATE = {"template": {"spec": {"containers": [{"name": "obi", "image": "new"}]}}}


@pytest.mark.parametrize(
    ("path", "change"),
    [
        (("set", "image"), {"spec": TEMPLATE}),
        (("rollout", "undo"), {"spec": TEMPLATE}),
        (("label",), {"metadata": {"labels": {"team": None}}}),
        (("annotate",), {"metadata": {"annotations": {"a": "2"}}}),
        (
            ("apply",),
            {
                "metadata": {"labels": {"team": None}, "annotations": {"a": "2"}},
                "spec": {"replicas": 5, **TEMPLATE},
            },
        ),
    ],
)
def test_a_command_changes_only_what_is_its_own(path: tuple[str, ...], change: dict[str, Any]) -> None:
    assert pins.change_of(path, BEFORE, AFTER) == change


# --- what may run in place of the decided command ---

IMAGE = "kubectl set image ds/obi obi=otel/ebpf-instrument:v0.11.0 -n obi"
PATCHED: dict[str, Any] = {"spec": {"template": {"spec": {"containers": []}}}}


def patch(name: str = "obi", namespace: str = "obi", change: Any = None, **more: str) -> tuple[str, ...]:
    metadata = {"uid": "u", "resourceVersion": "7"}
    change = {**PATCHED, "metadata": metadata} if change is None else change
    flags = {
        "namespace": namespace,
        "request-timeout": "29s",
        "type": "merge",
        "patch": json.dumps(change, separators=(",", ":")),
        "field-manager": "kubectl-set",
        **{key.replace("_", "-"): value for key, value in more.items()},
    }
    return ("kubectl", "patch", *(f"--{key}={value}" for key, value in flags.items()), f"daemonsets.v1.apps/{name}")


PIN_ONLY = {"uid": "u", "resourceVersion": "7"}


@pytest.mark.parametrize(
    ("vector", "allowed"),
    [
        (patch(), True),
        (patch(change={"metadata": PIN_ONLY}), True),
        (patch(name="x"), False),
        (patch(namespace="shop"), False),
        (patch(type="strategic"), False),
        (patch(output="json"), False),
        (patch(field_manager="shop"), False),
        (patch(force="true"), False),
        (patch(dry_run="server"), False),
        (patch(change=PATCHED), False),
        (patch(change={**PATCHED, "metadata": {"uid": "u"}}), False),
        (patch(change={**PATCHED, "metadata": {"uid": "", "resourceVersion": "7"}}), False),
        (patch(change={**PATCHED, "metadata": {"uid": "u", "resourceVersion": 7}}), False),
        (patch(change={**PATCHED, "metadata": {**PIN_ONLY, "labels": {"a": "b"}}}), False),
        (patch(change={"metadata": PIN_ONLY, "data": {}}), False),
        (patch(change={"metadata": PIN_ONLY, "spec": {"replicas": 0}}), False),
        (patch(change={"metadata": PIN_ONLY, "spec": {"replicas": 0, **TEMPLATE}}), False),
        (patch(change=[]), False),
        ((*patch(), "daemonsets.v1.apps/x"), False),
        (("kubectl", "replace", "--filename=-"), False),
        (("kubectl", "create", "--filename=-"), False),
    ],
)
def test_only_the_judged_change_of_one_state_runs_in_place_of_a_command(vector: tuple[str, ...], allowed: bool) -> None:
    decision = decided(IMAGE)
    if allowed:
        approve(decision, [vector])
        return
    with pytest.raises(Denied, match="may not run"):
        approve(decision, [vector])


def test_a_dry_run_runs_as_it_was_decided() -> None:
    with pytest.raises(Denied, match="may not run"):
        approve(decided(f"{IMAGE} --dry-run=server"), [patch()])


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("strategic", '{"spec":{"template":{"spec":{"hostPID":true}}}}'),
        ("merge", '{"metadata":{"labels":{"team":"x"}}}'),
        ("json", '[{"op":"add","path":"/metadata/labels/team","value":"x"}]'),
        ("json", "[]"),
    ],
)
def test_a_patch_of_the_callers_gets_preconditions_and_nothing_else(kind: str, text: str) -> None:
    decision = decided(f"kubectl patch ds/obi -n obi --type={kind} -p '{text}'")
    pinned = pins.pinned_patch(head(decision), PIN)
    assert pinned is not None
    approve(decision, [pinned.argv()])
    given = json.loads(pinned.value("patch"))
    changes: list[Callable[[Any], Any]]
    if isinstance(given, list):
        assert [operation["path"] for operation in given[-2:]] == ["/metadata/uid", "/metadata/resourceVersion"]
        more = {"op": "add", "path": "/spec/x", "value": 1}
        changes = [lambda was: was[:-1], lambda was: [more, *was], lambda was: [*was, more]]
    else:
        assert given["metadata"].items() >= PIN.fields.items()
        changes = [lambda was: {**was, "spec": 1}, lambda was: {**was, "metadata": {}}, lambda was: [was]]
    for change in changes:
        argv = [*pinned.argv()]
        at = next(at for at, word in enumerate(argv) if word.startswith("--patch="))
        argv[at] = f"--patch={json.dumps(change(given), separators=(',', ':'))}"
        with pytest.raises(Denied, match="may not run"):
            approve(decision, [tuple(argv)])


@pytest.mark.parametrize("text", ['{"metadata":null}', '{"metadata":"x"}', '{"metadata":[]}'])
def test_a_patch_that_has_no_place_for_preconditions_is_not_made(text: str) -> None:
    decision = decided(f"kubectl patch ds/obi -n obi --type=merge -p '{text}'")
    assert pins.pinned_patch(head(decision), PIN) is None


def test_a_change_that_is_too_long_for_a_word_is_not_made() -> None:
    command = head(decided(IMAGE))
    resource = built_in().resources.find("daemonsets")
    assert resource is not None
    long = {"spec": {"template": {"x": "x" * pins.MAX_PATCH}}}
    assert pins.pinned_change(command, resource.resource, "obi", long, PIN) is None


def test_apply_creates_what_was_submitted_and_changes_what_was_named() -> None:
    decision = decided("kubectl apply -f -", CONFIG)
    made = pins.creation(head(decision)).argv()
    approve(decision, [made], canonical(decision.documents))
    change = json.dumps({"metadata": PIN_ONLY, "data": {"c.yml": "log_level: DEBUG"}}, separators=(",", ":"))
    vector = (
        *("kubectl", "patch", "--request-timeout=29s", "--type=merge", f"--patch={change}"),
        *("--field-manager=kubectl-client-side-apply", "--namespace=observability"),
    )
    approve(decision, [(*vector, "configmaps.v1./c")])
    for operand in ("configmaps.v1./d", "secrets.v1./c"):
        with pytest.raises(Denied, match="was not submitted"):
            approve(decision, [(*vector, operand)])
    for other in ("kubectl replace -f -", "kubectl apply --server-side -f -"):
        with pytest.raises(Denied, match="may not run"):
            approve(decided(other, CONFIG), [made])


@pytest.mark.parametrize(
    ("change", "allowed"),
    [
        ({}, True),
        ({"metadata": {"uid": "u", "resourceVersion": "7"}}, True),
        ({"metadata": {"labels": {"app": "shop"}}}, False),
        ({"data": {"c.yml": "log_level: DEBUG"}}, False),
        ({"metadata": {"name": "d"}}, False),
        ({"kind": "Secret"}, False),
    ],
)
def test_documents_that_are_written_are_the_submitted_ones(change: dict[str, Any], allowed: bool) -> None:
    decision = decided("kubectl replace -f -", CONFIG)
    body = json.loads(json.dumps(dict(decision.documents[0].body)))
    body |= {**change, "metadata": {**body["metadata"], **change.get("metadata", {})}}
    vectors = [head(decision).argv()]
    if allowed:
        approve(decision, vectors, canonical((Document(0, body),)))
        return
    with pytest.raises(Denied, match="not what was submitted"):
        approve(decision, vectors, canonical((Document(0, body),)))


def test_the_callers_own_precondition_is_not_replaced() -> None:
    text = CONFIG.replace("name: c,", "name: c, resourceVersion: '5',")
    decision = decided("kubectl replace -f -", text)
    document = decision.documents[0]
    assert pins.is_of_another(document, PIN) and not pins.is_of_another(document, Pin(PIN.uid, "5"))
    assert pins.is_of_another(document, None)
    with pytest.raises(Denied, match="not what was submitted"):
        approve(decision, [head(decision).argv()], canonical((pins.pinned_document(document, PIN),)))


# --- deletions ---


@pytest.mark.parametrize(
    ("flags", "options"),
    [
        ("", {"propagationPolicy": "Background"}),
        ("--cascade=foreground", {"propagationPolicy": "Foreground"}),
        ("--grace-period=5", {"propagationPolicy": "Background", "gracePeriodSeconds": 5}),
        ("--grace-period=0", {"propagationPolicy": "Background", "gracePeriodSeconds": 1}),
        ("--grace-period=-1", {"propagationPolicy": "Background"}),
        ("--now", {"propagationPolicy": "Background", "gracePeriodSeconds": 1}),
    ],
)
def test_a_deletion_carries_kubectls_options_and_preconditions(flags: str, options: dict[str, Any]) -> None:
    decision = decided(f"kubectl delete ds/obi -n obi {flags}")
    resource = built_in().resources.find("daemonsets")
    assert resource is not None
    held = Held(resource.resource, "obi", "obi")
    approved = built_in().approve_held(decision, access=Access.FULL, held=held, pin=PIN)
    assert approved.heads == (
        ("kubectl", "delete", "--raw=/apis/apps/v1/namespaces/obi/daemonsets/obi", "--filename=-"),
    )
    body = json.loads(approved.stdin or b"")
    assert body.pop("preconditions") == PIN.fields
    assert (body.pop("apiVersion"), body.pop("kind"), body) == ("v1", "DeleteOptions", options)


@pytest.mark.parametrize(
    ("command", "kind", "namespace", "name"),
    [
        ("kubectl delete ds/obi -n obi", "daemonsets", "obi", "x"),
        ("kubectl delete ds/obi -n obi", "daemonsets", "observability", "obi"),
        ("kubectl delete ds/obi -n obi", "configmaps", "obi", "obi"),
        ("kubectl delete ds/obi -n obi --dry-run=server", "daemonsets", "obi", "obi"),
        ("kubectl delete pods -n obi -l app.kubernetes.io/part-of=obi", "pods", "obi", "../x"),
        ("kubectl delete pods -n obi -l app.kubernetes.io/part-of=obi", "pods", "shop", "x"),
        ("kubectl rollout restart ds/obi -n obi", "daemonsets", "obi", "x"),
        ("kubectl rollout status ds/obi -n obi", "daemonsets", "obi", "obi"),
        ("kubectl get ds/obi -n obi", "daemonsets", "obi", "obi"),
    ],
)
def test_nothing_else_is_deleted(command: str, kind: str, namespace: str, name: str) -> None:
    resource = built_in().resources.find(kind)
    assert resource is not None
    with pytest.raises(Denied):
        built_in().approve_held(
            decided(command), access=Access.FULL, held=Held(resource.resource, namespace, name), pin=PIN
        )


@pytest.mark.parametrize(
    ("verb", "kind", "spec"),
    [
        ("restart", "daemonsets", {"template": {"metadata": {"annotations": {RESTARTED: "now"}}}}),
        ("pause", "deployments", {"paused": True}),
        ("resume", "deployments", {"paused": None}),
    ],
)
def test_a_rollout_sets_one_field_of_one_object(verb: str, kind: str, spec: dict[str, Any]) -> None:
    decision = decided(f"kubectl rollout {verb} {kind}/obi -n obi")
    resource = built_in().resources.find(kind)
    assert resource is not None
    held = Held(resource.resource, "obi", "obi")
    (vector,) = built_in().approve_held(decision, access=Access.FULL, held=held, pin=PIN).heads
    change = json.loads(next(word for word in vector if word.startswith("--patch=")).removeprefix("--patch="))
    if verb == "restart":
        annotations = change["spec"]["template"]["metadata"]["annotations"]
        assert annotations[RESTARTED].endswith("Z")
        annotations[RESTARTED] = "now"
    assert change == {"metadata": PIN.fields, "spec": spec}
    assert vector[:3] == ("kubectl", "patch", "--namespace=obi") and vector[-1] == f"{kind}.v1.apps/obi"


def test_a_deletion_needs_the_level_of_the_decision() -> None:
    resource = built_in().resources.find("daemonsets")
    assert resource is not None
    with pytest.raises(Denied):
        built_in().approve_held(
            decided("kubectl delete ds/obi -n obi"),
            access=Access.NON_DESTRUCTIVE,
            held=Held(resource.resource, "obi", "obi"),
            pin=PIN,
        )


@pytest.mark.parametrize("metadata", [{}, {"uid": "u"}, {"resourceVersion": "7"}, {"uid": "", "resourceVersion": "7"}])
def test_an_object_without_a_state_cannot_be_pinned(metadata: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="uid and resource version"):
        Pin.of({"metadata": metadata})
