"""A set of objects as text: one YAML stream, a Kustomize base with overlays, or what Argo CD and Flux read. Flux's
HelmRelease comes with the chart that makes the same objects.

Argo CD's and Flux's own objects are text for their controllers' repositories: nothing here is ever applied by us.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from obi_mcp.obi.chart.delivery import GitSource, helm_release
from obi_mcp.obi.chart.delivery import stream as documents_of
from obi_mcp.obi.chart.files import ChartRequest, chart_files
from obi_mcp.obi.chart.values import CHART, values_of
from obi_mcp.obi.manifests.install import Environment, Format, Install
from obi_mcp.obi.manifests.json_form import body_of
from obi_mcp.obi.manifests.kinds import KubernetesObject
from obi_mcp.obi.manifests.objects import config_map, daemon_set, installed_objects
from obi_mcp.policy.yaml_writer import to_yaml


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """Where the reader will have put the files: Argo CD and Flux fetch them from there."""

    url: str
    revision: str = "main"
    path: str = "obi"


PLACEHOLDER = Repository(url="https://git.example.org/platform/obi.git")
"""Stands where the caller named no repository; the answer says that it is to be replaced."""


def render(install: Install, form: Format, repository: Repository = PLACEHOLDER) -> Mapping[str, str]:
    """The files of an installation by their path, in the order in which they are read."""
    match form:
        case Format.YAML:
            return {f"{install.name}.yaml": stream(installed_objects(install))}
        case Format.KUSTOMIZE:
            return _kustomize(install)
        case Format.ARGOCD:
            return {"application.yaml": to_yaml(argocd_application(install, repository)), **_below(install, repository)}
        case Format.FLUX:
            parts = [to_yaml(part) for part in flux_objects(install, repository)]
            return {"flux.yaml": "---\n".join(parts), **_below(install, repository)}
        case Format.HELMRELEASE:
            return _released(install, repository)


def stream(objects: Sequence[KubernetesObject]) -> str:
    """Objects as one YAML stream."""
    return "---\n".join(to_yaml(body_of(thing)) for thing in objects)


def argocd_application(install: Install, repository: Repository) -> dict[str, Any]:
    """An Application that keeps the cluster as the repository says.

    Source of the fields: Argo CD's "Declarative Setup" (argoproj.io/v1alpha1).
    """
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Application",
        "metadata": {"name": install.name, "namespace": "argocd"},
        "spec": {
            "project": "default",
            "source": {
                "repoURL": repository.url,
                "targetRevision": repository.revision,
                "path": repository.path,
            },
            "destination": {"server": "https://kubernetes.default.svc", "namespace": install.namespace},
            "syncPolicy": {"automated": {"prune": False, "selfHeal": True}},
        },
    }


def flux_objects(install: Install, repository: Repository) -> tuple[dict[str, Any], dict[str, Any]]:
    """A GitRepository and the Kustomization that applies it.

    Source of the fields: Flux's API references of source.toolkit.fluxcd.io/v1 and kustomize.toolkit.fluxcd.io/v1.
    """
    metadata = {"name": install.name, "namespace": "flux-system"}
    source = {
        "apiVersion": "source.toolkit.fluxcd.io/v1",
        "kind": "GitRepository",
        "metadata": metadata,
        "spec": {"interval": "10m", "url": repository.url, "ref": {"branch": repository.revision}},
    }
    kustomization = {
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
        "kind": "Kustomization",
        "metadata": metadata,
        "spec": {
            "interval": "10m",
            "path": f"./{repository.path}",
            "prune": False,
            "wait": True,
            "timeout": "5m",
            "sourceRef": {"kind": "GitRepository", "name": install.name},
        },
    }
    return source, kustomization


def _kustomize(install: Install) -> dict[str, str]:
    """A base, and an overlay for each environment that differs from it only where the presets differ."""
    base = {f"{thing.kind.lower()}-{thing.metadata.name}.yaml": thing for thing in installed_objects(install)}
    files = {"base/kustomization.yaml": to_yaml(_kustomization({"resources": sorted(base)}))}
    files |= {f"base/{name}": to_yaml(body_of(thing)) for name, thing in base.items()}
    for environment in Environment:
        files |= _overlay(install, environment)
    return files


def _overlay(install: Install, environment: Environment) -> dict[str, str]:
    other = replace(install, environment=environment)
    changed = [config_map(other), daemon_set(other)]
    folder = f"overlays/{environment}"
    names = [f"{thing.kind.lower()}.yaml" for thing in changed]
    body = {"resources": ["../../base"], "patches": [{"path": name} for name in names]}
    return {
        f"{folder}/kustomization.yaml": to_yaml(_kustomization(body)),
        **{f"{folder}/{name}": to_yaml(body_of(thing)) for name, thing in zip(names, changed, strict=True)},
    }


def _kustomization(body: Mapping[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", **body}


def _released(install: Install, repository: Repository) -> dict[str, str]:
    """The HelmRelease, and the chart with the installation's values for its own."""
    values = {**values_of(install)}
    values["image"] = {**values["image"], "tag": ""}
    chart = chart_files(ChartRequest(app_version=install.version, values=values))
    source = GitSource(url=repository.url, revision=repository.revision, path=f"./{repository.path}/{CHART}")
    text = documents_of(helm_release(install, source))
    return {"helmrelease.yaml": text, **{f"{repository.path}/{name}": body for name, body in chart.items()}}


def _below(install: Install, repository: Repository) -> dict[str, str]:
    return {f"{repository.path}/{name}": text for name, text in render(install, Format.YAML).items()}
