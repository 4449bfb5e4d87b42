"""What is OBI's: candidates by selector, proof by image, and where OBI may live. Defaults fit the upstream chart."""

from __future__ import annotations

from dataclasses import dataclass, field

DEFAULT_SELECTORS = (
    "app.kubernetes.io/part-of in (obi, beyla)",
    "app.kubernetes.io/name in "
    "(obi, opentelemetry-ebpf-instrumentation, opentelemetry-ebpf-instrumentation-k8s-cache, beyla)",
    "app=obi",
)
DEFAULT_IMAGES = (
    "ghcr.io/open-telemetry/opentelemetry-ebpf-instrumentation/ebpf-instrument",
    "ghcr.io/open-telemetry/opentelemetry-ebpf-instrumentation/opentelemetry-ebpf-k8s-cache",
    "otel/ebpf-instrument",
    "otel/opentelemetry-ebpf-k8s-cache",
    "grafana/beyla",
    "grafana/beyla-k8s-cache",
)
DEFAULT_NAMESPACES = ("observability", "obi", "obi-system", "opentelemetry", "monitoring")
DEFAULT_RELEASES = {"obi": ("opentelemetry-ebpf-instrumentation", "obi"), "beyla": ("beyla",)}
K8S_CACHE = "opentelemetry-ebpf-instrumentation-k8s-cache"


@dataclass(frozen=True, slots=True)
class Scope:
    """The section ``scope`` of the configuration, complete.

    ``contexts`` empty: the kubeconfig's current context only. ``releases`` maps release names to chart names.
    """

    selectors: tuple[str, ...] = DEFAULT_SELECTORS
    images: tuple[str, ...] = DEFAULT_IMAGES
    image_digests: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = DEFAULT_NAMESPACES
    default_namespace: str = "observability"
    releases: dict[str, tuple[str, ...]] = field(default_factory=lambda: dict(DEFAULT_RELEASES))
    cluster_objects: tuple[str, ...] = ()
    contexts: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = ()
    instrumented_namespaces: tuple[str, ...] = ()
    allowed_secrets: tuple[str, ...] = ()
    allow_privileged: bool = True
    charts_trusted: tuple[str, ...] = ()
    """Charts whose templates may use lookup, random functions or crds/."""
    repositories: dict[str, str] = field(default_factory=dict)
    """Chart repositories by name: URL or oci:// reference, configured by the operator."""
    chart_hosts: tuple[str, ...] = ()
    """Hosts, besides a repository's own, from which its index may have archives fetched."""
    chart_digests: dict[str, str] = field(default_factory=dict)
    """``REPO/NAME@VERSION`` to the ``sha256:…`` that its archive must have."""

    def known_cluster_objects(self) -> frozenset[str]:
        """Names of cluster-scoped objects that are OBI's: configured, or the defaults that follow from releases."""
        if self.cluster_objects:
            return frozenset(self.cluster_objects)
        made = {f"{release}-{chart}" for release, charts in self.releases.items() for chart in charts}
        return frozenset({"obi", "beyla", K8S_CACHE, *made})
