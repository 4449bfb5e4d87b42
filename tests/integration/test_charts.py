"""The built-in chart and the decoding of values, held against the real helm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from obi_mcp.policy.chart_files import write_chart
from obi_mcp.policy.chart_guard import SAID, guarded
from obi_mcp.policy.chart_scan import scan_files
from obi_mcp.policy.documents import documents_of
from obi_mcp.policy.manifest.findings import Mode
from obi_mcp.policy.manifest.judge import ENVIRONMENT_FILE, SCHEMA_FILES, ManifestPolicy
from obi_mcp.policy.release import read_dry_run, read_objects, same_objects
from obi_mcp.policy.scope import Scope
from obi_mcp.policy.shipped import shipped_policy
from obi_mcp.policy.strvals import Form
from obi_mcp.policy.values import canonical_values, merge_values, read_values

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "image" / "chart" / "obi"
CASES = ROOT / "tests" / "cases" / "charts"
COMPUTED: list[dict[str, Any]] = yaml.safe_load((CASES / "computed.yaml").read_text("utf-8"))
VALUES: list[dict[str, Any]] = yaml.safe_load((CASES / "values.yaml").read_text("utf-8"))

pytestmark = pytest.mark.integration


class Helm:
    """The real helm, in an environment of its own."""

    def __init__(self, program: Path, home: Path) -> None:
        self._program = program
        self._environment = {"HOME": str(home), "PATH": "/usr/bin:/bin"}

    def __call__(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        argv = [str(self._program), *arguments]
        return subprocess.run(argv, env=self._environment, input=stdin, capture_output=True, check=False)

    def rendered(self, *arguments: str, stdin: bytes = b"") -> list[dict[str, Any]]:
        done = self("template", "obi", str(CHART), "--namespace=observability", *arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr.decode()
        return [body for body in yaml.safe_load_all(done.stdout) if body]


@pytest.fixture(scope="module")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    argv = [sys.executable, str(ROOT / "image" / "programs.py"), "--print-bin"]
    done = subprocess.run(argv, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Helm(Path(done.stdout.strip()) / "helm", tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def manifest() -> ManifestPolicy:
    top = shipped_policy()
    paths = [*top.glob(SCHEMA_FILES), top / ENVIRONMENT_FILE]
    return ManifestPolicy.from_data({str(p.relative_to(top)): yaml.safe_load(p.read_text("utf-8")) for p in paths})


def test_the_built_in_chart_has_nothing_to_complain_about(helm: Helm) -> None:
    done = helm("lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout.decode()


ALL = "ServiceAccount ConfigMap ClusterRole ClusterRoleBinding DaemonSet"
WHOLE = (
    "PodDisruptionBudget ServiceAccount ConfigMap ClusterRole ClusterRoleBinding "
    "Service Service DaemonSet Deployment ServiceMonitor"
)
ENV = '--set-json=env={"OTEL_EBPF_LOG_LEVEL":"DEBUG","OTEL_EBPF_BPF_DEBUG":true}'


@pytest.mark.parametrize(
    ("arguments", "kinds"),
    [
        ((), ALL),
        (("--set=service.enabled=true",), ALL.replace("DaemonSet", "Service DaemonSet")),
        (("--set=rbac.create=false,serviceAccount.create=false,serviceAccount.name=obi",), "ConfigMap DaemonSet"),
        (("--set=privileged=false,hostNetwork=false",), ALL),
        (("--set=config.prometheus_export=null",), ALL),
        (("--set=config.prometheus_export.port=0",), ALL),
        (("--set=k8sCache.enabled=true,k8sCache.replicas=2,service.enabled=true,serviceMonitor.enabled=true",), WHOLE),
        ((ENV, "--set=tolerations[0].operator=Exists"), ALL),
    ],
)
def test_what_the_built_in_chart_makes_passes_the_manifest_check(
    arguments: tuple[str, ...], kinds: str, helm: Helm, manifest: ManifestPolicy
) -> None:
    documents = documents_of(helm.rendered(*arguments))
    assert [document.kind for document in documents] == kinds.split()
    for document in documents:
        judgement = manifest.judge(
            document, scope=Scope(), batch=documents, namespace="observability", mode=Mode.RENDERED
        )
        assert judgement.violations == ()


def test_the_default_rendering_has_the_shape_of_the_upstream_charts(helm: Helm) -> None:
    by_kind = {body["kind"]: body for body in helm.rendered()}
    pod = by_kind["DaemonSet"]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert (pod["hostPID"], pod["hostNetwork"], pod["dnsPolicy"]) == (True, True, "ClusterFirstWithHostNet")
    assert container["securityContext"] == {"privileged": True}
    assert container["ports"] == [{"name": "metrics", "containerPort": 9090, "protocol": "TCP"}]
    assert container["args"] == ["-config", "/etc/ebpf-instrument/config/ebpf-instrument-config.yml"]
    assert [variable["name"] for variable in container["env"]] == ["HOST_IP", "GOMEMLIMIT"]
    config = yaml.safe_load(by_kind["ConfigMap"]["data"]["ebpf-instrument-config.yml"])
    assert config["otel_traces_export"] == {"endpoint": "http://${HOST_IP}:4317"}
    assert by_kind["ClusterRole"]["metadata"]["name"] in Scope().known_cluster_objects()


@pytest.mark.parametrize(
    "text",
    [
        "unknown=1",
        "privileged=please",
        "capabilities={SYS_MODULE}",
        "env.a-b=1",
        "serviceAccount.name=default",
        "image.tag=a b",
        "service.port=0",
    ],
)
def test_the_values_schema_refuses_what_the_chart_does_not_know(text: str, helm: Helm) -> None:
    done = helm("template", "obi", str(CHART), f"--set={text}")
    assert done.returncode == 1 and b"schema" in done.stderr


@pytest.mark.parametrize("case", VALUES, ids=lambda case: f"{case.get('values', '')!r} {case['sets']}")
def test_helm_decodes_values_as_we_do(case: dict[str, Any], helm: Helm) -> None:
    arguments = [f"--{form}={text}" for form, text in case["sets"]]
    if "values" in case:
        arguments.append("--values=-")
    done = helm("template", "x", str(CASES / "echo"), *arguments, stdin=case.get("values", "").encode())
    if case["gives"] is None:
        assert case.get("stricter") or done.returncode != 0
        return
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(yaml.safe_load(done.stdout)["data"]["values"]) == case["gives"]


@pytest.mark.parametrize("case", COMPUTED, ids=lambda case: case["name"])
def test_what_a_chart_runs_as_a_template_calls_nothing_that_is_refused(
    case: dict[str, Any], helm: Helm, tmp_path: Path
) -> None:
    whole = {"Chart.yaml": "{apiVersion: v2, name: obi, version: 0.1.0}", **case.get("files", {})}
    whole["templates/x.yaml"] = f"text: |\n  {case['template']}\n"
    files = guarded({name: text.encode() for name, text in whole.items()})
    assert not list(scan_files(files))
    write_chart(files, tmp_path / "obi")
    done = helm("template", "obi", str(tmp_path / "obi"))
    assert (SAID in done.stderr.decode()) is ("gives" not in case), done.stdout.decode() + done.stderr.decode()
    if "gives" in case:
        assert yaml.safe_load(done.stdout)["text"].strip() == case["gives"]


def test_canonical_values_are_the_callers_values_to_helm(helm: Helm) -> None:
    text = "a: {b: [1, 'x', null, true]}\nc: '007'\nd: 1.5\n"
    sets: dict[Form, tuple[str, ...]] = {"set": ("a.e=2",)}
    done = helm(
        "template", "x", str(CASES / "echo"), "--values=-", "--set=a.e=2", stdin=canonical_values(read_values(text))
    )
    assert json.loads(yaml.safe_load(done.stdout)["data"]["values"]) == merge_values(sets, text)


@pytest.mark.parametrize(
    ("chart", "labels", "hooks"),
    [
        (CHART, ["ServiceAccount", "ConfigMap", "ClusterRole", "ClusterRoleBinding", "DaemonSet"], []),
        (CASES / "hook" / "obi", [], ["Job"]),
    ],
)
def test_helms_dry_run_and_its_rendering_are_read_alike(
    chart: Path, labels: list[str], hooks: list[str], helm: Helm
) -> None:
    at = ("obi", str(chart), "--namespace=observability")
    dry_run = helm("install", *at, "--dry-run=client", "--output=json")
    assert dry_run.returncode == 0, dry_run.stderr.decode()
    release = read_dry_run(json.loads(dry_run.stdout))
    rendered = read_objects(helm("template", *at).stdout.decode())
    assert (release.name, release.namespace, release.chart, release.revision) == ("obi", "observability", "obi", 1)
    assert [item.document.kind for item in release.objects] == labels
    assert [item.document.kind for item in release.hooks] == hooks
    assert same_objects(release.documents, [item.document for item in rendered])
    assert [(item.source, item.events) for item in release.everything] == [(i.source, i.events) for i in rendered]
