"""The server's own rights: least by level, never more than the policy's table of kinds."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.policy.policies import built_in

from obi_mcp.obi.manifests.json_form import body_of
from obi_mcp.obi.server_rights import ServerRights, commented, server_rights
from obi_mcp.policy.model import Access

LEVELS = list(Access)


def rules(access: Access, kind: str, **more: Any) -> list[dict[str, Any]]:
    asked = ServerRights(access=access, namespaces=("obi",), account_namespace="obi", cluster_objects=("obi",), **more)
    bodies = [body_of(given.thing) for given in server_rights(asked, built_in().resources)]
    return [rule for body in bodies if body["kind"] == kind for rule in body["rules"]]


def verbs(found: list[dict[str, Any]], resource: str) -> set[str]:
    return {verb for rule in found if resource in rule["resources"] for verb in rule["verbs"]}


@pytest.mark.parametrize("access", LEVELS)
@pytest.mark.parametrize("kind", ["Role", "ClusterRole"])
def test_nothing_is_a_wildcard_and_nothing_hands_out_credentials(access: Access, kind: str) -> None:
    for rule in rules(access, kind, everywhere=True):
        words = {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
        assert "*" not in words
        assert not words & {"escalate", "bind", "impersonate", "deletecollection", "serviceaccounts/token", "pods/exec"}


@pytest.mark.parametrize(
    ("access", "resource", "expected"),
    [
        (Access.READ_ONLY, "daemonsets", {"get", "list", "watch"}),
        (Access.NON_DESTRUCTIVE, "daemonsets", {"get", "list", "watch", "create", "patch", "update"}),
        (Access.FULL, "daemonsets", {"get", "list", "watch", "create", "patch", "update", "delete"}),
        (Access.READ_ONLY, "pods", {"get", "list", "watch"}),
        (Access.NON_DESTRUCTIVE, "pods", {"get", "list", "watch", "delete"}),
        (Access.READ_ONLY, "pods/log", {"get"}),
        (Access.READ_ONLY, "pods/proxy", {"get"}),
        (Access.READ_ONLY, "secrets", {"get", "list"}),
        (Access.FULL, "secrets", {"get", "list", "create", "update", "patch", "delete"}),
    ],
)
def test_rights_in_a_namespace(access: Access, resource: str, expected: set[str]) -> None:
    assert verbs(rules(access, "Role"), resource) == expected


@pytest.mark.parametrize(
    ("access", "resource", "expected"),
    [
        (Access.READ_ONLY, "nodes", {"get", "list", "watch"}),
        (Access.READ_ONLY, "clusterroles", {"get", "list", "watch"}),
        (Access.NON_DESTRUCTIVE, "clusterroles", {"get", "list", "watch", "create", "patch", "update"}),
        (Access.FULL, "clusterroles", {"get", "list", "watch", "create", "patch", "update", "delete"}),
        (Access.READ_ONLY, "pods", set()),
        (Access.NON_DESTRUCTIVE, "pods", {"get", "list", "watch"}),  # what it grants to OBI it has to hold
        (Access.FULL, "secrets", set()),
    ],
)
def test_rights_in_the_cluster(access: Access, resource: str, expected: set[str]) -> None:
    assert verbs(rules(access, "ClusterRole"), resource) == expected


def test_cluster_objects_are_changed_by_name_only() -> None:
    removing = [rule for rule in rules(Access.FULL, "ClusterRole") if "delete" in rule["verbs"]]
    assert [(rule["resources"], rule["resourceNames"]) for rule in removing] == [
        (["clusterrolebindings", "clusterroles"], ["obi"])
    ]


@pytest.mark.parametrize("access", LEVELS)
def test_without_helm_no_secret_is_named(access: Access) -> None:
    for kind in ("Role", "ClusterRole"):
        assert verbs(rules(access, kind, helm=False, everywhere=True), "secrets") == set()


def test_each_level_holds_what_the_one_below_holds() -> None:
    held: set[tuple[str, str, str]] = set()
    for access in LEVELS:
        # What is held in the whole cluster is held in a namespace, too.
        now = {
            (group, resource, verb)
            for rule in (*rules(access, "Role"), *rules(access, "ClusterRole"))
            for group in rule["apiGroups"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
        }
        assert held <= now
        held = now


def test_no_level_makes_or_removes_a_namespace() -> None:
    for access in LEVELS:
        assert verbs(rules(access, "ClusterRole"), "namespaces") == {"get", "list", "watch"}


@pytest.mark.parametrize("access", LEVELS)
def test_every_rule_says_what_it_is_for(access: Access) -> None:
    asked = ServerRights(access=access, namespaces=("obi",), account_namespace="obi", cluster_objects=("obi",))
    given = server_rights(asked, built_in().resources)
    text = commented(given)
    for one in given:
        assert len(one.whys) == len(body_of(one.thing).get("rules", ()))
        assert all(f"# {why}\n- apiGroups:" in text for why in one.whys)


def test_what_is_instrumented_is_looked_at_and_gets_nothing_but_a_patch() -> None:
    asked = ServerRights(
        access=Access.FULL,
        namespaces=("obi",),
        account_namespace="obi",
        cluster_objects=("obi",),
        instrumented=("shop",),
    )
    bodies = [body_of(given.thing) for given in server_rights(asked, built_in().resources)]
    (role,) = [body for body in bodies if body["kind"] == "Role" and body["metadata"]["namespace"] == "shop"]
    assert verbs(role["rules"], "deployments") == {"get", "list", "watch", "patch"}
    assert verbs(role["rules"], "configmaps") == set() and verbs(role["rules"], "secrets") == set()
