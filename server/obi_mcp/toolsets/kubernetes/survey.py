"""What stands in the cluster: OBI's DaemonSets, their pods, and the nodes, read at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from obi_mcp.obi.coverage import NodeCoverage, cover, is_ready, name_of, restarts, trouble
from obi_mcp.policy.image import parse_image
from obi_mcp.toolsets.base import Services
from obi_mcp.toolsets.kubernetes.place import Place

Object = Mapping[str, Any]


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
class Survey:
    """Everything of OBI's in the place, and the number of nodes of the cluster."""

    workloads: tuple[Workload, ...]
    nodes: int
    skipped: int = 0


async def survey(services: Services, place: Place) -> Survey:
    """Reads all of it, by the scope's selectors in turn until one finds a DaemonSet. Raises: what a read raises."""
    nodes = asyncio.ensure_future(services.enforcer.read(place.call("kubectl get nodes -o json")))
    try:
        skipped = 0
        for selector in services.settings.scope.selectors:
            tail = f"{place.where} -l '{selector}' -o json"
            sets, pods = await asyncio.gather(
                services.enforcer.read(place.call(f"kubectl get daemonsets {tail}")),
                services.enforcer.read(place.call(f"kubectl get pods {tail}")),
            )
            skipped += sets.skipped + pods.skipped
            if sets.objects:
                known = (await nodes).objects
                found = tuple(_workload(body, pods.objects, known) for body in sets.objects)
                return Survey(found, len(known), skipped)
        return Survey((), len((await nodes).objects), skipped)
    finally:
        nodes.cancel()


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


def _workload(body: Object, pods: tuple[Object, ...], nodes: tuple[Object, ...]) -> Workload:
    uid = body["metadata"].get("uid")
    own = tuple(
        pod for pod in pods if any(owner.get("uid") == uid for owner in pod["metadata"].get("ownerReferences") or ())
    )
    return Workload(body, own, cover(body, own, nodes))
