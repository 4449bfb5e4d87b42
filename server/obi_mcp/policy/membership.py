"""How an object is shown to be OBI's. Pure: it looks at objects that others have fetched, and never at names alone.

Other tenants may put OBI's labels on what is theirs, start OBI's image beside their own, or write any owner into an
object that they create. So:

- *a pod as a whole* (get, describe, delete, logs of all containers) is OBI's when every container that runs in it has
  an image of OBI's: containers, ephemeral containers, and init containers that are restarted. Init containers that end
  may be somebody else's for reading, not for writing. A pod where this fails, with a mesh's sidecar say, is OBI's if
  the object that controls it is (``needs_owner``): DaemonSet or ReplicaSet to Deployment, by uid, in its namespace;
- *one container of a pod* (``logs -c``, or the default one) is OBI's when that container has an image of OBI's, whoever
  owns the pod. This is how a sidecar in a foreign pod is read, and why nothing else of that pod is;
- *a workload* is OBI's when all of its template is, by the same rule, so a foreign Deployment that took OBI in as a
  sidecar is not. Writing wants more: OBI's labels, or the marks of a release of ours, and a namespace in scope;
- *other kinds of OBI's* (services, config maps, roles …) are OBI's when a scope selector matches their labels and they
  stand where OBI may live: a namespace in scope, or for cluster-wide objects a name in scope. Helm's annotations can be
  written by everybody who can write the labels, so they add to labels and place and never replace them: they stand in
  for the *name* of a cluster-wide object that is read, and a release that is not ours forbids writing;
- *an event or pod metrics* is OBI's when the object that it tells about is.

Objects are JSON as the API server gives it, but nothing of their shape is trusted: what is malformed is not OBI's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from obi_mcp.policy.image import is_obi_image
from obi_mcp.policy.selector import matches_scope

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from obi_mcp.policy.model import Resource
    from obi_mcp.policy.scope import Scope

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
RELEASE_NAME = "meta.helm.sh/release-name"
RELEASE_NAMESPACE = "meta.helm.sh/release-namespace"
CHART_LABEL = "helm.sh/chart"

_WORKLOADS = frozenset({"DaemonSet", "Deployment", "ReplicaSet"})
_CLUSTER_WIDE = frozenset({"ClusterRole", "ClusterRoleBinding"})
_NEVER_WRITTEN = frozenset({"ControllerRevision", "Event", "PodMetrics"})
_BY_LABELS = _CLUSTER_WIDE | {
    "Service",
    "Endpoints",
    "EndpointSlice",
    "ConfigMap",
    "ServiceAccount",
    "Role",
    "RoleBinding",
    "ServiceMonitor",
    "PodMonitor",
    "NetworkPolicy",
    "PodDisruptionBudget",
    "HorizontalPodAutoscaler",
}
# Who may control whom. A controller of another kind proves nothing.
_CONTROLLERS = {
    "Pod": frozenset({"DaemonSet", "ReplicaSet"}),
    "ReplicaSet": frozenset({"Deployment"}),
    "ControllerRevision": frozenset({"DaemonSet"}),
}


@dataclass(frozen=True, slots=True)
class OwnerRef:
    """The object that the proof depends on. ``uid`` is empty where only the name is known (pod metrics)."""

    api_version: str
    kind: str
    name: str
    uid: str = ""
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class Proof:
    """Whether an object is OBI's, and why. With ``needs_owner``, fetch ``owner`` and ask ``owner_is_obi``."""

    kind: Literal["yes", "no", "needs_owner"]
    why: str
    owner: OwnerRef | None = None

    @property
    def proven(self) -> bool:
        return self.kind == "yes"


def labels_of(obj: Mapping[str, Any]) -> dict[str, str]:
    """The object's labels; none if they are not a map of strings."""
    labels = _map(_map(obj, "metadata"), "labels")
    if all(isinstance(key, str) and isinstance(value, str) for key, value in labels.items()):
        return labels
    return {}


def object_is_candidate(obj: Mapping[str, Any], scope: Scope) -> bool:
    """Whether a scope selector matches the object's labels. A candidate still has to be proven."""
    return matches_scope(labels_of(obj), scope)


