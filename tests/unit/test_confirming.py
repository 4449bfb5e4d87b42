"""A person is asked before something is changed, where the operator wants that: by real clients of both generations."""

from __future__ import annotations

import asyncio
import os
import pty
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from mcp import Client
from mcp.client import ClientRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, ElicitRequestParams, ElicitResult, ErrorData, InputRequiredResult
from tests.unit.recorded_road import NARROWED, REFUSED, RecordedAudit, RecordedRoad, services

from obi_mcp.app import ObiServer
from obi_mcp.cli import call as call_verb
from obi_mcp.config import Limits, Settings
from obi_mcp.enforcer.model import Answer, Call, Progress
from obi_mcp.errors import Declined, InvalidArgument, ProgramFailed
from obi_mcp.policy.model import Access, Check, Decision, MembersSpec
from obi_mcp.toolsets.base import Person, Reply, Services, ToolCall
from obi_mcp.toolsets.confirming import MAX_LINE, MAX_LINES, question, reach_of
from obi_mcp.toolsets.kubernetes.carry_out import Outcome
from obi_mcp.toolsets.kubernetes.objects import Target
from obi_mcp.toolsets.kubernetes.place import Place
from obi_mcp.toolsets.kubernetes.plan import Action, Change, Plan, Plans, Recovery
from obi_mcp.toolsets.kubernetes.planned import plan_or_carry_out
from obi_mcp.toolsets.kubernetes.take_back import TakingBack

GENERATIONS = ["legacy", "auto"]
READ, WRITE, DELETE = "kubectl get pods", "kubectl apply -f -", "kubectl delete pod obi-1"
LEVELS = {READ: Access.READ_ONLY, WRITE: Access.NON_DESTRUCTIVE, DELETE: Access.FULL}
DECISIONS = {command: replace(NARROWED, access=level, checks=()) for command, level in LEVELS.items()}
DECISIONS["kubectl get secrets"] = REFUSED

Elicit = Callable[[ClientRequestContext, ElicitRequestParams], Awaitable[ElicitResult | ErrorData]]


@dataclass
class Road(RecordedRoad):
    """Knows what was run, not only asked about."""

    decisions: dict[str, Decision] = field(default_factory=lambda: dict(DECISIONS))
    ran: list[Call] = field(default_factory=list)

    async def run(self, call: Call, progress: Progress | None = None) -> Answer:
        self.ran.append(call)
        return await super().run(call, progress)


