"""The least rights in a cluster for the server itself, by access level: derived from the table of kinds that the policy
reads and writes, so that the cluster refuses whatever the policy would.

Kubernetes lets an account grant only what it holds: to create OBI's ClusterRole the server has to read pods, services,
nodes and replica sets everywhere itself. RBAC cannot name objects that are created, so ``create`` has no names.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from obi_mcp.obi.manifests import kinds as k
from obi_mcp.policy.model import Access
from obi_mcp.policy.resource import ResourceEntry, ResourceTable

NAME = "obi-mcp"
_RBAC = "rbac.authorization.k8s.io"
_READ = ("get", "list", "watch")
_WRITE = ("create", "patch", "update")
# What OBI's own role grants; source: upstream's chart.
_GRANTED = {"": ("nodes", "pods", "services"), "apps": ("replicasets",)}
_HELM_WRITE = ("create", "update", "patch", "delete")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRights:
    """What is asked for. ``namespaces``: where OBI may be; ``account_namespace``: where the account lives.

    ``everywhere``: lists over all namespaces work too. ``helm``: releases, which helm stores in secrets; RBAC cannot
    tell them from other secrets of the namespace.
    """

    access: Access
    namespaces: tuple[str, ...]
    account_namespace: str
    cluster_objects: tuple[str, ...]
    everywhere: bool = False
    helm: bool = True


def server_rights(asked: ServerRights, resources: ResourceTable) -> tuple[k.KubernetesObject, ...]:
    """The service account, the cluster role and a role per namespace, each with its binding."""
    account = k.ServiceAccount(metadata=_metadata(asked.account_namespace))
    subject = k.Subject(kind="ServiceAccount", name=NAME, namespace=asked.account_namespace)
    read = [entry for entry in resources.entries if entry.reading != "never"]
    made: list[k.KubernetesObject] = [
        account,
        k.ClusterRole(metadata=_metadata(), rules=_cluster_rules(asked, read)),
        k.ClusterRoleBinding(metadata=_metadata(), subjects=(subject,), role_ref=_role("ClusterRole")),
    ]
    for namespace in asked.namespaces:
        rules = _namespace_rules(asked, read)
        if rules:
            made.append(k.Role(metadata=_metadata(namespace), rules=rules))
            made.append(k.RoleBinding(metadata=_metadata(namespace), subjects=(subject,), role_ref=_role("Role")))
    return tuple(made)


def _cluster_rules(asked: ServerRights, read: list[ResourceEntry]) -> tuple[k.PolicyRule, ...]:
    unscoped = [entry for entry in read if not entry.resource.namespaced]
    rules = _rules(unscoped, _READ)
    if asked.everywhere:
        rules += _rules([entry for entry in read if entry.resource.namespaced], _READ) + _pod_reads()
    if asked.access >= Access.NON_DESTRUCTIVE:
        rules += [k.PolicyRule(api_groups=(group,), resources=kinds, verbs=_READ) for group, kinds in _GRANTED.items()]
        written = [entry for entry in unscoped if entry.written]
        rules += _rules(written, ("create",))
        changed = ("patch", "update", *(("delete",) if asked.access is Access.FULL else ()))
        named = [entry for entry in written if entry.resource.kind != "Namespace"]
        rules += _rules(named, changed, asked.cluster_objects)
        spaces = [entry for entry in written if entry.resource.kind == "Namespace"]
        # A first deployment takes the Namespace back that it made, where the rest is refused.
        rules += _rules(spaces, ("patch", "delete"), asked.namespaces)
    return tuple(rules)


def _namespace_rules(asked: ServerRights, read: list[ResourceEntry]) -> tuple[k.PolicyRule, ...]:
    inside = [entry for entry in read if entry.resource.namespaced]
    rules: list[k.PolicyRule] = [] if asked.everywhere else _rules(inside, _READ) + _pod_reads()
    if asked.access >= Access.NON_DESTRUCTIVE:
        written = [entry for entry in inside if entry.written]
        rules += _rules(written, (*_WRITE, *(("delete",) if asked.access is Access.FULL else ())))
        rules.append(
            k.PolicyRule(api_groups=("apps",), resources=("deployments/scale",), verbs=("get", "patch", "update"))
        )
        # Deleting a pod that its DaemonSet makes again is a restart.
        rules.append(k.PolicyRule(api_groups=("",), resources=("pods",), verbs=("delete",)))
    if asked.helm:
        verbs = ("get", "list", *(_HELM_WRITE if asked.access >= Access.NON_DESTRUCTIVE else ()))
        rules.append(k.PolicyRule(api_groups=("",), resources=("secrets",), verbs=verbs))
    return tuple(rules)


def _rules(entries: Iterable[ResourceEntry], verbs: tuple[str, ...], names: tuple[str, ...] = ()) -> list[k.PolicyRule]:
    """One rule per API group."""
    groups: dict[str, list[str]] = defaultdict(list)
    for entry in entries:
        groups[entry.resource.group].append(entry.resource.plural)
    return [
        k.PolicyRule(api_groups=(group,), resources=tuple(sorted(plurals)), resource_names=names, verbs=verbs)
        for group, plurals in sorted(groups.items())
    ]


def _pod_reads() -> list[k.PolicyRule]:
    return [k.PolicyRule(api_groups=("",), resources=("pods/log", "pods/proxy"), verbs=("get",))]


def _metadata(namespace: str = "") -> k.Metadata:
    return k.Metadata(name=NAME, namespace=namespace, labels={"app.kubernetes.io/name": NAME})


def _role(kind: str) -> k.RoleRef:
    return k.RoleRef(api_group=_RBAC, kind=kind, name=NAME)
