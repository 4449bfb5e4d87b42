"""A Namespace may be made before the rest is proved, and taken back, only by the decision that brings it."""

from __future__ import annotations

import json

import pytest

from obi_mcp.config import Settings
from obi_mcp.errors import Denied
from obi_mcp.policy.engine import Policy
from obi_mcp.policy.model import Access, Decision

NAMESPACE = (
    "apiVersion: v1\nkind: Namespace\nmetadata: {name: obi-system, labels: {app.kubernetes.io/part-of: obi}}\n---\n"
)
CONFIG = (
    "apiVersion: v1\nkind: ConfigMap\n"
    "metadata: {name: c, namespace: obi-system, labels: {app.kubernetes.io/part-of: obi}}\n"
    "data: {c.yml: 'log_level: INFO'}\n"
)


@pytest.fixture(scope="module")
def policy() -> Policy:
    return Policy.load_compiled(Settings())


def decided(policy: Policy, command: str, stdin: str = NAMESPACE + CONFIG) -> Decision:
    decision = policy.decide(command, stdin=stdin, access=Access.FULL)
    assert decision.allowed, decision.reason
    return decision


@pytest.mark.parametrize("verb", ["apply", "create"])
def test_the_namespaces_alone_run_by_the_decided_command(policy: Policy, verb: str) -> None:
    decision = decided(policy, f"kubectl {verb} -f -")
    approved = policy.approve_namespaces(decision, access=Access.NON_DESTRUCTIVE)
    assert decision.pipeline is not None
    assert approved.heads == (decision.pipeline.head.argv(),)
    assert json.loads(approved.stdin or b"{}")["metadata"]["name"] == "obi-system"


@pytest.mark.parametrize(
    ("command", "stdin", "access"),
    [
        ("kubectl apply -f -", NAMESPACE + CONFIG, Access.READ_ONLY),
        ("kubectl apply -f - --dry-run=server", NAMESPACE + CONFIG, Access.FULL),
        ("kubectl diff -f -", NAMESPACE + CONFIG, Access.FULL),
        ("kubectl apply -f -", CONFIG, Access.FULL),
    ],
)
def test_no_other_decision_makes_a_namespace_first(policy: Policy, command: str, stdin: str, access: Access) -> None:
    with pytest.raises(Denied):
        policy.approve_namespaces(decided(policy, command, stdin), access=access)


def test_only_a_namespace_of_the_decision_is_taken_back(policy: Policy) -> None:
    decision = decided(policy, "kubectl apply -f -")
    approved = policy.approve_removal(decision, ["obi-system"])
    assert approved.heads == (("kubectl", "delete", "--wait=false", "--filename=-"),)
    for names in (["observability"], ["obi-system", "kube-system"], []):
        with pytest.raises(Denied):
            policy.approve_removal(decision, names)
