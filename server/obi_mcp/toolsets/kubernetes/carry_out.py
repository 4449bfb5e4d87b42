"""Carrying a plan out: refuse if the cluster has changed, write, wait, and take back what was written if it fails."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from obi_mcp.audit import AuditEntry
from obi_mcp.enforcer.model import Progress
from obi_mcp.errors import CallCancelled, CallTimeout, ClusterUnreachable, Conflict, ObiMcpError
from obi_mcp.toolsets.base import Services
from obi_mcp.toolsets.kubernetes.objects import Target, look_up, same, state_of
from obi_mcp.toolsets.kubernetes.plan import Plan, Recovery, Step
from obi_mcp.toolsets.kubernetes.rollout import rolled_out
from obi_mcp.toolsets.kubernetes.take_back import RETURN_S, Piece, TakingBack, passes, patiently, pause, run, shown

ATTEMPTS = 3
"""How often a step is tried whose write did not come about for a reason that passes."""
ON_CANCEL_S = 8.0
"""How long taking back may take when the call is cancelled: the server leaves 10 s after it is told to."""
_SAID = re.compile(
    r"(?m)^([a-z]+)(?:\.[a-z0-9.-]+)?[/ ]\"?([a-z0-9.-]+)\"? (?:created|patched|configured|replaced|deleted)"
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it went. ``problem`` is None where all of it was done; ``done`` and ``taken_back`` are command lines, and
    ``left`` those that finish the taking back by hand. ``state`` says of each object in which state it is.

    ``recovery`` goes on with the taking back, where there is something left. ``error``: whose message the problem is.
    """

    done: tuple[str, ...]
    problem: str | None = None
    taken_back: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    state: tuple[tuple[Target, str], ...] = ()
    recovery: Recovery | None = None
    error: ObiMcpError | None = None

    @property
    def conflicts(self) -> tuple[Target, ...]:
        """What somebody else has changed since."""
        return tuple(target for target, state in self.state if state == "changed by somebody else")

    def as_json(self) -> dict[str, Any]:
        parts: dict[str, Any] = {"applied": self.problem is None, "done": list(self.done)}
        if self.problem is not None:
            parts |= {"problem": self.problem, "taken_back": list(self.taken_back), "left": list(self.left)}
        if self.state:
            parts["state"] = {str(target): state for target, state in self.state}
        if self.recovery is not None:
            parts["recovery"] = self.recovery.id
        return parts


@dataclass(slots=True)
class _Carrying:
    """A plan being carried out."""

    services: Services
    plan: Plan
    deadline: float
    begun: list[Step] = field(default_factory=list)
    pieces: dict[Target, Piece] = field(default_factory=dict)

    async def step(self, step: Step) -> None:
        """Does one step; one whose answer was lost is looked up, and tried again where nobody else was there."""
        self.begun.append(step)  # before it runs: one that fails may have written a part of its objects
        if not step.generations:
            for target in step.targets:
                before, after = self.plan.befores.get(target), self.plan.afters.get(target)
                self.pieces.setdefault(target, Piece(target, before, after))
        for number in range(ATTEMPTS):
            try:
                answer = await run(self.services, self.plan.place, step.command, step.stdin)
                self._note(step, answer.stdout)
                break
            except ObiMcpError as error:
                self._note(step, getattr(error, "stdout", ""))
                if await self._has_come_about(step, error):
                    break
                if number == ATTEMPTS - 1 or not passes(error) or time.monotonic() > self.deadline:
                    raise
                await pause(number, self.deadline)
        await self._seen(step)

    async def _has_come_about(self, step: Step, error: ObiMcpError) -> bool:
        """Whether everything is as planned all the same. Raises: the error itself where somebody else was there or it
        cannot be told."""
        if not step.targets or step.generations:
            raise error
        try:
            for piece in map(self.pieces.__getitem__, step.targets):
                piece.see(await patiently(partial(self._look, piece.target), self.deadline))
        except ObiMcpError:
            raise error from None
        states = {self.pieces[target].state for target in step.targets}
        if "changed by somebody else" in states:
            raise error
        return all(self._is_done(self.pieces[target]) for target in step.targets)

    @staticmethod
    def _is_done(piece: Piece) -> bool:
        return piece.state == "as planned" or (piece.state == "as before" and same(piece.before, piece.after))

    async def _seen(self, step: Step) -> None:
        """Notes what stands there after a write of ours: what differs from it later is somebody else's."""
        for target in step.targets:
            if target not in self.pieces:
                continue
            try:
                self.pieces[target].ours.append(await self._look(target))
            except (ClusterUnreachable, CallTimeout):
                continue  # what was planned tells it too

    async def _look(self, target: Target) -> Any:
        return await look_up(self.services, self.plan.place, target)

    def _note(self, step: Step, printed: str) -> None:
        said = {(kind, name) for kind, name in _SAID.findall(printed)}
        for target in step.targets:
            if target in self.pieces and (target.kind.lower(), target.name) in said:
                self.pieces[target].said = True

    def taking_back(self) -> TakingBack:
        """What has to be taken back of the steps that have begun."""
        steps = [step for step in reversed(self.begun) if step.undo or step.generations]
        return TakingBack(self.services, self.plan.place, list(self.pieces.values()), steps)