@dataclass
class Desk:
    """A client with somebody at it, who was asked ``asked``."""

    reply: ElicitResult | ErrorData | None
    asked: list[str] = field(default_factory=list)

    async def __call__(self, context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult | ErrorData:
        self.asked.append(params.message)
        if self.reply is None:
            await asyncio.Event().wait()
        assert self.reply is not None
        return self.reply


def with_client(
    mode: str, made: Services, desk: Desk | None, use: Callable[[Client], Awaitable[None]], seconds: float = 20
) -> None:
    async def run() -> None:
        async with (
            asyncio.timeout(seconds),
            Client(ObiServer(made), mode=mode, elicitation_callback=desk) as client,
        ):
            await use(client)

    asyncio.run(run())


def settings(confirm: str, **more: Any) -> Settings:
    return Settings(access=Access.FULL, confirm=confirm, **more)


def entries(made: Services) -> list[tuple[str, str | None]]:
    assert isinstance(made.audit, RecordedAudit)
    return [(entry.command, entry.error) for entry in made.audit.entries]


ASKED: list[tuple[str, str, bool]] = [
    # the setting, the command, whether somebody is asked
    ("never", DELETE, False),
    ("destructive", READ, False),
    ("destructive", WRITE, False),
    ("destructive", DELETE, True),
    ("always", READ, False),
    ("always", WRITE, True),
    ("always", DELETE, True),
    ("always", "kubectl get secrets", False),  # refused anyway, by the road
]


@pytest.mark.parametrize("mode", GENERATIONS)
@pytest.mark.parametrize(("confirm", "command", "asks"), ASKED)
def test_somebody_is_asked_about_what_the_operator_wants_confirmed(
    mode: str, confirm: str, command: str, asks: bool
) -> None:
    road, desk = Road(), Desk(ElicitResult(action="accept", content={}))
    made = services(road, settings(confirm))

    async def use(client: Client) -> None:
        result = await client.call_tool("obi_kubectl", {"command": command, "stdin": "kind: Pod"})
        assert not result.is_error

    with_client(mode, made, desk, use)
    assert [call.confirmed_by for call in road.ran] == ["client" if asks else None]
    assert len(desk.asked) == asks
    if asks:
        assert desk.asked[0].splitlines() == [
            "Run this command (obi_kubectl)?",
            "What the caller and the cluster wrote (data, never instructions):",
            f"| {command}",
            "| with this document:",
            "| kind: Pod",
        ]


REFUSALS: list[tuple[str, ElicitResult | ErrorData, str]] = [
    ("declined", ElicitResult(action="decline"), "the person who was asked declined; nothing was written"),
    ("dismissed", ElicitResult(action="cancel"), "the person who was asked dismissed the question; nothing was wr"),
]


@pytest.mark.parametrize("mode", GENERATIONS)
@pytest.mark.parametrize(("what", "reply", "said"), REFUSALS, ids=[row[0] for row in REFUSALS])
def test_what_nobody_confirms_does_not_run(mode: str, what: str, reply: ElicitResult, said: str) -> None:
    road = Road()
    made = services(road, settings("always"))

    async def use(client: Client) -> None:
        result = await client.call_tool("obi_kubectl", {"command": DELETE})
        assert result.is_error and result.structured_content is not None
        assert result.structured_content["code"] == "declined"
        assert said in result.structured_content["message"]

    with_client(mode, made, Desk(reply), use)
    assert road.ran == []
    assert entries(made) == [(DELETE, "declined")]


@pytest.mark.parametrize("mode", GENERATIONS)
def test_a_client_that_cannot_ask_is_refused(mode: str) -> None:
    road = Road()
    made = services(road, settings("destructive"))

    async def use(client: Client) -> None:
        result = await client.call_tool("obi_kubectl", {"command": DELETE})
        assert result.structured_content is not None
        assert result.structured_content["code"] == "declined"
        assert "confirm: destructive" in result.structured_content["message"]
        assert "elicitation" in result.structured_content["hint"]
        assert not (await client.call_tool("obi_kubectl", {"command": WRITE})).is_error

    with_client(mode, made, None, use)
    assert [call.command for call in road.ran] == [WRITE]
    assert entries(made) == [(DELETE, "declined")]


def test_a_client_that_fails_to_ask_confirms_nothing() -> None:
    road = Road()
    made = services(road, settings("always"))

    async def use(client: Client) -> None:
        result = await client.call_tool("obi_kubectl", {"command": DELETE})
        assert result.structured_content is not None
        assert result.structured_content["code"] == "declined"

    with_client("legacy", made, Desk(ErrorData(code=INTERNAL_ERROR, message="no screen")), use)
    assert road.ran == []


def test_nobody_is_waited_for_longer_than_the_operator_says() -> None:
    road, desk = Road(), Desk(None)
    made = services(road, settings("always", limits=Limits(confirm_timeout_s=0.01)))

    async def use(client: Client) -> None:
        result = await client.call_tool("obi_kubectl", {"command": DELETE})
        assert result.structured_content is not None
        assert result.structured_content["message"] == "nobody answered; nothing was written"

    with_client("legacy", made, desk, use)
    assert (len(desk.asked), road.ran) == (1, [])


def test_a_reply_counts_once_and_for_its_question() -> None:
    """On the newer generation the reply comes with the next call: not again, and not for another command."""
    road = Road()
    made = services(road, settings("always"))

    async def use(client: Client) -> None:
        session = client.session
        accepted: Any = {"confirm": ElicitResult(action="accept", content={})}
        first: Any = await session.call_tool("obi_kubectl", {"command": DELETE}, allow_input_required=True)
        assert first.result_type == "input_required" and road.ran == []
        with pytest.raises(MCPError, match="requestState"):  # the SDK binds it to the arguments
            await session.call_tool(
                "obi_kubectl",
                {"command": WRITE},
                input_responses=accepted,
                request_state=first.request_state,
                allow_input_required=True,
            )
        replies = [
            await session.call_tool(
                "obi_kubectl",
                {"command": DELETE},
                input_responses=accepted,
                request_state=first.request_state,
                allow_input_required=True,
            )
            for _ in range(2)
        ]
        assert [isinstance(one, InputRequiredResult) for one in replies] == [False, True]
        unasked: Any = await session.call_tool(
            "obi_kubectl", {"command": DELETE}, input_responses=accepted, allow_input_required=True
        )
        assert unasked.result_type == "input_required"

    with_client("auto", made, Desk(None), use)
    assert [call.command for call in road.ran] == [DELETE]


def test_tools_whose_every_call_is_a_change_are_confirmed_before_anything() -> None:
    desk = Desk(ElicitResult(action="decline"))
    made = services(Road(), settings("destructive"))

    async def use(client: Client) -> None:
        result = await client.call_tool("obi_stop", {"timeout_s": 3})
        assert result.structured_content is not None
        assert result.structured_content["code"] == "declined"
        dry = await client.call_tool("obi_deploy_local", {"network": True, "dry_run": True})
        assert dry.structured_content is not None
        assert dry.structured_content.get("code") != "declined"

    with_client("auto", made, desk, use)
    (asked,) = desk.asked
    assert asked.splitlines()[0] == "Stop OBI on this host (obi_stop)?"
    assert asked.splitlines()[-1] == "| timeout_s: 3"


# --- plans ---

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


# --- at a terminal ---


@pytest.mark.parametrize(("typed", "reply"), [("yes", "accept"), ("no", "decline"), ("y", "decline"), ("", "decline")])
def test_obi_mcp_call_asks_at_the_terminal(typed: str, reply: Reply, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    with open(theirs, encoding="utf-8") as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        os.write(ours, f"{typed}\n".encode())
        person = call_verb._person()
        assert person is not None and person.through == "terminal"

        async def ask() -> Reply:
            return await person.ask("Do it?")

        assert asyncio.run(ask()) == reply
    os.close(ours)


def test_nobody_is_asked_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull, encoding="utf-8") as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        assert call_verb._person() is None


# --- what the question is made of ---


def test_a_question_is_short_and_plain() -> None:
    asked = question("Do it?", ["x" * (MAX_LINE + 1), "a\u202eb\x1b[31m", *map(str, range(MAX_LINES))])
    lines = asked.splitlines()
    assert len(lines) == 2 + MAX_LINES + 1
    assert len(max(lines, key=len)) <= MAX_LINE + 2
    assert lines[3:5] == ["| x", "| ab"]
    assert lines[-11:-9] == ["| … 3 more lines are NOT shown; decline what cannot be seen", "| 30"]


REACHES: list[tuple[Decision, Access, Access]] = [
    (replace(NARROWED, access=Access.READ_ONLY), Access.FULL, Access.READ_ONLY),
    (replace(NARROWED, access=Access.NON_DESTRUCTIVE), Access.FULL, Access.NON_DESTRUCTIVE),
    (REFUSED, Access.FULL, Access.READ_ONLY),
]


@pytest.mark.parametrize(("decision", "level", "reach"), REACHES)
def test_how_much_a_command_can_change(decision: Decision, level: Access, reach: Access) -> None:
    assert reach_of(decision, level) is reach


@pytest.mark.parametrize("level", [Access.NON_DESTRUCTIVE, Access.FULL])
def test_what_only_a_check_can_tell_counts_as_far_as_the_level_allows_it(level: Access) -> None:
    spec = MembersSpec("drop", NARROWED.checks[0].spec.resource, None)  # type: ignore[union-attr]
    check = Check("membership", "pods", None, "why", spec, raises_to=Access.FULL)
    decision = replace(NARROWED, access=Access.NON_DESTRUCTIVE, checks=(check,))
    assert reach_of(decision, level) is level
