"""The whole road on a real cluster with cluster-admin, through a real MCP client: what passes, and what must not."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.integration.conftest import Serve
from tests.sandbox.sandbox import Sandbox

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

OBI = "ghcr.io/open-telemetry/opentelemetry-ebpf-instrumentation/ebpf-instrument:v0.11.0"


@pytest.fixture
def facts(sandbox: Sandbox) -> dict[str, Any]:
    pods = sandbox.pods_by_node()
    return {**sandbox.facts, "obi": {**sandbox.facts["obi"], "pods_by_node": pods, "real_pod": sandbox.real_pod()}}


def canaries(facts: dict[str, Any]) -> list[str]:
    return [canary["text"] for canary in facts["canaries"]]


async def test_pods_come_back_through_jq(serve: Serve, facts: dict[str, Any]) -> None:
    async with serve() as session:
        outcome = await session.kubectl(
            "get pods -n observability -l app.kubernetes.io/part-of=obi -o json | jq -r '.items[].metadata.name'"
        )
    assert not outcome.is_error, outcome.text
    assert sorted(outcome.stdout.split()) == sorted(facts["obi"]["pods_by_node"].values())


async def test_a_list_is_narrowed_and_foreign_pods_are_not_in_it(serve: Serve, facts: dict[str, Any]) -> None:
    async with serve() as session:
        outcome = await session.kubectl("get pods -n observability -o name")
    assert outcome.structured["decision"]["effect"] == "narrow"
    names = outcome.stdout.split()
    assert f"pod/{facts['foreign']['pod']['name']}" not in names
    assert {f"pod/{name}" for name in facts["obi"]["pods_by_node"].values()} <= set(names)


async def test_an_impostor_with_obis_label_is_dropped_from_json_and_counted(
    serve: Serve, facts: dict[str, Any]
) -> None:
    impostor = facts["foreign"]["impostor"]["name"]
    async with serve() as session:
        outcome = await session.kubectl("get pods -A -o json")
    body = json.loads(outcome.stdout)
    names = [item["metadata"]["name"] for item in body["items"]]
    assert sorted(names) == sorted(facts["obi"]["pods_by_node"].values())
    assert impostor not in outcome.stdout
    assert not [text for text in canaries(facts) if text in outcome.stdout + outcome.text]


async def test_yaml_is_written_by_the_server_from_json(serve: Serve, facts: dict[str, Any]) -> None:
    name = facts["obi"]["real_pod"]
    async with serve() as session:
        outcome = await session.kubectl(f"get pod {name} -n observability -o yaml")
    assert not outcome.is_error, outcome.text
    assert f"name: {name}" in outcome.stdout and "kind: Pod" in outcome.stdout


async def test_logs_of_obi_pass_through_grep(serve: Serve) -> None:
    async with serve() as session:
        outcome = await session.kubectl(
            "logs -n observability -l app.kubernetes.io/part-of=obi --tail=200 | grep -c level="
        )
    assert not outcome.is_error, outcome.text
    assert int(outcome.stdout) >= 4


async def test_logs_by_label_skip_the_impostor_and_say_so(serve: Serve, facts: dict[str, Any]) -> None:
    async with serve() as session:
        outcome = await session.kubectl("logs -n observability -l app.kubernetes.io/part-of=obi --tail=50")
    assert not outcome.is_error, outcome.text
    assert outcome.structured["skipped"] == 1
    assert not [text for text in canaries(facts) if text in outcome.stdout + outcome.text]


@pytest.mark.parametrize(
    "command",
    [
        "logs -n observability {impostor}",
        "logs -n observability {foreign}",
        "get pod {impostor} -n observability -o json",
        "get pod {foreign} -n observability -o json",
        "get configmap grafana-settings -n observability -o yaml",
        "describe pod {impostor} -n observability",
        "logs -n observability no-such-pod",
    ],
)
async def test_a_foreign_object_and_a_missing_one_get_the_same_answer(
    serve: Serve, facts: dict[str, Any], command: str
) -> None:
    foreign = facts["foreign"]
    line = command.format(impostor=foreign["impostor"]["name"], foreign=foreign["pod"]["name"])
    async with serve("full") as session:
        outcome = await session.kubectl(line)
    assert outcome.is_error and outcome.code == "not_found", outcome.text
    assert not [text for text in canaries(facts) if text in json.dumps(outcome.structured) + outcome.text]


async def test_metrics_come_through_the_pod_proxy_by_the_warm_channel(
    serve: Serve, facts: dict[str, Any], sandbox: Sandbox
) -> None:
    if not facts["nodes"]["real"]:
        pytest.skip("no real node on this machine")
    sandbox.traffic(requests=10)
    async with serve() as session:
        outcome = await session.kubectl(f"get --raw {facts['obi']['metrics_path']} | grep -c network_flow_bytes_total")
        other = await session.kubectl(f"get --raw {facts['obi']['metrics_path'].replace(':9090', ':10250')}")
    assert not outcome.is_error, outcome.text
    assert int(outcome.stdout) > 0
    assert other.is_error and other.code == "denied"


CONFIG = """
apiVersion: v1
kind: ConfigMap
metadata:
  name: obi-extra
  namespace: observability
  labels: {app.kubernetes.io/part-of: obi, app.kubernetes.io/name: obi}
