"""Deletions of exactly the objects that were checked, in the state in which they were.

``kubectl delete`` deletes by name whatever bears it when it comes to it. Its ``--raw`` form carries the uid and the
resource version, and the API server refuses with 409 when either is another. What kubectl would print and wait for is
done here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from obi_mcp.enforcer.case import Case
from obi_mcp.enforcer.failures import changed_since
from obi_mcp.errors import Conflict, ObiMcpError, ProgramFailed
from obi_mcp.policy.flags import seconds
from obi_mcp.policy.manifest.change import comparable
from obi_mcp.policy.model import Resource
from obi_mcp.policy.pins import Pin

ATTEMPTS = 5
"""A status is written at any time; as long as nothing else of the object changed, its deletion is tried again."""
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Doomed:
    """One object that was checked, and is to be deleted as it was then."""

    resource: Resource
    namespace: str | None
    name: str
    checked: Mapping[str, Any]

    @property
    def called(self) -> str:
        """As kubectl prints it: ``daemonset.apps``, ``pod``."""
        return ".".join(filter(None, (self.resource.kind.lower(), self.resource.group)))


async def delete(case: Case, doomed: Sequence[Doomed]) -> bytes:
    """Delete them one after another, wait until they are gone where kubectl would, and say so in kubectl's words.

    Raises: Conflict where one is not the object that was checked any more (those before it are deleted); ProgramFailed;
    ClusterUnreachable.
    """
    lines: list[str] = []
    for target in doomed:
        try:
            await _delete(case, target)
        except ObiMcpError as error:
            if lines:
                error.message += f" (before that: {'; '.join(line.strip() for line in lines)})"
            raise
        lines.append(_line(case, target))
    if case.head.value("wait", "true") != "false":
        await _all_gone(case, doomed)
    return "".join(lines).encode()


async def _all_gone(case: Case, doomed: Sequence[Doomed]) -> None:
    limit_s = seconds(case.head.value("timeout"))
    try:
        async with asyncio.timeout(limit_s if limit_s > 0 else None):
            await asyncio.gather(*(_gone(case, target) for target in doomed))
    except TimeoutError:
        names = ", ".join(f"{target.called} {target.name}" for target in doomed)
        raise ProgramFailed(
            f"{names} is being deleted, and was not gone within {limit_s:g} s",
            "look again, or do not wait: --wait=false",
        ) from None


async def _delete(case: Case, target: Doomed) -> None:
    checked, tried = target.checked, 1
    while conflict := await _attempt(case, target, Pin.of(checked)):
        live = await case.cluster.get(target.resource, target.namespace, target.name)
        if live is None or tried == ATTEMPTS or not _same_but_for_status(checked, live):
            raise conflict
        checked, tried = live, tried + 1


def _same_but_for_status(checked: Mapping[str, Any], live: Mapping[str, Any]) -> bool:
    return Pin.of(checked).uid == Pin.of(live).uid and comparable(checked) == comparable(live)


async def _attempt(case: Case, target: Doomed, pin: Pin) -> Conflict | None:
    approved = case.policy.approve_deletion(
        case.decision,
        access=case.access,
        resource=target.resource,
        namespace=target.namespace,
        name=target.name,
        pin=pin,
    )
    completed = await case.run_own(approved)
    if completed.exit_code == 0:
        return None
    said = completed.stderr.decode("utf-8", "replace").strip()[:600]
    if "(NotFound)" in said and case.head.value("ignore-not-found") == "true":
        return None
    if conflict := changed_since(completed):
        return conflict
    raise ProgramFailed(f"{target.called} {target.name} could not be deleted: {said}")


def _line(case: Case, target: Doomed) -> str:
    if case.head.value("output") == "name":
        return f"{target.called}/{target.name}\n"
    where = f" from {target.namespace} namespace" if target.namespace else ""
    return f'{target.called} "{target.name}" deleted{where}\n'


async def _gone(case: Case, target: Doomed) -> None:
    """Until there is no object of that name, or another one. The call's deadline ends it."""
    uid = Pin.of(target.checked).uid
    while True:
        live = await case.cluster.get(target.resource, target.namespace, target.name)
        if live is None or (live.get("metadata") or {}).get("uid") != uid:
            return
        await asyncio.sleep(_POLL_S)
