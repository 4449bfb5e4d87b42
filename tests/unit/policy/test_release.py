"""helm releases: read from helm's output, OBI's or not, and the same as what was judged or not."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from obi_mcp.policy.manifest import ENVIRONMENT_FILE, SCHEMA_FILES, ManifestPolicy
from obi_mcp.policy.release import (
    Release,
    differences,
    dropped,
    foreign_in,
    judge_release,
    read_dry_run,
    read_manifest,
    read_objects,
    read_release,
    same_objects,
)
from obi_mcp.policy.resource import ResourceTable
from obi_mcp.policy.scope import Scope
from obi_mcp.policy.shipped import shipped_policy

LABELS = "labels: {app.kubernetes.io/part-of: obi, app.kubernetes.io/name: obi}"
IMAGE = "ghcr.io/open-telemetry/opentelemetry-ebpf-instrumentation/ebpf-instrument:v0.11.0"
ACCOUNT = f"""---
# Source: obi/templates/serviceaccount.yaml
apiVersion: v1
kind: ServiceAccount
metadata: {{name: obi, {LABELS}}}
"""
CONFIG = f"""---
# Source: obi/templates/configmap.yaml
apiVersion: v1
kind: ConfigMap
metadata: {{name: obi, {LABELS}}}
data:
  obi.yml: |
    # Source: not/the/template.yaml
    trace_printer: text
"""
DAEMONSET = f"""---
# Source: obi/templates/daemonset.yaml
apiVersion: apps/v1
kind: DaemonSet
metadata: {{name: obi, {LABELS}}}
spec:
  selector: {{matchLabels: {{app.kubernetes.io/part-of: obi, app.kubernetes.io/name: obi}}}}
  template:
    metadata: {{{LABELS}}}
    spec: {{serviceAccountName: obi, containers: [{{name: obi, image: {IMAGE}}}]}}