data:
  obi-config.yml: |
    log_level: INFO
"""


async def test_a_config_map_is_applied_after_its_checks_and_deleted_at_full(
    serve: Serve, programs_bin: Path, sandbox: Sandbox
) -> None:
    async with serve("non-destructive") as session:
        made = await session.kubectl("apply -f -", stdin=CONFIG)
        denied = await session.kubectl("delete configmap obi-extra -n observability")
    async with serve("full") as session:
        gone = await session.kubectl("delete configmap obi-extra -n observability")
    assert not made.is_error and "obi-extra created" in made.stdout, made.text
    assert [check["kind"] for check in made.structured["decision"]["checks"]] == ["dry-run"]
    assert denied.is_error and denied.code == "denied"
    assert not gone.is_error, gone.text


async def test_a_manifest_whose_text_is_right_is_refused_for_what_stands_there(
    serve: Serve, sandbox: Sandbox, programs_bin: Path
) -> None:
    """The object exists and is somebody else's: applying OBI's labels to it would take it over."""
    foreign = CONFIG.replace("obi-extra", "grafana-settings")
    before = kubectl(programs_bin, sandbox, "get", "configmap", "grafana-settings", "-n", "observability", "-o", "json")
    async with serve("full") as session:
        outcome = await session.kubectl("apply -f -", stdin=foreign)
    after = kubectl(programs_bin, sandbox, "get", "configmap", "grafana-settings", "-n", "observability", "-o", "json")
    assert outcome.is_error and outcome.code == "denied", outcome.text
    assert outcome.structured["decision"]["at"]["document"] == 0
    assert before == after


async def test_a_manifest_is_refused_by_its_server_side_result(
    serve: Serve, sandbox: Sandbox, programs_bin: Path
) -> None:
    """The submitted text is good; what is there already would merge into something that is not."""
    live = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {
            "name": "obi-merged",
            "namespace": "observability",
            "labels": {"app.kubernetes.io/part-of": "obi"},
        },
        "spec": {
            "selector": {"matchLabels": {"app.kubernetes.io/part-of": "obi", "app.kubernetes.io/instance": "merged"}},
            "template": {
                "metadata": {"labels": {"app.kubernetes.io/part-of": "obi", "app.kubernetes.io/instance": "merged"}},
                "spec": {
                    "nodeSelector": {"no": "node"},
                    "containers": [{"name": "obi", "image": OBI}],
                    "volumes": [{"name": "root", "hostPath": {"path": "/"}}],
                },
            },
        },
    }
    kubectl(programs_bin, sandbox, "create", "-f", "-", stdin=json.dumps(live))
    try:
        good = json.loads(json.dumps(live))
        del good["spec"]["template"]["spec"]["volumes"]
        good["metadata"]["labels"]["app.kubernetes.io/name"] = "obi"
        async with serve("full") as session:
            said = await session.call("obi_explain_command", "kubectl apply -f -", stdin=json.dumps(good))
            outcome = await session.kubectl("apply -f -", stdin=json.dumps(good))
        assert said.structured["effect"] == "allow", said.text
        assert outcome.is_error and outcome.code == "denied", outcome.text
        assert "volumes" in outcome.structured["decision"]["at"]["path"]
    finally:
        kubectl(programs_bin, sandbox, "delete", "ds", "obi-merged", "-n", "observability")


async def test_a_pod_that_comes_back_may_be_deleted_below_full(serve: Serve, facts: dict[str, Any]) -> None:
    node = next(name for name in facts["nodes"]["simulated"])
    async with serve("non-destructive") as session:
        listed = await session.kubectl(
            "get pods -n observability -l app.kubernetes.io/part-of=obi -o json"
            f" | jq -r '.items[] | select(.spec.nodeName == \"{node}\") | .metadata.name'"
        )
        outcome = await session.kubectl(f"delete pod {listed.stdout.strip()} -n observability")
    assert not outcome.is_error, outcome.text


async def test_every_call_leaves_an_audit_line_that_verifies(serve: Serve) -> None:
    async with serve() as session:
        await session.kubectl("version -o json")
        await session.kubectl("get secrets -A")
        audit = session.audit
    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    assert [line["tool"] for line in lines if "tool" in line] == ["obi_kubectl", "obi_kubectl"]
    assert lines[-1]["error"] == "denied"


def kubectl(programs_bin: Path, sandbox: Sandbox, *arguments: str, stdin: str | None = None) -> str:
    """The real kubectl with the sandbox's own credentials: what a tenant, or somebody who looks, would do."""
    done = subprocess.run(
        [str(programs_bin / "kubectl"), f"--kubeconfig={sandbox.kubeconfig}", *arguments],
        input=stdin,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


FIRST = """
apiVersion: v1
kind: Namespace
metadata: {name: obi-system, labels: {app.kubernetes.io/part-of: obi}}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: obi-config
  namespace: obi-system
  labels: {app.kubernetes.io/part-of: obi, app.kubernetes.io/name: obi}
data:
  obi-config.yml: |
    log_level: INFO
"""

# Good by its text; the API server refuses two ports of one number.
REFUSED = """---
apiVersion: v1
kind: Service
metadata: {name: obi, namespace: obi-system, labels: {app.kubernetes.io/part-of: obi}}
spec:
  selector: {app.kubernetes.io/part-of: obi}
  ports: [{name: a, port: 9090}, {name: b, port: 9090}]
"""


@pytest.mark.parametrize("verb", ["apply", "create"])
async def test_a_first_deployment_makes_its_namespace_first(
    serve: Serve, sandbox: Sandbox, programs_bin: Path, verb: str
) -> None:
    async with serve("non-destructive") as session:
        dry = await session.kubectl(f"{verb} -f - --dry-run=server", stdin=FIRST)
        outcome = await session.kubectl(f"{verb} -f -", stdin=FIRST)
    made = kubectl(programs_bin, sandbox, "get", "configmap", "-n", "obi-system", "-o", "name")
    kubectl(programs_bin, sandbox, "delete", "namespace", "obi-system")
    assert dry.code == "denied" and "does not exist yet" in dry.text
    assert not outcome.is_error, outcome.text
    assert "configmap/obi-config" in made


async def test_a_first_deployment_that_is_refused_leaves_no_namespace(
    serve: Serve, sandbox: Sandbox, programs_bin: Path
) -> None:
    async with serve("non-destructive") as session:
        outcome = await session.kubectl("apply -f -", stdin=FIRST + REFUSED)
    kubectl(programs_bin, sandbox, "wait", "--for=delete", "namespace/obi-system", "--timeout=180s")
    assert outcome.is_error and outcome.code == "program_failed", outcome.text
    assert "obi-system" not in kubectl(programs_bin, sandbox, "get", "namespaces", "-o", "name")


@pytest.mark.parametrize(
    "how",
    [
        "-o go-template='{{index .items 99}}'",
        "-o go-template='{{(index .items 99).metadata.name}}'",
        "-o jsonpath='{.items[99].metadata.name}'",
        "--sort-by='{.status.containerStatuses[9].name}'",
    ],
)
async def test_an_expression_that_fails_prints_no_object(serve: Serve, facts: dict[str, Any], how: str) -> None:
    """kubectl prints the whole list, foreign environment and all, when what it renders fails."""
    async with serve("full") as session:
        outcome = await session.kubectl(f"get pods -n observability -l app.kubernetes.io/part-of=obi {how}")
    said = json.dumps(outcome.structured) + outcome.text
    assert not [text for text in canaries(facts) if text in said]
    assert "managedFields" not in said and "tolerations" not in said


async def test_a_note_says_whose_log_it_is_and_what_exit_code_1_of_diff_means(serve: Serve) -> None:
    metadata = "{name: obi-new, namespace: observability, labels: {app.kubernetes.io/part-of: obi}}"
    account = f"{{apiVersion: v1, kind: ServiceAccount, metadata: {metadata}}}"
    async with serve() as session:
        one = await session.kubectl("logs daemonset/obi -n observability --tail=1")
        every = await session.kubectl("logs daemonset/obi -n observability --tail=1 --all-pods --prefix")
        difference = await session.kubectl("diff -f -", stdin=account)
    pods = {line.split("/")[1] for line in every.stdout.splitlines() if line.startswith("[pod/")}
    assert len(pods) > 1 and "notes" not in every.structured
    assert one.structured["notes"] == [f"one of {len(pods)} pods: {min(pods)}; add --all-pods --prefix for all of them"]
    assert (difference.structured["exit_code"], difference.structured["notes"]) == (
        1,
        ["exit code 1 of kubectl diff: there are differences"],
    )
