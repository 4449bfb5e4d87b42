"""The server's own reads for its tools: what ``kubectl get … -o json`` or ``kubectl logs …`` would print, by the warm
channel.

A tool builds the command line that a caller could have typed; it is decided, proved, projected and redacted like any
other, and only its bytes come from the channel instead of from a program of 80 ms.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote, urlencode

from obi_mcp.command.model import Command
from obi_mcp.enforcer.case import Case, Proved, absent, passed
from obi_mcp.enforcer.members import Found, uids
from obi_mcp.errors import InvalidArgument, ObiMcpError, ProgramFailed
from obi_mcp.policy.model import Access, Check, Decision, MembersSpec, Output, Resource
from obi_mcp.policy.projection import PROJECTIONS
from obi_mcp.redact import Redactor, strip_controls

MAX_LOGS_IN_FLIGHT = 16
# What the kubelet writes in a log's place, with status 200, when the container has been removed meanwhile.
_NO_LOG = "unable to retrieve container logs for "
MAX_LOGS_FOLLOWED = 50
"""Each holds a connection of its own for as long as it is followed."""
POD_S = 10.0
"""How long one pod may be silent: it costs its own time and nobody else's."""
MAX_LOG_BYTES = 262_144
"""The most that is kept of one pod's log."""


class LogSource(Protocol):
    """What the warm channel offers for logs."""

    def stream(self, path: str, *, timeout_s: float = ..., accept: str = ...) -> Any: ...

    def watch(self, path: str, *, quiet_s: float) -> Any: ...


@dataclass(frozen=True, slots=True)
class Reading:
    """Objects as JSON data: OBI's, projected and redacted. ``skipped``: others that were left out."""

    objects: tuple[Mapping[str, Any], ...]
    decision: Decision
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class PodLog:
    """The log of one container of one pod; ``problem`` says why there is none, and is None where there is."""

    pod: str
    namespace: str
    container: str
    node: str
    text: str = ""
    cut: bool = False
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class ProvedLogs:
    """A command for logs and what it asks for. ``pods``: those that are OBI's, each with the container that is read;
    ``skipped``: how many are not."""

    head: Command
    spec: MembersSpec
    pods: Sequence[tuple[Found, str]]
    skipped: int


@dataclass(frozen=True, slots=True)
class LogReading:
    """The logs of the pods that are OBI's, in the order of their names; empty where they were handed over one by one,
    as they came. ``pods``: how many there are."""

    logs: tuple[PodLog, ...]
    decision: Decision
    skipped: int = 0
    pods: int = 0


TakeLog = Callable[[PodLog], None]
"""Gets each pod's log as soon as it is there, so that no more than a few are in memory."""
Approve = Callable[[Case, Sequence[Proved]], object]
"""Asks the policy whether what was proved may run. Raises: Denied, NotFound."""


async def read_objects(case: Case, approve: Approve, redactor: Redactor) -> Reading:
    """The objects of a decided ``kubectl get … -o json``.

    Raises: Denied, NotFound, ClusterUnreachable, ProgramFailed.
    """
    head = readable(case, ("get",))
    resource, names = _target(case, head)
    checks = [(check, check.spec) for check in case.decision.checks if isinstance(check.spec, MembersSpec)]
    if len(checks) != len(case.decision.checks):
        raise ProgramFailed("this read has a check that is not about members", "run it with obi_kubectl")
    own = next(((check, spec) for check, spec in checks if spec.resource == resource), None)
    if own is None:
        # A fact (a node, a namespace), or events of an object that is proved first.
        proofs = [await _proved_by_name(case, check, spec) for check, spec in checks]
        approve(case, proofs)
        return Reading(_shown(await _fetched(case, head, resource, names), case, redactor), case.decision)
    check, spec = own
    found = await (case.members.named(spec) if spec.mode == "named" else case.members.selected(spec))
    ours = [entry for entry in found if entry is not None and entry.ours]
    if spec.mode == "named" and len(ours) < len(found):
        approve(case, [Proved(absent(check))])  # INVARIANT: raises
        return Reading((), case.decision)
    approve(case, [Proved(passed(check), members=uids(ours), skipped=len(found) - len(ours))])
    return Reading(_shown([entry.body for entry in ours], case, redactor), case.decision, len(found) - len(ours))


async def listed(case: Case, approve: Approve) -> tuple[list[Found], int]:
    """The pods of a decided ``kubectl get pods … -o json`` as they are, and how many were left out. INVARIANT: for the
    road's own use; nothing of them is redacted.

    Raises: Denied, NotFound, ClusterUnreachable, ProgramFailed.
    """
    head = readable(case, ("get",))
    resource, names = _target(case, head)
    check = next(iter(case.decision.checks), None)
    spec = check.spec if check is not None else None
    if resource.kind != "Pod" or names or check is None or not isinstance(spec, MembersSpec):
        raise ProgramFailed("only a list of pods is asked pod by pod")
    found = await case.members.selected(spec)
    ours = [entry for entry in found if entry.ours]
    approve(case, [Proved(passed(check), members=uids(ours), skipped=len(found) - len(ours))])
    return ours, len(found) - len(ours)


