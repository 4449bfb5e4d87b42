"""What is written for Flux and Argo CD, against the definitions that they publish of their objects."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests import published
from tests.snapshots.update import MANIFESTS

from obi_mcp.policy.values import read_values

pytestmark = pytest.mark.integration

FILES = [
    MANIFESTS / "argocd" / "application.yaml",
    MANIFESTS / "flux" / "flux.yaml",
    MANIFESTS / "helmrelease" / "helmrelease.yaml",
    *sorted((MANIFESTS / "helm").glob("helmrelease-*.yaml")),
    *sorted((MANIFESTS / "helm").glob("application-*.yaml")),
]
FOREIGN = ("fluxcd.io", "argoproj.io")


def documents(path: Path) -> list[dict[str, Any]]:
    """Those that a controller reads; namespaces and config maps are the manifest check's."""
    found = [body for body in yaml.safe_load_all(path.read_text()) if body]
    return [body for body in found if body["apiVersion"].partition("/")[0].endswith(FOREIGN)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_documents_fit_the_published_definitions(path: Path) -> None:
    found = documents(path)
    assert found
    for body in found:
        assert published.problems(body) == [], body["kind"]


KINDS = {body["kind"]: body for path in FILES for body in documents(path)}


def test_every_kind_that_is_written_is_held_against_its_definition() -> None:
    assert set(KINDS) == {
        "Application",
        "GitRepository",
        "HelmRelease",
        "HelmRepository",
        "Kustomization",
        "OCIRepository",
    }


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("HelmRelease", "spec.helmChart", "obi"),
        ("HelmRelease", "spec.interval", "ten minutes"),
        ("HelmRelease", "spec.chart.spec.sourceRef.kind", "OCIRepository"),
        ("HelmRelease", "spec.valuesFrom.0.kind", "Values"),
        ("HelmRelease", "spec.install.remediation.retry", 3),
        ("HelmRelease", "spec.install.remediation.retries", "3"),
        ("OCIRepository", "spec.layerSelector.operation", "unpack"),
        ("OCIRepository", "spec.url", "https://x"),
        ("HelmRepository", "spec.repository", "https://x"),
        ("GitRepository", "spec.ref.head", "main"),
        ("Kustomization", "spec.sourceRef.kind", "HelmRepository"),
        ("Application", "spec.source.helm.release", "obi"),
        ("Application", "spec.syncPolicy.automated.prune", "no"),
    ],
)
def test_a_document_that_does_not_fit_is_found(kind: str, path: str, value: object) -> None:
    body = copy.deepcopy(KINDS[kind])
    *above, last = path.split(".")
    place: Any = body
    for step in above:
        place = place[int(step)] if isinstance(place, list) else place.setdefault(step, {})
    place[last] = value
    assert published.problems(body) != []


@pytest.mark.parametrize("form", ["oci", "https"])
def test_flux_and_argo_cd_get_the_same_values(form: str) -> None:
    flux = [body for body in yaml.safe_load_all((MANIFESTS / "helm" / f"helmrelease-{form}.yaml").read_text()) if body]
    (config,) = [body for body in flux if body["kind"] == "ConfigMap"]
    (release,) = [body for body in flux if body["kind"] == "HelmRelease"]
    (reference,) = release["spec"]["valuesFrom"]
    assert (reference["name"], config["metadata"]["namespace"]) == (
        config["metadata"]["name"],
        release["metadata"]["namespace"],
    )
    (application,) = documents(MANIFESTS / "helm" / f"application-{form}.yaml")
    production = read_values((MANIFESTS / "helm" / "production.yaml").read_text())
    assert read_values(config["data"][reference["valuesKey"]]) == production
    assert read_values(application["spec"]["source"]["helm"]["values"]) == production
