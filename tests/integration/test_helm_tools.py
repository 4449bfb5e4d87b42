"""Releases by plan, through a real MCP client with the real helm: what was shown is done, and nothing else."""

from __future__ import annotations

import base64
import gzip
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.conftest import Serve, Session
from tests.integration.test_kubernetes import ask, until_namespaces_are_settled
from tests.integration.test_plans import carried_out, planned
from tests.sandbox.sandbox import Sandbox

from obi_mcp.policy.shipped import shipped_charts

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

SPACE = "obi-system"
CHARTS = Path(__file__).parents[1] / "cases" / "charts"
HELM = {"OBI_MCP_TOOLSETS": '["helm"]'}
DAEMONSET = f"/apis/apps/v1/namespaces/{SPACE}/daemonsets/obi-obi"
CONFIG_MAP = f"/api/v1/namespaces/{SPACE}/configmaps/obi-obi"
LEFT = (
    DAEMONSET,
    CONFIG_MAP,
    f"/api/v1/namespaces/{SPACE}/configmaps/obi-before",
    f"/api/v1/namespaces/{SPACE}/serviceaccounts/obi-obi",
    "/apis/rbac.authorization.k8s.io/v1/clusterroles/obi-obi",
    "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/obi-obi",
)
# Simulated nodes, whose pods are ready at once, a name that is not the sandbox's own OBI's, and another port.
VALUES = """
fullnameOverride: obi-obi
config: {prometheus_export: {port: 9292}}
nodeSelector: {type: kwok}
updateStrategy: {rollingUpdate: {maxUnavailable: 100%}}
"""
NAMED: dict[str, Any] = {"namespace": SPACE, "values": VALUES}
AT = {"namespace": SPACE}


@pytest.fixture(scope="module")
def empty_space(sandbox: Sandbox) -> Iterator[str]:
    until_namespaces_are_settled(sandbox)
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE}}
    sandbox.api.post("/api/v1/namespaces", body).require("make the namespace", 409)
    yield SPACE
    sandbox.api.request("DELETE", f"/api/v1/namespaces/{SPACE}").require("remove the namespace")


@pytest.fixture
def space(sandbox: Sandbox, empty_space: str) -> Iterator[str]:
    """A namespace without a release, before and after."""
    yield empty_space
    for name in releases(sandbox):
        sandbox.api.request("DELETE", f"/api/v1/namespaces/{SPACE}/secrets/{name}").require("forget the release")
    for path in LEFT:
        sandbox.api.request("DELETE", path).require("remove what the release made", 404)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A chart store of the operator's own with a copy of the shipped chart."""
    shutil.copytree(shipped_charts() / "obi", tmp_path / "store" / "obi")
    return tmp_path / "store"


@pytest.fixture
async def session(serve: Serve, store: Path) -> AsyncIterator[Session]:
    async with serve("full", OBI_MCP_PROGRAMS__CHART_STORE=str(store), **HELM) as made:
        yield made


def releases(sandbox: Sandbox) -> list[str]:
    path = f"/api/v1/namespaces/{SPACE}/secrets?labelSelector=owner%3Dhelm"
    items = sandbox.api.get(path).require("list what helm stored")["items"]
    return [item["metadata"]["name"] for item in items]


def by_object(plan: dict[str, Any]) -> dict[str, str]:
    return {change["object"]: change["action"] for change in plan["changes"]}


async def refused(session: Session, tool: str, **arguments: Any) -> tuple[str, str]:
    answer, text, failed = await ask(session, tool, **arguments)
    assert failed, text
    return answer["code"], text