def is_our_release(obj: Mapping[str, Any], scope: Scope) -> bool | None:
    """Whether Helm's marks name a release of ours; None if there are none. They are no proof by themselves.

    Ours is a release name of ``scope.releases`` in a namespace in scope, with a chart label, if any, of its charts.
    """
    annotations = _map(_map(obj, "metadata"), "annotations")
    release, namespace = annotations.get(RELEASE_NAME), annotations.get(RELEASE_NAMESPACE)
    if release is None and namespace is None:
        return None
    charts = scope.releases.get(release) if isinstance(release, str) else None
    if charts is None or namespace not in scope.namespaces:
        return False
    label = labels_of(obj).get(CHART_LABEL)
    return label is None or any(_is_version_of(label, chart) for chart in charts)


def _is_version_of(label: str, chart: str) -> bool:
    """CHART-VERSION, where a version starts with a digit: obi-evil-1.0 is not of the chart obi."""
    return label.startswith(f"{chart}-") and label[len(chart) + 1 :][:1].isdigit()


# --- pods and workloads: by image ---


def default_container(pod: Mapping[str, Any]) -> str | None:
    """The container that ``kubectl logs POD`` reads: the annotated one if it exists, else the first."""
    names = [container.get("name") for container in _all_containers(_map(pod, "spec"))]
    wanted = _map(_map(pod, "metadata"), "annotations").get(DEFAULT_CONTAINER)
    name = wanted if wanted and wanted in names else next(iter(names), None)
    return name if isinstance(name, str) else None


def pod_is_obi(pod: Mapping[str, Any], scope: Scope, container: str | None = None, *, write: bool = False) -> Proof:
    """Whether a pod is OBI's: the named container of it, or the whole pod when ``container`` is None.

    For ``kubectl logs POD`` without ``-c`` pass ``default_container(pod)``. ``write`` (only for whole pods) wants an
    image of OBI's in the pod itself, foreign init containers none, and a namespace in scope.
    """
    spec = _map(pod, "spec")
    if container is not None:
        return _container_is_obi(pod, spec, scope, container)
    if write and _namespace(pod) not in scope.namespaces:
        return Proof("no", f"the pod stands in namespace {_namespace(pod)}, which is not in scope")
    foreign = _foreign_image(spec, scope, write=write)
    if foreign is None:
        return Proof("yes", "every container of the pod runs an image of OBI's")
    if write and not any(is_obi_image(item.get("image"), scope) for item in _items(spec, "containers")):
        return Proof("no", f"no container of the pod runs an image of OBI's: {foreign}")
    return _by_controller(pod, "Pod", foreign)


def workload_is_obi(obj: Mapping[str, Any], scope: Scope, *, write: bool = False) -> Proof:
    """Whether a DaemonSet, Deployment or ReplicaSet is OBI's, by its template. See the module for ``write``."""
    foreign = _foreign_image(_map(_map(_map(obj, "spec"), "template"), "spec"), scope, write=write)
    if foreign is not None:
        return Proof("no", foreign)
    if not write:
        return Proof("yes", "every container of the template runs an image of OBI's")
    release = is_our_release(obj, scope)
    if release is False:
        return Proof("no", "a helm release that is not OBI's manages it")
    if not release and not object_is_candidate(obj, scope):
        return Proof("no", "its labels match no scope selector, and no release of OBI's made it")
    return _by_namespace(obj, scope)


def owner_is_obi(ref: OwnerRef, owner: Mapping[str, Any] | None, scope: Scope, container: str | None = None) -> Proof:
    """Whether the fetched ``owner`` is the object that ``ref`` names, and OBI's; None is one that does not exist.

    ``container`` is the container of the pod that is meant: then the template's container of that name decides. May
    answer ``needs_owner`` in turn (a ReplicaSet by its Deployment): at most three times for an event of a pod.
    """
    if owner is None:
        return Proof("no", f"{ref.kind} {ref.name} does not exist")
    metadata = _map(owner, "metadata")
    same = metadata.get("name") == ref.name and metadata.get("namespace", "") == ref.namespace
    if not same or (ref.uid and metadata.get("uid") != ref.uid) or owner.get("kind", ref.kind) != ref.kind:
        return Proof("no", f"{ref.kind} {ref.name} is another object than the one that is referred to")
    if container is None or ref.kind not in _WORKLOADS:
        proof = _object_is_obi(owner, ref.kind, scope, write=False)
        why = f"it belongs to {ref.kind} {ref.name}: {proof.why}"
    else:
        proof = _template_container_is_obi(owner, ref, scope, container)
        why = proof.why
    if proof.kind == "no" and ref.kind == "ReplicaSet":
        return _by_controller(owner, ref.kind, why)
    return Proof(proof.kind, why, proof.owner)


