"""Deletions and rollouts, object by object, of exactly what was checked, in the state in which it was.

``kubectl delete`` and ``kubectl rollout`` write whatever bears the name when they come to it. Here the API server
refuses with 409 what is another object, or another state of it. What kubectl would print and wait for is done here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from obi_mcp.enforcer.case import Case
from obi_mcp.enforcer.failures import ChangedSince, changed_since, raise_for_failure
from obi_mcp.errors import ObiMcpError, ProgramFailed
from obi_mcp.policy.flags import seconds
from obi_mcp.policy.held import DELETE, Held
from obi_mcp.policy.manifest.change import comparable
from obi_mcp.policy.pins import Pin

ATTEMPTS = 5
"""A status is written at any time; as long as nothing else of the object changed, its write is tried again."""
_DONE: dict[tuple[str, ...], str] = {
    ("rollout", "restart"): "restarted",
    ("rollout", "pause"): "paused",
    ("rollout", "resume"): "resumed",
}
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Checked:
    """One object as it was when it was checked."""

    held: Held
    body: Mapping[str, Any]

    @property
    def paused(self) -> bool:
        return bool((self.body.get("spec") or {}).get("paused"))


async def write_held(case: Case, targets: Sequence[Checked]) -> bytes:
    """Write them one after another, and say so in kubectl's words; wait until what is deleted is gone, where kubectl
    would.

    Raises: Conflict where one is not the object that was checked any more (those before it are written); ProgramFailed;
    ClusterUnreachable.
    """
    for target in targets:
        _refuse_rollout(case, target)
    lines: list[str] = []
    for target in targets:
        try:
            await _write(case, target)
        except ObiMcpError as error:
            if lines:
                error.message += f" (before that: {'; '.join(line.strip() for line in lines)})"
            raise
        lines.append(_line(case, target.held))
    if case.head.path == DELETE and case.head.value("wait", "true") != "false":
        await _all_gone(case, targets)
    return "".join(lines).encode()


def _refuse_rollout(case: Case, target: Checked) -> None:
    """What kubectl refuses before it writes. Raises: ProgramFailed."""
    name, verb = f"{target.held.called} {target.held.name}", case.head.path[-1]
    if target.paused and verb in {"pause", "restart"}:
        raise ProgramFailed(f"{name} is paused", "run kubectl rollout resume first" if verb == "restart" else None)
    if not target.paused and verb == "resume":
        raise ProgramFailed(f"{name} is not paused")


async def _write(case: Case, target: Checked) -> None:
    body, tried = target.body, 1
    while conflict := await _attempt(case, target.held, Pin.of(body)):
        live = await case.cluster.get(target.held.resource, target.held.namespace, target.held.name)
        if live is None or tried == ATTEMPTS or not _same_but_for_status(body, live):
            raise conflict
        body, tried = live, tried + 1


def _same_but_for_status(checked: Mapping[str, Any], live: Mapping[str, Any]) -> bool:
    return Pin.of(checked).uid == Pin.of(live).uid and comparable(checked) == comparable(live)


async def _attempt(case: Case, held: Held, pin: Pin) -> ChangedSince | None:
    approved = case.policy.approve_held(case.decision, access=case.access, held=held, pin=pin)
    completed = await case.run_own(approved)
    if completed.exit_code == 0:
        return None
    raise_for_failure(completed, case.head)
    said = completed.stderr.decode("utf-8", "replace").strip()[:600]
    if "(NotFound)" in said and case.head.value("ignore-not-found") == "true":
        return None
    if conflict := changed_since(completed):
        return conflict
    raise ProgramFailed(f"kubectl {' '.join(case.head.path)} of {held.called} {held.name} failed: {said}")


def _line(case: Case, held: Held) -> str:
    if case.head.value("output") == "name":
        return f"{held.called}/{held.name}\n"
    if case.head.path != DELETE:
        return f"{held.called}/{held.name} {_DONE[case.head.path]}\n"
    where = f" from {held.namespace} namespace" if held.namespace else ""
    return f'{held.called} "{held.name}" deleted{where}\n'


async def _all_gone(case: Case, targets: Sequence[Checked]) -> None:
    limit_s = seconds(case.head.value("timeout"))
    try:
        async with asyncio.timeout(limit_s if limit_s > 0 else None):
            await asyncio.gather(*(_gone(case, target) for target in targets))
    except TimeoutError:
        names = ", ".join(f"{target.held.called} {target.held.name}" for target in targets)
        raise ProgramFailed(
            f"{names} is being deleted, and was not gone within {limit_s:g} s",
            "look again, or do not wait: --wait=false",
        ) from None


async def _gone(case: Case, target: Checked) -> None:
    """Until there is no object of that name, or another one. The call's deadline ends it."""
    uid = Pin.of(target.body).uid
    while True:
        live = await case.cluster.get(target.held.resource, target.held.namespace, target.held.name)
        if live is None or (live.get("metadata") or {}).get("uid") != uid:
            return
        await asyncio.sleep(_POLL_S)
