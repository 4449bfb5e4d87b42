"""Approval: only a decision whose checks have all passed at the caller's level becomes something that may run."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.policy.policies import built_in

from obi_mcp.errors import Denied, NotFound
from obi_mcp.policy.model import Access, Approved, CheckResult, Decision, Output, Place

PACKAGE = Path(__file__).parents[3] / "server" / "obi_mcp"
CONFIG = """apiVersion: v1
kind: ConfigMap
metadata: {name: obi-config, namespace: observability, labels: {app: obi}}
data: {obi-config.yml: "log_level: INFO"}
"""


def decided(command: str, stdin: str | None = None, access: Access = Access.FULL) -> Decision:
    decision = built_in().decide(command, stdin=stdin, access=access)
    assert decision.allowed, decision.reason
    return decision


def passed(decision: Decision, raised: Access | None = None) -> list[CheckResult]:
    return [CheckResult(check, True, raised=raised) for check in decision.checks]


def argv(line: str) -> tuple[str, ...]:
    return tuple(line.split())


def test_a_decision_without_checks_is_approved_as_decided() -> None:
    decision = decided("kubectl get nodes | head -3")
    approved = built_in().approve(decision, access=Access.READ_ONLY, results=[])
    assert approved == Approved(
        decision=decision,
        heads=(("kubectl", "get", "--request-timeout=29s", "nodes.v1."),),
        filters=(("head", "--lines=3"),),
        stdin=None,
        output=Output(),
    )


def test_documents_run_as_the_servers_own_json() -> None:
    decision = decided("kubectl apply -f -", CONFIG)
    approved = built_in().approve(decision, access=Access.FULL, results=passed(decision))
    assert approved.stdin == (
        b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"obi-config","namespace":"observability",'
        b'"labels":{"app":"obi"}},"data":{"obi-config.yml":"log_level: INFO"}}'
    )


def test_a_denial_is_never_approved() -> None:
    decision = built_in().decide("kubectl get secrets", access=Access.FULL)
    with pytest.raises(Denied) as caught:
        built_in().approve(decision, access=Access.FULL, results=[])
    assert caught.value.decision is decision


def test_a_decision_is_not_approved_below_the_level_that_it_needs() -> None:
    decision = decided("kubectl delete ds/obi")
    with pytest.raises(Denied, match="full"):
        built_in().approve(decision, access=Access.NON_DESTRUCTIVE, results=passed(decision))


def test_a_check_that_was_not_made_refuses() -> None:
    decision = decided("helm rollback obi 1")
    assert len(decision.checks) == 2
    for results in ([], passed(decision)[:1], passed(decision)[1:], passed(decided("kubectl describe ds/obi"))):
        with pytest.raises(Denied, match="was not made"):
            built_in().approve(decision, access=Access.FULL, results=results)


def test_a_result_for_a_changed_check_does_not_count() -> None:
    decision = decided("kubectl delete ds/obi")
    (check,) = decision.checks
    forged = CheckResult(replace(check, namespace="kube-system"), True)
    with pytest.raises(Denied, match="was not made"):
        built_in().approve(decision, access=Access.FULL, results=[forged])


def test_a_failed_check_refuses_with_its_reason_hint_and_place() -> None:
    decision = decided("kubectl apply -f -", CONFIG)
    (check,) = decision.checks
    failed = CheckResult(check, False, "its image is foreign", "use OBI's", Place(document=0, path="spec"))
    with pytest.raises(Denied) as caught:
        built_in().approve(decision, access=Access.FULL, results=[failed])
    found = caught.value.decision
    assert (found.effect, found.rule, found.reason, found.hint) == (
        "deny", "kubectl.apply", "its image is foreign", "use OBI's",
    )  # fmt: skip
    assert found.at == Place(document=0, path="spec")


def test_one_failed_result_among_passed_ones_refuses() -> None:
    decision = decided("kubectl delete ds/obi")
    (check,) = decision.checks
    with pytest.raises(Denied):
        built_in().approve(
            decision, access=Access.FULL, results=[CheckResult(check, True), CheckResult(check, False, "no")]
        )


def test_not_found_and_not_obis_are_one_answer() -> None:
    decision = decided("kubectl describe ds/obi")
    (check,) = decision.checks
    with pytest.raises(NotFound) as caught:
        built_in().approve(decision, access=Access.FULL, results=[CheckResult(check, False, not_found=True)])
    assert (caught.value.target, caught.value.namespace) == ("daemonsets/obi", "observability")


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        (
            "kubectl describe ds/obi",
            "list what is OBI's: kubectl get pods,daemonsets -l app.kubernetes.io/part-of=obi -A",
        ),
        ("helm status obi", "helm list -A"),
        ("helm get values obi | head", "helm list -A"),
    ],
)
def test_what_is_not_found_is_looked_for_by_the_same_program(command: str, hint: str) -> None:
    decision = decided(command)
    (check,) = decision.checks
    with pytest.raises(NotFound) as caught:
        built_in().approve(decision, access=Access.FULL, results=[CheckResult(check, False, not_found=True)])
    assert caught.value.hint == hint
    assert built_in().decide(hint.removeprefix("list what is OBI's: "), access=Access.READ_ONLY).allowed


def test_a_pod_that_is_not_there_is_named_without_its_port() -> None:
    decision = decided("kubectl get --raw /api/v1/namespaces/observability/pods/obi-x:9090/proxy/metrics")
    (check,) = decision.checks
    assert (check.target, check.why.endswith("declare the port 9090")) == ("pods/obi-x", True)


def test_a_change_that_turns_out_to_need_more_is_refused_below_that_level() -> None:
    decision = decided("helm upgrade obi obi")
    raised = passed(decision, Access.FULL)
    with pytest.raises(Denied, match="turned out to need the access level full"):
        built_in().approve(decision, access=Access.NON_DESTRUCTIVE, results=raised)
    assert built_in().approve(decision, access=Access.FULL, results=raised).heads


# --- what may run in place of the decided head ---

POD = "kubectl logs --since=5m --request-timeout=29s --namespace=shop --tail=10"
HEADS: list[tuple[str, str | None, Sequence[str], bool]] = [
    ("kubectl logs -l app=obi -n shop --since=5m", None, [POD + " obi-a", POD + " obi-b"], True),
    ("kubectl logs -l app=obi -n shop --since=5m", None, [POD + " --container=obi pods.v1./obi-a"], True),
    ("kubectl logs -l app=obi -n shop --since=5m", None, [POD + " daemonsets.v1.apps/obi"], False),
    ("kubectl logs -l app=obi -n shop --since=5m", None, [POD + " a b"], False),
    ("kubectl logs -l app=obi -n shop --since=5m", None, [POD + " --previous=true obi-a"], False),
    ("kubectl logs -l app=obi -n shop --since=5m", None, [POD.replace("5m", "9h") + " obi-a"], False),
    ("kubectl logs -l app=obi -n shop --since=5m", None, [POD + " --selector=app=shop"], False),
    ("kubectl logs -l app=obi -n shop --since=5m -c obi", None, [POD + " --container=web obi-a"], False),
    ("kubectl logs -l app=obi -n shop --since=5m", None, ["kubectl exec obi-a"], False),
    ("kubectl logs obi-a -n obi", None, ["kubectl logs --namespace=obi --request-timeout=29s pods.v1./obi-b"], False),
    ("kubectl get pods -l app=obi", None, ["kubectl get --request-timeout=29s secrets.v1."], False),
    ("kubectl describe ds/obi", None, ["kubectl describe --request-timeout=29s daemonsets.v1.apps/x"], False),
    ("helm show values obi", None, ["helm show values /store/obi-0.1.0"], True),
    ("helm show values obi", None, ["helm show values ./obi"], False),
    ("helm show values obi", None, ["helm show chart /store/obi"], False),
    ("helm install obi obi", None, [
        "helm install --timeout=29s --namespace=observability obi /store/obi",
    ], True),
    ("helm install obi obi", None, [
        "helm install --timeout=29s --namespace=observability shop /store/obi",
    ], False),
    ("helm install obi obi", None, [
        "helm install --timeout=29s --namespace=observability --set=a=b obi /store/obi",
    ], False),
    ("obi config validate -", "a: b", ["obi config validate /run/obi-mcp/document.yaml"], True),
    ("obi config validate -", "a: b", ["obi config migrate /run/obi-mcp/document.yaml"], False),
    ("obi config validate -", "a: b", ["obi config validate document.yaml"], False),
    ("kubectl scale deploy/x --replicas=2", None, [
        "kubectl scale --replicas=2 --request-timeout=29s --timeout=29s --namespace=observability "
        "--resource-version=7 deployments.v1.apps/x",
    ], True),
    ("kubectl scale deploy/x --replicas=2", None, [
        "kubectl scale --replicas=0 --request-timeout=29s --timeout=29s --namespace=observability "
        "--resource-version=7 deployments.v1.apps/x",
    ], False),
]  # fmt: skip


@pytest.mark.parametrize(("command", "stdin", "heads", "allowed"), HEADS, ids=lambda value: str(value)[:70])
def test_a_head_differs_only_in_what_a_check_resolved(
    command: str, stdin: str | None, heads: Sequence[str], allowed: bool
) -> None:
    decision = decided(command, stdin)
    vectors = [argv(head) for head in heads]
    if allowed:
        approved = built_in().approve(decision, access=Access.FULL, results=passed(decision), heads=vectors)
        assert approved.heads == tuple(vectors)
        return
    with pytest.raises(Denied, match="may not run"):
        built_in().approve(decision, access=Access.FULL, results=passed(decision), heads=vectors)


PATCH = "kubectl patch --patch={} --request-timeout=29s --namespace=observability"
DERIVED: list[tuple[str, str, bool]] = [
    ("kubectl patch ds/obi -p '{}'", PATCH + " --dry-run=server --output=json daemonsets.v1.apps/obi", True),
    ("kubectl patch ds/obi -p '{}'", PATCH + " --output=json daemonsets.v1.apps/obi", False),
    ("kubectl patch ds/obi -p '{}'", PATCH + " --dry-run=none daemonsets.v1.apps/obi", False),
    ("kubectl patch ds/obi -p '{}'", PATCH + " --dry-run=server daemonsets.v1.apps/x", False),
    ("kubectl patch ds/obi -p '{}'", PATCH + " --type=merge --dry-run=server daemonsets.v1.apps/obi", False),
    ("kubectl patch ds/obi -p '{}'", "kubectl get --output=json daemonsets.v1.apps/obi", True),
    ("kubectl patch ds/obi -p '{}'", "kubectl get --output=json secrets.v1.", False),
    ("kubectl patch ds/obi -p '{}'", "kubectl get --kubeconfig=/x pods.v1.", False),
    ("kubectl patch ds/obi -p '{}'", "kubectl get --context=other pods.v1.", False),
    ("kubectl patch ds/obi -p '{}'", "kubectl delete daemonsets.v1.apps/obi", False),
    ("kubectl patch ds/obi -p '{}'", "helm get manifest obi", False),
    ("helm uninstall obi", "helm get manifest --namespace=observability obi", True),
    ("helm uninstall obi", "helm get hooks --namespace=observability obi", True),
    ("helm uninstall obi", "helm uninstall --namespace=observability obi", False),
    ("helm install obi obi", "helm install --namespace=observability --dry-run=server --output=json obi /s/obi", True),
    ("helm install obi obi", "helm install --namespace=observability obi /s/obi", False),
    ("helm install obi obi", "helm install --dry-run=server --post-renderer=x obi /s/obi", False),
]


@pytest.mark.parametrize(("command", "head", "allowed"), DERIVED, ids=lambda value: str(value)[:70])
def test_only_dry_runs_and_reads_are_derived(command: str, head: str, allowed: bool) -> None:
    decision = decided(command)
    if allowed:
        approved = built_in().derive(decision, argv(head), output=Output(head="raw"))
        assert (approved.heads, approved.filters, approved.output.head) == ((argv(head),), (), "raw")
        return
    with pytest.raises(Denied):
        built_in().derive(decision, argv(head))


def test_diff_is_derived_as_the_apply_that_it_stands_for() -> None:
    decision = decided("kubectl diff -f -", CONFIG)
    line = "kubectl apply --filename=- --request-timeout=29s --dry-run=server --output=json"
    assert built_in().derive(decision, argv(line), stdin=b"{}").stdin == b"{}"


def test_nothing_is_derived_from_a_denial() -> None:
    decision = built_in().decide("kubectl get secrets", access=Access.FULL)
    with pytest.raises(Denied):
        built_in().derive(decision, ("kubectl", "get", "--output=json", "pods.v1."))


def test_only_the_engine_constructs_approved() -> None:
    """INVARIANT: `Runner` takes only `Approved`, and only policy/engine.py makes one."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = node.func
            name = (
                called.id if isinstance(called, ast.Name) else called.attr if isinstance(called, ast.Attribute) else ""
            )
            replaced = name == "replace" and any(
                isinstance(argument, ast.Name) and argument.id == "approved" for argument in node.args
            )
            if name == "Approved" or replaced:
                found.add(str(path.relative_to(PACKAGE)))
    assert found == {"policy/engine.py"}
