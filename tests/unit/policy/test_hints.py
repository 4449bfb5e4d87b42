"""Hints: the nearest command that would be allowed, as one could type it."""

from __future__ import annotations

import pytest
from tests.unit.policy.policies import built_in, over

from obi_mcp.policy.hints import is_command
from obi_mcp.policy.model import Access

FIRST = "'--selector=app.kubernetes.io/part-of in (obi, beyla)'"

# What is refused, the caller's level, and the way out that is shown.
NEAREST = [
    ("kubectl get pods -l app=obi -w", Access.READ_ONLY, "kubectl get --selector=app=obi pods"),
    ("kubectl get pods -l app=shop", Access.READ_ONLY, f"kubectl get {FIRST} pods"),
    ("kubectl get pods,secrets", Access.READ_ONLY, "kubectl get pods"),
    ("kubectl get pods,nodes", Access.READ_ONLY, "kubectl get pods"),
    ("kubectl get pod a -n shop", Access.READ_ONLY,
     "kubectl get pods,daemonsets,configmaps -n observability -l 'app.kubernetes.io/part-of in (obi, beyla)'"),
    ("helm status obi -n shop", Access.READ_ONLY, "helm list -A"),
    ("kubectl get pods -o jsonpath='{..env}'", Access.READ_ONLY, "kubectl get --output=json pods"),
    ("kubectl get pods --token x --as y", Access.READ_ONLY, "kubectl get pods"),
    ("kubectl get pods -A -l app=shop -w -o kyaml", Access.READ_ONLY,
     f"kubectl get --all-namespaces=true {FIRST} --output=json pods"),
    ("kubectl get pod a -w -A", Access.READ_ONLY, "kubectl get --namespace=observability pod a"),
    ("kubectl delete ds/obi", Access.READ_ONLY, "kubectl delete --dry-run=server ds/obi"),
    ("helm install obi obi", Access.READ_ONLY, "helm install --dry-run=client obi obi"),
    ("helm status shop", Access.READ_ONLY, "helm status obi"),
    ("helm list --filter shop", Access.READ_ONLY, "helm list"),
    ("kubectl api-versions | grep -r x", Access.READ_ONLY, "kubectl api-versions | grep x"),
    ("kubectl api-versions | head -5 /etc/passwd | wc -l", Access.READ_ONLY,
     "kubectl api-versions | head --lines=5 | wc --lines"),
    ("kubectl get pods -w | grep 'a b'", Access.READ_ONLY, "kubectl get pods | grep 'a b'"),
    ("kubectl get pods -w | sort -o x", Access.READ_ONLY, "kubectl get pods"),
    ("kubectl exec obi-a -- ls", Access.FULL,
     "kubectl logs -n observability -l 'app.kubernetes.io/part-of in (obi, beyla)' --tail=50"),
    ("kubectl scale deploy/x --replicas=500", Access.FULL, "kubectl scale --replicas=100 deploy/x"),
    ("kubectl set env ds/obi --list", Access.FULL,
     "kubectl get daemonsets -n observability -l 'app.kubernetes.io/part-of in (obi, beyla)' -o json "
     "| jq '.items[].spec.template.spec.containers[].env'"),
    ("kubectl delete pods -l app=shop", Access.FULL,
     "kubectl get daemonsets,configmaps -n observability -l 'app.kubernetes.io/part-of in (obi, beyla)'"),
    ("helm uninstall shop", Access.FULL, "helm get manifest obi -n observability"),
    ("helm rollback shop 1", Access.FULL, "helm history obi -n observability"),
    ("helm upgrade shop obi", Access.FULL, "helm template obi obi -n observability"),
    ("kubectl events -n observability", Access.READ_ONLY, "kubectl events -n observability --for=daemonset/obi"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "level", "hint"), NEAREST, ids=[command for command, _, _ in NEAREST])
def test_the_nearest_command_is_shown_and_allowed(command: str, level: Access, hint: str) -> None:
    decision = built_in().decide(command, access=level)
    assert (decision.effect, decision.hint) == ("deny", hint), decision.reason
    assert built_in().decide(hint, access=level).allowed


