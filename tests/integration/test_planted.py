"""What other tenants may plant where OBI lives, so that a line which is right by its text would do or show too much."""

from __future__ import annotations

import base64
import gzip
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.integration.conftest import Serve
from tests.sandbox.sandbox import Sandbox

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

CHARTS = Path(__file__).parents[1] / "cases" / "charts"
NAMESPACE = "observability"
STORED = "sh.helm.release.v1.obi.v1"
DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
LOOKUP = '{{ (lookup "v1" "Secret" "kube-system" "bootstrap-token").data.token }}'


@dataclass(frozen=True)
class Tenant:
    """Somebody else in the cluster, with the real programs."""

    programs: Path
    kubeconfig: Path

    def run(self, program: str, *arguments: str, stdin: Any = None) -> str:
        text = json.dumps(stdin) if stdin is not None else None
        command = [str(self.programs / program), f"--kubeconfig={self.kubeconfig}", *arguments]
        return subprocess.run(command, input=text, check=True, capture_output=True, text=True).stdout

    def kubectl(self, *arguments: str, stdin: Any = None) -> str:
        return self.run("kubectl", *arguments, stdin=stdin)


@pytest.fixture(scope="module")
def tenant(sandbox: Sandbox, programs_bin: Path) -> Tenant:
    return Tenant(programs_bin, sandbox.kubeconfig)


@pytest.fixture(scope="module")
def injected(sandbox: Sandbox, tenant: Tenant) -> Iterator[str]:
    """A pod of OBI's with a container of somebody else's in it, and a canary in that one's log."""
    at = ("-n", NAMESPACE)
    node = f"--field-selector=spec.nodeName={sandbox.facts['nodes']['simulated'][0]}"
    names = tenant.kubectl("get", "pods", *at, node, "-l", sandbox.facts["obi"]["selector"], "-o", "name").split()
    pod = names[0].removeprefix("pod/")
    logs = Path(sandbox.facts["state"]) / "logs"
    tenant.kubectl("debug", pod, *at, "--image=registry.test/injected:1", "-c", "injected", "--attach=false")
    sources = [("injected", "cart.log"), ("ebpf-instrument", "obi.log")]
    source = {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "Logs",
        "metadata": {"name": pod, "namespace": NAMESPACE},
        "spec": {"logs": [{"containers": [name], "logsFile": str(logs / file)} for name, file in sources]},
    }
    tenant.kubectl("create", "-f", "-", stdin=source)
    tenant.kubectl("wait", f"pod/{pod}", *at, "--for=condition=Ready", "--timeout=180s")
    assert "CANARY" in tenant.kubectl("logs", pod, *at, "-c", "injected")
    yield pod
    tenant.kubectl("delete", "logs.kwok.x-k8s.io", pod, *at)
    tenant.kubectl("delete", "pod", pod, *at, "--now")


@pytest.mark.parametrize("default", [False, True])
@pytest.mark.parametrize(
    "command",
    [
        "logs {pod}",
        "logs {pod} -c injected",
        "logs {pod} --all-containers",
        "logs ds/obi",
        "logs ds/obi -c injected",
        "logs ds/obi --all-pods",
        "logs ds/obi --all-pods -c injected",
        "logs ds/obi --all-pods --all-containers",
        "logs -l app.kubernetes.io/part-of=obi",
        "logs -l app.kubernetes.io/part-of=obi -c injected",
        "logs -l app.kubernetes.io/part-of=obi --all-containers",
    ],
)
async def test_a_foreign_container_in_obis_pod_is_not_read(
    serve: Serve, tenant: Tenant, injected: str, command: str, default: bool
) -> None:
    wanted = f"{DEFAULT_CONTAINER}=injected" if default else f"{DEFAULT_CONTAINER}-"
    tenant.kubectl("annotate", "pod", injected, "-n", NAMESPACE, wanted, "--overwrite")
    async with serve() as session:
        outcome = await session.kubectl(f"{command.format(pod=injected)} -n {NAMESPACE} --tail=50")
    assert "CANARY" not in json.dumps(outcome.structured) + outcome.text


@pytest.fixture
def orphan(tenant: Tenant) -> Iterator[str]:
    """A pod of somebody else's with OBI's labels, that no controller owns."""
    labels = {"app.kubernetes.io/part-of": "obi", "app.kubernetes.io/component": "orphan"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "orphan", "namespace": NAMESPACE, "labels": labels},
        "spec": {"nodeSelector": {"type": "kwok"}, "containers": [{"name": "a", "image": "registry.test/a:1"}]},
    }
    tenant.kubectl("create", "-f", "-", stdin=pod)
    yield "orphan"
    tenant.kubectl("delete", "pod", "orphan", "-n", NAMESPACE, "--now", "--ignore-not-found")


