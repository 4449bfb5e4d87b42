"""What is always denied: in every spelling, at every level, whatever the scope says; and nothing that only looks so."""

from __future__ import annotations

import pytest
from tests.unit.policy.policies import built_in, over

from obi_mcp.policy.hard import forbidden_root_flags
from obi_mcp.policy.hard_names import HARD
from obi_mcp.policy.model import Access

# A scope in which everything is OBI's lifts none of it.
WIDE = {
    "namespaces": ["kube-system", "observability", "default"],
    "instrumented_namespaces": ["kube-system", "default"],
    "selectors": ["!nothing"],
    "contexts": ["other"],
    "cluster_objects": ["node-1", "x"],
    "allowed_secrets": ["x"],
}
SPELLINGS = [
    ("kubectl get pods --server=https://x", "hard.identity"),
    ("kubectl get pods --server https://x", "hard.identity"),
    ("kubectl get pods -s https://x", "hard.identity"),
    ("kubectl get pods -shttps://x", "hard.identity"),
    ("kubectl get pods -s=https://x", "hard.identity"),
    ("kubectl get pods -As https://x", "hard.identity"),
    ("kubectl get pods -Ashttps://x", "hard.identity"),
    ("kubectl -s https://x get pods", "hard.identity"),
    ("kubectl --server=https://x get pods", "hard.identity"),
    ("kubectl get --as_group=a pods", "hard.identity"),
    ("kubectl get 'pods' \"--token=x\"", "hard.identity"),
    ("kubectl get pods --tok\\en=x", "hard.identity"),
    ("kubectl get secret", "hard.credentials"),
    ("kubectl get sEcReTs", "hard.credentials"),
    ("kubectl get secrets.", "hard.credentials"),
    ("kubectl get secrets.v1.", "hard.credentials"),
    ("kubectl get secret.v1./x", "hard.credentials"),
    ("kubectl get pods,SECRETS,cm", "hard.credentials"),
    ("kubectl get 'pods, secrets'", "hard.credentials"),
    ("kubectl get pods/a secrets/b", "hard.credentials"),
    ("kubectl logs secret/x", "hard.credentials"),
    ("kubectl delete ds --all", "hard.cluster"),
    ("kubectl delete ds --all=true -l app=obi", "hard.cluster"),
    ("kubectl label NODES n a=b", "hard.cluster"),
    ("kubectl delete namespaces.v1. x", "hard.cluster"),
    ("kubectl get pods -w", "hard.endless"),
    ("kubectl get pods -Aw", "hard.endless"),
    ("kubectl get pods --watch=true", "hard.endless"),
    ("kubectl logs -pf a", "hard.endless"),
    ("kubectl apply -f x -f -", "hard.file"),
    ("kubectl apply -f -,x", "hard.file"),
    ("kubectl apply --filename ''", "hard.file"),
    ("helm install obi obi -f -,x", "hard.file"),
    ("kubectl get pods -v 9", "hard.root-flag"),
    ("kubectl get pods -v9", "hard.root-flag"),
    ("kubectl get pods --v=10", "hard.root-flag"),
]


@pytest.mark.parametrize(("command", "name"), SPELLINGS, ids=[command for command, _ in SPELLINGS])
@pytest.mark.parametrize("level", list(Access), ids=lambda level: level.label)
def test_no_spelling_level_or_scope_gets_past(command: str, name: str, level: Access) -> None:
    for policy in (built_in(), over(WIDE)):
        decision = policy.decide(command, access=level, stdin="a: b")
        assert (decision.effect, decision.rule, decision.access) == ("deny", name, None)


ONLY_LOOKS_SO = [
    "kubectl get pods secrets",  # a pod of that name
    "kubectl get cm secrets -n observability",
    "kubectl auth can-i get secrets",
    "kubectl explain secret",
    "kubectl get pods -l app=obi,x=secrets",
    "kubectl logs secrets -c token",
    "kubectl get pods -l app=obi | grep -- --kubeconfig",
    "kubectl get pods -l app=obi -v 4",
    "kubectl rollout status ds/obi --watch=false",
    "kubectl delete ds/obi --cascade=foreground",
    "helm list --filter '^obi$'",
    "kubectl explain pods --recursive",
    "kubectl label ds/obi team=secrets",
    "kubectl create -f - --dry-run=server",
]


@pytest.mark.parametrize("command", ONLY_LOOKS_SO)
def test_what_only_looks_like_it_is_not_refused(command: str) -> None:
    stdin = "{apiVersion: v1, kind: ServiceAccount, metadata: {name: obi, namespace: obi, labels: {app: obi}}}"
    decision = built_in().decide(command, access=Access.FULL, stdin=stdin if "-f -" in command else None)
    assert decision.allowed, decision.reason


def test_every_root_flag_is_allowed_by_name_or_denied() -> None:
    """A new kubectl or helm brings new root flags: they are denied until somebody has thought about them."""
    forbidden = forbidden_root_flags(built_in().grammars)
    for program, values in (("kubectl", "get pods"), ("helm", "list")):
        for name in forbidden[program]:
            decision = built_in().decide(f"{program} {values} --{name}=1", access=Access.FULL)
            assert not decision.allowed, f"{program} --{name}"
            assert decision.rule in {"hard.identity", "hard.root-flag", "syntax"}, f"{program} --{name}"
    assert {"kubeconfig", "server", "cache-dir", "kuberc", "profile"} <= forbidden["kubectl"]
    assert {"kubeconfig", "debug", "kube-token", "registry-config"} <= forbidden["helm"]


def test_every_name_says_why_and_what_to_do() -> None:
    for name, denial in HARD.items():
        assert denial.id == name
        assert name.startswith("hard.")
        assert len(denial.because) > 20
