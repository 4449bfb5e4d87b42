"""Carrying a plan out: refuse if the cluster has changed, write, wait, and take back what was written if it fails."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from obi_mcp.enforcer.model import Progress
from obi_mcp.errors import Conflict, NotFound, ObiMcpError, ProgramFailed
from obi_mcp.toolsets.base import Services
from obi_mcp.toolsets.kubernetes.place import Place
from obi_mcp.toolsets.kubernetes.plan import Plan, Step, look_up, state_of
from obi_mcp.toolsets.kubernetes.rollout import rolled_out


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it went. ``problem`` is None where all of it was done; ``done`` and ``taken_back`` are command lines, and
    ``left`` those that finish the taking back by hand."""

    done: tuple[str, ...]
    problem: str | None = None
    taken_back: tuple[str, ...] = ()
    left: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        parts: dict[str, Any] = {"applied": self.problem is None, "done": list(self.done)}
        if self.problem is not None:
            parts |= {"problem": self.problem, "taken_back": list(self.taken_back), "left": list(self.left)}
        return parts


async def carry_out(
    services: Services, plan: Plan, progress: Progress | None, *, wait_s: float, clock: Any = time.monotonic
) -> Outcome:
    """Runs the plan's steps. Raises: Conflict where the cluster is no longer what the plan was made from."""
    place = plan.place
    await unchanged(services, plan)
    begun: list[Step] = []
    try:
        for number, step in enumerate(plan.steps):
            if progress:
                await progress(number, len(plan.steps) + 1, f"running {_shown(step.command)}")
            begun.append(step)  # before it runs: one that fails may have written a part of its objects
            await _run(services, place, step.command, step.stdin)
        if plan.watched is not None:
            await rolled_out(services, place, plan.watched, progress, wait_s=wait_s, clock=clock)
    except ObiMcpError as error:
        taken_back, left = await _take_back(services, place, begun)
        return Outcome(tuple(step.command for step in begun), error.message, taken_back, left)
    return Outcome(tuple(step.command for step in begun))


async def unchanged(services: Services, plan: Plan) -> None:
    """Raises: Conflict where an object of the plan is no longer what it was made from."""
    for target, seen in plan.state.items():
        now = state_of(await look_up(services, plan.place, target))
        if now != seen:
            what = "is gone" if now == "absent" else "has been made" if seen == "absent" else "has changed"
            raise Conflict(f"{target} {what} since the plan was made; nothing was written", "make the plan again")


async def _run(services: Services, place: Place, command: str, stdin: str | None = None) -> None:
    answer = await services.enforcer.run(place.call(command, stdin=stdin))
    if answer.exit_code:
        said = (answer.stderr or answer.stdout).strip()[:600]
        raise ProgramFailed(f"{_shown(command)} failed: {said}", "what was written before it is taken back")


async def _take_back(services: Services, place: Place, begun: list[Step]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Takes back the newest first; what cannot be is given as the command lines that would."""
    taken_back: list[str] = []
    left: list[str] = []
    for undo in [undo for step in reversed(begun) for undo in step.undo]:
        try:
            await _run(services, place, undo.command, undo.stdin)
        except NotFound:
            continue  # it was not made after all
        except ObiMcpError as error:
            left.append(f"{undo.command}  # {error.message[:200]}")
        else:
            taken_back.append(undo.command)
    return tuple(taken_back), tuple(left)


def _shown(command: str) -> str:
    return command if len(command) <= 120 else f"{command[:117]}…"
