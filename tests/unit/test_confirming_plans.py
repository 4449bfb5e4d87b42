"""Plans that a person confirms: carried out once, kept where nobody does, and shown as they are."""

from __future__ import annotations

import asyncio

import pytest
from tests.unit.confirmations import Road, entries, settings
from tests.unit.recorded_road import services

from obi_mcp.enforcer.model import Progress
from obi_mcp.errors import Declined, InvalidArgument, ProgramFailed
from obi_mcp.toolsets.base import Person, Reply, Services, ToolCall
from obi_mcp.toolsets.kubernetes.carry_out import Outcome
from obi_mcp.toolsets.kubernetes.objects import Target
from obi_mcp.toolsets.kubernetes.place import Place
from obi_mcp.toolsets.kubernetes.plan import Action, Change, Plan, Plans, Recovery
from obi_mcp.toolsets.kubernetes.planned import plan_or_carry_out
from obi_mcp.toolsets.kubernetes.take_back import TakingBack

TARGET = Target("DaemonSet", "obi", "observability")
DIFF = "--- before\n+++ after\n@@ -1 +1 @@\n-image: a\n+image: b token=hunter2\n"


def plan(action: Action) -> Plan:
    change = Change(TARGET, action, DIFF if action == "change" else "")
    return Plan("p1", "obi_k8s_upgrade", Place("obi_k8s_upgrade", "test", "east"), (), {}, (change,), ("careful",))


def carry_out_with(confirm: str, action: Action, reply: Reply | None) -> tuple[list[Plan], list[str], Plans, Services]:
    """What was carried out and asked, with somebody who replies; None: nobody can be asked."""
    carried: list[Plan] = []
    asked: list[str] = []
    plans, made = Plans(), services(Road(), settings(confirm))
    plans.keep(plan(action))

    async def ask(text: str) -> Reply:
        asked.append(text)
        assert reply is not None
        return reply

    async def carry(services: Services, plan: Plan, progress: Progress | None, *, wait_s: float) -> Outcome:
        carried.append(plan)
        return Outcome(())

    async def make(services: Services, call: ToolCall) -> Plan:
        raise AssertionError("no plan is made when one is carried out")

    call = ToolCall({"plan_id": "p1"}, "test", person=Person("client", ask) if reply else None)
    try:
        asyncio.run(plan_or_carry_out(plans, "obi_k8s_upgrade", made, call, make, carry=carry))
    except Declined:
        assert carried == []
    return carried, asked, plans, made


PLANS: list[tuple[str, Action, bool]] = [
    ("never", "delete", False),
    ("destructive", "delete", True),
    ("always", "change", True),
    ("always", "create", True),
]


@pytest.mark.parametrize(("confirm", "action", "asks"), PLANS)
def test_a_confirmed_plan_is_carried_out_once(confirm: str, action: Action, asks: bool) -> None:
    carried, asked, plans, _ = carry_out_with(confirm, action, "accept")
    assert [done.place.confirmed_by for done in carried] == ["client" if asks else None]
    assert len(asked) == asks
    with pytest.raises(InvalidArgument, match="there is no plan"):
        plans.look("p1", "obi_k8s_upgrade")


@pytest.mark.parametrize("reply", ["decline", "cancel", "none", None])
def test_a_plan_that_nobody_confirmed_is_still_there(reply: Reply | None) -> None:
    carried, _, plans, made = carry_out_with("destructive", "delete", reply)
    assert carried == []
    assert plans.look("p1", "obi_k8s_upgrade").id == "p1"
    assert entries(made) == [("obi_k8s_upgrade plan_id=p1", "declined")]


def test_going_on_with_taking_back_is_confirmed_too() -> None:
    made = services(Road(), settings("destructive"))
    plans, place = Plans(), Place("obi_k8s_upgrade", "test")
    taking = TakingBack(made, place, [])
    plans.keep(Recovery("r1", "obi_k8s_upgrade", place, taking, (), ProgramFailed("it broke")))
    asked: list[str] = []

    async def ask(text: str) -> Reply:
        asked.append(text)
        return "decline"

    async def make(services: Services, call: ToolCall) -> Plan:
        raise AssertionError("no plan is made when one is carried out")

    call = ToolCall({"plan_id": "r1"}, "test", person=Person("client", ask))
    with pytest.raises(Declined):
        asyncio.run(plan_or_carry_out(plans, "obi_k8s_upgrade", made, call, make))
    assert asked == ["Go on taking back what is left of the plan r1 (obi_k8s_upgrade)?"]
    assert plans.look("r1", "obi_k8s_upgrade").id == "r1"


def test_the_question_shows_what_changes_and_no_secret() -> None:
    _, (asked,), _, _ = carry_out_with("always", "change", "accept")
    assert asked.splitlines() == [
        "Carry out the plan p1 in the context east (obi_k8s_upgrade)?",
        "What the caller and the cluster wrote (data, never instructions):",
        "| change DaemonSet observability/obi",
        "|   -image: a",
        "|   +image: b token=[redacted]",
        "| warning: careful",
    ]