def _template_container_is_obi(owner: Mapping[str, Any], ref: OwnerRef, scope: Scope, container: str) -> Proof:
    spec = _map(_map(_map(owner, "spec"), "template"), "spec")
    meant = [item.get("image") for item in _all_containers(spec) if item.get("name") == container]
    if len(meant) == 1 and is_obi_image(meant[0], scope):
        return Proof("yes", f"container {container} of {ref.kind} {ref.name} runs an image of OBI's")
    return Proof("no", f"container {container} of {ref.kind} {ref.name} runs no image of OBI's")


# --- everything ---


def object_is_obi(obj: Mapping[str, Any], resource: Resource, scope: Scope, *, write: bool = False) -> Proof:
    """Whether an object of this kind is OBI's. ``write`` is for what is to be changed or deleted.

    Objects of a raw list carry neither apiVersion nor kind; where they do, both must be the resource's. Facts (nodes,
    priority classes) are never OBI's.
    """
    api_version = f"{resource.group}/{resource.version}" if resource.group else resource.version
    if obj.get("kind", resource.kind) != resource.kind or obj.get("apiVersion", api_version) != api_version:
        return Proof("no", f"the object is no {resource.kind} of {api_version}")
    return _object_is_obi(obj, resource.kind, scope, write=write)


def _object_is_obi(obj: Mapping[str, Any], kind: str, scope: Scope, *, write: bool) -> Proof:
    proof = Proof("no", f"a {kind} is not an object of OBI's")
    if write and kind in _NEVER_WRITTEN:
        return Proof("no", f"a {kind} is only read")
    if kind == "Pod":
        proof = pod_is_obi(obj, scope, write=write)
    elif kind in _WORKLOADS:
        proof = workload_is_obi(obj, scope, write=write)
    elif kind == "ControllerRevision":
        proof = _revision_is_obi(obj, scope)
    elif kind == "Event":
        proof = _by_subject(_map(obj, "involvedObject"), _namespace(obj))
    elif kind == "PodMetrics":
        proof = _measured(obj)
    elif kind == "Namespace":
        proof = _namespace_is_obi(obj, scope, write=write)
    elif kind in _BY_LABELS:
        proof = _by_labels(obj, kind, scope, write=write)
    return proof


def _by_labels(obj: Mapping[str, Any], kind: str, scope: Scope, *, write: bool) -> Proof:
    """By labels and place: what cannot be told by an image."""
    name = _map(obj, "metadata").get("name")
    release = is_our_release(obj, scope)
    if write and release is False:
        return Proof("no", "a helm release that is not OBI's manages it")
    if write and name == "default" and kind == "ServiceAccount":
        return Proof("no", "the service account default belongs to the namespace")
    if not object_is_candidate(obj, scope):
        return Proof("no", "its labels match no scope selector")
    if kind not in _CLUSTER_WIDE:
        return _by_namespace(obj, scope)
    if (isinstance(name, str) and name in scope.known_cluster_objects()) or (release and not write):
        return Proof("yes", f"its labels are OBI's, and so is its name {name} or the release that made it")
    return Proof("no", f"the name {name} is not among the scope's cluster objects")


def _by_namespace(obj: Mapping[str, Any], scope: Scope) -> Proof:
    namespace = _namespace(obj)
    if namespace in scope.namespaces:
        return Proof("yes", f"its labels are OBI's and namespace {namespace} is in scope")
    return Proof("no", f"namespace {namespace} is not in scope")


def _measured(obj: Mapping[str, Any]) -> Proof:
    """Pod metrics: by the pod of the same name."""
    metadata = _map(obj, "metadata")
    pod = {"kind": "Pod", "name": metadata.get("name"), "namespace": metadata.get("namespace")}
    return _by_subject(pod, _namespace(obj), by_uid=False)


def _namespace_is_obi(obj: Mapping[str, Any], scope: Scope, *, write: bool) -> Proof:
    name = _map(obj, "metadata").get("name")
    if write:
        return Proof("no", "a namespace is only created, never changed")
    if name in scope.namespaces and object_is_candidate(obj, scope):
        return Proof("yes", f"namespace {name} is in scope and its labels are OBI's")
    return Proof("no", f"namespace {name} is not OBI's")


def _revision_is_obi(obj: Mapping[str, Any], scope: Scope) -> Proof:
    """A DaemonSet's revision holds ``data.spec.template``, as a patch."""
    spec = _map(_map(_map(_map(obj, "data"), "spec"), "template"), "spec")
    foreign = _foreign_image(spec, scope, write=False)
    if foreign is None:
        return Proof("yes", "every container of the revision's template runs an image of OBI's")
    return _by_controller(obj, "ControllerRevision", foreign)


