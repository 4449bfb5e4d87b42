"""Proofs of membership: named objects, everything a selector matches, pod by pod, and lists with others dropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from obi_mcp.command.model import Command, Flag, Operand
from obi_mcp.enforcer.afterwards import nothing_else_was_shown, same_objects
from obi_mcp.enforcer.case import Case, Proved, absent, failed, passed
from obi_mcp.enforcer.held import Checked, write_held
from obi_mcp.enforcer.members import Found, uids
from obi_mcp.policy.held import DELETE, ROLLOUTS, Held
from obi_mcp.policy.model import Access, Check, MembersSpec

DEFAULT_TAIL_BY_SELECTOR = "10"
"""What kubectl logs takes per pod when a selector is given and no --tail."""

_TOLD = frozenset({("describe",), ("logs",)})
"""Reads that tell everything of an object, as text."""


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
    all_found: list[Found] = []
    for found in await case.members.named(spec, write=write):
        if found is None or not found.ours:
            return Proved(absent(check))
        if refused := await _refuse_foreign_log(case, check, spec, found):
            return refused
        if spec.reappears and not await case.members.comes_back(found.body):
            raised = Access.FULL
        all_found.append(found)
    reason = "no controller makes the pod again, so it would be gone for good" if raised else ""
    return _for_these(case, spec, Proved(passed(check, reason, raised)), all_found)


def _for_these(case: Case, spec: MembersSpec, proved: Proved, found: Sequence[Found]) -> Proved:
    """What only names its objects: JSON of these alone, and writes of these in this state."""
    head = case.head
    if case.decision.access is Access.READ_ONLY and head.path == ("get",) and _is_listed(head, spec):
        return replace(proved, members=uids(found))
    if head.path in _TOLD:
        return replace(proved, afterwards=lambda: nothing_else_was_shown(case, spec.resource, found))
    if case.decision.access is Access.READ_ONLY or head.flag("dry-run"):
        return proved
    if head.path == DELETE or head.path in ROLLOUTS:
        targets = [Checked(Held(spec.resource, entry.namespace, entry.name), entry.body) for entry in found]
        return replace(proved, perform=lambda _: write_held(case, targets))
    return replace(proved, afterwards=lambda: same_objects(case, spec.resource, found))


def _is_listed(head: Command, spec: MembersSpec) -> bool:
    """Whether the looked-up objects themselves are printed, and not events about them."""
    kinds = {kind for operand in head.operands for kind in operand.text.partition("/")[0].split(",")}
    return spec.resource.argument in kinds


async def _refuse_foreign_log(case: Case, check: Check, spec: MembersSpec, pod: Found) -> Proved | None:
    """``logs POD`` reads containers, and not everyone in OBI's pod has to be OBI's."""
    head = case.decision.pipeline.head if case.decision.pipeline else None
    if head is None or head.path != ("logs",):
        return None
    if not spec.all_containers:
        read, _ = await case.members.read_container(pod, spec.container)
        return None if read.ours else Proved(absent(check))
    foreign = await case.members.foreign_containers(pod.body)
    if not foreign:
        return None
    return Proved(
        failed(check, f"{', '.join(foreign)} of the pod {pod.name} run no image of OBI's", "name the container with -c")
    )


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
    return _for_these(case, spec, Proved(passed(check, f"{len(found)} {spec.resource.plural} looked up")), found)


async def _each(case: Case, check: Check, spec: MembersSpec) -> Proved:
    """Resolve to pods, and run once for each that is OBI's; a foreign pod neither leaks nor blocks."""
    head = case.decision.pipeline.head if case.decision.pipeline else None
    if head is None:  # INVARIANT: a decision with checks has a pipeline
        return Proved(failed(check, "there is nothing to run"))
    found = await _pods(case, spec)
    if found is None:
        return Proved(absent(check))
    read: list[tuple[Found, str | None]] = [(pod, None) for pod in found]
    if not spec.all_containers:
        read = [await case.members.read_container(pod, spec.container) for pod in found]
    notes: tuple[str, ...] = ()
    if spec.names and read and head.value("all-pods", "false") != "true":
        # kubectl takes one pod of a workload unless it is told --all-pods.
        one = next((entry for entry in read if entry[0].ours), read[0])
        if one[0].ours and len(read) > 1:
            notes = (f"one of {len(read)} pods: {one[0].name}; add --all-pods --prefix for all of them",)
        read = [one]
    ours = [entry for entry in read if entry[0].ours]
    if not ours:
        return Proved(absent(check), skipped=len(read))
    heads = tuple([vector for pod, name in ours for vector in await _heads_of(case, head, pod, spec, name)])
    result, pods = passed(check, f"{len(ours)} pods looked up"), [pod for pod, _ in ours]
    proved = Proved(result, heads=heads, skipped=len(read) - len(ours), notes=notes)
    return replace(proved, afterwards=lambda: nothing_else_was_shown(case, case.members.pods(), pods))


async def _pods(case: Case, spec: MembersSpec) -> list[Found] | None:
    """The pods that a selector finds or that the named workloads own; None where a workload is not OBI's."""
    if not spec.names:
        return list(await case.members.selected(spec))
    found: list[Found] = []
    for owner in await case.members.named(spec):
        if owner is None or not owner.ours:
            return None
        found.extend(await case.members.pods_of(owner.body, spec.namespace))
    return found


async def _heads_of(
    case: Case, head: Command, pod: Found, spec: MembersSpec, container: str | None
) -> list[tuple[str, ...]]:
    dropped = {"selector", "all-pods", "max-log-requests", "namespace", "all-containers"}
    flags = [flag for flag in head.flags if flag.name not in dropped]
    flags.append(Flag("namespace", (pod.namespace or "",)))
    if spec.selector and head.flag("tail") is None:
        flags.append(Flag("tail", (DEFAULT_TAIL_BY_SELECTOR,)))
    operands = (Operand(pod.name),)
    if not spec.all_containers:
        if container is not None and head.flag("container") is None:
            flags.append(Flag("container", (container,)))  # the one that was looked at, whatever becomes the default
        return [replace(head, flags=tuple(flags), operands=operands, dash=None).argv()]
    return [
        replace(head, flags=(*flags, Flag("container", (name,))), operands=operands, dash=None).argv()
        for name in await case.members.containers(pod.body)
    ]
