"""What can be asked of an installation of OBI, and what the presets make of what was not said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from obi_mcp.obi.capabilities import Feature
from obi_mcp.policy.manifest.environment import is_beyla

REPOSITORY = "ghcr.io/open-telemetry/opentelemetry-ebpf-instrumentation/ebpf-instrument"
CACHE_REPOSITORY = "ghcr.io/open-telemetry/opentelemetry-ebpf-instrumentation/opentelemetry-ebpf-k8s-cache"
VERSION = "v0.11.0"
"""The version that upstream's chart 0.12.0 installs."""
ENDPOINT_VARIABLE = "OTEL_EXPORTER_OTLP_ENDPOINT"
_NODE = "${HOST_IP}"

_ON_THE_NODES_NETWORK = frozenset(
    {Feature.NETWORK, Feature.NETWORK_TC, Feature.CONTEXT_PROPAGATION, Feature.GO_CONTEXT_PROPAGATION}
)


class Format(StrEnum):
    """How manifests are written."""

    YAML = "yaml"
    KUSTOMIZE = "kustomize"
    ARGOCD = "argocd"
    FLUX = "flux"
    HELMRELEASE = "helmrelease"


class Environment(StrEnum):
    """The presets. Development shows more and asks for less; production asks for what OBI was seen to need."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


@dataclass(frozen=True, slots=True, kw_only=True)
class Install:
    """An installation as it is asked for. None means: what the preset says.

    ``config`` is OBI's own configuration (v1 or v2) and replaces the one that would be made. ``otlp_endpoint`` is a
    URL, ``${HOST_IP}`` in it the node. ``kernel`` and ``perf_event_paranoid``: of the oldest and the strictest node.
    """

    name: str = "obi"
    namespace: str = "observability"
    environment: Environment = Environment.PRODUCTION
    features: tuple[Feature, ...] = (Feature.APPLICATION,)
    repository: str = REPOSITORY
    version: str = VERSION
    digest: str = ""
    otlp_endpoint: str | None = None
    prometheus_port: int | None = 9090
    privileged: bool = False
    config: str | None = None
    instrument_namespaces: tuple[str, ...] = ()
    create_namespace: bool = True
    service: bool = True
    service_monitor: bool = False
    cache: bool = False
    cache_repository: str = CACHE_REPOSITORY
    env: Mapping[str, str] = field(default_factory=dict)
    image_pull_secrets: tuple[str, ...] = ()
    kernel: tuple[int, int] | None = None
    perf_event_paranoid: int | None = None

    @property
    def image(self) -> str:
        """The image reference; a digest wins over the version, as in the chart."""
        return f"{self.repository}@{self.digest}" if self.digest else f"{self.repository}:{self.version}"

    @property
    def beyla(self) -> bool:
        """Whether the program is Grafana Beyla, which reads other names."""
        return is_beyla(self.repository)

    @property
    def configured_endpoint(self) -> str | None:
        """The endpoint that stands in OBI's configuration; None where there is none, or a variable gives it.

        Beyla before 3 takes ``${HOST_IP}`` in its configuration as text, and ends. Source: run, with Beyla 1.8.
        """
        by_variable = self.beyla and self.otlp_endpoint is not None and _NODE in self.otlp_endpoint
        return None if by_variable else self.otlp_endpoint

    @property
    def variables(self) -> dict[str, str]:
        """The variables of its container besides those that every installation has."""
        if self.otlp_endpoint == self.configured_endpoint or self.otlp_endpoint is None:
            return dict(self.env)
        return {ENDPOINT_VARIABLE: expanded_by_kubernetes(self.otlp_endpoint), **self.env}

    @property
    def cache_name(self) -> str:
        """The name of the k8s-cache's objects."""
        return f"{self.name}-k8s-cache"

    @property
    def host_network(self) -> bool:
        """Whether a feature needs the node's own network. Source: upstream's chart 0.12.0."""
        return bool(_ON_THE_NODES_NETWORK & set(self.features))

    @property
    def production(self) -> bool:
        return self.environment is Environment.PRODUCTION


def expanded_by_kubernetes(endpoint: str) -> str:
    """The URL as the value of a variable: there Kubernetes puts the node in, and the program nothing."""
    return endpoint.replace(_NODE, "$(HOST_IP)")
