"""The Kubernetes types that OBI's objects are made of, with the fields that they use and no others.

Field names are Kubernetes' own in Python's spelling; ``json_form`` writes them as the API server takes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """Name, place and labels of an object; of a pod template only labels and annotations."""

    name: str = ""
    namespace: str = ""
    labels: Labels = field(default_factory=dict)
    annotations: Labels = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesObject:
    """What every object has. Sub-classes name their ``api_version`` and ``kind``."""

    api_version: ClassVar[str]
    kind: ClassVar[str]
    metadata: Metadata


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace(KubernetesObject):
    api_version: ClassVar[str] = "v1"
    kind: ClassVar[str] = "Namespace"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAccount(KubernetesObject):
    api_version: ClassVar[str] = "v1"
    kind: ClassVar[str] = "ServiceAccount"
    automount_service_account_token: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigMap(KubernetesObject):
    api_version: ClassVar[str] = "v1"
    kind: ClassVar[str] = "ConfigMap"
    data: Labels


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRule:
    api_groups: tuple[str, ...]
    resources: tuple[str, ...]
    resource_names: tuple[str, ...] = ()
    verbs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterRole(KubernetesObject):
    api_version: ClassVar[str] = "rbac.authorization.k8s.io/v1"
    kind: ClassVar[str] = "ClusterRole"
    rules: tuple[PolicyRule, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Role(KubernetesObject):
    api_version: ClassVar[str] = "rbac.authorization.k8s.io/v1"
    kind: ClassVar[str] = "Role"
    rules: tuple[PolicyRule, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    kind: str
    name: str
    namespace: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleRef:
    api_group: str
    kind: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterRoleBinding(KubernetesObject):
    api_version: ClassVar[str] = "rbac.authorization.k8s.io/v1"
    kind: ClassVar[str] = "ClusterRoleBinding"
    subjects: tuple[Subject, ...]
    role_ref: RoleRef


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleBinding(KubernetesObject):
    api_version: ClassVar[str] = "rbac.authorization.k8s.io/v1"
    kind: ClassVar[str] = "RoleBinding"
    subjects: tuple[Subject, ...]
    role_ref: RoleRef


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldRef:
    field_path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceFieldRef:
    resource: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueFrom:
    field_ref: FieldRef | None = None
    resource_field_ref: ResourceFieldRef | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvVar:
    name: str
    value: str | None = None
    value_from: ValueFrom | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerPort:
    name: str
    container_port: int
    protocol: str = "TCP"


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeMount:
    name: str
    mount_path: str
    read_only: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    add: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityContext:
    privileged: bool | None = None
    allow_privilege_escalation: bool | None = None
    run_as_user: int | None = None
    run_as_non_root: bool | None = None
    read_only_root_filesystem: bool | None = None
    capabilities: Capabilities | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    requests: Labels = field(default_factory=dict)
    limits: Labels = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpGet:
    path: str
    port: int | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Grpc:
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    http_get: HttpGet | None = None
    grpc: Grpc | None = None
    initial_delay_seconds: int | None = None
    period_seconds: int | None = None
    failure_threshold: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    name: str
    image: str
    image_pull_policy: str = "IfNotPresent"
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: tuple[EnvVar, ...] = ()
    ports: tuple[ContainerPort, ...] = ()
    readiness_probe: Probe | None = None
    resources: Resources | None = None
    security_context: SecurityContext | None = None
    volume_mounts: tuple[VolumeMount, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigMapVolume:
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPathVolume:
    path: str
    type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    name: str
    config_map: ConfigMapVolume | None = None
    host_path: HostPathVolume | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Toleration:
    operator: str
    key: str = ""
    effect: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalReference:
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSpec:
    service_account_name: str = ""
    host_pid: bool | None = field(default=None, metadata={"as": "hostPID"})
    host_network: bool | None = None
    dns_policy: str = ""
    node_selector: Labels = field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    image_pull_secrets: tuple[LocalReference, ...] = ()
    termination_grace_period_seconds: int | None = None
    containers: tuple[Container, ...] = ()
    volumes: tuple[Volume, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PodTemplate:
    metadata: Metadata
    spec: PodSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    key: str
    operator: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSelector:
    match_labels: Labels = field(default_factory=dict)
    match_expressions: tuple[Requirement, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RollingUpdate:
    max_unavailable: int | str | None = None
    max_surge: int | str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateStrategy:
    type: str = "RollingUpdate"
    rolling_update: RollingUpdate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonSetSpec:
    selector: LabelSelector
    update_strategy: UpdateStrategy
    template: PodTemplate


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonSet(KubernetesObject):
    api_version: ClassVar[str] = "apps/v1"
    kind: ClassVar[str] = "DaemonSet"
    spec: DaemonSetSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentSpec:
    replicas: int
    selector: LabelSelector
    template: PodTemplate


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment(KubernetesObject):
    api_version: ClassVar[str] = "apps/v1"
    kind: ClassVar[str] = "Deployment"
    spec: DeploymentSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePort:
    name: str
    port: int
    target_port: int | str
    protocol: str = "TCP"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSpec:
    type: str = "ClusterIP"
    selector: Labels
    ports: tuple[ServicePort, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Service(KubernetesObject):
    api_version: ClassVar[str] = "v1"
    kind: ClassVar[str] = "Service"
    spec: ServiceSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    port: str
    path: str
    interval: str = "30s"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceMonitorSpec:
    selector: LabelSelector
    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceMonitor(KubernetesObject):
    api_version: ClassVar[str] = "monitoring.coreos.com/v1"
    kind: ClassVar[str] = "ServiceMonitor"
    spec: ServiceMonitorSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPolicyPeer:
    pod_selector: LabelSelector | None = None
    namespace_selector: LabelSelector | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPolicyPort:
    port: int
    protocol: str = "TCP"


@dataclass(frozen=True, slots=True, kw_only=True)
class IngressRule:
    from_peers: tuple[NetworkPolicyPeer, ...] = field(default=(), metadata={"as": "from"})
    ports: tuple[NetworkPolicyPort, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPolicySpec:
    pod_selector: LabelSelector
    policy_types: tuple[str, ...]
    ingress: tuple[IngressRule, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPolicy(KubernetesObject):
    api_version: ClassVar[str] = "networking.k8s.io/v1"
    kind: ClassVar[str] = "NetworkPolicy"
    spec: NetworkPolicySpec


@dataclass(frozen=True, slots=True, kw_only=True)
class PodDisruptionBudgetSpec:
    selector: LabelSelector
    min_available: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PodDisruptionBudget(KubernetesObject):
    api_version: ClassVar[str] = "policy/v1"
    kind: ClassVar[str] = "PodDisruptionBudget"
    spec: PodDisruptionBudgetSpec