async def test_a_release_from_plan_to_plan(serve: Serve, sandbox: Sandbox, space: str) -> None:
    async with serve("non-destructive", **HELM) as session:
        # the plan writes nothing
        plan = await planned(session, "obi_helm_install", **NAMED)
        assert by_object(plan)[f"DaemonSet {SPACE}/obi-obi"] == "create" and "hooks" not in plan
        assert "revision" not in plan and plan["restarts"] == [f"DaemonSet {SPACE}/obi-obi"]
        assert releases(sandbox) == [] and sandbox.api.get(DAEMONSET).status == 404
        await carried_out(session, "obi_helm_install", plan)

        seen, text, _ = await ask(session, "obi_helm_status", **AT)
        assert (seen["status"], seen["revision"], seen["ready"]) == ("deployed", 1, True), text
        pods = {row["object"]: row["state"] for row in seen["resources"]}
        assert pods[f"DaemonSet {SPACE}/obi-obi"].startswith("3 of 3 pods ready")
        assert (await refused(session, "obi_helm_install", **NAMED))[0] == "conflict"

        # another value, the others stay
        plan = await planned(session, "obi_helm_upgrade", **AT, values="config: {log_level: DEBUG}")
        (config,) = [change for change in plan["changes"] if change["object"] == f"ConfigMap {SPACE}/obi-obi"]
        assert (
            "+    log_level: DEBUG" in config["diff"] and by_object(plan)[f"ServiceAccount {SPACE}/obi-obi"] == "same"
        )
        await carried_out(session, "obi_helm_upgrade", plan)

        # pods that do not become ready: back to the revision before, though this level has no roll-backs
        broken = "{image: {tag: v9.9.9}, nodeSelector: {type: null}}"
        plan = await planned(session, "obi_helm_upgrade", **AT, values=broken)
        failure, text, failed = await ask(session, "obi_helm_upgrade", plan_id=plan["plan_id"], wait_s=2)
        assert failed and failure["taken_back"] == [f"helm rollback obi 2 -n {SPACE}"] and not failure["left"], text
        template = sandbox.api.get(DAEMONSET).require("read it")["spec"]["template"]
        assert not template["spec"]["containers"][0]["image"].endswith("v9.9.9")
        listed, _, _ = await ask(session, "obi_helm_history", **AT)
        assert [(row["revision"], row["status"]) for row in listed["revisions"]] == [
            *((4, "deployed"), (3, "superseded"), (2, "superseded"), (1, "superseded"))
        ]
        outcome = await session.helm(f"rollback obi 1 -n {SPACE}")
        assert outcome.code == "denied" and "full" in outcome.text

    async with serve("full", **HELM) as session:
        # revision 4 is 2 again, and 3 was bad: the last good one before is 1
        plan = await planned(session, "obi_helm_rollback", **AT)
        assert plan["commands"] == [f"helm rollback obi 1 -n {SPACE}"]
        assert by_object(plan)[f"ConfigMap {SPACE}/obi-obi"] == "change"
        await carried_out(session, "obi_helm_rollback", plan)
        plan = await planned(session, "obi_helm_uninstall", **AT)
        assert set(by_object(plan).values()) == {"delete"}
        await carried_out(session, "obi_helm_uninstall", plan)
        assert (await refused(session, "obi_helm_status", **AT))[0] == "not_found"
    assert releases(sandbox) == [] and sandbox.api.get(CONFIG_MAP).status == 404


async def test_what_another_has_set_is_warned_of_and_not_overwritten(
    session: Session, sandbox: Sandbox, space: str
) -> None:
    await carried_out(session, "obi_helm_install", await planned(session, "obi_helm_install", **NAMED))
    change = {**AT, "values": "config: {log_level: INFO}"}
    before = await planned(session, "obi_helm_upgrade", **change)
    patch = json.dumps({"data": {"ebpf-instrument-config.yml": "log_level: WARN\n"}}).encode()
    sandbox.api.request("PATCH", CONFIG_MAP, patch, "application/merge-patch+json").require("change it")
    code, text = await refused(session, "obi_helm_upgrade", plan_id=before["plan_id"])
    assert code == "conflict" and "has changed since" in text

    plan = await planned(session, "obi_helm_upgrade", **change)
    drift = f"ConfigMap {SPACE}/obi-obi is not as helm made it: data.ebpf-instrument-config.yml; helm refuses"
    assert any(text.startswith(drift) for text in plan["warnings"]), plan["warnings"]
    failure, text, failed = await ask(session, "obi_helm_upgrade", plan_id=plan["plan_id"])
    assert failed and "conflict" in failure["problem"] and not failure["taken_back"], text
    assert failure["left"][0].startswith(f"helm rollback obi 1 -n {SPACE}"), text
    seen, text, _ = await ask(session, "obi_helm_status", **AT)
    assert seen["status"] == "failed" and "obi_helm_rollback" in seen["next_step"], text

    sandbox.api.request("DELETE", CONFIG_MAP).require("let helm make it again")
    plan = await planned(session, "obi_helm_rollback", **AT)
    assert plan["commands"] == [f"helm rollback obi 1 -n {SPACE}"], plan
    await carried_out(session, "obi_helm_rollback", plan)
    assert sandbox.api.get(CONFIG_MAP).status == 200


async def test_a_first_install_that_fails_is_removed(session: Session, sandbox: Sandbox, space: str) -> None:
    values = VALUES.replace("{type: kwok}", "{sandbox.test/real: 'true'}") + "image: {tag: v9.9.9}\n"
    plan = await planned(session, "obi_helm_install", **AT, values=values)
    failure, text, failed = await ask(session, "obi_helm_install", plan_id=plan["plan_id"], wait_s=1)
    assert failed and failure["taken_back"] == [f"helm uninstall obi -n {SPACE}"] and failure["left"] == [], text
    assert releases(sandbox) == [] and sandbox.api.get(DAEMONSET).status == 404


async def test_a_chart_that_has_changed_since_the_plan_is_not_installed(
    session: Session, sandbox: Sandbox, space: str, store: Path
) -> None:
    plan = await planned(session, "obi_helm_install", **NAMED)
    with (store / "obi" / "values.yaml").open("a") as file:
        file.write("# one more line, which changes no rendering\n")
    code, text = await refused(session, "obi_helm_install", plan_id=plan["plan_id"])
    assert code == "conflict" and "the chart is not the one that it was" in text
    assert releases(sandbox) == []
    plan = await planned(session, "obi_helm_install", **NAMED)
    (store / "obi" / "templates" / "more.yaml").write_text("# {{ lookup `v1` `Secret` `x` `y` }}\n")
    code, text = await refused(session, "obi_helm_install", plan_id=plan["plan_id"])
    assert code == "denied" and "lookup" in text
    assert releases(sandbox) == []