async def read_logs(
    case: Case,
    approve: Approve,
    redactor: Redactor,
    source: LogSource,
    *,
    timeout_s: float,
    take: TakeLog | None = None,
    follow_s: float = 0.0,
) -> LogReading:
    """The logs of a decided ``kubectl logs -l …`` or ``kubectl logs POD``, pod by pod; one that cannot be read is a
    ``problem`` of its own. ``follow_s``: for so long, what is printed meanwhile comes too.

    Raises: Denied, NotFound, ClusterUnreachable, ProgramFailed.
    """
    proved = await proved_logs(case, approve)
    ours = proved.pods
    if follow_s and len(ours) > MAX_LOGS_FOLLOWED:
        raise InvalidArgument(
            f"{len(ours)} pods are too many to follow at once, {MAX_LOGS_FOLLOWED} are the most",
            "name a namespace or a pod, or read what is there: without follow_s",
        )
    query = _log_query(proved.head, by_selector=bool(proved.spec.selector)) + ("&follow=true" if follow_s else "")
    gate = asyncio.Semaphore(MAX_LOGS_FOLLOWED if follow_s else MAX_LOGS_IN_FLIGHT)
    kept: list[PodLog] = []
    hand_over = take or kept.append
    pod_s, clock = min(POD_S, timeout_s), asyncio.get_running_loop().time
    until = clock() + max(timeout_s - 2 * pod_s, timeout_s / 2)

    async def one(pod: Found, container: str) -> None:
        async with gate:
            if len(ours) > 1 and not follow_s and clock() > until:
                problem = f"it was not asked: the others took all of the {timeout_s:g} s"
                hand_over(PodLog(pod.name, pod.namespace or "", container, node_of(pod), problem=problem))
                return
            hand_over(await _log(source, pod, container, query, redactor, timeout_s=pod_s, follow_s=follow_s))

    await asyncio.gather(*(one(pod, name) for pod, name in ours))
    logs = tuple(sorted(kept, key=lambda log: (log.namespace, log.pod)))
    return LogReading(logs, case.decision, proved.skipped, len(ours))


async def proved_logs(case: Case, approve: Approve) -> ProvedLogs:
    """Whose logs a decided ``kubectl logs …`` may read. Raises: Denied, NotFound, ClusterUnreachable, ProgramFailed."""
    head = readable(case, ("logs",))
    check = next(iter(case.decision.checks), None)
    if check is None or not isinstance(check.spec, MembersSpec):
        raise ProgramFailed("these logs have no check of whose they are")
    spec = check.spec
    found = [entry for entry in await _pods(case, spec) if entry is not None]
    read = [(pod, *await _container(case, spec, pod)) for pod in found]
    ours = [(pod, name) for pod, proved, name in read if proved.ours and name is not None]
    result = passed(check) if ours else absent(check)
    approve(case, [Proved(result, members=uids(pod for pod, _ in ours), skipped=len(found) - len(ours))])
    return ProvedLogs(head, spec, ours, len(found) - len(ours))


def log_path(pod: Found, container: str, query: str) -> str:
    """The API path of one container's log."""
    namespace, name = quote(pod.namespace or ""), quote(pod.name)
    return f"/api/v1/namespaces/{namespace}/pods/{name}/log?container={quote(container)}&{query}"


def readable(case: Case, path: tuple[str, ...]) -> Command:
    """INVARIANT: only reads, and only of these commands without a pipe, come by the channel."""
    head = case.head
    pipeline = case.decision.pipeline
    if case.decision.access is not Access.READ_ONLY or head.program != "kubectl" or head.path != path:
        raise ProgramFailed(f"{head.program} {' '.join(head.path)} is not read by the channel")
    if pipeline is None or pipeline.filters or (path == ("get",) and case.decision.output.head != "json"):
        raise ProgramFailed("only a plain -o json is read by the channel")
    return head


def _target(case: Case, head: Command) -> tuple[Resource, tuple[str, ...]]:
    words = [operand.text for operand in head.operands]
    entry = case.resources.find(words[0]) if words else None
    if entry is None:
        raise ProgramFailed("this read names no single kind", "run it with obi_kubectl")
    return entry.resource, tuple(words[1:])


async def _proved_by_name(case: Case, check: Check, spec: MembersSpec) -> Proved:
    found = await case.members.named(spec)
    ours = all(entry is not None and entry.ours for entry in found)
    return Proved(passed(check) if ours else absent(check))


