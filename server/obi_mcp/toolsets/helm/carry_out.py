"""Carrying a plan for a release out: one command of helm's, the rollout, and the revision before where that fails."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from obi_mcp.enforcer.model import Progress
from obi_mcp.errors import CallCancelled, Conflict, Denied, InvalidArgument, NotFound, ObiMcpError, ProgramFailed
from obi_mcp.toolsets.base import Services
from obi_mcp.toolsets.helm.plan import ReleasePlan
from obi_mcp.toolsets.helm.release import Stored, stored
from obi_mcp.toolsets.kubernetes.carry_out import ON_CANCEL_S, Outcome, in_any_case, tell, unchanged
from obi_mcp.toolsets.kubernetes.objects import Target, is_going, list_of, look_up
from obi_mcp.toolsets.kubernetes.plan import Plan
from obi_mcp.toolsets.kubernetes.rollout import rolled_out
from obi_mcp.toolsets.kubernetes.take_back import RETURN_S, patiently, pause

_REFUSED = (Denied, Conflict, NotFound)


async def carry_out_release(services: Services, plan: Plan, progress: Progress | None, *, wait_s: float) -> Outcome:
    """Runs the plan's command and waits for the pods that it changes.

    Raises: Conflict where the release, the chart or an object is no longer what the plan was made from; Denied.
    """
    if not isinstance(plan, ReleasePlan):  # INVARIANT: the plans of these tools are of this kind
        raise InvalidArgument(f"the plan {plan.id} is not about a release", "make the plan again")
    await unchanged(services, plan)
    done: tuple[str, ...] = ()
    try:
        if progress:
            await progress(0, len(plan.workloads) + 1, f"running helm {plan.verb}")
        await _helm(services, plan)
        done = (plan.steps[0].command,)
        for workload in plan.workloads:
            await rolled_out(services, plan.place, workload, progress, wait_s=wait_s)
    except ObiMcpError as error:
        if not done and isinstance(error, _REFUSED):
            raise  # nothing ran, or what ran was taken back by the road itself, which says so
        return await _failed(services, plan, error, done, patience_s=min(RETURN_S, wait_s))
    except asyncio.CancelledError:
        cancelled = CallCancelled("the call was cancelled")
        await in_any_case(_failed(services, plan, cancelled, done, patience_s=ON_CANCEL_S))
        raise
    tell(services, plan, "done")
    return Outcome(done)


async def _helm(services: Services, plan: ReleasePlan) -> None:
    step, limits = plan.steps[0], services.settings.limits
    call = plan.place.call(
        step.command, stdin=step.stdin, timeout_s=limits.max_timeout_s, max_bytes=limits.max_bytes, expects=plan.seal
    )
    answer = await services.enforcer.run(call)
    if answer.exit_code:
        said = (answer.stderr or answer.stdout).strip()[:600]
        raise ProgramFailed(f"helm {plan.verb} failed: {said}")


async def _failed(
    services: Services, plan: ReleasePlan, error: ObiMcpError, done: tuple[str, ...], *, patience_s: float
) -> Outcome:
    until = time.monotonic() + patience_s
    outcome = await _returned(services, plan, error, done, until)
    if plan.namespace is None:
        return outcome
    return await _without_namespace(services, plan, plan.namespace, outcome, until)


async def _returned(
    services: Services, plan: ReleasePlan, error: ObiMcpError, done: tuple[str, ...], until: float
) -> Outcome:
    """What is there now is asked, not guessed: helm may have written anything from nothing to all of it."""
    finish = _undo(plan)
    try:
        now = await patiently(lambda: stored(services, plan.place, plan.release), until)
    except ObiMcpError as unknown:
        look = f"{finish}  # how far helm came is not known ({unknown.message[:200]}): look at obi_helm_status first"
        tell(services, plan, "left", error.code)
        return Outcome(done, error.message, (), (look,), error=error)
    if now is None and plan.verb == "uninstall":
        return await _forgotten(services, plan, error)
    if await _untouched(services, plan, now):
        tell(services, plan, "taken_back", error.code)
        return Outcome(done, error.message, error=error)
    taken_back, left = await _gone_back(services, plan, now, finish, until)
    tell(services, plan, "left" if left else "taken_back", error.code)
    return Outcome(done, error.message, taken_back, left, error=error)


async def _without_namespace(
    services: Services, plan: ReleasePlan, namespace: Target, outcome: Outcome, until: float
) -> Outcome:
    """Takes back the namespace that helm made, when nothing stands in it: pods take their time to go."""
    by_hand = f"kubectl delete namespace {namespace.name}"
    if outcome.left:
        return replace(outcome, left=(*outcome.left, f"{by_hand}  # when it is empty: helm made it"))
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace.name}}
    removal = plan.place.call("kubectl apply -f -", stdin=list_of([body]))
    number = 0
    try:
        while (live := await look_up(services, plan.place, namespace)) is not None and not is_going(live):
            if await services.enforcer.remove_namespaces(removal):
                return replace(outcome, taken_back=(*outcome.taken_back, by_hand))
            if time.monotonic() > until:
                return replace(outcome, left=(f"{by_hand}  # helm made it, and it is not empty",))
            await pause(number, until)
            number += 1
    except ObiMcpError as refused:
        return replace(outcome, left=(f"{by_hand}  # helm made it; {refused.message[:200]}",))
    return outcome


async def _gone_back(
    services: Services, plan: ReleasePlan, now: Stored | None, finish: str, until: float
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What was taken back, and what is left to be done by hand."""
    if now is None:
        return (), ()
    state = f"the release is at revision {now.release.revision}, {now.release.status}"
    if plan.verb != "uninstall" and now.release.revision != plan.seal.revision + 1:
        return (), (f"{finish}  # {state}, which is somebody else's: look at obi_helm_history first",)
    if plan.verb == "uninstall":
        return (), (f"{finish}  # {state}",)  # what is half removed can only be removed
    try:
        await patiently(lambda: _taken_back(services, plan, finish), until)
    except ObiMcpError as refused:
        return (), (f"{finish}  # {state}; {refused.message[:200]}",)
    return (finish,), ()