"""
SECRET = """---
# Source: obi/templates/secret.yaml
apiVersion: v1
kind: Secret
metadata: {name: obi, labels: {app.kubernetes.io/part-of: obi}}
stringData: {token: canary}
"""
HOOK = f"""---
# Source: obi/templates/hook.yaml
apiVersion: v1
kind: ConfigMap
metadata: {{name: obi-before, {LABELS}, annotations: {{helm.sh/hook: "pre-install,pre-upgrade"}}}}
data: {{obi.yml: "trace_printer: text"}}
"""
JOB = """---
# Source: obi/templates/job.yaml
apiVersion: batch/v1
kind: Job
metadata: {name: obi, labels: {app.kubernetes.io/part-of: obi}, annotations: {helm.sh/hook: pre-delete}}
spec: {template: {spec: {restartPolicy: Never, containers: [{name: sh, image: alpine}]}}}
"""
METADATA = {
    "name": "obi",
    "chart": "obi",
    "version": "0.1.0",
    "appVersion": "v0.11.0",
    "namespace": "observability",
    "revision": 3,
    "status": "deployed",
    "deployedAt": "2026-11-21T10:00:00Z",
}


@pytest.fixture(scope="module")
def manifests() -> ManifestPolicy:
    top = shipped_policy()
    paths = [*top.glob(SCHEMA_FILES), top / ENVIRONMENT_FILE]
    return ManifestPolicy.from_data({str(p.relative_to(top)): yaml.safe_load(p.read_text("utf-8")) for p in paths})


@pytest.fixture(scope="module")
def resources() -> ResourceTable:
    return ResourceTable.from_data(yaml.safe_load((shipped_policy() / "resources.yaml").read_text("utf-8")))


def release(manifest: str, hooks: str = "", **metadata: Any) -> Release:
    return read_release({**METADATA, **metadata}, manifest, hooks)


def test_objects_come_with_the_template_that_made_them() -> None:
    found = read_objects(ACCOUNT + CONFIG + "---\n# Source: obi/templates/empty.yaml\n" + HOOK)
    assert [(item.document.index, item.label, item.events) for item in found] == [
        (0, "ServiceAccount obi (obi/templates/serviceaccount.yaml)", ()),
        (1, "ConfigMap obi (obi/templates/configmap.yaml)", ()),
        (2, "ConfigMap obi-before (obi/templates/hook.yaml)", ("pre-install", "pre-upgrade")),
    ]


@pytest.mark.parametrize("text", ["", "\n", "---\n", "# nothing\n", "---\n# Source: a/b.yaml\n---\n"])
def test_an_empty_manifest_holds_nothing(text: str) -> None:
    assert read_manifest(text) == ()


@pytest.mark.parametrize("text", ["a: 1\na: 2\n", "[1]", "kind: X\n", "a: !!python/none x\n", "a: [", "a: \x07"])
def test_what_cannot_be_read_is_said(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        read_manifest(text)


@pytest.mark.parametrize("missing", ["name", "namespace", "chart", "version", "revision", "status"])
def test_a_release_without_its_metadata_is_none(missing: str) -> None:
    with pytest.raises(ValueError, match=missing):
        read_release({key: value for key, value in METADATA.items() if key != missing}, "", "")


def test_a_dry_run_tells_what_would_be_made() -> None:
    hook = HOOK.removeprefix("---\n# Source: obi/templates/hook.yaml\n")
    data = {
        "name": "obi",
        "namespace": "observability",
        "version": 1,
        "info": {"status": "pending-install"},
        "chart": {"metadata": {"name": "obi", "version": "0.1.0"}},
        "manifest": ACCOUNT + DAEMONSET,
        "hooks": [
            {"name": "obi-before", "path": "obi/templates/hook.yaml", "manifest": hook, "events": ["pre-install"]}
        ],
    }
    made = read_dry_run(data)
    assert (made.chart, made.version, made.revision, made.status) == ("obi", "0.1.0", 1, "pending-install")
    assert [item.label for item in made.objects] == [
        "ServiceAccount obi (obi/templates/serviceaccount.yaml)",
        "DaemonSet obi (obi/templates/daemonset.yaml)",
    ]
    assert [(item.label, item.events) for item in made.hooks] == [
        ("ConfigMap obi-before (obi/templates/hook.yaml)", ("pre-install",))
    ]
    assert len(made.documents) == 3


@pytest.mark.parametrize(
    ("stored", "why"),
    [
        (release(ACCOUNT + CONFIG + DAEMONSET), None),
        (release(ACCOUNT, HOOK), None),
        (release(""), None),
        (release(DAEMONSET.replace("name: obi, image", "name: obi, imagePullPolicy: Never, image")), None),
        (release(CONFIG.replace("trace_printer: text", "otel_traces_export: {endpoint: 'https://a.example'}")), None),
        (release(ACCOUNT, chart="evil"), "chart"),
        (release(ACCOUNT, chart="beyla"), "chart"),
        (release(ACCOUNT, name="beyla", chart="beyla"), None),
        (release(ACCOUNT, name="shop", chart="obi"), "chart"),
        (release(ACCOUNT, namespace="shop"), "namespace"),
        (release(ACCOUNT + SECRET), "Secret"),
        (release(ACCOUNT + CONFIG.replace(LABELS, "labels: {app: shop}")), "ConfigMap"),
        (release(ACCOUNT.replace("name: obi,", "name: obi, namespace: shop,")), "ServiceAccount"),
        (release(DAEMONSET.replace(IMAGE, "alpine")), "DaemonSet"),
        (release(ACCOUNT, JOB), "Job"),
    ],
)
def test_a_release_is_read_when_all_of_it_is_obis(stored: Release, why: str | None, resources: ResourceTable) -> None:
    reason = foreign_in(stored, scope=Scope(), resources=resources)
    assert reason is None if why is None else reason is not None and why in reason


@pytest.mark.parametrize(
    ("made", "violated"),
    [
        (release(ACCOUNT + CONFIG + DAEMONSET, HOOK), []),
        (release(ACCOUNT, chart="evil"), ["chart"]),
        (release(ACCOUNT, namespace="shop"), ["namespace", "obi/templates/serviceaccount.yaml: metadata.namespace"]),
        (release(SECRET), ["obi/templates/secret.yaml: kind"]),
        (release(ACCOUNT, JOB), ["obi/templates/job.yaml: kind"]),
        (release(ACCOUNT + ACCOUNT), ["obi/templates/serviceaccount.yaml"]),
        (
            release(CONFIG.replace("trace_printer: text", "otel_traces_export: {endpoint: 'https://a.example'}")),
            ["obi/templates/configmap.yaml: data[obi.yml].otel_traces_export.endpoint"],
        ),
        (
            release("", HOOK.replace("pre-install,pre-upgrade", "whenever")),
            ["obi/templates/hook.yaml: metadata.annotations['helm.sh/hook']"],
        ),
    ],
)
def test_a_release_is_made_when_every_object_and_hook_passes(
    made: Release, violated: list[str], manifests: ManifestPolicy
) -> None:
    judgement = judge_release(made, scope=Scope(), manifests=manifests)
    assert [violation.path for violation in judgement.violations] == violated


def test_objects_of_one_release_may_refer_to_each_other(manifests: ManifestPolicy) -> None:
    alone = judge_release(release(DAEMONSET), scope=Scope(), manifests=manifests)
    together = judge_release(release(ACCOUNT + DAEMONSET), scope=Scope(), manifests=manifests)
    assert [need.kind for need in alone.needs] == ["ServiceAccount"]
    assert together.needs == ()


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        (ACCOUNT + CONFIG, ()),
        (CONFIG + ACCOUNT, ()),
        (ACCOUNT, ("ConfigMap obi is missing",)),
        (ACCOUNT + CONFIG + SECRET, ("Secret obi was not judged",)),
        (ACCOUNT + CONFIG.replace("text", "json"), ("ConfigMap obi is not what was judged",)),
        (ACCOUNT + CONFIG.replace("obi.yml", "obi2.yml"), ("ConfigMap obi is not what was judged",)),
        (
            ACCOUNT + CONFIG.replace(LABELS, f"{LABELS}, annotations: {{helm.sh/hook: pre-install}}"),
            ("ConfigMap obi was not judged", "ConfigMap obi is missing"),
        ),
        (ACCOUNT + CONFIG + ACCOUNT, ("an object is there twice",)),
    ],
)
def test_what_helm_stored_is_held_against_what_was_judged(stored: str, said: tuple[str, ...]) -> None:
    judged = read_manifest(ACCOUNT + CONFIG)
    assert differences(judged, read_manifest(stored)) == said
    assert same_objects(judged, read_manifest(stored)) == (not said)


def test_an_upgrade_that_drops_objects_names_them() -> None:
    before = release(ACCOUNT + CONFIG + DAEMONSET, HOOK)
    assert dropped(before, before.documents) == ()
    assert [document.kind for document in dropped(before, read_manifest(ACCOUNT))] == ["ConfigMap", "DaemonSet"]
