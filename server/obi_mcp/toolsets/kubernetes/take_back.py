"""Taking back what was written: each object to exactly what it was, unless somebody else has changed it since.

What is done follows from what stands in the cluster, not from which command failed: a write whose answer was lost is
looked up, and one that arrives late is found when everything is looked at once more.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from obi_mcp.enforcer.model import Answer
from obi_mcp.errors import CallTimeout, ClusterUnreachable, Conflict, NotFound, ObiMcpError, ProgramFailed
from obi_mcp.obi.bodies import Object
from obi_mcp.policy.pins import MAX_PATCH, merge_patch
from obi_mcp.toolsets.base import Services
from obi_mcp.toolsets.kubernetes.objects import (
    REDACTED,
    WORKLOADS,
    Target,
    applied_last,
    as_document,
    as_planned,
    covers,
    holds_a_secret,
    is_going,
    list_of,
    look_up,
    same,
    same_note,
    same_object,
    settable,
)
from obi_mcp.toolsets.kubernetes.place import Place
from obi_mcp.toolsets.kubernetes.plan import Step, Undo

_T = TypeVar("_T")
State = Literal["as before", "as planned", "changed by somebody else", "unknown"]

RETURN_S = 30.0
"""How long an API server that does not answer is waited for before what is left is told."""
ROUNDS = 4
_PATCHED = frozenset(
    {"ConfigMap", "DaemonSet", "Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service", "ServiceAccount"}
    | {"ServiceMonitor", "PodMonitor", "HorizontalPodAutoscaler"}
)
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 2.0
# How Go says that a request had no answer: Post "https://…": EOF.
_NO_ANSWER = re.compile(r"\b(?:Get|Post|Put|Patch|Delete) \"\S+\": ")
_PASSES = ("(TooManyRequests)", "(ServiceUnavailable)", "(ServerTimeout)", "(Timeout)", "etcdserver:", "(Conflict)")


@dataclass(slots=True)
class Piece:
    """One object that a plan writes.

    ``ours``: states in which it was seen right after a write of ours. ``said``: kubectl said that it had written it.
    """

    target: Target
    before: Object | None
    after: Object | None
    ours: list[Object | None] = field(default_factory=list)
    state: State = "unknown"
    said: bool = False

    @property
    def told(self) -> str:
        """The state as a caller is told it."""
        return "written" if self.state == "unknown" and (self.said or self.ours) else self.state

    def is_ours(self, live: Object | None) -> bool:
        """Whether this is what we have made of it, so that taking it back takes nothing of anybody else's."""
        if live is None:
            return self.before is not None and self.after is None
        if any(known is not None and same_object(known, live) and same(known, live) for known in self.ours):
            return True
        return self.after is not None and as_planned(live, self.before, self.after)

    def see(self, live: Object | None) -> None:
        """Notes which state this is."""
        if same(live, self.before):
            self.state = "as before"
        else:
            self.state = "as planned" if self.is_ours(live) else "changed by somebody else"


