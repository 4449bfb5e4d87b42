"""Proofs of membership: named objects, everything a selector matches, pod by pod, and lists with others dropped."""

from __future__ import annotations

from dataclasses import replace

from obi_mcp.command.model import Command, Flag, Operand
from obi_mcp.enforcer.case import Case, Proved, absent, failed, passed
from obi_mcp.enforcer.members import Found, uids
from obi_mcp.policy.model import Access, Check, MembersSpec

DEFAULT_TAIL_BY_SELECTOR = "10"
"""What kubectl logs takes per pod when a selector is given and no --tail."""


async def prove_members(case: Case, check: Check, spec: MembersSpec) -> Proved:
    """Look up what the check names. Raises: ClusterUnreachable, ProgramFailed."""
    if spec.mode == "named":
        return await _named(case, check, spec)
    if spec.mode == "every":
        return await _every(case, check, spec)
    if spec.mode == "each":
        return await _each(case, check, spec)
    found = await case.members.selected(spec)
    return Proved(passed(check), members=uids(found))


async def _named(case: Case, check: Check, spec: MembersSpec) -> Proved:
    write = case.decision.access is not Access.READ_ONLY
    raised: Access | None = None
    for found in await case.members.named(spec, write=write):
        if found is None or not found.ours:
            return Proved(absent(check))
        if spec.reappears and not await case.members.comes_back(found.body):
            raised = Access.FULL
    reason = "no controller makes the pod again, so it would be gone for good" if raised else ""
    return Proved(passed(check, reason, raised))


async def _every(case: Case, check: Check, spec: MembersSpec) -> Proved:
    found = await case.members.selected(spec, write=case.decision.access is not Access.READ_ONLY)
    foreign = [entry for entry in found if not entry.ours]
    if foreign:
        return Proved(
            failed(
                check,
                f"{len(foreign)} of {len(found)} {spec.resource.plural} that {spec.selector!r} matches are not OBI's",
                "name the objects that are meant",
            )
        )
    return Proved(passed(check, f"{len(found)} {spec.resource.plural} looked up"))


async def _each(case: Case, check: Check, spec: MembersSpec) -> Proved:
    """Resolve to pods, and run once for each that is OBI's; a foreign pod neither leaks nor blocks."""
    head = case.decision.pipeline.head if case.decision.pipeline else None
    if head is None:  # INVARIANT: a decision with checks has a pipeline
        return Proved(failed(check, "there is nothing to run"))
    notes: tuple[str, ...] = ()
    if spec.names:
        owners = await case.members.named(spec)
        found: list[Found] = []
        for owner in owners:
            if owner is None or not owner.ours:
                return Proved(absent(check))
            found.extend(await case.members.pods_of(owner.body, spec.namespace))
        if found and head.value("all-pods", "false") != "true":
            # kubectl takes one pod of a workload unless it is told --all-pods.
            one = next((entry for entry in found if entry.ours), found[0])
            if one.ours and len(found) > 1:
                notes = (f"one of {len(found)} pods: {one.name}; add --all-pods --prefix for all of them",)
            found = [one]
    else:
        found = list(await case.members.selected(spec))
    ours = [entry for entry in found if entry.ours]
    if not ours:
        return Proved(absent(check), skipped=len(found))
    heads = tuple([one for entry in ours for one in await _heads_of(case, head, entry, spec)])
    return Proved(
        passed(check, f"{len(ours)} pods looked up"), heads=heads, skipped=len(found) - len(ours), notes=notes
    )


async def _heads_of(case: Case, head: Command, pod: Found, spec: MembersSpec) -> list[tuple[str, ...]]:
    dropped = {"selector", "all-pods", "max-log-requests", "namespace", "all-containers"}
    flags = [flag for flag in head.flags if flag.name not in dropped]
    flags.append(Flag("namespace", (pod.namespace or "",)))
    if spec.selector and head.flag("tail") is None:
        flags.append(Flag("tail", (DEFAULT_TAIL_BY_SELECTOR,)))
    operands = (Operand(pod.name),)
    if not spec.all_containers:
        return [replace(head, flags=tuple(flags), operands=operands, dash=None).argv()]
    return [
        replace(head, flags=(*flags, Flag("container", (name,))), operands=operands, dash=None).argv()
        for name in await case.members.containers(pod.body)
    ]