@pytest.mark.parametrize("verb", ["apply", "create", "apply --server-side"])
async def test_a_new_workload_takes_over_no_foreign_pod(serve: Serve, tenant: Tenant, orphan: str, verb: str) -> None:
    labels = {"app.kubernetes.io/part-of": "obi", "app.kubernetes.io/component": "orphan"}
    container = {"name": "obi", "image": "otel/ebpf-instrument:v0.11.0"}
    wide = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "obi-wide", "namespace": NAMESPACE, "labels": {"app.kubernetes.io/part-of": "obi"}},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }
    async with serve("full") as session:
        outcome = await session.kubectl(f"{verb} -f -", stdin=json.dumps(wide))
    assert outcome.code == "denied" and "take over" in outcome.text, outcome.text
    owners = tenant.kubectl("get", "pod", orphan, "-n", NAMESPACE, "-o", "jsonpath={.metadata.ownerReferences}")
    assert owners == ""


def rewrite(tenant: Tenant, namespace: str, stored: str = STORED, **fields: Any) -> None:
    """Write into a release as helm stored it: whoever may write Secrets there can do that. A text is appended."""
    secret = json.loads(tenant.kubectl("get", "secret", stored, "-n", namespace, "-o", "json"))
    release = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(secret["data"]["release"]))))
    for name, value in fields.items():
        release[name] = release[name] + value if isinstance(value, str) else value
    packed = base64.b64encode(gzip.compress(json.dumps(release).encode()))
    secret["data"]["release"] = base64.b64encode(packed).decode()
    tenant.kubectl("replace", "-f", "-", stdin=secret)


@pytest.fixture
def released(tenant: Tenant) -> Iterator[str]:
    """A namespace with a release of OBI's, of a chart that runs ``tpl`` on its values."""
    namespace = "opentelemetry"
    tenant.kubectl("create", "namespace", namespace)
    tenant.run("helm", "install", "obi", str(CHARTS / "tpl" / "obi"), "-n", namespace)
    yield namespace
    tenant.kubectl("delete", "namespace", namespace)


@pytest.mark.parametrize("flags", ["", "--reuse-values", "--reset-then-reuse-values", "--dry-run=client"])
async def test_values_that_a_release_is_stored_with_run_no_template(
    serve: Serve, tenant: Tenant, released: str, flags: str
) -> None:
    rewrite(tenant, released, config={"name": LOOKUP})
    token = tenant.kubectl("get", "secret", "bootstrap-token", "-n", "kube-system", "-o", "jsonpath={.data.token}")
    async with serve("full", OBI_MCP_PROGRAMS__CHART_STORE=str(CHARTS / "tpl")) as session:
        outcome = await session.helm(f"upgrade obi obi -n {released} {flags}")
        anew = await session.helm(f"upgrade obi obi -n {released} --reset-values")
    assert outcome.code == "denied" and "stored" in outcome.text, outcome.text
    assert not anew.is_error, anew.text
    everything = tenant.kubectl("get", "configmaps", "-n", released, "-o", "json")
    assert token and token not in everything + outcome.text + json.dumps(outcome.structured)


PLANTED = """---
apiVersion: v1
kind: ConfigMap
metadata:
  name: settings
  labels: {app.kubernetes.io/part-of: obi}
data: {a.yml: "log_level: INFO"}
"""


@pytest.mark.parametrize("command", ["upgrade obi obi --reset-values", "rollback obi 1", "uninstall obi"])
async def test_an_object_that_was_written_into_a_release_is_not_touched(
    serve: Serve, tenant: Tenant, released: str, command: str
) -> None:
    tenant.kubectl("create", "configmap", "settings", "-n", released, "--from-literal=a=mine")
    rewrite(tenant, released, manifest=PLANTED)
    async with serve("full", OBI_MCP_PROGRAMS__CHART_STORE=str(CHARTS / "tpl")) as session:
        outcome = await session.helm(f"{command} -n {released}")
    data = json.loads(tenant.kubectl("get", "configmap", "settings", "-n", released, "-o", "jsonpath={.data}"))
    assert data == {"a": "mine"}
    assert outcome.code == "denied" and "not its own" in outcome.text, outcome.text