async def _fetched(
    case: Case, head: Command, resource: Resource, names: tuple[str, ...]
) -> Sequence[Mapping[str, Any]]:
    namespace = None if head.value("all-namespaces", "false") == "true" else head.value("namespace") or None
    if not names:
        return await case.cluster.list(
            resource, namespace, head.value("selector") or "", head.value("field-selector") or ""
        )
    bodies = [await case.cluster.get(resource, namespace, name) for name in names]
    return [body for body in bodies if body is not None]


def _shown(bodies: Sequence[Mapping[str, Any]], case: Case, redactor: Redactor) -> tuple[Mapping[str, Any], ...]:
    output: Output = case.decision.output
    project = PROJECTIONS[output.project] if output.project else _without_managed_fields
    return tuple(redactor.value(project(body)) for body in bodies)


def _without_managed_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    """As kubectl prints objects: nearly half of a pod says which client wrote which field."""
    metadata = body.get("metadata")
    if not isinstance(metadata, dict) or "managedFields" not in metadata:
        return dict(body)
    return {**body, "metadata": {name: value for name, value in metadata.items() if name != "managedFields"}}


async def _pods(case: Case, spec: MembersSpec) -> Sequence[Found | None]:
    if not spec.names:
        return await case.members.selected(spec)
    if spec.resource.kind == "Pod":
        return await case.members.named(spec)
    owners = [owner for owner in await case.members.named(spec) if owner is not None and owner.ours]
    return [pod for owner in owners for pod in await case.members.pods_of(owner.body, spec.namespace)]


async def _container(case: Case, spec: MembersSpec, pod: Found) -> tuple[Found, str | None]:
    """The container that is read, and the pod with whether that container is OBI's."""
    if spec.all_containers:
        names = await case.members.containers(pod.body)
        return pod, names[0] if names else None
    return await case.members.read_container(pod, spec.container)


def _log_query(head: Command, *, by_selector: bool) -> str:
    """The API's words for kubectl's flags."""
    query = {"tailLines": head.value("tail") or ("10" if by_selector else ""), "previous": head.value("previous")}
    since = head.value("since")
    if since:
        query["sinceSeconds"] = str(max(1, round(seconds(since))))
    query["timestamps"] = head.value("timestamps")
    query["limitBytes"] = str(MAX_LOG_BYTES)
    if query["tailLines"] == "-1":
        query["tailLines"] = ""
    return urlencode({name: value for name, value in query.items() if value})


def seconds(duration: str) -> float:
    """A Go duration that the parser has let through: ``1h30m``."""
    units = {"ms": 0.001, "us": 1e-6, "µs": 1e-6, "ns": 1e-9, "h": 3600.0, "m": 60.0, "s": 1.0}
    total, number = 0.0, ""
    rest = duration
    while rest:
        if rest[0].isdigit() or rest[0] in ".+-":
            number, rest = number + rest[0], rest[1:]
            continue
        unit = next(name for name in units if rest.startswith(name))
        total, number, rest = total + float(number) * units[unit], "", rest[len(unit) :]
    return total


async def _log(
    source: LogSource,
    pod: Found,
    container: str,
    query: str,
    redactor: Redactor,
    *,
    timeout_s: float,
    follow_s: float,
) -> PodLog:
    namespace, node = pod.namespace or "", node_of(pod)
    kept = bytearray()
    try:
        await _fill(kept, source, log_path(pod, container, query), timeout_s=timeout_s, follow_s=follow_s)
    except ObiMcpError as error:
        problem = redactor.plain(error.message)
        return PodLog(pod.name, namespace, container, node, problem=problem)
    text = strip_controls(redactor.data(bytes(kept)).decode("utf-8", "replace"))[0]
    if text.startswith(_NO_LOG):
        return PodLog(pod.name, namespace, container, node, problem=f"the kubelet no longer has it: {text.strip()}")
    return PodLog(pod.name, namespace, container, node, text, cut=len(kept) >= MAX_LOG_BYTES)


def node_of(pod: Found) -> str:
    """The node that the pod is on; empty while it is on none."""
    return str((pod.body.get("spec") or {}).get("nodeName", ""))


async def _fill(kept: bytearray, source: LogSource, path: str, *, timeout_s: float, follow_s: float) -> None:
    """Reads to the end, or for ``follow_s``: then what came until then is the log. Raises: as the source."""
    if not follow_s:
        async for piece in source.stream(path, timeout_s=timeout_s):
            kept += piece
        return
    try:
        async with asyncio.timeout(follow_s), aclosing(source.watch(path, quiet_s=follow_s + timeout_s)) as pieces:
            async for piece in pieces:
                kept += piece
    except TimeoutError:
        del kept[kept.rfind(b"\n") + 1 :]  # the last line may not have ended