async def _untouched(services: Services, plan: ReleasePlan, now: Stored | None) -> bool:
    """Whether nothing was written. helm deletes objects also where it could not write down that it does."""
    if (now.release.revision if now else 0) != plan.seal.revision:
        return False
    if plan.verb != "uninstall":
        return True
    try:
        await unchanged(services, plan)
    except ObiMcpError:
        return False
    return now is not None and not now.release.status.startswith("uninstall")


async def _forgotten(services: Services, plan: ReleasePlan, error: ObiMcpError) -> Outcome:
    """helm forgets a release last: what is there then is still going, or stays."""
    there = [target for target in plan.state if await look_up(services, plan.place, target) is not None]
    if not there:
        tell(services, plan, "done")
        return Outcome((plan.steps[0].command,))
    tell(services, plan, "left", error.code)
    return Outcome((), error.message, (), tuple(f"kubectl delete {target.words}" for target in there), error=error)


def _undo(plan: ReleasePlan) -> str:
    """The command line that takes the plan's command back, or finishes it where nothing can."""
    where = f"-n {plan.place.namespace}" + (f" --kube-context {plan.place.context}" if plan.place.context else "")
    if plan.verb in {"install", "uninstall"}:
        return f"helm uninstall {plan.release} {where}"
    return f"helm rollback {plan.release} {plan.seal.revision} {where}"


async def _taken_back(services: Services, plan: ReleasePlan, command: str) -> None:
    call = plan.place.call(command, timeout_s=services.settings.limits.max_timeout_s)
    # An upgrade is taken back at its own level; what a first install made is removed where the caller's level allows.
    road = services.enforcer.take_back if plan.verb == "upgrade" else services.enforcer.run
    answer = await road(call)
    if answer.exit_code:
        raise ProgramFailed((answer.stderr or answer.stdout).strip()[:600])
