"""The generated chart with the real helm: linted, rendered as the manifests are, judged, and put on the sandbox."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.integration.conftest import Serve
from tests.integration.test_kubernetes import ask, until_namespaces_are_settled
from tests.sandbox.sandbox import Sandbox
from tests.unit.policy.manifest_cases import manifest_policy

from obi_mcp.obi.capabilities import Feature
from obi_mcp.obi.chart.files import ChartRequest, chart_files
from obi_mcp.obi.chart.names import PresetName
from obi_mcp.obi.chart.presets import preset_of
from obi_mcp.obi.chart.values import values_of
from obi_mcp.obi.manifests.install import Environment, Install
from obi_mcp.obi.manifests.json_form import body_of
from obi_mcp.obi.manifests.objects import installed_objects
from obi_mcp.obi.manifests.own_config import FILE_NAME
from obi_mcp.policy.documents import documents_of
from obi_mcp.policy.manifest.findings import Mode
from obi_mcp.policy.scope import Scope

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

ROOT = Path(__file__).parents[2]
NAMESPACE = "opentelemetry"
HELM = {"OBI_MCP_TOOLSETS": '["helm"]'}


def helm(programs_bin: Path, home: Path, *arguments: str) -> str:
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [str(programs_bin / "helm"), *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def written(files: dict[str, str], top: Path) -> Path:
    """The directory of the chart."""
    for path, text in files.items():
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_text(text)
    (name,) = {path.partition("/")[0] for path in files}
    return top / name


# --- what it renders ---

INSTALLS = [
    Install(),
    Install(name="obi-two", namespace="obi-system", environment=Environment.DEVELOPMENT, privileged=True),
    Install(features=(Feature.NETWORK,), cache=True, service_monitor=True, otlp_endpoint="http://${HOST_IP}:4318"),
    Install(cache=True, version="v0.12.2", env={"OTEL_EBPF_BPF_DEBUG": "true"}, image_pull_secrets=("mirror",)),
    Install(environment=Environment.DEVELOPMENT, cache=True, digest=f"sha256:{'a' * 64}"),
    Install(features=tuple(Feature), prometheus_port=None, kernel=(5, 10), otlp_endpoint="http://${HOST_IP}:4318"),
    Install(config="trace_printer: text\nopen_port: ${PORT}\nprometheus_export: {port: 9400}\n", prometheus_port=9400),
]


@pytest.mark.parametrize("install", INSTALLS, ids=lambda install: f"{install.name}-{'+'.join(install.features)}")
def test_the_chart_makes_the_objects_that_the_manifests_are(
    install: Install, programs_bin: Path, tmp_path: Path
) -> None:
    chart = written(chart_files(ChartRequest(values=values_of(install))), tmp_path)
    helm(programs_bin, tmp_path, "lint", "--strict", "--quiet", str(chart))
    text = helm(programs_bin, tmp_path, "template", install.name, str(chart), "--namespace", install.namespace)
    rendered = [body for body in yaml.safe_load_all(text) if body]
    expected = [body_of(thing) for thing in installed_objects(install) if thing.kind != "Namespace"]
    assert plain(rendered) == plain(expected)


def plain(objects: list[dict[str, Any]]) -> dict[str, Any]:
    """Objects by kind and name, without who made them, and the configuration as data."""
    found: dict[str, Any] = {}
    for body in json.loads(json.dumps(objects)):
        for metadata in (body["metadata"], body.get("spec", {}).get("template", {}).get("metadata", {})):
            for label in ("helm.sh/chart", "app.kubernetes.io/managed-by"):
                metadata.get("labels", {}).pop(label, None)
            if "checksum/config" in metadata.get("annotations", {}):
                metadata["annotations"]["checksum/config"] = "of the configuration"
        if body["kind"] == "ConfigMap":
            body["data"][FILE_NAME] = yaml.safe_load(body["data"][FILE_NAME])
        found[f"{body['kind']}/{body['metadata']['name']}"] = body
    return found


@pytest.mark.parametrize("preset", PresetName)
def test_every_preset_renders_to_what_may_be_written(preset: PresetName, programs_bin: Path, tmp_path: Path) -> None:
    features = (Feature.APPLICATION, Feature.CONTEXT_PROPAGATION, Feature.NETWORK)
    install = Install(features=features, cache=True, otlp_endpoint="http://${HOST_IP}:4318")
    request = ChartRequest(name="shop-obi", version="1.0.0", values=preset_of(preset).values(install))
    chart = written(chart_files(request), tmp_path)
    helm(programs_bin, tmp_path, "lint", "--strict", "--quiet", str(chart))
    text = helm(programs_bin, tmp_path, "template", "obi", str(chart), "--namespace", "observability")
    documents = documents_of([body for body in yaml.safe_load_all(text) if body])
    scope = Scope(releases={"obi": ("shop-obi",)})
    for document in documents:
        judgement = manifest_policy().judge(
            document, scope=scope, batch=documents, namespace="observability", mode=Mode.RENDERED
        )
        assert judgement.violations == (), document.kind


# --- by the tools ---


@pytest.mark.parametrize(
    "config",
    ["trace_printer: text\nopen_port: 8080\n", 'file_format: "1.0"\nextensions:\n  obi:\n    version: "2.0"\n'],
    ids=["v1", "v2"],
)
def test_a_configuration_that_serves_no_metrics_opens_no_port(config: str, programs_bin: Path, tmp_path: Path) -> None:
    chart = written(chart_files(ChartRequest(values=values_of(Install(config=config)))), tmp_path)
    text = helm(programs_bin, tmp_path, "template", "obi", str(chart), "--namespace", "observability")
    by_kind = {body["kind"]: body for body in yaml.safe_load_all(text) if body}
    (container,) = by_kind["DaemonSet"]["spec"]["template"]["spec"]["containers"]
    assert not {"ports", "readinessProbe"} & set(container) and "Service" not in by_kind
    assert yaml.safe_load(by_kind["ConfigMap"]["data"][FILE_NAME]) == yaml.safe_load(config)


async def test_every_preset_is_rendered_by_the_guarded_helm(serve: Serve) -> None:
    async with serve(**HELM) as session:
        for preset in PresetName:
            made, text, failed = await ask(session, "obi_helm_template", preset=preset, features=["network"])
            assert not failed, text
            kinds = [body["kind"] for body in made["objects"]]
            assert kinds == ["ServiceAccount", "ConfigMap", "ClusterRole", "ClusterRoleBinding", "Service", "DaemonSet"]
            (workload,) = [body for body in made["objects"] if body["kind"] == "DaemonSet"]
            (container,) = workload["spec"]["template"]["spec"]["containers"]
            warned = [entry["what"] for entry in made["findings"] if entry["severity"] == "warning"]
            assert ("privileged" in container["securityContext"]) == any("is privileged" in what for what in warned)


REFUSED = [
    ({"namespace": "shop"}, "namespace"),
    ({"release": "shop"}, "release"),
    ({"values": "image: {repository: docker.io/library/alpine}\n"}, "image"),
    ({"values": "config: {otel_traces_export: {endpoint: 'https://evil.example'}}\n"}, "endpoint"),
    ({"values": 'podAnnotations: {a: \'{{ lookup "v1" "Secret" "a" "b" }}\'}\n'}, "template"),
    ({"values": "unknown: 1\n"}, "unknown"),
    ({"chart": "shop"}, "shop"),
]


async def test_what_may_not_be_written_is_not_rendered(serve: Serve) -> None:
    async with serve(**HELM) as session:
        for arguments, says in REFUSED:
            made, text, failed = await ask(session, "obi_helm_template", **arguments)
            assert failed and says in text.lower(), f"{arguments}: {text}"
            assert "objects" not in made
        secret = "config: {otel_traces_export: {headers: {Authorization: 'Bearer aaaabbbbccccddddeeee'}}}\n"
        shown, text, _ = await ask(session, "obi_helm_template", values=secret)
    assert "aaaabbbbccccddddeeee" not in json.dumps(shown) + text


@pytest.fixture
def namespace(sandbox: Sandbox) -> Iterator[str]:
    path = "/api/v1/namespaces"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    sandbox.api.request("POST", path, json.dumps(body).encode()).require("make a namespace")
    yield NAMESPACE
    sandbox.api.request("DELETE", f"{path}/{NAMESPACE}")
    until_namespaces_are_settled(sandbox)


async def test_a_generated_chart_installs_from_the_chart_store(
    serve: Serve, namespace: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    known = {
        "OBI_MCP_PROGRAMS__CHART_STORE": str(tmp_path / "store"),
        "OBI_MCP_SCOPE__RELEASES": '{"obi": ["shop-obi"]}',
        **HELM,
    }
    async with serve(**HELM) as session:
        made, text, failed = await ask(
            session, "obi_helm_generate_chart", name="shop-obi", version="1.2.3", features=["network"], k8s_cache=True
        )
        assert not failed, text
    written(made["files"], tmp_path / "store")
    async with serve("full", **known) as session:
        installed = await session.helm(f"install obi shop-obi -n {namespace}")
        there = sandbox.api.get(f"/apis/apps/v1/namespaces/{namespace}/daemonsets/obi-shop-obi")
        removed = await session.helm(f"uninstall obi -n {namespace}")
    assert not installed.is_error, installed.text
    template = there.require("read the workload")["spec"]["template"]
    assert template["metadata"]["labels"]["helm.sh/chart"] == "shop-obi-1.2.3"
    assert template["spec"]["containers"][0]["securityContext"]["capabilities"]["add"] == ["BPF", "PERFMON", "NET_RAW"]
    assert not removed.is_error, removed.text


# --- the documents ---


def snippets(document: Path) -> list[str]:
    """The shell commands of a document, block by block."""
    blocks = document.read_text().split("```sh\n")[1:]
    return [block.partition("```")[0] for block in blocks]


def test_the_commands_of_the_document_are_true(programs_bin: Path, tmp_path: Path) -> None:
    shown = [block for block in snippets(ROOT / "docs/helm.md") if "obi_helm_generate" in block]
    assert shown
    path = f"{ROOT / '.venv/bin'}:{programs_bin}:/usr/bin:/bin"
    environment = {**os.environ, "PATH": path, "HOME": str(tmp_path), "KUBECONFIG": str(tmp_path / "none")}
    for block in itertools.chain(shown):
        commands = block.replace(".venv/bin/obi-mcp", "obi-mcp")
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    assert (tmp_path / "obi/Chart.yaml").read_text().startswith("apiVersion: v2")
    assert yaml.safe_load((tmp_path / "values.yaml").read_text())["privileged"] is False