# What is refused, the reason (or how it begins or ends), and the sentence that is the way out.
SENTENCES = [
    ("kubectl edit ds/obi", "kubectl edit is never allowed: it opens an editor, and there is no terminal to talk to",
     "read with -o yaml, change it, then kubectl apply -f - with the document in stdin"),
    ("kubectl create namespace obi", "no rule allows kubectl create namespace",
     "use kubectl create -f - with the Namespace in stdin"),
    ("kubectl create job x", "no rule allows kubectl create job", "kinds that may be made, with kubectl create -f -: "),
    ("kubectl get pods --colour", "kubectl get has no flag --colour",
     "flags of kubectl get that are allowed: --all-namespaces, --context, "),
    ("kubectl get pods -h", "-h (--help) is never allowed: a program's own help lists what is not allowed here",
     "flags of kubectl get that are allowed: --all-namespaces, --context, "),
    ("obi --colour", "obi has no flag --colour", "allowed are: obi config migrate, obi config validate"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "reason", "hint"), SENTENCES, ids=[row[0] for row in SENTENCES])
def test_a_way_out_that_is_no_command_is_a_sentence(command: str, reason: str, hint: str) -> None:
    decision = built_in().decide(command, access=Access.READ_ONLY)
    assert (decision.effect, decision.reason) == ("deny", reason)
    assert decision.hint is not None and decision.hint.startswith(hint) and not is_command(decision.hint)
    assert "obi-mcp policy" not in decision.hint and len(decision.hint) < 1000


OTHER_KINDS = [
    ("kubectl get pods,nodes", "kubectl get takes nodes only without the other kinds: one call for each"),
    ("kubectl logs job/x", "kubectl logs is only for daemonsets, deployments, pods, replicasets; not jobs"),
    ("kubectl rollout restart sts/x", "kubectl rollout restart is only for daemonsets, deployments; not statefulsets"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "reason"), OTHER_KINDS, ids=[row[0] for row in OTHER_KINDS])
def test_the_kinds_that_a_command_takes_are_listed(command: str, reason: str) -> None:
    assert built_in().decide(command, access=Access.FULL).reason == reason


def test_every_kind_is_listed_once() -> None:
    reason = built_in().decide("kubectl get ingresses", access=Access.FULL).reason
    kinds = reason.removeprefix("kubectl get lists only ").partition(";")[0].split(", ")
    assert len(kinds) == len(set(kinds)) and {"pods", "nodes", "events"} < set(kinds)


def test_narrowing_says_which_labels_are_listed() -> None:
    reason = built_in().decide("kubectl get pods", access=Access.READ_ONLY).reason
    assert reason.startswith(
        "only objects labelled 'app.kubernetes.io/part-of in (obi, beyla)' are listed; not searched: "
    )


def test_a_hint_for_a_document_says_that_it_needs_it() -> None:
    stdin = "{apiVersion: v1, kind: ServiceAccount, metadata: {name: obi, namespace: obi, labels: {app: obi}}}"
    denied = built_in().decide("kubectl apply -f -", stdin=stdin, access=Access.READ_ONLY)
    assert denied.hint == "with the same stdin: kubectl apply --filename=- --dry-run=server"
    assert built_in().decide(denied.hint.partition(": ")[2], stdin=stdin, access=Access.READ_ONLY).allowed


def test_hints_speak_of_the_scope_in_force() -> None:
    policy = over({"namespaces": ["agents"], "default_namespace": "agents", "selectors": ["team=obi"]})
    assert policy.decide("kubectl exec a -- ls", access=Access.FULL).hint == (
        "kubectl logs -n agents -l team=obi --tail=50"
    )


@pytest.mark.parametrize("command", ["kubectl get --help", "kubectl get -h", "kubectl help get", "helm help"])
def test_help_is_answered_with_what_is_allowed(command: str) -> None:
    decision = built_in().decide(command, access=Access.READ_ONLY)
    assert decision.rule == "hard.help"
    assert decision.hint is not None and "allowed" in decision.hint
    assert not is_command(decision.hint)


def test_no_sentence_starts_like_a_command() -> None:
    """The parser's own hints name the program first; here they become sentences."""
    for command in ("kubectl foo", "helm foo", "obi foo", "kubectl rollout foo", "kubectl top"):
        hint = built_in().decide(command, access=Access.READ_ONLY).hint
        assert hint is not None and not is_command(hint)
