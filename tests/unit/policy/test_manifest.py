"""What may be written: good manifests pass, every attack is refused at its path, nothing unknown passes anywhere."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.policy.judging import SCOPE, found, judged
from tests.unit.policy.manifest_cases import GOOD, attacks, body_of, good, manifest_policy, path_of, put, stored

from obi_mcp.policy.manifest import Mode, Need
from obi_mcp.policy.manifest.findings import shown
from obi_mcp.policy.manifest.pods import config_argument
from obi_mcp.policy.model import Document

POD: list[str | int] = ["spec", "template", "spec"]
OPAQUE = ("status", "managedFields", "fieldsV1", "data")


@pytest.mark.parametrize("name", GOOD)
def test_good_manifests_pass(name: str) -> None:
    documents = good(name)
    for document in documents:
        judgement = manifest_policy().judge(document, scope=SCOPE, batch=documents)
        assert judgement.violations == (), document.kind
        assert judgement.needs == (), document.kind


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("helm.sh/hook", "pre-install,pre-upgrade"),
        ("helm.sh/hook", "pre-install, pre-upgrade"),
        ("helm.sh/hook-delete-policy", "before-hook-creation, hook-succeeded"),
    ],
)
def test_what_helm_reads_of_a_hook_may_have_blanks(key: str, value: str) -> None:
    body = body_of("ConfigMap")
    body["metadata"]["annotations"] = {key: value}
    assert judged(body, mode=Mode.RENDERED) == ()
    assert found(judged(body)) == [("manifest.not-yours", f"metadata.annotations[{key}]")]


@pytest.mark.parametrize("name", [*GOOD, "live"])
def test_what_the_api_server_makes_of_good_manifests_passes(name: str) -> None:
    documents = stored(name)
    assert documents
    for document in documents:
        assert manifest_policy().judge_stored(document, scope=SCOPE, batch=documents).violations == (), document.kind


ANNOTATION = ["metadata", "annotations", "field.cattle.io/publicEndpoints"]
LABEL = ["metadata", "labels", "kustomize.toolkit.fluxcd.io/name"]
LONG = ["metadata", "annotations", f"example.com/{'x' * 63}abcdef"]
STANDING: list[tuple[str, list[str], str, str | None, list[str]]] = [
    # what, where, the value as it would be stored, the value before, what is found
    ("an annotation that stays", ANNOTATION, "a", "a", []),
    ("an annotation that is new", ANNOTATION, "a", None, ["manifest.unknown-path"]),
    ("an annotation that changes", ANNOTATION, "b", "a", ["manifest.unknown-path"]),
    ("a label that stays", LABEL, "a", "a", []),
    ("a label that changes", LABEL, "b", "a", ["manifest.label"]),
    ("a name that a path would cut", LONG, "a", "a", ["manifest.unknown-path"]),
    ("what injects into pods", ["spec", "template", *ANNOTATION], "a", "a", ["manifest.unknown-path"]),
    ("what selects pods", ["spec", "template", *LABEL], "a", "a", ["manifest.label"]),
]


@pytest.mark.parametrize(("at", "value", "was", "rules"), [case[1:] for case in STANDING], ids=[c[0] for c in STANDING])
def test_what_somebody_else_put_beside_an_object_may_stay(
    at: list[str | int], value: str, was: str | None, rules: list[str]
) -> None:
    documents = stored("complete")
    body = dict(next(document.body for document in documents if document.kind == "DaemonSet"))
    before, after = copy.deepcopy(body), copy.deepcopy(body)
    put(after, at, value)
    if was is not None:
        put(before, at, was)
    judgement = manifest_policy().judge_stored(Document(0, after), scope=SCOPE, batch=documents, before=before)
    assert [violation.rule for violation in judgement.violations] == rules


def test_what_the_api_server_writes_is_not_for_callers() -> None:
    for document in stored("complete"):
        rules = {v.rule for v in manifest_policy().judge(document, scope=SCOPE, batch=stored("complete")).violations}
        assert "manifest.not-yours" in rules, document.kind


def changes() -> Iterator[Any]:
    for name in ("pods", "objects"):
        for attack in attacks(name):
            yield pytest.param(attack, id=f"{attack['technique']}: {attack['name']}")


@pytest.mark.parametrize("attack", list(changes()))
def test_an_attack_is_refused_at_its_path(attack: dict[str, Any]) -> None:
    if "document" in attack:
        body = attack["document"]
    else:
        body = body_of(attack.get("base", "DaemonSet"))
        put(body, attack["at"], attack["put"])
    where = attack.get("path") or path_of(attack["at"])
    assert (attack["rule"], where) in found(judged(body))
    if attack["rule"] != "manifest.not-yours" and attack["name"] != "chosen address":
        assert judged(body, mode=Mode.STORED), "refused by its text, allowed as the API server would store it"


@pytest.mark.parametrize("attack", attacks("environment"), ids=lambda attack: attack["name"])
def test_an_environment_attack_is_refused_at_its_path(attack: dict[str, Any]) -> None:
    body = body_of("DaemonSet")
    variables = body["spec"]["template"]["spec"]["containers"][0]["env"]
    variables.append(attack["put"])
    where = f"spec.template.spec.containers[0].env[{len(variables) - 1}].{attack['path']}"
    assert (attack["rule"], where) in found(judged(body))


@pytest.mark.parametrize(
    ("words", "file"),
    [
        (["-config", "/a.yml"], "/a.yml"),
        (["--config", "/a.yml"], "/a.yml"),
        (["-config=/a.yml"], "/a.yml"),
        (["--config=/a.yml"], "/a.yml"),
        ([], None),
        (["-config"], None),
        (["-config="], None),
        (["-config", "-x"], None),
        (["-config", "/a.yml", "validate"], None),
        (["-config=/a.yml", "validate"], None),
        (["config", "/a.yml"], None),
        (["---config", "/a.yml"], None),
    ],
)
def test_the_only_flag_of_obi_names_its_configuration(words: list[str], file: str | None) -> None:
    assert config_argument(words) == file


@pytest.mark.parametrize(
    ("kind", "at", "value", "reason", "hint"),
    [
        ("DaemonSet", [*POD, "hostAliass"], [], "spec.template.spec.hostAliass is not", "did you mean hostAliases?"),
        ("DaemonSet", ["spec", "zzz"], [], "spec.zzz is not", "known here: minReadySeconds"),
        ("DaemonSet", [*POD, "hostPID"], {"a": 1}, "is an object, not true or false", "write true or false"),
        ("DaemonSet", [*POD, "hostPID"], [1], "is a list, not true or false", "write true or false"),
        ("DaemonSet", [*POD, "hostPID"], "x\n", "is 'x\\n', not true or false", "write true or false"),
        ("DaemonSet", [*POD, "hostIPC"], True, "is true, not false", "write false"),
        ("ConfigMap", ["metadata", "labels", "app.kubernetes.io/nam"], "x", "is not on", "app.kubernetes.io/name"),
        (
            "DaemonSet",
            [*POD, "containers", 0, "env"],
            [{"name": "BEYLA_OPEN_PORT"}],
            "OBI never",
            "OTEL_EBPF_OPEN_PORT",
        ),
        ("DaemonSet", [*POD, "containers", 0, "env"], [{"name": "OTEL_EBPF_PORT"}], "OBI reads no", "OTEL_EBPF_"),
    ],
)
def test_a_violation_names_the_value_and_the_way_out(
    kind: str, at: list[str | int], value: Any, reason: str, hint: str
) -> None:
    body = body_of(kind)
    put(body, at, value)
    violation = judged(body)[0]
    assert reason in violation.reason
    assert hint in (violation.hint or "")


def test_a_kind_that_is_not_written_is_named() -> None:
    reasons = {}
    for kind in ("Secret", "Job"):
        body = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "x", "namespace": "obi"}}
        reasons[kind] = judged(body)[0].reason
    assert reasons == {"Secret": "a Secret is never written", "Job": "Job is not a kind of OBI's"}


def test_what_is_long_is_cut() -> None:
    assert shown("x" * 500) == "'" + "x" * 78 + "…"
    values: list[object] = [True, None, 5, {}, []]
    assert [shown(value) for value in values] == ["true", "null", "5", "an object", "a list"]


def test_every_violation_says_what_to_do() -> None:
    for name in ("pods", "objects"):
        for attack in attacks(name):
            if "document" not in attack:
                body = body_of(attack.get("base", "DaemonSet"))
                put(body, attack["at"], attack["put"])
                for violation in judged(body):
                    assert violation.reason, attack["name"]
                    assert violation.hint or violation.rule.startswith("config."), attack["name"]


def places(value: Any, at: list[str | int]) -> Iterator[list[str | int]]:
    """The path of every object in ``value`` whose keys the schema closes."""
    if isinstance(value, dict):
        yield at
        for key, child in value.items():
            if key not in OPAQUE:
                yield from places(child, [*at, key])
    elif isinstance(value, list):
        for position, child in enumerate(value):
            yield from places(child, [*at, position])


# Label maps and selectors take any well-formed key; these keys are none.
MALFORMED = st.one_of(
    st.sampled_from(["$patch", "x y", "hostIPC ", "_", "../x", "a/b/c", "", "-", "été"]),
    st.text(alphabet="!$%&=?#*+~<>", min_size=1, max_size=6),
)
WELL_FORMED = st.one_of(st.from_regex(r"x[a-zA-Z]{3,20}", fullmatch=True), st.sampled_from(["Spec", "spec.replicas"]))
OPEN_KEYS = ("matchLabels", "nodeSelector", "selector")


@pytest.mark.parametrize("kind", sorted({document.kind for document in good("complete")}))
@given(data=st.data())
def test_an_unknown_key_at_any_depth_is_refused(kind: str, data: st.DataObject) -> None:
    body = body_of(kind)
    at = data.draw(st.sampled_from(list(places(body, []))))
    # A Service's selector is a map of labels, a DaemonSet's an object with two fields.
    is_open = bool(at) and at[-1] in OPEN_KEYS and (kind == "Service" or at[-1] != "selector")
    key = data.draw(MALFORMED if is_open else st.one_of(MALFORMED, WELL_FORMED))
    target: Any = body
    for step in at:
        target = target[step]
    target[key] = data.draw(st.sampled_from(["x", None, 1, True, {}, []]))
    assert judged(body)
    assert judged(body, mode=Mode.STORED)


@pytest.mark.parametrize("kind", sorted({document.kind for document in good("complete")}))
@given(data=st.data())
def test_nothing_of_the_wrong_shape_raises(kind: str, data: st.DataObject) -> None:
    """Whatever stands anywhere, the answer is a judgement, never an exception."""
    body = body_of(kind)
    at = data.draw(st.sampled_from([place for place in places(body, []) if place]))
    values: list[Any] = [None, True, 0, -1, 1.5, "", "x", [], {}, [None], [[]], {"x": None}, [{}], {"": {}}, 10**30]
    junk: st.SearchStrategy[Any] = st.sampled_from(values)
    put(body, at, data.draw(junk))
    for mode in Mode:
        judged(body, mode=mode)


def test_objects_that_are_not_in_the_batch_are_needed() -> None:
    def needs(kind: str) -> set[Need]:
        document = next(document for document in good("complete") if document.kind == kind)
        return set(manifest_policy().judge(document, scope=SCOPE, batch=(document,)).needs)

    pod = "spec.template.spec"
    daemonset = next(document for document in good("complete") if document.kind == "DaemonSet")
    assert needs("DaemonSet") == {
        Need("v1", "ServiceAccount", "obi", "obi", f"{pod}.serviceAccountName", daemonset.index),
        Need("v1", "ConfigMap", "obi-config", "obi", f"{pod}.volumes[0].configMap.name", daemonset.index),
        Need(
            "v1",
            "Service",
            "opentelemetry-ebpf-instrumentation-k8s-cache",
            "obi",
            f"{pod}.containers[0].env[6].value",
            daemonset.index,
        ),
    }
    assert {(need.kind, need.namespace) for need in needs("ClusterRoleBinding")} == {
        ("ClusterRole", None),
        ("ServiceAccount", "obi"),
    }
    assert {(need.kind, need.name) for need in needs("RoleBinding")} == {("Role", "obi"), ("ServiceAccount", "obi")}
    assert {need.kind for need in needs("HorizontalPodAutoscaler")} == {"Deployment"}


def test_an_object_of_the_same_name_elsewhere_is_not_in_the_batch() -> None:
    account = body_of("ServiceAccount")
    account["metadata"]["namespace"] = "monitoring"
    daemonset = Document(0, body_of("DaemonSet"))
    judgement = manifest_policy().judge(daemonset, scope=SCOPE, batch=(daemonset, Document(1, account)))
    assert "ServiceAccount" in {need.kind for need in judgement.needs}


def test_a_bare_cache_address_is_a_service_that_is_needed() -> None:
    body = body_of("DaemonSet")
    cache = next(v for v in body["spec"]["template"]["spec"]["containers"][0]["env"] if v["name"].endswith("_ADDRESS"))
    cache["value"] = "my-cache:50055"
    document = Document(0, body)
    needs = manifest_policy().judge(document, scope=SCOPE, batch=good("complete")).needs
    assert [(need.kind, need.name, need.namespace) for need in needs] == [("Service", "my-cache", "obi")]


@pytest.mark.parametrize(
    ("variables", "rules"),
    [
        ([{"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://$(HOST_IP):4318"}], []),
        (
            [
                {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}},
                {"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://$(NODE):4318"},
            ],
            [],
        ),
        (
            [
                {"name": "SELF", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://$(SELF):4318"},
            ],
            [],
        ),
        (
            [
                {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                {"name": "OTEL_EBPF_HOSTNAME", "value": "node-$(NODE)"},
            ],
            [],
        ),
        ([{"name": "HOST_IP", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}], ["manifest.variable"]),
        ([{"name": "HOST_IP", "value": "10.0.0.1"}], ["manifest.variable"]),
        ([{"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://$(NODE):4318"}], ["manifest.variable"]),
        ([{"name": "OTEL_EBPF_KUBE_META_CACHE_ADDRESS", "value": "localhost:50055"}], []),
        ([{"name": "OTEL_EBPF_KUBE_META_CACHE_ADDRESS", "value": "evil.example:50055"}], ["manifest.variable"]),
    ],
)
def test_values_may_hold_what_the_pod_knows_of_itself(variables: list[dict[str, Any]], rules: list[str]) -> None:
    body = body_of("DaemonSet")
    body["spec"]["template"]["spec"]["containers"][0]["env"] = variables
    assert [rule for rule, _ in found(judged(body))] == rules


def test_a_document_to_delete_is_judged_by_kind_and_place_only() -> None:
    def target(body: dict[str, Any]) -> list[str]:
        return [v.rule for v in manifest_policy().judge_target(Document(0, body), scope=SCOPE).violations]

    stub = {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "obi", "namespace": "obi"}}
    assert target(stub) == []
    assert target({**stub, "metadata": {"name": "obi", "namespace": "kube-system"}}) == ["manifest.namespace"]
    assert target({**stub, "metadata": {"name": "obi"}}) == ["manifest.namespace"]
    assert target({**stub, "apiVersion": "extensions/v1beta1"}) == ["manifest.value"]
    assert target({**stub, "kind": "Secret"}) == ["manifest.kind"]


def test_violations_of_a_hostile_document_are_bounded() -> None:
    body = body_of("ConfigMap")
    body["data"] = {}
    body.update({f"key{number}": "x" * 10_000 for number in range(5_000)})
    violations = judged(body)
    assert len(violations) == 50
    assert max(len(violation.path) + len(violation.reason) for violation in violations) < 1_000


def test_null_is_absent() -> None:
    body = body_of("DaemonSet")
    body["spec"]["template"]["spec"]["initContainers"] = None
    body["spec"]["updateStrategy"] = None
    assert judged(body) == ()
    body["spec"]["template"]["spec"]["hostAliases"] = None
    assert found(judged(body)) == [("manifest.never", "spec.template.spec.hostAliases")]