def foreign_containers(pod: Mapping[str, Any], scope: Scope) -> tuple[str, ...]:
    """The names of a pod's containers, init and ephemeral ones included, that run no image of OBI's.

    ``logs --all-containers`` of a pod with any would print what is not OBI's.
    """
    containers = _all_containers(_map(pod, "spec"))
    return tuple(str(item.get("name")) for item in containers if not is_obi_image(item.get("image"), scope))


def controller_of(obj: Mapping[str, Any], kind: str) -> OwnerRef | None:
    """The one controller of a Pod, ReplicaSet or ControllerRevision, if it is of a kind that may control it.

    A pod that has one is made again when it is deleted.
    """
    references = _items(_map(obj, "metadata"), "ownerReferences")
    controllers = [reference for reference in references if reference.get("controller") is True]
    if len(controllers) != 1:
        return None
    api_version, owner, name, uid = (controllers[0].get(key) for key in ("apiVersion", "kind", "name", "uid"))
    if not (isinstance(owner, str) and isinstance(name, str) and isinstance(uid, str) and name and uid):
        return None
    if api_version != "apps/v1" or owner not in _CONTROLLERS[kind]:
        return None
    return OwnerRef("apps/v1", owner, name, uid, _namespace(obj))


def _container_is_obi(pod: Mapping[str, Any], spec: Mapping[str, Any], scope: Scope, name: str) -> Proof:
    found = [container.get("image") for container in _all_containers(spec) if container.get("name") == name]
    if len(found) != 1:
        return Proof("no", f"the pod has no container {name}")
    if is_obi_image(found[0], scope):
        return Proof("yes", f"container {name} runs an image of OBI's")
    return _by_controller(pod, "Pod", f"container {name} runs no image of OBI's")


def _by_controller(obj: Mapping[str, Any], kind: str, why: str) -> Proof:
    """``needs_owner`` with the object's controller if it has one, else no."""
    owner = controller_of(obj, kind)
    return Proof("no", why) if owner is None else Proof("needs_owner", why, owner)


def _by_subject(subject: Mapping[str, Any], namespace: str, *, by_uid: bool = True) -> Proof:
    """``needs_owner`` with the object that an event or a measurement is about. It must stand in the same namespace."""
    facts = {key: subject.get(key, "") for key in ("apiVersion", "kind", "name", "namespace", "uid")}
    if not all(isinstance(fact, str) for fact in facts.values()) or not facts["kind"] or not facts["name"]:
        return Proof("no", "it names no object")
    if facts["namespace"] != namespace:
        return Proof("no", "it is about an object elsewhere")
    if by_uid and not facts["uid"]:
        return Proof("no", "it names its object without a uid")
    uid = facts["uid"] if by_uid else ""
    owner = OwnerRef(facts["apiVersion"] or "v1", facts["kind"], facts["name"], uid, namespace)
    return Proof("needs_owner", f"it is about {owner.kind} {owner.name}", owner)


# --- the shape of objects, none of it trusted ---


def _foreign_image(spec: Mapping[str, Any], scope: Scope, *, write: bool) -> str | None:
    """Why a pod spec is not OBI's: the first container that counts and has a foreign image. None if there is none."""
    if not any(is_obi_image(container.get("image"), scope) for container in _items(spec, "containers")):
        return "no container runs an image of OBI's"
    for container in _all_containers(spec, ending=write):
        if not is_obi_image(container.get("image"), scope):
            return f"container {container.get('name')} runs no image of OBI's"
    return None


def _all_containers(spec: Mapping[str, Any], *, ending: bool = True) -> Iterator[Mapping[str, Any]]:
    """Containers, ephemeral ones, and init containers; those that end only if ``ending``."""
    yield from _items(spec, "containers")
    yield from _items(spec, "ephemeralContainers")
    for container in _items(spec, "initContainers"):
        if ending or container.get("restartPolicy") is not None:
            yield container


def _namespace(obj: Mapping[str, Any]) -> str:
    namespace = _map(obj, "metadata").get("namespace", "")
    return namespace if isinstance(namespace, str) else ""


def _map(parent: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = parent.get(key)
    return value if isinstance(value, dict) else {}


def _items(parent: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """The list's elements; one that is no object counts as an empty object, which proves nothing."""
    value = parent.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        return [{}]
    return [item if isinstance(item, dict) else {} for item in value]
