"""What stands in the cluster: OBI's DaemonSets, their pods, and the nodes, read at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from obi_mcp.errors import ClusterUnreachable, Denied, NotFound, ProgramFailed
from obi_mcp.obi.bodies import Object, at, is_ready, name_of
from obi_mcp.obi.coverage import NodeCoverage, cover, restarts, trouble, unexplained
from obi_mcp.obi.placing import not_placed
from obi_mcp.obi.usage import Usage, usage_of
from obi_mcp.policy.image import parse_image
from obi_mcp.toolsets.base import Services
from obi_mcp.toolsets.kubernetes.place import Place

# The kubelet warns of these with every pod on the host network of some clusters; OBI runs all the same.
_OF_ANY_POD = frozenset({"MissingClusterDNS", "DNSConfigForming"})
_FOLLOWS = ("Back-off ", "Error: ")
_NOT_ASKED = Usage({}, "it was not asked for")


@dataclass(frozen=True, slots=True)
class Workload:
    """One DaemonSet of OBI's with its pods and what they cover."""

    body: Object
    pods: tuple[Object, ...]
    coverage: tuple[NodeCoverage, ...]

    @property
    def name(self) -> str:
        return name_of(self.body)

    @property
    def namespace(self) -> str:
        return str(self.body["metadata"].get("namespace", ""))

    @property
    def image(self) -> str:
        """The image of its first container."""
        return image_of(self.body["spec"]["template"]["spec"])

    @property
    def desired(self) -> int:
        return int((self.body.get("status") or {}).get("desiredNumberScheduled", 0))

    @property
    def ready(self) -> int:
        return sum(1 for pod in self.pods if is_ready(pod))

    def versions(self) -> dict[str, int]:
        """How many pods run which version, the most first."""
        return dict(Counter(version_of(image_of(pod.get("spec") or {})) for pod in self.pods).most_common())


@dataclass(frozen=True, slots=True)
class Cache:
    """The Deployment of a k8s-cache, which watches the cluster for all agents. ``why``: of its first pod that is not
    well."""

    name: str
    namespace: str
    image: str
    desired: int
    ready: int
    why: str = ""
    next_step: str = ""

    def as_json(self) -> dict[str, Any]:
        """As the tools show it."""
        row = {
            "name": self.name,
            "namespace": self.namespace,
            "version": version_of(self.image),
            "desired": self.desired,
            "ready": self.ready,
        }
        return {**row, "why": self.why} if self.why else row


@dataclass(frozen=True, slots=True)
class Survey:
    """Everything of OBI's in the place, and the number of nodes of the cluster. ``usage``: by pod, where asked for;
    ``selector``: of the scope's selectors the one that found it."""

    workloads: tuple[Workload, ...]
    nodes: int
    skipped: int = 0
    caches: tuple[Cache, ...] = ()
    usage: Usage = _NOT_ASKED
    selector: str = ""


async def survey(services: Services, place: Place, *, usage: bool = False, caches: bool = False) -> Survey:
    """Reads all of it, by the scope's selectors in turn until one finds a DaemonSet. ``usage``: what the pods use, too;
    ``caches``: and the k8s-caches.

    Raises: what a read raises.
    """
    nodes = asyncio.ensure_future(services.enforcer.read(place.call("kubectl get nodes -o json")))
    try:
        skipped = 0
        for selector in services.settings.scope.selectors:
            tail = f"{place.where} -l '{selector}' -o json"
            sets, pods, deployed, measured = await asyncio.gather(
                services.enforcer.read(place.call(f"kubectl get daemonsets {tail}")),
                services.enforcer.read(place.call(f"kubectl get pods {tail}")),
                _caches(services, place, tail) if caches else _nothing(),
                measured_pods(services, place, tail) if usage else _nothing(),
            )
            skipped += sets.skipped + pods.skipped
            if sets.objects:
                known = (await nodes).objects
                found = [await _workload(services, place, body, pods.objects, known) for body in sets.objects]
                used = usage_of(measured, pods.objects) if isinstance(measured, tuple) else Usage({}, measured)
                known_caches = tuple(_cache(body, pods.objects) for body in deployed)
                return Survey(tuple(found), len(known), skipped, known_caches, used, selector)
        return Survey((), len((await nodes).objects), skipped)
    finally:
        nodes.cancel()


