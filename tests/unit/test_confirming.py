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
from tests.unit.confirmations import DELETE, READ, WRITE, Road, entries, settings
from tests.unit.recorded_road import NARROWED, REFUSED, services

from obi_mcp.app import ObiServer
from obi_mcp.cli import call as call_verb
from obi_mcp.config import Limits
from obi_mcp.policy.model import Access, Check, Decision, MembersSpec
from obi_mcp.toolsets.base import Reply, Services
from obi_mcp.toolsets.confirming import MAX_LINE, MAX_LINES, question, reach_of

GENERATIONS = ["legacy", "auto"]

Elicit = Callable[[ClientRequestContext, ElicitRequestParams], Awaitable[ElicitResult | ErrorData]]


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
    made = services(road, settings("always", limits=Limits(confirm_timeout_s=0.1)))

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