async def test_a_plan_is_for_the_release_that_it_saw(session: Session, sandbox: Sandbox, space: str) -> None:
    first = await planned(session, "obi_helm_install", **NAMED)
    second = await planned(session, "obi_helm_install", **NAMED, create_namespace=True)
    await carried_out(session, "obi_helm_install", first)
    code, _ = await refused(session, "obi_helm_install", plan_id=second["plan_id"])
    assert code == "conflict"

    # two upgrades from one state: the later finds another revision
    first = await planned(session, "obi_helm_upgrade", **AT, values="podAnnotations: {}")
    second = await planned(session, "obi_helm_upgrade", **AT, values="terminationGracePeriodSeconds: 30")
    assert set(by_object(first).values()) == {"same"} and any("no object changes" in text for text in first["warnings"])
    await carried_out(session, "obi_helm_upgrade", first)
    code, text = await refused(session, "obi_helm_upgrade", plan_id=second["plan_id"])
    assert code == "conflict" and "revision 2 and was at 1" in text
    assert len(releases(sandbox)) == 2  # and nothing was taken back that was not its own

    # helm was killed in the middle of an upgrade
    store_pending(sandbox, 3)
    seen, text, _ = await ask(session, "obi_helm_status", **AT)
    assert seen["status"] == "pending-upgrade" and "obi_helm_rollback" in seen["next_step"], text
    code, text = await refused(session, "obi_helm_upgrade", **AT)
    assert code == "conflict" and "obi_helm_rollback" in text
    plan = await planned(session, "obi_helm_rollback", **AT)
    assert plan["commands"] == [f"helm rollback obi 2 -n {SPACE}"]
    await carried_out(session, "obi_helm_rollback", plan)
    seen, text, _ = await ask(session, "obi_helm_status", **AT)
    assert (seen["status"], seen["revision"]) == ("deployed", 4), text


async def test_a_foreign_release_named_obi_is_none(
    session: Session, sandbox: Sandbox, space: str, programs_bin: Path
) -> None:
    helm = [str(programs_bin / "helm"), f"--kubeconfig={sandbox.kubeconfig}", "-n", SPACE]
    chart = str(CHARTS / "foreign-release" / "obi")
    subprocess.run([*helm, "install", "obi", chart], check=True, capture_output=True)
    answers = [
        await refused(session, tool, **AT)
        for tool in (
            "obi_helm_status",
            "obi_helm_history",
            "obi_helm_upgrade",
            "obi_helm_rollback",
            "obi_helm_uninstall",
        )
    ]
    answers.append(await refused(session, "obi_helm_install", **NAMED))
    assert [code for code, _ in answers] == ["not_found"] * 6
    assert "CANARY" not in str(answers) and releases(sandbox) == ["sh.helm.release.v1.obi.v1"]


async def test_hooks_are_judged_shown_and_run(
    serve: Serve, session: Session, sandbox: Sandbox, space: str, store: Path
) -> None:
    (store / "obi" / "templates" / "hook.yaml").write_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: obi-before\n"
        "  labels: {app.kubernetes.io/part-of: obi}\n"
        "  annotations: {helm.sh/hook: 'post-upgrade,pre-install'}\n"
        'data: {a.yml: "log_level: INFO"}\n'
    )
    plan = await planned(session, "obi_helm_install", **NAMED)
    assert plan["hooks"] == ["pre-install ConfigMap obi-before (obi/templates/hook.yaml)"]
    await carried_out(session, "obi_helm_install", plan)
    assert sandbox.api.get(f"/api/v1/namespaces/{SPACE}/configmaps/obi-before").status == 200
    async with serve("non-destructive", OBI_MCP_PROGRAMS__CHART_STORE=str(CHARTS / "hook"), **HELM) as other:
        code, text = await refused(other, "obi_helm_upgrade", **AT)
    assert code == "denied" and "Job" in text


def store_pending(sandbox: Sandbox, revision: int) -> None:
    """What helm leaves when it is killed right after it has written down that it begins an upgrade."""
    path = f"/api/v1/namespaces/{SPACE}/secrets"
    name = f"sh.helm.release.v1.obi.v{revision}"
    before = sandbox.api.get(f"{path}/sh.helm.release.v1.obi.v{revision - 1}").require("read the revision before")
    release = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(before["data"]["release"]))))
    release["version"], release["info"]["status"] = revision, "pending-upgrade"
    data = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(release).encode()))).decode()
    labels = before["metadata"]["labels"] | {"status": "pending-upgrade", "version": str(revision)}
    made = {"apiVersion": "v1", "kind": "Secret", "type": before["type"], "data": {"release": data}}
    sandbox.api.post(path, {**made, "metadata": {"name": name, "labels": labels}}).require("store it")
