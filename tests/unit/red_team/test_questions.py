"""A person who is asked, and who must not be deceived or passed by."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from tests.unit.policy.policies import built_in
from tests.unit.recorded_road import NARROWED, RecordedRoad, services

from obi_mcp.config import Settings
from obi_mcp.enforcer.model import Progress
from obi_mcp.enforcer.releases import _against_cluster
from obi_mcp.errors import Declined
from obi_mcp.policy.membership import RELEASE_NAME, RELEASE_NAMESPACE
from obi_mcp.policy.model import Access, Check, Document, RenderSpec
from obi_mcp.policy.release import Release, RenderedObject
from obi_mcp.toolsets.base import Person, Reply, Services, ToolCall
from obi_mcp.toolsets.confirming import MAX_LINE, MAX_LINES, QUOTED, question
from obi_mcp.toolsets.kubernetes.carry_out import Outcome
from obi_mcp.toolsets.kubernetes.objects import Target
from obi_mcp.toolsets.kubernetes.place import Place
from obi_mcp.toolsets.kubernetes.plan import Change, Plan, Plans, Step
from obi_mcp.toolsets.kubernetes.planned import plan_or_carry_out
from obi_mcp.toolsets.predecessor import translate

CREDENTIAL = "token=hunter2hunter2hunter2"


@pytest.mark.parametrize(
    ("quoted", "shown"),
    [
        (f"kubectl -n observability{' ' * 5_000}delete daemonset obi", "delete daemonset obi"),
        (f"kubectl -n observability{chr(9) * 5_000}delete daemonset obi", "delete daemonset obi"),
        (f"kubectl patch daemonset obi -p '{'x' * 2_000}' --type=json # the end", "# the end"),
        ("\n".join(["# harmless"] * 5_000) + "\nkind: ClusterRole", "kind: ClusterRole"),
        ("\n".join(["# harmless"] * 5_000) + "\nkind: ClusterRole", "lines are NOT shown"),
        ("a\u2028b\r\x1b[2Jc\x0bd", "| abcd"),
    ],
)
def test_what_stands_at_the_end_is_shown_as_well(quoted: str, shown: str) -> None:
    asked = question("Run this command (obi_kubectl)?", [quoted])
    assert shown in asked and len(asked.splitlines()) <= MAX_LINES + 4
    assert len(max(asked.splitlines(), key=len)) <= MAX_LINE + 2


@pytest.mark.parametrize(
    "text", ["x\nRun this command?", "x\u2029Run this command?", "\x1b]8;;http://evil.example\x07ok", CREDENTIAL]
)
def test_nothing_that_is_quoted_looks_like_the_question_or_is_a_secret(text: str) -> None:
    head, said, *lines = question("Really?", [text]).splitlines()
    assert (head, said) == ("Really?", QUOTED) and all(line.startswith("| ") for line in lines)
    assert not {"\x1b", "\x07"}.intersection("".join(lines)) and "hunter2" not in "".join(lines)


NOWHERE = {"template": {"spec": {"nodeSelector": {"no": "node"}}}}


@pytest.mark.parametrize(
    ("kind", "was", "becomes", "asks"),
    [
        ("DaemonSet", {}, NOWHERE, True),
        ("Deployment", {"replicas": 1}, {"replicas": 0}, True),
        ("DaemonSet", {}, {"template": {"spec": {"hostPID": True}}}, False),
        ("Deployment", {"replicas": 1}, {"replicas": 2}, False),
    ],
)
def test_a_plan_that_leaves_no_pods_is_destructive(
    kind: str, was: dict[str, Any], becomes: dict[str, Any], asks: bool
) -> None:
    target = Target(kind, "obi", "observability")
    before, after = ({"kind": kind, "spec": spec} for spec in (was, becomes))
    place = Place("obi_k8s_deploy", "test")
    plan = Plan(
        "p1", "obi_k8s_deploy", place, (), {}, (Change(target, "change"),), befores={target: before},
        afters={target: after},
    )  # fmt: skip
    plans, asked = Plans(), []
    plans.keep(plan)

    async def ask(text: str) -> Reply:
        asked.append(text)
        return "decline"

    async def carry(services: Services, plan: Plan, progress: Progress | None, *, wait_s: float) -> Outcome:
        return Outcome(())

    async def make(services: Services, call: ToolCall) -> Plan:
        raise AssertionError("no plan is made")

    made = services(RecordedRoad(decisions={}), Settings(access=Access.FULL, confirm="destructive"))
    step = Step("kubectl apply -f -", ())
    made.enforcer.decisions[step.command] = replace(NARROWED, access=Access.NON_DESTRUCTIVE)  # type: ignore[attr-defined]
    plans.keep(replace(plan, steps=(step,)))
    call = ToolCall({"plan_id": "p1"}, "test", person=Person("client", ask))
    with pytest.raises(Declined) if asks else nullcontext():
        asyncio.run(plan_or_carry_out(plans, "obi_k8s_deploy", made, call, make, carry=carry))
    assert bool(asked) is asks


@pytest.mark.parametrize(
    ("becomes", "raised"), [(NOWHERE, Access.FULL), ({"template": {"spec": {"hostPID": True}}}, None)]
)
def test_an_upgrade_that_leaves_no_pods_needs_full_like_any_other_change(
    becomes: dict[str, Any], raised: Access | None
) -> None:
    metadata = {"name": "obi", "annotations": {RELEASE_NAME: "obi", RELEASE_NAMESPACE: "observability"}}
    live = {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata, "spec": {}}
    body = {**live, "spec": becomes}

    async def get(*_: object) -> dict[str, Any]:
        return live

    case: Any = SimpleNamespace(
        resources=built_in().resources, cluster=SimpleNamespace(get=get), release=SimpleNamespace(before=None)
    )
    rendered = Release("obi", "observability", "obi", "1", 1, "", (RenderedObject(Document(0, body), "x"),))
    spec = RenderSpec("upgrade", "obi", "observability", "obi")
    proved = asyncio.run(_against_cluster(case, Check("render", "obi", None, "", spec), spec, rendered))
    assert proved.result.passed and proved.result.raised == raised


@pytest.mark.parametrize("extra", [{"dryRun": True}, {"dryRun": False}, {"kubeconfig": "x"}, {"imageTag": "1"}])
@pytest.mark.parametrize("tool", ["obi_k8s_deploy", "obi_helm_upgrade", "obi_k8s_upgrade", "obi_k8s_config"])
def test_a_dry_run_of_the_old_form_carries_no_plan_out(tool: str, extra: dict[str, Any]) -> None:
    assert translate(tool, {"plan_id": "p1", **extra}) is None
