"""The objects of an installation: OBI on every node and what it needs, with upstream's labels and our mark."""

from __future__ import annotations

import hashlib

from obi_mcp.obi.capabilities import needed
from obi_mcp.obi.manifests import kinds as k
from obi_mcp.obi.manifests.cache import cache_objects
from obi_mcp.obi.manifests.install import Install
from obi_mcp.obi.manifests.labels import labels_of, selector_of
from obi_mcp.obi.manifests.own_config import DIRECTORY, FILE_NAME, own_config
from obi_mcp.policy.yaml_writer import to_yaml

CONTAINER = "ebpf-instrument"
_POD_SECURITY = {f"pod-security.kubernetes.io/{mode}": "privileged" for mode in ("enforce", "audit", "warn")}
_RBAC = "rbac.authorization.k8s.io"
# OBI allocates its BPF maps at its start: some 340 MiB. Source: public issues.
_PRODUCTION = k.Resources(requests={"cpu": "100m", "memory": "512Mi"}, limits={"memory": "2Gi"})
_DEVELOPMENT = k.Resources(requests={"cpu": "50m", "memory": "512Mi"}, limits={"memory": "1Gi"})
# Detaching uprobes was seen to take 8.5 s, and shutdown_timeout is 10 s.
_GRACE_S = 30


def installed_objects(install: Install) -> tuple[k.KubernetesObject, ...]:
    """Every object of the installation, in the order in which they are applied."""
    made: list[k.KubernetesObject] = []
    if install.create_namespace:
        made.append(namespace(install))
    made += [service_account(install), *rbac(install), config_map(install)]
    if install.cache:
        made += cache_objects(install)
    made.append(daemon_set(install))
    if install.service and install.prometheus_port is not None:
        made.append(service(install))
        if install.service_monitor:
            made.append(service_monitor(install))
    return tuple(made)


def namespace(install: Install) -> k.Namespace:
    """Where OBI lives; it says that its pods may be privileged."""
    labels = {**labels_of(install, "namespace"), **_POD_SECURITY}
    return k.Namespace(metadata=k.Metadata(name=install.namespace, labels=labels))


def service_account(install: Install) -> k.ServiceAccount:
    """Whom OBI reads pods, services and nodes as."""
    return k.ServiceAccount(metadata=_metadata(install, "rbac"), automount_service_account_token=True)


def rbac(install: Install) -> tuple[k.ClusterRole, k.ClusterRoleBinding]:
    """What OBI reads of the cluster. Source: upstream's chart 0.12.0."""
    metadata = k.Metadata(name=install.name, labels=labels_of(install, "rbac"))
    rules = (
        k.PolicyRule(api_groups=("apps",), resources=("replicasets",), verbs=("list", "watch")),
        k.PolicyRule(api_groups=("",), resources=("pods", "services", "nodes"), verbs=("get", "list", "watch")),
    )
    account = k.Subject(kind="ServiceAccount", name=install.name, namespace=install.namespace)
    role = k.RoleRef(api_group=_RBAC, kind="ClusterRole", name=install.name)
    return (
        k.ClusterRole(metadata=metadata, rules=rules),
        k.ClusterRoleBinding(metadata=metadata, subjects=(account,), role_ref=role),
    )


def config_map(install: Install) -> k.ConfigMap:
    """OBI's own configuration under the key that upstream mounts."""
    return k.ConfigMap(metadata=_metadata(install, "config"), data={FILE_NAME: config_text(install)})


def config_text(install: Install) -> str:
    """OBI's own configuration as text: the caller's, or the one made for the features."""
    return install.config if install.config is not None else to_yaml(own_config(install))


def daemon_set(install: Install) -> k.DaemonSet:
    """OBI on every node that it can run on."""
    checksum = hashlib.sha256(config_text(install).encode()).hexdigest()
    template = k.PodTemplate(
        metadata=k.Metadata(labels=labels_of(install, "workload"), annotations={"checksum/config": checksum}),
        spec=_pod(install),
    )
    strategy = k.UpdateStrategy(rolling_update=k.RollingUpdate(max_unavailable="10%" if install.production else "100%"))
    return k.DaemonSet(
        metadata=_metadata(install, "workload"),
        spec=k.DaemonSetSpec(
            selector=k.LabelSelector(match_labels=selector_of(install)), update_strategy=strategy, template=template
        ),
    )