@dataclass(slots=True)
class TakingBack:
    """What is to be taken back. Can be gone on with at any time: it begins with looking.

    ``steps``: those into somebody else's objects, newest first; their ``undo`` is run first, where they have written.
    ``taken_back`` and ``left`` are command lines; the second finish by hand what could not be done.
    """

    services: Services
    place: Place
    pieces: list[Piece]
    steps: list[Step] = field(default_factory=list)
    taken_back: list[str] = field(default_factory=list)
    _left: dict[Undo | Target, str] = field(default_factory=dict)

    @property
    def left(self) -> tuple[str, ...]:
        return tuple(self._left.values())

    @property
    def complete(self) -> bool:
        """Whether everything is as it was, and by us."""
        return not self._left and all(piece.state == "as before" for piece in self.pieces)

    async def go(self, *, patience_s: float = RETURN_S) -> None:
        """Takes back what can be, and tells the rest. Waits so long for an API server that does not answer."""
        self._left = {}
        deadline = time.monotonic() + patience_s
        try:
            for step in list(self.steps):
                await self._undo_step(step, deadline)
            for _ in range(2):  # a write whose answer was lost may arrive after everything was looked at
                if not await self._pass(deadline):
                    break
        except (ClusterUnreachable, CallTimeout) as error:
            for piece in self._order():
                if piece.state != "as before":
                    self._by_hand(piece, error.message)
            for step in self.steps:
                for undo in step.undo or (Undo(f"# {shown(step.command)} may have been done"),):
                    self._left[undo] = f"{undo.command}  # {error.message[:200]}"

    async def _pass(self, deadline: float) -> bool:
        """One look at everything, and what follows from it. Gives whether anything was written."""
        for piece in self.pieces:
            self._left.pop(piece.target, None)
            piece.see(await self._look(piece.target, deadline))
        if any(p.state == "changed by somebody else" and p.target.kind in WORKLOADS for p in self.pieces):
            return self._leave_to_others()
        before = len(self.taken_back)
        for piece in self._order():
            if piece.state == "as planned":
                await self._restore(piece, deadline)
        return len(self.taken_back) > before

    def _leave_to_others(self) -> bool:
        """Somebody else works with the workload now, and needs what it leans on."""
        for piece in self._order():
            if piece.state == "as planned":
                self._by_hand(piece, "the workload was changed by somebody else and may need it")
        return False

    def _order(self) -> list[Piece]:
        """What is put back, the workloads last, so that their pods find it; then what is removed."""
        again = [piece for piece in reversed(self.pieces) if piece.before is not None]
        again.sort(key=lambda piece: piece.target.kind in WORKLOADS)
        return again + [piece for piece in reversed(self.pieces) if piece.before is None]

    async def _restore(self, piece: Piece, deadline: float) -> None:
        sent: Object | None = None
        problem = "it did not become what it was"
        for number in range(ROUNDS):
            live = await self._look(piece.target, deadline)
            if sent is not None and live is not None and covers(live, sent):
                piece.ours.append(live)
            piece.see(live)
            if piece.state != "as planned":
                return
            undo = undo_of(piece, live, applied=sent is not None)
            if undo is None and sent is not None:
                break
            if undo is None:
                problem = "it holds a credential, which this server neither shows nor writes"
                break
            if undo.stdin is not None:
                sent = json.loads(undo.stdin)["items"][0]
            try:
                await self._write(piece, undo, deadline)
            except NotFound:
                continue
            except ObiMcpError as error:
                problem = error.message
                if not passes(error):
                    break
                await pause(number, deadline)
        if piece.state != "as before":
            piece.see(await self._look(piece.target, deadline))
        if piece.state == "as planned":
            self._by_hand(piece, problem)

    async def _write(self, piece: Piece, undo: Undo, deadline: float) -> None:
        if piece.target.kind == "Namespace":
            await self._unmake(piece.target.name, undo, deadline)
        else:
            await run(self.services, self.place, undo.command, undo.stdin)
            piece.ours.append(await look_up(self.services, self.place, piece.target))
        self.taken_back.append(_shown_undo(piece, undo))

    async def _unmake(self, namespace: str, undo: Undo, deadline: float) -> None:
        """Removes a Namespace that this plan made when what stood in it has gone, which takes its pods a while."""
        number = 0
        while not await self.services.enforcer.remove_namespaces(self.place.call(undo.command, stdin=undo.stdin)):
            stays = any(piece.target.namespace == namespace and piece.state != "as before" for piece in self.pieces)
            if stays or time.monotonic() > deadline:
                raise ProgramFailed(f"the namespace {namespace} is not empty")
            await pause(number, deadline)
            number += 1

    async def _undo_step(self, step: Step, deadline: float) -> None:
        """Only where the step has written once, and nobody after it: what undoes it goes back by one change."""
        for target, generation in step.generations.items():
            live = await self._look(target, deadline)
            now = int(live["metadata"].get("generation", 0)) if live is not None else 0
            if now == generation:
                self.steps.remove(step)
                return
            if now != generation + 1:
                self._left[target] = f"# {target} was changed by somebody else: look at it"
                return
        if not step.undo:
            said = f"{step.by_hand}  #" if step.by_hand else "#"
            self._left |= {
                target: f"{said} {target}: {shown(step.command)} is not taken back" for target in step.targets
            }
            return
        for undo in step.undo:
            try:
                await run(self.services, self.place, undo.command, undo.stdin)
            except NotFound:
                continue  # it was not made after all
            except ObiMcpError as error:
                self._left[undo] = f"{undo.command}  # {error.message[:200]}"
                return
            self.taken_back.append(undo.command)
        self.steps.remove(step)

    async def _look(self, target: Target, deadline: float) -> Object | None:
        live = await patiently(lambda: look_up(self.services, self.place, target), deadline)
        going = live is not None and target.kind == "Namespace" and is_going(live)
        return None if going else live

    def _by_hand(self, piece: Piece, why: str) -> None:
        live = next((body for body in reversed(piece.ours) if body is not None), piece.after)
        undo = undo_of(piece, live, applied=False)
        command = _shown_undo(piece, undo) if undo else f"# {piece.target} cannot be put back"
        self._left[piece.target] = f"{command}  # {why[:200]}"


