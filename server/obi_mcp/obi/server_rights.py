"""The least rights in a cluster for the server itself, by access level: derived from the table of kinds that the policy
reads and writes, so that the cluster refuses whatever the policy would.

Kubernetes lets an account grant only what it holds: to create OBI's ClusterRole the server has to read pods, services,
nodes and replica sets everywhere itself. RBAC cannot name objects that are created, so ``create`` has no names.
The namespaces have to be there already, because a Role stands in one: so no level makes or removes a namespace.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from obi_mcp.obi.manifests import kinds as k
from obi_mcp.obi.manifests.json_form import body_of
from obi_mcp.policy.model import Access
from obi_mcp.policy.resource import ResourceEntry, ResourceTable
from obi_mcp.policy.yaml_writer import to_yaml

NAME = "obi-mcp"
_RBAC = "rbac.authorization.k8s.io"
_READ = ("get", "list", "watch")
_WRITE = ("create", "patch", "update")
# What OBI's own role grants; source: upstream's chart.
_GRANTED = {"": ("nodes", "pods", "services"), "apps": ("replicasets",)}
# Looked at as the owners of pods, to show whose those are.
_OWNERS = frozenset({"StatefulSet"})
_HELM_WRITE = ("create", "update", "patch", "delete")

_FACTS = "facts about the cluster that OBI's health depends on, and OBI's own roles"
_ALL_READS = "what is OBI's is looked for in every namespace"
_READS = "what is OBI's is read, and looked at before it is written"
_INSIDE_PODS = "OBI's logs, and its metrics through the API server's proxy"
_HOLDS = "what OBI's ClusterRole grants: Kubernetes lets nobody grant what he does not hold"
_MAKES_ROLES = "OBI's ClusterRole and its binding are made; RBAC cannot name what does not exist yet"
_CHANGES_ROLES = "OBI's own, by name, are changed{more}"
_WRITES = "OBI's own objects are made and changed{more}"
_SCALES = "kubectl scale writes this sub-resource"
_RESTARTS = "a pod of OBI's is deleted to be made again by its controller"
_HELM = "helm keeps releases in secrets, which RBAC cannot tell from others; --no-helm leaves this out"
_STATUS = "the status of the workloads that OBI instruments"
_PATCHED = "OBI is put beside the containers of a Deployment, as a sidecar"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRights:
    """What is asked for. ``namespaces``: where OBI may be; ``account_namespace``: where the account lives.

    ``everywhere``: lists over all namespaces work too. ``helm``: releases, which helm stores in secrets; RBAC cannot
    tell them from other secrets of the namespace. ``instrumented``: where the status of workloads is read, and their
    Deployments may get OBI as a sidecar. ``name``: of the account and all roles, for servers of several levels side by
    side.
    """

    access: Access
    namespaces: tuple[str, ...]
    account_namespace: str
    cluster_objects: tuple[str, ...]
    everywhere: bool = False
    helm: bool = True
    instrumented: tuple[str, ...] = ()
    name: str = NAME


@dataclass(frozen=True, slots=True)
class Right:
    """One rule of a role, and what the server needs it for."""

    rule: k.PolicyRule
    why: str


@dataclass(frozen=True, slots=True)
class Given:
    """One object to be applied; ``whys`` says of each of its rules, in their order, what it is for."""

    thing: k.KubernetesObject
    whys: tuple[str, ...] = ()


def server_rights(asked: ServerRights, resources: ResourceTable) -> tuple[Given, ...]:
    """The service account, the cluster role and a role per namespace, each with its binding."""
    account = k.ServiceAccount(metadata=_metadata(asked, asked.account_namespace))
    subject = k.Subject(kind="ServiceAccount", name=asked.name, namespace=asked.account_namespace)
    read = [entry for entry in resources.entries if entry.reading != "never"]
    everywhere = _cluster_rights(asked, read)
    made = [
        Given(account),
        Given(k.ClusterRole(metadata=_metadata(asked), rules=_rules_of(everywhere)), _whys_of(everywhere)),
        Given(
            k.ClusterRoleBinding(metadata=_metadata(asked), subjects=(subject,), role_ref=_role(asked, "ClusterRole"))
        ),
    ]
    for namespace in dict.fromkeys((*asked.namespaces, *asked.instrumented)):
        rights = _namespace_rights(asked, read) if namespace in asked.namespaces else []
        if namespace in asked.instrumented:
            rights = _without_repetition([*rights, *_instrumented_rights(asked, read)])
        if rights:
            role = k.Role(metadata=_metadata(asked, namespace), rules=_rules_of(rights))
            binding = k.RoleBinding(
                metadata=_metadata(asked, namespace), subjects=(subject,), role_ref=_role(asked, "Role")
            )
            made += [Given(role, _whys_of(rights)), Given(binding)]
    return tuple(made)


def commented(given: Sequence[Given]) -> str:
    """The objects as one YAML stream, each rule below a comment that says what it is for."""
    return "---\n".join(_commented(one) for one in given)


def _commented(given: Given) -> str:
    whys = iter(given.whys)
    lines = to_yaml(body_of(given.thing)).splitlines(keepends=True)
    # INVARIANT: the writer begins a rule with its API groups, at the margin, as it writes every list of an object.
    return "".join(f"# {next(whys)}\n{line}" if line.startswith("- apiGroups:") else line for line in lines)


def _cluster_rights(asked: ServerRights, read: list[ResourceEntry]) -> list[Right]:
    unscoped = [entry for entry in read if not entry.resource.namespaced]
    rights = _rights(unscoped, _READ, _FACTS)
    if asked.everywhere:
        rights += _rights([entry for entry in read if entry.resource.namespaced], _READ, _ALL_READS)
        rights.append(_pod_reads())
    if asked.access >= Access.NON_DESTRUCTIVE:
        if not asked.everywhere:
            rights += [
                Right(k.PolicyRule(api_groups=(group,), resources=_held(kinds, unscoped), verbs=_READ), _HOLDS)
                for group, kinds in _GRANTED.items()
            ]
        # A namespace is there before its Role is, and nobody's to be changed.
        written = [entry for entry in unscoped if entry.written and entry.resource.kind != "Namespace"]
        rights += _rights(written, ("create",), _MAKES_ROLES)
        changed = ("patch", "update", *_delete(asked))
        rights += _rights(written, changed, _CHANGES_ROLES.format(more=_and_removed(asked)), asked.cluster_objects)
    return rights


def _held(kinds: tuple[str, ...], unscoped: list[ResourceEntry]) -> tuple[str, ...]:
    """Those that no rule before gives: what is in no namespace is read at every level."""
    return tuple(plural for plural in kinds if plural not in {entry.resource.plural for entry in unscoped})


def _namespace_rights(asked: ServerRights, read: list[ResourceEntry]) -> list[Right]:
    inside = [
        entry
        for entry in read
        if entry.resource.namespaced and (entry.read_as_obi or entry.read_as_limit or entry.resource.kind in _OWNERS)
    ]
    rights = [] if asked.everywhere else [*_rights(_not_held(asked, inside), _READ, _READS), _pod_reads()]
    if asked.access >= Access.NON_DESTRUCTIVE:
        written = [entry for entry in inside if entry.written]
        rights += _rights(written, (*_WRITE, *_delete(asked)), _WRITES.format(more=_and_removed(asked)))
        scale = k.PolicyRule(api_groups=("apps",), resources=("deployments/scale",), verbs=("get", "patch", "update"))
        pods = k.PolicyRule(api_groups=("",), resources=("pods",), verbs=("delete",))
        rights += [Right(scale, _SCALES), Right(pods, _RESTARTS)]
    if asked.helm:
        verbs = ("get", "list", *(_HELM_WRITE if asked.access >= Access.NON_DESTRUCTIVE else ()))
        rights.append(Right(k.PolicyRule(api_groups=("",), resources=("secrets",), verbs=verbs), _HELM))
    return rights


def _not_held(asked: ServerRights, entries: list[ResourceEntry]) -> list[ResourceEntry]:
    """Those that the cluster role does not let the server read in every namespace."""
    if asked.access < Access.NON_DESTRUCTIVE:
        return entries
    return [entry for entry in entries if entry.resource.plural not in _GRANTED.get(entry.resource.group, ())]


def _instrumented_rights(asked: ServerRights, read: list[ResourceEntry]) -> list[Right]:
    """What is read of the workloads that OBI instruments, and the one write into them."""
    seen = [entry for entry in read if entry.resource.namespaced and entry.read_as_status]
    rights = [] if asked.everywhere else _rights(_not_held(asked, seen), _READ, _STATUS)
    if asked.access >= Access.NON_DESTRUCTIVE:
        rights.append(
            Right(k.PolicyRule(api_groups=("apps",), resources=("deployments",), verbs=("get", "patch")), _PATCHED)
        )
    return rights


def _without_repetition(rights: list[Right]) -> list[Right]:
    """A namespace that OBI is in and instruments, too, has each rule once."""
    seen: list[Right] = []
    for right in rights:
        if not any(_covers(other.rule, right.rule) for other in seen):
            seen.append(right)
    return seen


def _covers(wide: k.PolicyRule, narrow: k.PolicyRule) -> bool:
    return all(set(getattr(narrow, part)) <= set(getattr(wide, part)) for part in ("api_groups", "resources", "verbs"))


def _rights(
    entries: Iterable[ResourceEntry], verbs: tuple[str, ...], why: str, names: tuple[str, ...] = ()
) -> list[Right]:
    """One rule per API group."""
    groups: dict[str, list[str]] = defaultdict(list)
    for entry in entries:
        groups[entry.resource.group].append(entry.resource.plural)
    return [
        Right(
            k.PolicyRule(api_groups=(group,), resources=tuple(sorted(plurals)), resource_names=names, verbs=verbs), why
        )
        for group, plurals in sorted(groups.items())
    ]


def _pod_reads() -> Right:
    rule = k.PolicyRule(api_groups=("",), resources=("pods/log", "pods/proxy"), verbs=("get",))
    return Right(rule, _INSIDE_PODS)


def _delete(asked: ServerRights) -> tuple[str, ...]:
    return ("delete",) if asked.access is Access.FULL else ()


def _and_removed(asked: ServerRights) -> str:
    return " and removed" if asked.access is Access.FULL else ""


def _rules_of(rights: list[Right]) -> tuple[k.PolicyRule, ...]:
    return tuple(right.rule for right in rights)


def _whys_of(rights: list[Right]) -> tuple[str, ...]:
    return tuple(right.why for right in rights)


def _metadata(asked: ServerRights, namespace: str = "") -> k.Metadata:
    return k.Metadata(name=asked.name, namespace=namespace, labels={"app.kubernetes.io/name": NAME})


def _role(asked: ServerRights, kind: str) -> k.RoleRef:
    return k.RoleRef(api_group=_RBAC, kind=kind, name=asked.name)