async def carry_out(
    services: Services,
    plan: Plan,
    progress: Progress | None,
    *,
    wait_s: float,
    clock: Callable[[], float] = time.monotonic,
) -> Outcome:
    """Runs the plan's steps. Raises: Conflict where the cluster is no longer what the plan was made from."""
    await unchanged(services, plan)
    carrying = _Carrying(services, plan, time.monotonic() + wait_s)
    try:
        for number, step in enumerate(plan.steps):
            if progress:
                await progress(number, len(plan.steps) + 1, f"running {shown(step.command)}")
            await carrying.step(step)
        if plan.watched is not None:
            await rolled_out(services, plan.place, plan.watched, progress, wait_s=wait_s, clock=clock)
    except ObiMcpError as error:
        return await _taken_back(carrying, error, patience_s=min(RETURN_S, wait_s))
    except asyncio.CancelledError:
        await in_any_case(_taken_back(carrying, CallCancelled("the call was cancelled"), patience_s=ON_CANCEL_S))
        raise
    tell(services, plan, "done")
    return Outcome(tuple(step.command for step in carrying.begun))


async def go_on(services: Services, recovery: Recovery, *, wait_s: float) -> Outcome:
    """Goes on with a taking back. Its outcome has the error of the first call until everything is taken back."""
    return await _go_back(services, recovery, recovery.error, patience_s=min(RETURN_S, wait_s))


async def unchanged(services: Services, plan: Plan) -> None:
    """Raises: Conflict where an object is not in the state that the plan was made from."""
    for target, seen in plan.state.items():
        now = state_of(await look_up(services, plan.place, target))
        if now != seen:
            what = "is gone" if now == "absent" else "has been made" if seen == "absent" else "has changed"
            raise Conflict(f"{target} {what} since the plan was made; nothing was written", "make the plan again")


async def _taken_back(carrying: _Carrying, error: ObiMcpError, *, patience_s: float) -> Outcome:
    plan = carrying.plan
    done = tuple(step.command for step in carrying.begun)
    recovery = Recovery(f"{plan.id}-back", plan.tool, plan.place, carrying.taking_back(), done, error)
    return await _go_back(carrying.services, recovery, error, patience_s=patience_s)


async def _go_back(services: Services, recovery: Recovery, error: ObiMcpError, *, patience_s: float) -> Outcome:
    taking = recovery.taking
    outcome = "left"
    try:
        await taking.go(patience_s=patience_s)
        outcome = "taken_back" if taking.complete else "left"
    finally:
        tell(services, recovery, outcome, error.code)
    state = tuple((piece.target, piece.told) for piece in taking.pieces)
    again = recovery if taking.left else None
    return Outcome(recovery.done, error.message, tuple(taking.taken_back), taking.left, state, again, error)


async def in_any_case(work: Coroutine[Any, Any, Outcome]) -> None:
    """Does it to the end, or for as long as a server that was told to stop may, however often it is cancelled."""
    task = asyncio.ensure_future(asyncio.wait_for(work, ON_CANCEL_S))
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait({task})
    with suppress(TimeoutError):
        task.result()


def tell(services: Services, plan: Plan | Recovery, outcome: str, error: str | None = None) -> None:
    """The audit line of a plan that was carried out, or of its taking back."""
    command = f"{plan.tool} plan_id={plan.id}"
    services.audit.record(AuditEntry(plan.tool, command, plan.place.caller, error=error, outcome=outcome))
