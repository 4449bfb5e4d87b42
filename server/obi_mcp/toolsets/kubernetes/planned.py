"""What the planning tools share: the arguments, a plan as an answer, and the second call that carries it out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from obi_mcp.enforcer.model import Progress
from obi_mcp.errors import InvalidArgument, ProgramFailed
from obi_mcp.toolsets.base import SHARED, Schema, Services, ToolCall, ToolResult
from obi_mcp.toolsets.kubernetes.carry_out import Outcome, carry_out
from obi_mcp.toolsets.kubernetes.plan import Plan, Plans

DEFAULT_WAIT_S = 120
MAX_WAIT_S = 900
SECOND_CALL: dict[str, Schema] = {
    "plan_id": {"type": "string", "maxLength": 64, "description": "Carries it out; alone."},
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
    plan = plans.take(plan_id, tool)
    outcome = await carry(services, plan, call.progress, wait_s=given.get("wait_s", DEFAULT_WAIT_S))
    structured = {"plan_id": plan.id, **outcome.as_json()}
    if outcome.problem is None:
        done = [f"{change.action} {change.target}" for change in plan.changes if change.action != "same"]
        return ToolResult(structured, "\n".join(["done:", *done]))
    lines = [f"not done: {outcome.problem}"]
    lines += [f"taken back: {command}" for command in outcome.taken_back]
    lines += [f"still to be taken back: {command}" for command in outcome.left]
    hint = "run the commands in left" if outcome.left else "the cluster is as it was; mend what the message names"
    structured |= {"code": ProgramFailed.code, "message": outcome.problem, "hint": hint}
    return ToolResult(structured, "\n".join([*lines, f"hint: {hint}"]), is_error=True, exit_code=1)


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
    lines += [f"{name}: {value}" for name, value in plan.more.items() if isinstance(value, str)]
    for change in plan.changes:
        lines.append(f"{change.action} {change.target}")
        if change.diff and change.action == "change":
            lines += [f"  {line}" for line in change.diff.splitlines()]
    if plan.watched is not None:
        lines.append(f"the pods of {plan.watched} restart")
    return ToolResult(structured, "\n".join(lines))
