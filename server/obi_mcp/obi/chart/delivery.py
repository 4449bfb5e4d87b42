"""The chart as Flux and Argo CD install it: their objects as text for their controllers, never applied by us.

Values go as text (a ConfigMap for Flux, a string for Argo CD): a null in an object of the API is lost on its way, and
a null is how helm takes away what a chart has by default.

Source of the fields: Flux's helm.toolkit.fluxcd.io/v2 and source.toolkit.fluxcd.io/v1, Argo CD's argoproj.io/v1alpha1;
``tests/published.py`` names the modules whose definitions of them these objects are held against.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from obi_mcp.obi.manifests.install import Install
from obi_mcp.obi.manifests.json_form import body_of
from obi_mcp.obi.manifests.objects import namespace
from obi_mcp.policy.yaml_writer import to_yaml

FLUX = "flux-system"
ARGOCD = "argocd"
_SOURCES = "source.toolkit.fluxcd.io/v1"
_CHART_LAYER = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
_RETRIES = 3
Document = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartSource:
    """A chart of a repository: ``https://…`` with an index, or ``oci://…``. ``version`` is one exact version."""

    url: str
    chart: str
    version: str

    @property
    def oci(self) -> bool:
        """Whether it is an OCI registry."""
        return self.url.startswith("oci://")


@dataclass(frozen=True, slots=True, kw_only=True)
class GitSource:
    """A chart as a folder of a git repository."""

    url: str
    revision: str
    path: str


def stream(documents: Sequence[Mapping[str, Any]]) -> str:
    """Documents as one YAML stream."""
    return "---\n".join(to_yaml(document) for document in documents)


def helm_release(
    install: Install, source: ChartSource | GitSource, values: Mapping[str, Any] | None = None
) -> tuple[Document, ...]:
    """The namespace with its Pod Security labels, where the chart comes from, its values, and the HelmRelease.

    The release is stored where it installs to, so that ``helm list`` and this server's tools find it there.
    """
    spec: Document = {
        "interval": "10m",
        "releaseName": install.name,
        "targetNamespace": install.namespace,
        "storageNamespace": install.namespace,
        **_chart(install, source),
        "install": {"remediation": {"retries": _RETRIES}},
        "upgrade": {"remediation": {"retries": _RETRIES}},
    }
    documents = [body_of(namespace(install)), _source(install, source)]
    if values:
        name = f"{install.name}-values"
        data = {"values.yaml": to_yaml(values)}
        documents.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata(name), "data": data})
        spec["valuesFrom"] = [{"kind": "ConfigMap", "name": name, "valuesKey": "values.yaml"}]
    release = {"apiVersion": "helm.toolkit.fluxcd.io/v2", "kind": "HelmRelease"}
    return (*documents, {**release, "metadata": _metadata(install.name), "spec": spec})


def helm_application(install: Install, source: ChartSource, values: Mapping[str, Any]) -> Document:
    """An Argo CD Application of the chart. Argo CD renders the chart and applies that: there is no helm release."""
    helm: Document = {"releaseName": install.name}
    if values:
        helm["values"] = to_yaml(values)
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Application",
        "metadata": {"name": install.name, "namespace": ARGOCD},
        "spec": {
            "project": "default",
            "source": {
                # Argo CD knows an OCI registry by an address without a scheme.
                "repoURL": source.url.removeprefix("oci://"),
                "chart": source.chart,
                "targetRevision": source.version,
                "helm": helm,
            },
            "destination": {"server": "https://kubernetes.default.svc", "namespace": install.namespace},
            "syncPolicy": {
                "automated": {"prune": False, "selfHeal": True},
                "syncOptions": ["CreateNamespace=true"],
                "managedNamespaceMetadata": {"labels": dict(namespace(install).metadata.labels)},
            },
        },
    }


def _metadata(name: str) -> Document:
    return {"name": name, "namespace": FLUX}


def _source(install: Install, source: ChartSource | GitSource) -> Document:
    spec: Document = {"interval": "10m", "url": source.url}
    if isinstance(source, GitSource):
        kind = "GitRepository"
        spec["ref"] = {"branch": source.revision}
    elif source.oci:
        kind = "OCIRepository"
        spec["url"] = f"{source.url.rstrip('/')}/{source.chart}"
        spec["ref"] = {"tag": source.version}
        spec["layerSelector"] = {"mediaType": _CHART_LAYER, "operation": "copy"}
    else:
        kind = "HelmRepository"
    return {"apiVersion": _SOURCES, "kind": kind, "metadata": _metadata(install.name), "spec": spec}


def _chart(install: Install, source: ChartSource | GitSource) -> Document:
    if isinstance(source, GitSource):
        reference = {"kind": "GitRepository", "name": install.name}
        # The chart's version does not change with every commit, and its files may.
        return {"chart": {"spec": {"chart": source.path, "sourceRef": reference, "reconcileStrategy": "Revision"}}}
    if source.oci:
        return {"chartRef": {"kind": "OCIRepository", "name": install.name}}
    reference = {"kind": "HelmRepository", "name": install.name}
    return {"chart": {"spec": {"chart": source.chart, "version": source.version, "sourceRef": reference}}}
