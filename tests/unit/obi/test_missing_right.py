"""A refusal for want of a right names the right, and the role of ours that has it."""

from __future__ import annotations

import pytest
from tests.unit.policy.policies import built_in

from obi_mcp.obi.missing_right import MissingRight, missing_right, who_gives_it

RBAC = "rbac.authorization.k8s.io"
CREATE = (
    'Error from server (Forbidden): daemonsets.apps is forbidden: User "system:serviceaccount:obi:a" cannot create '
    'resource "daemonsets" in API group "apps" in the namespace "obi"'
)
LIST = 'pods is forbidden: User "a" cannot list resource "pods" in API group "" at the cluster scope'
SECRETS = 'secrets is forbidden: User "a" cannot list resource "secrets" in API group "" in the namespace "obi"'
LOG = 'pods "x" is forbidden: User "a" cannot get resource "pods/log" in API group "" in the namespace "obi"'
GRANT = (
    'clusterroles.rbac.authorization.k8s.io "obi" is forbidden: user "a" (groups=["b"]) is attempting to grant RBAC '
    'permissions not currently held:\n{APIGroups:[""], Resources:["pods"], Verbs:["get"]}'
)
NODE = 'nodes "a" is forbidden: User "a" cannot patch resource "nodes" in API group "" at the cluster scope'


@pytest.mark.parametrize(
    ("said", "right", "where"),
    [
        (CREATE, MissingRight("create", "daemonsets", "apps", "obi"), "--access non-destructive --namespace obi`"),
        (CREATE.replace("create", "delete"), MissingRight("delete", "daemonsets", "apps", "obi"), "--access full"),
        (LIST, MissingRight("list", "pods"), "--access read-only --namespace NAMESPACE --everywhere`"),
        (
            LIST.replace("pods", "events"),
            MissingRight("list", "events"),
            "read-only --namespace NAMESPACE --everywhere",
        ),
        (
            SECRETS,
            MissingRight("list", "secrets", "", "obi"),
            "--access read-only --namespace obi` (without --no-helm)",
        ),
        (LOG, MissingRight("get", "pods/log", "", "obi"), "--access read-only --namespace obi`"),
        (GRANT, MissingRight("create", "clusterroles", RBAC), "--access non-destructive"),
        (NODE, MissingRight("patch", "nodes"), "no role that `obi-mcp rbac` writes gives it"),
    ],
)
def test_a_refusal_names_the_right_and_where_it_is_given(said: str, right: MissingRight, where: str) -> None:
    assert missing_right(said) == right
    assert where in who_gives_it(right, built_in().resources, ("obi",))


def test_other_refusals_are_about_no_right() -> None:
    assert missing_right("admission webhook denied the request: forbidden by policy") is None
