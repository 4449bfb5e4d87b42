"""Writes that are right and were once refused: nothing to change, a label that is not there, a server-side apply of
what was applied before, and Prometheus's kinds as a real API server stores them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.conftest import Serve
from tests.integration.test_live_manifests import monitor, wait_until_monitored
from tests.integration.test_road import kubectl
from tests.sandbox.sandbox import Sandbox
from tests.unit.policy.manifest_cases import body_of

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

NAMESPACE = "observability"
AT = f"-n {NAMESPACE}"
CONFIG = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "obi-harmless", "namespace": NAMESPACE, "labels": {"app.kubernetes.io/part-of": "obi"}},
    "data": {"obi.yml": "log_level: INFO"},
}
DOCUMENT = json.dumps(CONFIG)
DEBUG = DOCUMENT.replace("INFO", "DEBUG")


STEPS: list[tuple[str, str | None, str]] = [
    ("apply -f -", DOCUMENT, "configmap/obi-harmless created"),
    ("apply -f -", DOCUMENT, "patched (no change)"),
    ("apply --server-side -f -", DOCUMENT, "serverside-applied"),
    ("apply --server-side -f -", DEBUG, "serverside-applied"),
    (f"get cm obi-harmless {AT} -o jsonpath='{{.metadata.name}}'", None, "obi-harmless"),
    (f"label cm obi-harmless team- {AT}", None, "patched (no change)"),
    (f"label cm obi-harmless team=platform {AT}", None, "obi-harmless patched"),
    (f"label cm obi-harmless team- {AT} -o json | jq -r .metadata.name", None, "obi-harmless"),
    (f"annotate cm obi-harmless prometheus.io/path- {AT}", None, "patched (no change)"),
    (f"set env ds/obi OTEL_EBPF_NOT_THERE- {AT}", None, "patched (no change)"),
    (f"set env ds/obi OTEL_EBPF_NOT_THERE- {AT} --dry-run=server -o json | jq -r .kind", None, "DaemonSet"),
    (f"set image ds/obi '*=otel/ebpf-instrument:v0.11.0' {AT} --dry-run=server -o yaml", None, "kind: DaemonSet"),
    ("apply -f - --dry-run=server -o json | jq -r '.data[]'", DEBUG, "log_level: DEBUG"),
    (f"delete cm obi-harmless {AT} -o name", None, "configmap/obi-harmless"),
]


async def test_a_write_that_is_right_is_made(serve: Serve) -> None:
    async with serve("full") as session:
        for command, stdin, says in STEPS:
            more = {"stdin": stdin} if stdin is not None else {}
            outcome = await session.kubectl(command, **more)
            assert not outcome.is_error and says in outcome.stdout, (command, outcome.text)


@pytest.fixture
def monitors(sandbox: Sandbox, programs_bin: Path) -> Iterator[None]:
    for kind in ("ServiceMonitor", "PodMonitor"):
        kubectl(programs_bin, sandbox, "create", "-f", "-", stdin=json.dumps(monitor(kind)))
    wait_until_monitored(sandbox)
    yield
    for plural in ("servicemonitors", "podmonitors"):
        kubectl(programs_bin, sandbox, "delete", "crd", f"{plural}.monitoring.coreos.com")


@pytest.mark.usefixtures("monitors")
@pytest.mark.parametrize("kind", ["ServiceMonitor", "PodMonitor"])
@pytest.mark.parametrize("how", ["", "--server-side"])
async def test_a_monitor_is_written_as_it_is_stored(serve: Serve, kind: str, how: str) -> None:
    body = body_of(kind)
    body["metadata"]["namespace"] = NAMESPACE
    body["spec"].pop("namespaceSelector", None)
    again = json.loads(json.dumps(body))
    again["spec"]["jobLabel"] = "again"
    async with serve("full") as session:
        ran = [
            await session.kubectl(f"apply {how} -f -", stdin=json.dumps(body)),
            await session.kubectl(f"apply {how} -f -", stdin=json.dumps(again)),
            await session.kubectl(f"label {kind.lower()} obi team=platform {AT}"),
            await session.kubectl(f"get {kind.lower()} obi {AT} -o json | jq -r .spec.jobLabel,.metadata.labels.team"),
            await session.kubectl(f"delete {kind.lower()} obi {AT}"),
        ]
    assert [one.text for one in ran if one.is_error] == []
    assert ran[3].stdout.split() == ["again", "platform"]