def undo_of(piece: Piece, live: Object | None, *, applied: bool) -> Undo | None:
    """The next command line on the way from ``live`` back to what was; None where what was cannot be written.

    ``applied``: what was applied last has just been applied again, so that only what others had added is missing.
    """
    before, target = piece.before, piece.target
    if before is None:
        if target.kind == "Namespace":
            return Undo("kubectl apply -f -", list_of([piece.after])) if piece.after is not None else None
        return Undo(f"kubectl delete {target.words}")
    if live is not None and target.kind in _PATCHED and same_note(live, before):
        patch = json.dumps(merge_patch(settable(live), settable(before))).replace("'", "\\u0027")
        if len(patch) < MAX_PATCH // 2 and REDACTED not in patch:
            return Undo(f"kubectl patch {target.words} --type merge -p '{patch}'")
    if holds_a_secret(before):
        return None
    noted = applied_last(before)
    if noted is not None:
        return None if applied else Undo("kubectl apply -f -", list_of([noted]))
    document = as_document(before)
    if live is not None and target.kind not in WORKLOADS:  # whose status gives them another version at any time
        document["metadata"]["resourceVersion"] = live["metadata"].get("resourceVersion")
    return Undo(f"kubectl {'replace' if live is not None else 'create'} -f -", list_of([document]))


def _shown_undo(piece: Piece, undo: Undo) -> str:
    if piece.target.kind == "Namespace":
        return f"kubectl delete namespace {piece.target.name}"
    return undo.command if undo.stdin is None else f"{undo.command}  # with {piece.target} as it was"


# --- what carrying out and taking back share ---


async def run(services: Services, place: Place, command: str, stdin: str | None = None) -> Answer:
    """Runs one command line of a plan. Raises: ProgramFailed for an exit code, ClusterUnreachable where one of several
    requests had no answer, both with what was printed; and what the road raises."""
    answer = await services.enforcer.run(place.call(command, stdin=stdin))
    if answer.exit_code:
        said = (answer.stderr or answer.stdout).strip()[:600]
        kind = ClusterUnreachable if _NO_ANSWER.search(said) else ProgramFailed
        error = kind(f"{shown(command)} failed: {said}")
        error.stdout = answer.stdout
        raise error
    return answer


def shown(command: str) -> str:
    """A command line as it fits into a sentence."""
    return command if len(command) <= 120 else f"{command[:117]}…"


def passes(error: ObiMcpError) -> bool:
    """Whether trying again may help. What was written says nothing about that: look first."""
    if isinstance(error, ProgramFailed):
        return any(word in error.message for word in _PASSES)
    return isinstance(error, ClusterUnreachable | Conflict)


async def pause(number: int, deadline: float) -> None:
    """Longer each time, and not beyond the deadline."""
    wanted_s = min(_FIRST_PAUSE_S * 2**number, _LONGEST_PAUSE_S)
    await asyncio.sleep(max(0.0, min(wanted_s, deadline - time.monotonic())))


async def patiently(look: Callable[[], Awaitable[_T]], deadline: float) -> _T:
    """Looks until there is an answer. Raises: ClusterUnreachable, CallTimeout when the deadline has passed."""
    number = 0
    while True:
        try:
            return await look()
        except (ClusterUnreachable, CallTimeout):
            if time.monotonic() >= deadline:
                raise
        await pause(number, deadline)
        number += 1
