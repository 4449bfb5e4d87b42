"""Showing by look-up that objects are OBI's: by name, by selector, through owners, pod by pod."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from obi_mcp.enforcer.cluster import Cluster
from obi_mcp.errors import ProgramFailed
from obi_mcp.policy.membership import OwnerRef, default_container, object_is_obi, owner_is_obi, pod_is_obi
from obi_mcp.policy.model import MembersSpec, Resource
from obi_mcp.policy.resource import ResourceTable
from obi_mcp.policy.scope import Scope

MAX_OWNERS = 5
"""How far an owner chain is followed: Pod, ReplicaSet, Deployment, and an operator's object above."""


@dataclass(frozen=True, slots=True)
class Found:
    """An object that was looked up, whether it is OBI's, and why."""

    body: Mapping[str, Any]
    ours: bool
    why: str

    @property
    def name(self) -> str:
        return str((self.body.get("metadata") or {}).get("name", ""))

    @property
    def namespace(self) -> str | None:
        value = (self.body.get("metadata") or {}).get("namespace")
        return str(value) if value else None

    @property
    def uid(self) -> str:
        return str((self.body.get("metadata") or {}).get("uid", ""))


class Members:
    """Looks objects up and proves them. One per call: owners looked up once are remembered for its length."""

    def __init__(self, cluster: Cluster, scope: Scope, resources: ResourceTable) -> None:
        self._cluster = cluster
        self._scope = scope
        self._resources = resources
        self._owners: dict[tuple[str, str | None, str], Mapping[str, Any] | None] = {}

    def fresh(self) -> Members:
        """The same look-ups with nothing remembered: for what is proved long after."""
        return Members(self._cluster, self._scope, self._resources)

    async def named(self, spec: MembersSpec, *, write: bool = False) -> tuple[Found | None, ...]:
        """One entry per name, None where there is no such object."""
        bodies = await asyncio.gather(*(self._cluster.get(spec.resource, spec.namespace, name) for name in spec.names))
        return tuple(
            [
                await self.prove(body, spec.resource, spec.container, write=write) if body is not None else None
                for body in bodies
            ]
        )

    async def selected(self, spec: MembersSpec, *, write: bool = False) -> tuple[Found, ...]:
        """Every object that the selector matches, proved."""
        bodies = await self._cluster.list(spec.resource, spec.namespace, spec.selector)
        if spec.resource.kind == "PodMetrics" and bodies:
            await self._learn_pods(spec)
        return tuple([await self.prove(body, spec.resource, spec.container, write=write) for body in bodies])

    async def pods_of(self, workload: Mapping[str, Any], namespace: str | None) -> tuple[Found, ...]:
        """The pods that a workload owns, by uid through the owner chain, in the order of their names."""
        pods = self.pods()
        selector = selector_text(((workload.get("spec") or {}).get("selector")) or {})
        uid = str((workload.get("metadata") or {}).get("uid", ""))
        owned = []
        for body in await self._cluster.list(pods, namespace, selector):
            if uid in await self._owner_uids(body, namespace):
                owned.append(await self.prove(body, pods, None))
        return tuple(sorted(owned, key=lambda found: found.name))

    async def prove(
        self, body: Mapping[str, Any], resource: Resource, container: str | None, *, write: bool = False
    ) -> Found:
        """Whether one object is OBI's, following its owners by uid where its own fields do not show it."""
        if resource.kind == "Pod" and container is not None:
            proof = pod_is_obi(body, self._scope, container)
        else:
            proof = object_is_obi(body, resource, self._scope, write=write)
        for _ in range(MAX_OWNERS):
            if proof.kind != "needs_owner" or proof.owner is None:
                break
            proof = owner_is_obi(proof.owner, await self._owner(proof.owner), self._scope, container)
        return Found(body, proof.kind == "yes", proof.why)

    async def read_container(self, pod: Found, container: str | None) -> tuple[Found, str | None]:
        """The container that ``logs`` reads of a pod of OBI's (the named one, else kubectl's choice), and the pod with
        whether that container is OBI's: others may put one of theirs into OBI's pods, and make it the default."""
        name = container or default_container(pod.body)
        return (await self.prove(pod.body, self.pods(), name) if pod.ours else pod), name

    async def foreign_containers(self, pod: Mapping[str, Any]) -> tuple[str, ...]:
        """Names of the pod's containers, init and ephemeral ones too, that are not OBI's."""
        spec = pod.get("spec") or {}
        kinds = ("containers", "initContainers", "ephemeralContainers")
        names = [str(entry.get("name", "")) for kind in kinds for entry in spec.get(kind) or ()]
        return tuple([name for name in names if not (await self.prove(pod, self.pods(), name)).ours])

    async def containers(self, pod: Mapping[str, Any]) -> tuple[str, ...]:
        """Names of the pod's containers (not init ones) that are OBI's."""
        names = [str(entry.get("name", "")) for entry in ((pod.get("spec") or {}).get("containers")) or ()]
        return tuple([name for name in names if (await self.prove(pod, self.pods(), name)).ours])

    async def comes_back(self, body: Mapping[str, Any]) -> bool:
        """Whether the pod has a living controller that makes it again when it is deleted."""
        metadata = body.get("metadata") or {}
        for reference in metadata.get("ownerReferences") or ():
            if reference.get("controller"):
                owner = await self._owner(owner_ref(reference, str(metadata.get("namespace", ""))))
                return owner is not None and not (owner.get("metadata") or {}).get("deletionTimestamp")
        return False

    async def _learn_pods(self, spec: MembersSpec) -> None:
        """The pods that measurements are about, all at once: asking for each would take a thousand reads."""
        pods = self.pods()
        for body in await self._cluster.list(pods, spec.namespace, spec.selector):
            metadata = body["metadata"]
            self._owners[pods.argument, metadata.get("namespace"), str(metadata["name"])] = body

    def pods(self) -> Resource:
        """The kind Pod. INVARIANT: the table of kinds ships with it."""
        entry = self._resources.find("pods")
        if entry is None:
            raise ProgramFailed("the table of kinds has no pods", "restore policy/resources.yaml")
        return entry.resource

    async def _owner_uids(self, body: Mapping[str, Any], namespace: str | None) -> set[str]:
        """uids of all owners of an object, up to five levels; each level is looked up and its uid compared."""
        uids: set[str] = set()
        level: list[Mapping[str, Any]] = [body]
        for _ in range(MAX_OWNERS):
            references = [
                owner_ref(reference, namespace or "")
                for owned in level
                for reference in (owned.get("metadata") or {}).get("ownerReferences") or ()
            ]
            uids.update(reference.uid for reference in references)
            owners = [await self._owner(reference) for reference in references]
            level = [owner for owner in owners if owner is not None]
            if not level:
                break
        return uids - {""}

    async def _owner(self, ref: OwnerRef) -> Mapping[str, Any] | None:
        """The owner with that uid (any, where only the name is known), or None: also for a kind not in the table."""
        entry = self._resources.for_object(ref.api_version, ref.kind)
        if entry is None:
            return None
        namespace = ref.namespace if entry.resource.namespaced else None
        key = (entry.resource.argument, namespace, ref.name)
        if key not in self._owners:
            self._owners[key] = await self._cluster.get(entry.resource, namespace, ref.name)
        owner = self._owners[key]
        if owner is None or (ref.uid and str((owner.get("metadata") or {}).get("uid", "")) != ref.uid):
            return None
        return owner


def owner_ref(reference: Mapping[str, Any], namespace: str) -> OwnerRef:
    """An entry of metadata.ownerReferences as a type; owners stand in the namespace of what they own."""
    return OwnerRef(
        api_version=str(reference.get("apiVersion", "")),
        kind=str(reference.get("kind", "")),
        name=str(reference.get("name", "")),
        namespace=namespace,
        uid=str(reference.get("uid", "")),
    )


def selector_text(selector: Mapping[str, Any]) -> str:
    """A LabelSelector object (matchLabels, matchExpressions) as the text that the API takes."""
    parts = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for expression in selector.get("matchExpressions") or ():
        parts.append(_expression(expression.get("key", ""), expression.get("operator", ""), expression.get("values")))
    return ",".join(parts)


def _expression(key: str, operator: str, values: Sequence[str] | None) -> str:
    if operator == "Exists":
        return key
    if operator == "DoesNotExist":
        return f"!{key}"
    return f"{key} {'notin' if operator == 'NotIn' else 'in'} ({','.join(values or ())})"


def uids(found: Iterable[Found]) -> frozenset[str]:
    """The uids of those that are OBI's."""
    return frozenset(entry.uid for entry in found if entry.ours and entry.uid)