async def complaints(services: Services, place: Place, kind: str, name: str, namespace: str) -> tuple[str, ...]:
    """What the warnings among an object's events say: causes before what only follows from them, the latest first.

    None where they cannot be read.
    """
    fields = f"involvedObject.kind={kind},involvedObject.name={name}"
    try:
        reading = await services.enforcer.read(
            place.call(f"kubectl get events -n {namespace} --field-selector {fields} -o json")
        )
    except (Denied, NotFound, ProgramFailed):
        return ()
    warnings = [one for one in reading.objects if one.get("type") == "Warning" and one.get("reason") not in _OF_ANY_POD]
    warnings.sort(key=_last_seen, reverse=True)
    warnings.sort(key=lambda event: str(event.get("message", "")).startswith(_FOLLOWS))
    return tuple(dict.fromkeys(str(event.get("message", "")) for event in warnings if event.get("message")))


def _last_seen(event: Object) -> str:
    series = event.get("series") or {}
    metadata = event.get("metadata") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return str(next((time for time in times if time), metadata.get("creationTimestamp", "")))


async def _caches(services: Services, place: Place, tail: str) -> tuple[Object, ...]:
    """None where Deployments cannot be read: a survey of the agents is worth having without them."""
    try:
        reading = await services.enforcer.read(place.call(f"kubectl get deployments {tail}"))
    except (Denied, ProgramFailed):
        return ()
    return tuple(body for body in reading.objects if "k8s-cache" in image_of(body["spec"]["template"]["spec"]))


def _cache(body: Object, pods: tuple[Object, ...]) -> Cache:
    labels = at(body, "spec", "selector", "matchLabels") or {}
    namespace = str(body["metadata"].get("namespace", ""))
    own = [
        pod
        for pod in pods
        if labels
        and pod["metadata"].get("namespace") == namespace
        and labels.items() <= (pod["metadata"].get("labels") or {}).items()
    ]
    why, step = next((said for pod in own if (said := not_placed(pod) or trouble(pod))[0]), ("", ""))
    return Cache(
        name=name_of(body),
        namespace=namespace,
        image=image_of(body["spec"]["template"]["spec"]),
        desired=int(body["spec"].get("replicas", 1)),
        ready=int((body.get("status") or {}).get("readyReplicas", 0)),
        why=why,
        next_step=step,
    )


async def measured_pods(services: Services, place: Place, tail: str) -> tuple[Object, ...] | str:
    """What the metrics API has of the pods that the end of the command line names, or why it has nothing.

    The kubelet's own numbers would need the right to nodes/proxy, which is far more than reading.
    """
    try:
        return (await services.enforcer.read(place.call(f"kubectl get pods.metrics.k8s.io {tail}"))).objects
    except (Denied, NotFound, ProgramFailed, ClusterUnreachable) as error:
        if "404" in error.message or "503" in error.message:
            return "the cluster has no metrics API that answers (metrics-server)"
        return error.message


async def _nothing() -> tuple[Any, ...]:
    return ()


def image_of(pod_spec: Object) -> str:
    """The image of the first container."""
    containers: Sequence[Object] = pod_spec.get("containers") or ({},)
    return str(containers[0].get("image", ""))


def version_of(image: str) -> str:
    """The tag of an image, or the beginning of its digest."""
    try:
        parsed = parse_image(image)
    except ValueError:
        return image
    return parsed.tag or (parsed.digest or "")[:19] or "latest"


def pod_row(pod: Object) -> dict[str, Any]:
    """One pod as the tools show it."""
    why, _ = trouble(pod)
    row: dict[str, Any] = {
        "name": name_of(pod),
        "node": str((pod.get("spec") or {}).get("nodeName", "")),
        "ready": is_ready(pod),
        "restarts": restarts(pod),
        "version": version_of(image_of(pod.get("spec") or {})),
    }
    return {**row, "why": why} if why else row


async def _workload(
    services: Services, place: Place, body: Object, pods: tuple[Object, ...], nodes: tuple[Object, ...]
) -> Workload:
    uid = body["metadata"].get("uid")
    own = tuple(
        pod for pod in pods if any(owner.get("uid") == uid for owner in pod["metadata"].get("ownerReferences") or ())
    )
    covered = cover(body, own, nodes)
    if unexplained(covered):
        namespace = str(body["metadata"].get("namespace", ""))
        said = await complaints(services, place, "DaemonSet", name_of(body), namespace)
        covered = cover(body, own, nodes, said) if said else covered
    return Workload(body, own, covered)