def service(install: Install) -> k.Service:
    """In front of the Prometheus port of all pods."""
    port = k.ServicePort(name="metrics", port=install.prometheus_port or 0, target_port="metrics")
    return k.Service(
        metadata=_metadata(install, "workload"), spec=k.ServiceSpec(selector=selector_of(install), ports=(port,))
    )


def service_monitor(install: Install) -> k.ServiceMonitor:
    """Tells the Prometheus operator to scrape the service."""
    selector = k.LabelSelector(match_labels=selector_of(install))
    endpoint = k.Endpoint(port="metrics", path="/metrics")
    return k.ServiceMonitor(
        metadata=_metadata(install, "workload"), spec=k.ServiceMonitorSpec(selector=selector, endpoints=(endpoint,))
    )


def _metadata(install: Install, component: str) -> k.Metadata:
    return k.Metadata(name=install.name, namespace=install.namespace, labels=labels_of(install, component))


def _pod(install: Install) -> k.PodSpec:
    host = install.host_network
    everywhere = (k.Toleration(operator="Exists", key="node-role.kubernetes.io/control-plane", effect="NoSchedule"),)
    return k.PodSpec(
        service_account_name=install.name,
        host_pid=True,
        host_network=True if host else None,
        dns_policy="ClusterFirstWithHostNet" if host else "",
        node_selector={"kubernetes.io/os": "linux"},
        tolerations=everywhere if install.production else (),
        image_pull_secrets=tuple(k.LocalReference(name=name) for name in install.image_pull_secrets),
        termination_grace_period_seconds=_GRACE_S,
        containers=(_container(install),),
        volumes=(
            k.Volume(name="config", config_map=k.ConfigMapVolume(name=install.name)),
            k.Volume(name="cgroup", host_path=k.HostPathVolume(path="/sys/fs/cgroup")),
            k.Volume(name="tracing", host_path=k.HostPathVolume(path="/sys/kernel/tracing")),
            k.Volume(name="security", host_path=k.HostPathVolume(path="/sys/kernel/security")),
        ),
    )


def _container(install: Install) -> k.Container:
    ports: tuple[k.ContainerPort, ...] = ()
    probe = None
    if (port := install.prometheus_port) is not None:
        ports = (k.ContainerPort(name="metrics", container_port=port),)
        probe = k.Probe(http_get=k.HttpGet(path="/metrics", port="metrics"), initial_delay_seconds=5, period_seconds=10)
    return k.Container(
        name=CONTAINER,
        image=install.image,
        # By the argument and not by OTEL_EBPF_CONFIG_PATH: Beyla, which the same manifests run, does not read that.
        args=("-config", f"{DIRECTORY}/{FILE_NAME}"),
        env=(
            k.EnvVar(name="HOST_IP", value_from=k.ValueFrom(field_ref=k.FieldRef(field_path="status.hostIP"))),
            k.EnvVar(
                name="GOMEMLIMIT",
                value_from=k.ValueFrom(resource_field_ref=k.ResourceFieldRef(resource="limits.memory")),
            ),
            *(k.EnvVar(name=name, value=value) for name, value in install.variables.items()),
        ),
        ports=ports,
        readiness_probe=probe,
        resources=resources_of(install),
        security_context=security_context(install),
        volume_mounts=(
            k.VolumeMount(name="config", mount_path=DIRECTORY, read_only=True),
            k.VolumeMount(name="cgroup", mount_path="/sys/fs/cgroup", read_only=True),
            k.VolumeMount(name="tracing", mount_path="/sys/kernel/tracing"),
            k.VolumeMount(name="security", mount_path="/sys/kernel/security", read_only=True),
        ),
    )


def resources_of(install: Install) -> k.Resources:
    """What its container requests, and its limits."""
    return _PRODUCTION if install.production else _DEVELOPMENT


def security_context(install: Install) -> k.SecurityContext:
    """Everything, where it is asked for; otherwise the least capabilities for the features."""
    if install.privileged:
        return k.SecurityContext(privileged=True)
    wanted = needed(install.features, kernel=install.kernel, perf_event_paranoid=install.perf_event_paranoid)
    return k.SecurityContext(
        run_as_user=0,
        read_only_root_filesystem=True,
        capabilities=k.Capabilities(add=wanted.capabilities, drop=("ALL",)),
    )
