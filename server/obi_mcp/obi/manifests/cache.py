"""The k8s-cache: one place that watches the cluster for all agents, worth it from some hundred nodes."""

from __future__ import annotations

from obi_mcp.obi.manifests import kinds as k
from obi_mcp.obi.manifests.install import Install
from obi_mcp.obi.manifests.labels import labels_of, selector_of
from obi_mcp.obi.manifests.own_config import CACHE_PORT

CACHE = "opentelemetry-ebpf-instrumentation-k8s-cache"
"""The value of app.kubernetes.io/name that upstream gives it."""


def cache_objects(install: Install) -> list[k.KubernetesObject]:
    """Deployment, service, disruption budget, and a network policy that lets only agents in."""
    labels, selector = labels_of(install, "cache", name=CACHE), selector_of(install, name=CACHE)
    metadata = k.Metadata(name=install.cache_name, namespace=install.namespace, labels=labels)
    chosen = k.LabelSelector(match_labels=selector)
    port = k.ServicePort(name="grpc", port=CACHE_PORT, target_port="grpc")
    made: list[k.KubernetesObject] = [
        _deployment(install, metadata, chosen),
        k.Service(metadata=metadata, spec=k.ServiceSpec(selector=selector, ports=(port,))),
    ]
    if install.production:
        made.append(
            k.PodDisruptionBudget(metadata=metadata, spec=k.PodDisruptionBudgetSpec(selector=chosen, min_available=1))
        )
    if not install.host_network:
        # Agents on the node's network come from the nodes' addresses, which a selector of pods does not name.
        agents = k.NetworkPolicyPeer(pod_selector=k.LabelSelector(match_labels=selector_of(install)))
        rule = k.IngressRule(from_peers=(agents,), ports=(k.NetworkPolicyPort(port=CACHE_PORT),))
        spec = k.NetworkPolicySpec(pod_selector=chosen, policy_types=("Ingress",), ingress=(rule,))
        made.append(k.NetworkPolicy(metadata=metadata, spec=spec))
    return made


def _deployment(install: Install, metadata: k.Metadata, selector: k.LabelSelector) -> k.Deployment:
    container = k.Container(
        name="k8s-cache",
        image=f"{install.cache_repository}:{install.version}",
        command=("/k8s-cache",),
        env=(k.EnvVar(name="OTEL_EBPF_K8S_CACHE_PORT", value=str(CACHE_PORT)),),
        ports=(k.ContainerPort(name="grpc", container_port=CACHE_PORT),),
        resources=k.Resources(requests={"cpu": "100m", "memory": "256Mi"}, limits={"memory": "1Gi"}),
        security_context=k.SecurityContext(
            allow_privilege_escalation=False,
            run_as_non_root=True,
            run_as_user=65532,
            read_only_root_filesystem=True,
            capabilities=k.Capabilities(drop=("ALL",)),
        ),
    )
    pod = k.PodSpec(
        service_account_name=install.name,
        node_selector={"kubernetes.io/os": "linux"},
        image_pull_secrets=tuple(k.LocalReference(name=name) for name in install.image_pull_secrets),
        containers=(container,),
    )
    template = k.PodTemplate(metadata=k.Metadata(labels=metadata.labels), spec=pod)
    return k.Deployment(
        metadata=metadata,
        spec=k.DeploymentSpec(replicas=2 if install.production else 1, selector=selector, template=template),
    )
