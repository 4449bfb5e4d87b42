"""Whole decisions: what would run, what was added, which checks a run has to make."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.policy.policies import built_in, over

from obi_mcp.policy.model import (
    Access,
    ChangeSpec,
    Decision,
    DocumentsSpec,
    MembersSpec,
    Output,
    RawSpec,
    ReleaseSpec,
    RenderSpec,
    UndoSpec,
)

FIRST = "app.kubernetes.io/part-of in (obi, beyla)"
CONFIG = """apiVersion: v1
kind: ConfigMap
metadata: {name: obi-config, namespace: observability, labels: {app: obi}}
data: {obi-config.yml: "log_level: INFO"}
"""


def decide(command: str, access: Access = Access.FULL, **more: Any) -> Decision:
    return built_in().decide(command, access=access, **more)


# What runs, by what was typed. A default namespace, a limit and normal kinds show here, and not in ``added``.
ARGV = [
    (
        "kubectl get po,cm -l app=obi",
        "kubectl get --selector=app=obi --request-timeout=29s --namespace=observability pods.v1.,configmaps.v1.",
    ),
    (
        "kubectl get ds/obi cm/x -n obi -o yaml",
        "kubectl get --namespace=obi --output=json --request-timeout=29s daemonsets.v1.apps/obi configmaps.v1./x",
    ),
    (
        "kubectl get pods -A -n shop -l app=obi",
        "kubectl get --all-namespaces=true --selector=app=obi --request-timeout=29s pods.v1.",
    ),
    ("kubectl version --request-timeout=5", "kubectl version --request-timeout=5"),
    ("kubectl version --request-timeout=0", "kubectl version --request-timeout=29s"),
    ("kubectl version --request-timeout=1h", "kubectl version --request-timeout=29s"),
    (
        "kubectl rollout status ds/obi --timeout=-1s",
        "kubectl rollout status --timeout=29s --request-timeout=29s --namespace=observability daemonsets.v1.apps/obi",
    ),
    (
        "kubectl logs obi-x7k2p obi -n obi",
        "kubectl logs --namespace=obi --request-timeout=29s --container=obi pods.v1./obi-x7k2p",
    ),
    (
        "kubectl events --for ds/obi",
        "kubectl events --for=daemonsets.v1.apps/obi --request-timeout=29s --namespace=observability",
    ),
    (
        """kubectl patch ds/obi --patch '{"spec": {"b":1, "a":"é"}}'""",
        'kubectl patch --patch={"spec":{"b":1,"a":"\\u00e9"}} --request-timeout=29s --namespace=observability '
        "daemonsets.v1.apps/obi",
    ),
    ("helm uninstall obi", "helm uninstall --timeout=29s --namespace=observability obi"),
    ("kubectl get nodes", "kubectl get --request-timeout=29s nodes.v1."),
]


@pytest.mark.parametrize(("command", "argv"), ARGV, ids=[command for command, _ in ARGV])
def test_the_argv_is_normal_and_limited(command: str, argv: str) -> None:
    decision = decide(command)
    assert decision.pipeline is not None, decision.reason
    assert (decision.effect, decision.added) == ("allow", ())
    assert " ".join(decision.pipeline.head.argv()) == argv


def test_durations_are_clamped_to_the_deadline_of_the_call() -> None:
    decision = decide("kubectl rollout status ds/obi --timeout=2m", timeout_s=61)
    assert decision.pipeline is not None
    assert decision.pipeline.head.value("timeout") == "60s"
    assert decision.pipeline.head.value("request-timeout") == "60s"


@pytest.mark.parametrize("text", ["kubectl get pods", "kubectl get pods -l ''", "kubectl get pods -l '  ' -A"])
def test_a_list_without_a_selector_is_narrowed_and_says_what_was_not_searched(text: str) -> None:
    decision = decide(text, Access.READ_ONLY)
    assert (decision.effect, decision.added) == ("narrow", ("-l", FIRST))
    assert decision.pipeline is not None
    assert decision.pipeline.head.value("selector") == FIRST
    assert "'app=obi'" in decision.reason


def test_helm_list_is_narrowed_to_the_names_in_scope() -> None:
    decision = decide("helm list -A")
    assert decision.added == ("--filter", "^(obi|beyla)$")
    assert decision.pipeline is not None
    assert decision.pipeline.head.value("filter") == "^(obi|beyla)$"


POD = built_in().resources.find("pods")
DS = built_in().resources.find("ds")
DEPLOY = built_in().resources.find("deploy")
assert POD and DS and DEPLOY
PODS, DAEMONSETS, DEPLOYMENTS = POD.resource, DS.resource, DEPLOY.resource
OBI = "app.kubernetes.io/part-of=obi"

CHECKS: list[tuple[str, list[Any]]] = [
    (f"kubectl get pods -l {OBI}", []),
    (f"kubectl get pods -l {OBI} -o json", [MembersSpec("drop", PODS, "observability", selector=OBI)]),
    (f"kubectl get pods,ds -A -l {OBI} -o yaml", [
        MembersSpec("drop", PODS, None, selector=OBI), MembersSpec("drop", DAEMONSETS, None, selector=OBI),
    ]),
    ("kubectl get pods -o json", [MembersSpec("drop", PODS, "observability", selector=FIRST)]),
    ("kubectl get pod a b", [MembersSpec("named", PODS, "observability", ("a", "b"))]),
    ("kubectl get nodes -o json", []),
    (f"kubectl describe pods -l {OBI} -n obi", [MembersSpec("every", PODS, "obi", selector=OBI)]),
    ("kubectl describe ds/obi", [MembersSpec("named", DAEMONSETS, "observability", ("obi",))]),
    (f"kubectl logs -l {OBI} -n shop", [MembersSpec("each", PODS, "shop", selector=OBI)]),
    ("kubectl logs obi-a -c x", [MembersSpec("named", PODS, "observability", ("obi-a",), container="x")]),
    ("kubectl logs ds/obi --all-containers", [
        MembersSpec("each", DAEMONSETS, "observability", ("obi",), all_containers=True),
    ]),
    ("kubectl events --for pod/obi-a", [MembersSpec("named", PODS, "observability", ("obi-a",))]),
    (f"kubectl wait pods -l {OBI} --for=condition=Ready", [
        MembersSpec("every", PODS, "observability", selector=OBI),
    ]),
    ("kubectl rollout restart ds/obi", [MembersSpec("named", DAEMONSETS, "observability", ("obi",))]),
    ("kubectl rollout undo ds/obi --to-revision=3", [UndoSpec(DAEMONSETS, "obi", "observability", 3)]),
    ("kubectl scale deploy/x --replicas=2", [ChangeSpec(DEPLOYMENTS, "x", "observability")]),
    ("kubectl set image ds/obi a=otel/ebpf-instrument:v0.12.0", [ChangeSpec(DAEMONSETS, "obi", "observability")]),
    ("kubectl delete pod obi-a", [MembersSpec("named", PODS, "observability", ("obi-a",), reappears=True)]),
    ("kubectl delete ds/obi", [MembersSpec("named", DAEMONSETS, "observability", ("obi",))]),
    ("kubectl get --raw /api/v1/namespaces/obi/pods/a:9090/proxy/healthz", [RawSpec("obi", "a", 9090, "healthz")]),
    ("helm status obi --revision 2", [ReleaseSpec("obi", "observability", revision=2)]),
    ("helm rollback obi 1", [
        ReleaseSpec("obi", "observability"), ReleaseSpec("obi", "observability", revision=1),
    ]),
    ("helm install obi obi", [
        ReleaseSpec("obi", "observability", may_be_absent=True), RenderSpec("install", "obi", "observability", "obi"),
    ]),
    ("helm upgrade obi obi", [
        ReleaseSpec("obi", "observability"), RenderSpec("upgrade", "obi", "observability", "obi"),
    ]),
    ("helm template obi obi", [RenderSpec("template", "obi", "observability", "obi")]),
    ("helm show values obi", [RenderSpec("show", "", "", "obi")]),
    ("kubectl version", []),
]  # fmt: skip


@pytest.mark.parametrize(("command", "specs"), CHECKS, ids=[command for command, _ in CHECKS])
def test_the_checks_that_a_run_has_to_make(command: str, specs: list[Any]) -> None:
    decision = decide(command)
    assert [check.spec for check in decision.checks] == specs, decision.reason
    assert all(check.why for check in decision.checks)


def test_documents_become_a_check_and_are_carried_by_the_decision() -> None:
    decision = decide("kubectl apply -f -", Access.NON_DESTRUCTIVE, stdin=CONFIG)
    (check,) = decision.checks
    assert (check.kind, check.target, check.spec) == ("dry-run", "ConfigMap/obi-config", DocumentsSpec("apply"))
    assert check.as_json()["raises_to"] == "full"
    assert [document.identity for document in decision.documents] == [
        ("v1", "ConfigMap", "observability", "obi-config")
    ]


def test_values_on_standard_input_are_carried_by_the_decision() -> None:
    decision = decide("helm upgrade obi obi --values -", stdin="a: {b: 1}\n")
    assert [document.body for document in decision.documents] == [{"a": {"b": 1}}]


OUTPUTS: list[tuple[str, Output]] = [
    ("kubectl get pods", Output()),
    ("kubectl get pods -o wide", Output()),
    ("kubectl get pods -o json", Output("json", "json", confine=True)),
    ("kubectl get pods -o yaml", Output("json", "yaml", confine=True)),
    ("kubectl get pod obi-a -o json", Output("json", "json")),
    ("kubectl get nodes -o yaml", Output("json", "yaml", project="fact")),
    ("kubectl get cm -o jsonpath='{.items[*].metadata.name}'", Output()),
    ("kubectl version -o yaml", Output("json", "yaml")),
    ("helm status obi -o yaml", Output("json", "yaml")),
    ("kubectl logs obi-a", Output()),
]


@pytest.mark.parametrize(("command", "output"), OUTPUTS, ids=[command for command, _ in OUTPUTS])
def test_how_the_bytes_of_the_head_are_treated(command: str, output: Output) -> None:
    assert decide(command).output == output


def test_status_of_an_instrumented_namespace_is_projected_and_obis_own_is_not() -> None:
    policy = over({"instrumented_namespaces": ["shop", "observability"]})
    status = policy.decide("kubectl get pods -n shop -o json", access=Access.READ_ONLY)
    own = policy.decide(f"kubectl get pods -n shop -l {OBI} -o json", access=Access.READ_ONLY)
    named = policy.decide("kubectl get pod obi-a -o json", access=Access.READ_ONLY)
    assert (status.rule, status.output.project, status.checks) == ("kubectl.get.status", "status", ())
    assert (own.rule, own.output.project, own.output.confine) == ("kubectl.get", None, True)
    assert (named.rule, named.output.project) == ("kubectl.get", None)


LEVELS = [
    ("kubectl get pods", Access.READ_ONLY),
    ("kubectl delete pod obi-a", Access.NON_DESTRUCTIVE),
    ("kubectl delete pod a b", Access.FULL),
    ("kubectl delete pod obi-a --grace-period=0", Access.FULL),
    ("kubectl delete ds/obi --dry-run=server", Access.READ_ONLY),
    ("kubectl delete ds/obi --dry-run=none", Access.FULL),
    ("kubectl delete ds/obi --dry-run", Access.FULL),
    ("kubectl scale deploy/x --replicas=1", Access.NON_DESTRUCTIVE),
    ("kubectl scale deploy/x --replicas=0", Access.FULL),
    ("kubectl scale deploy/x --replicas=0 --dry-run=client", Access.READ_ONLY),
    ("""kubectl patch deploy/x -p '{"spec":{"replicas":0}}'""", Access.FULL),
    ("""kubectl patch deploy/x --type=json -p '[{"op":"add","path":"/spec/replicas","value":0}]'""", Access.FULL),
    ("helm install obi obi --dry-run=client", Access.READ_ONLY),
    ("helm install obi obi --dry-run=server", Access.NON_DESTRUCTIVE),
    ("helm install obi obi --dry-run", Access.NON_DESTRUCTIVE),
    ("helm rollback obi 1", Access.FULL),
]


@pytest.mark.parametrize(("command", "level"), LEVELS, ids=[command for command, _ in LEVELS])
def test_the_level_that_the_text_needs(command: str, level: Access) -> None:
    for access in Access:
        decision = decide(command, access)
        assert decision.access == level
        assert decision.allowed == (access >= level)


def test_a_decision_as_json_has_the_promised_shape() -> None:
    assert decide("kubectl delete ds/obi | head -3", Access.READ_ONLY).as_json() == {
        "effect": "deny",
        "access": "full",
        "rule": "kubectl.delete",
        "reason": "kubectl delete needs the access level full here; this call has read-only",
        "hint": "kubectl delete --dry-run=server ds/obi | head --lines=3",
        "at": {"stage": 0, "word": 1, "column": 9},
        "pipeline": [["kubectl", "delete", "ds/obi"], ["head", "--lines=3"]],
        "added": [],
        "checks": [],
    }
    raw = decide("kubectl get --raw /api/v1/namespaces/obi/pods/a:9090/proxy/metrics").as_json()
    assert raw["pipeline"] == [
        ["kubectl", "get", "--raw=/api/v1/namespaces/obi/pods/a:9090/proxy/metrics", "--request-timeout=29s"]
    ]
    assert [(check["kind"], check["via"]) for check in raw["checks"]] == [("membership", "channel")]


CONTEXTS = [
    ("kubectl get pods", "staging", "allow"),
    ("kubectl get pods --context staging", None, "allow"),
    ("kubectl get pods --context staging", "staging", "allow"),
    ("kubectl get pods --context staging", "production", "syntax"),
    ("kubectl get pods", "other", "kubectl.get"),
    ("kubectl get pods --context other", None, "kubectl.get"),
    ("helm list", "staging", "allow"),
    ("helm list --kube-context production", "staging", "syntax"),
    ("obi config validate -", "staging", "syntax"),
    ("kubectl get pods", "", "kubectl.get"),
]


@pytest.mark.parametrize(("command", "context", "outcome"), CONTEXTS)
def test_contexts_are_named_once_and_only_configured_ones(command: str, context: str | None, outcome: str) -> None:
    policy = over({"contexts": ["staging", "production"]})
    decision = policy.decide(command, access=Access.FULL, context=context, stdin="a: b")
    assert ("allow" if decision.allowed else decision.rule) == outcome
    if decision.allowed and decision.pipeline:
        head = decision.pipeline.head
        assert head.value("context") or head.value("kube-context") == "staging"


HOSTILE = [
    "",
    " ",
    "|",
    "kubectl",
    "kubectl |",
    "kubectl get pods\x00",
    "kubectl get pods \ud800",
    "k" * 70_000,
    "kubectl get " + "pods," * 5000 + "pods -l app=obi",
    "kubectl get pods " + "a " * 20_000,
    "kubectl get pods -l '" + "(" * 5000 + "'",
    "kubectl get pods -o jsonpath='" + "{" * 2000 + "'",
    "kubectl patch ds/obi -p '" + "[" * 5000 + "'",
    "helm template obi obi --set 'a=" + "{" * 3000 + "'",
    "helm template obi obi --set-json 'a=" + "[" * 3000 + "'",
    "kubectl version | jq '" + "(" * 3000 + "'",
    "kubectl get pods -n -- x",
    "kubectl -- get pods",
    "kubectl get -- pods --all-namespaces",
    "kubectl get pods --namespace",
    "kubectl scale deploy/x --replicas=99999999999999999999",
    "kubectl get pods -l 'a>99999999999999999999999'",
    "kubectl get --raw '/api/v1/namespaces/obi/pods/a:٩٠/proxy/metrics'",
    "kubectl get pods -v=²",
    "kubectl rollout status ds/obi --timeout=٣s",
]


@pytest.mark.parametrize("command", HOSTILE, ids=lambda text: ascii(text[:60]))
def test_nothing_that_a_caller_sends_raises(command: str) -> None:
    for stdin in (None, "", "\x00", "{" * 5000, "a: &a [*a]", "- " * 3000, "\ud800"):
        decision = decide(command, stdin=stdin)
        assert decision.effect in {"allow", "narrow", "deny"}
        assert 0 < len(decision.reason) <= 1000
        assert len(decision.hint or "") <= 2100


@pytest.mark.parametrize("stdin", ["\x00", "{" * 5000, "a: &a [*a]", "\ud800", "- - - x", "!!python/object:x {}"])
def test_documents_that_cannot_be_read_are_a_denial(stdin: str) -> None:
    for command in ("kubectl apply -f -", "kubectl delete -f -", "helm install obi obi --values -"):
        assert decide(command, stdin=stdin).effect == "deny"
