"""What the planning tools share: the arguments, a plan as an answer, and the second call that carries it out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any, Protocol

from obi_mcp.audit import AuditEntry
from obi_mcp.enforcer.model import Progress
from obi_mcp.errors import CallTimeout, ClusterUnreachable, Declined, InvalidArgument, ObiMcpError, ProgramFailed
from obi_mcp.policy.manifest.change import leaves_nothing
from obi_mcp.policy.model import Access
from obi_mcp.toolsets.base import SHARED, Schema, Services, ToolCall, ToolResult
from obi_mcp.toolsets.confirming import confirmed
from obi_mcp.toolsets.kubernetes.carry_out import Outcome, carry_out, go_on
from obi_mcp.toolsets.kubernetes.objects import Target
from obi_mcp.toolsets.kubernetes.plan import Plan, Plans, Recovery

DEFAULT_WAIT_S = 120
MAX_CHANGED = 10
"""Changed lines of one object that a person is shown who has to confirm."""
MAX_WAIT_S = 900
SECOND_CALL: dict[str, Schema] = {
    "plan_id": {"type": "string", "maxLength": 64, "description": SHARED["plan_id"]},
    "wait_s": {
        "type": "integer",
        "minimum": 1,
        "maximum": MAX_WAIT_S,
        "default": DEFAULT_WAIT_S,
        "description": SHARED["wait_s"],
    },
}
Make = Callable[[Services, ToolCall], Awaitable[Plan | ToolResult]]


class CarryOut(Protocol):
    """How a plan is carried out and, where that fails, taken back."""

    async def __call__(
        self, services: Services, plan: Plan, progress: Progress | None, *, wait_s: float
    ) -> Outcome: ...


async def plan_or_carry_out(
    plans: Plans, tool: str, services: Services, call: ToolCall, make: Make, *, carry: CarryOut = carry_out
) -> ToolResult:
    """Without ``plan_id`` a plan; with it that plan, exactly. Raises: InvalidArgument, Conflict, Denied."""
    given = call.arguments
    if (plan_id := given.get("plan_id")) is None:
        made = await make(services, call)
        if isinstance(made, ToolResult):
            return made
        plans.keep(made)
        return _shown(made)
    if extra := set(given) - set(SECOND_CALL):
        raise InvalidArgument(
            f"plan_id stands with {', '.join(sorted(extra))}",
            "a plan is carried out exactly as it is: give plan_id alone, or leave it out for a new plan",
        )
    # INVARIANT: a plan that nobody confirmed is still there; the person may be asked again.
    call = await _confirmed(services, call, plans.look(plan_id, tool))
    plan = plans.take(plan_id, tool)
    wait_s = given.get("wait_s", DEFAULT_WAIT_S)
    if isinstance(plan, Recovery):
        return _back(plans, await go_on(services, plan, wait_s=wait_s), plan.id)
    plan = replace(plan, place=replace(plan.place, confirmed_by=call.confirmed_by))
    outcome = await carry(services, plan, call.progress, wait_s=wait_s)
    if outcome.problem is not None:
        return _back(plans, outcome, plan.id)
    done = [f"{change.action} {change.target}" for change in plan.changes if change.action != "same"]
    return ToolResult({"plan_id": plan.id, **outcome.as_json()}, "\n".join(["done:", *done]))


async def _confirmed(services: Services, call: ToolCall, plan: Plan | Recovery) -> ToolCall:
    """The call, once a person confirmed the plan where the operator wants that. Raises: Declined, QuestionPending."""
    place = plan.place
    where = f" in the context {place.context}" if place.context else ""
    try:
        if isinstance(plan, Recovery):
            headline = f"Go on taking back what is left of the plan {plan.id}{where} ({plan.tool})?"
            return await confirmed(services, call, Access.FULL, headline, plan.taking.left)
        headline = f"Carry out the plan {plan.id}{where} ({plan.tool})?"
        return await confirmed(services, call, await _reach(services, plan), headline, _in_short(plan))
    except Declined as error:
        services.audit.record(AuditEntry(plan.tool, f"{plan.tool} plan_id={plan.id}", call.caller, error=error.code))
        error.audited = True
        raise


async def _reach(services: Services, plan: Plan) -> Access:
    """How much the plan changes: its dry run has shown what it deletes."""
    if any(change.action == "delete" for change in plan.changes):
        return Access.FULL
    written = ((before, plan.afters.get(target)) for target, before in plan.befores.items())
    if any(before and after and leaves_nothing(before, after) for before, after in written):
        return Access.FULL
    calls = [plan.place.call(step.command, stdin=step.stdin) for step in plan.steps]
    decisions = [await asyncio.to_thread(services.enforcer.explain, one) for one in calls]
    return max((decision.access for decision in decisions if decision.access is not None), default=Access.FULL)


def _in_short(plan: Plan) -> Iterator[str]:
    for change in plan.changes:
        if change.action == "same":
            continue
        yield f"{change.action} {change.target}"
        lines = change.diff.splitlines()[2:] if change.action == "change" else []
        changed = [f"  {line}" for line in lines if line.startswith(("+", "-"))]
        yield from changed[:MAX_CHANGED]
        if len(changed) > MAX_CHANGED:
            yield f"  … {len(changed) - MAX_CHANGED} more changed lines are NOT shown"
    if plan.watched is not None:
        yield _of_the_pods(plan.watched, plan)
    yield from (f"warning: {text}" for text in plan.warnings)


def _of_the_pods(workload: Target, plan: Plan) -> str:
    made = any(change.target == workload and change.action == "create" for change in plan.changes)
    return f"the pods of {workload} {'start' if made else 'restart'}"


def _in_brief(command: str) -> str:
    """Without the patch, which may be a whole workload; ``structured`` has all of it."""
    start, patch, _ = command.partition(" -p ")
    return f"{start}{patch}…" if patch else start


def _back(plans: Plans, outcome: Outcome, plan_id: str) -> ToolResult:
    """What a caller is told of a plan that failed: what was taken back, what is left, and what finishes it."""
    if outcome.recovery is not None:
        plans.keep(outcome.recovery)
    error = outcome.error or ProgramFailed(outcome.problem or "")
    lines = [f"not done: {outcome.problem}"]
    lines += [f"taken back: {_in_brief(command)}" for command in outcome.taken_back]
    lines += [f"still to be taken back: {command}" for command in outcome.left]
    lines += [f"changed by somebody else meanwhile, and left to them: {target}" for target in outcome.conflicts]
    hint = _hint(outcome, error)
    structured = {"plan_id": plan_id, **outcome.as_json(), "code": error.code, "message": error.message, "hint": hint}
    return ToolResult(structured, "\n".join([*lines, f"hint: {hint}"]), is_error=True, exit_code=error.exit_code)


def _hint(outcome: Outcome, error: ObiMcpError) -> str:
    if outcome.recovery is not None:
        again = f"call {outcome.recovery.tool} with plan_id {outcome.recovery.id} to go on taking it back"
        return f"{again}, or run the commands in left; a new plan goes on from what stands there now"
    if outcome.left:
        return "run the commands in left"
    if outcome.conflicts:
        return "look at what somebody else changed, then make a new plan; the rest is as it was"
    if isinstance(error, ClusterUnreachable | CallTimeout):
        return "the cluster is as it was; make a new plan when the API server is well"
    return f"the cluster is as it was; {error.hint or 'mend what the message names, and make a new plan'}"


def _shown(plan: Plan) -> ToolResult:
    structured: dict[str, Any] = {
        "plan_id": plan.id,
        "changes": [change.as_json() for change in plan.changes],
        "warnings": list(plan.warnings),
        "commands": [step.command for step in plan.steps],
        **plan.more,
    }
    if plan.watched is not None:
        structured["restarts"] = str(plan.watched)
    lines = [f"plan {plan.id}: nothing is written yet; call {plan.tool} again with plan_id to carry it out"]
    lines += [f"warning: {text}" for text in plan.warnings]
    lines += [f"{name}: {', '.join(value) if isinstance(value, list) else value}" for name, value in plan.more.items()]
    for change in plan.changes:
        lines.append(f"{change.action} {change.target}")
        if change.diff and change.action == "change":
            lines += [f"  {line}" for line in change.diff.splitlines()]
    if plan.watched is not None:
        lines.append(_of_the_pods(plan.watched, plan))
    return ToolResult(structured, "\n".join(lines))
