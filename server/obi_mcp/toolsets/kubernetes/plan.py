"""Plans: what would change, bound to its exact content and to the state of the cluster that it was made from.

A plan is a list of command lines with the objects that they write, as they are and as they will be. Making a plan runs
their server-side dry runs; carrying it out runs them, waits for the rollout, and on failure puts the objects back.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from obi_mcp.errors import Denied, InvalidArgument, ObiMcpError, ProgramFailed
from obi_mcp.obi.bodies import Object
from obi_mcp.policy.yaml_writer import to_yaml
from obi_mcp.toolsets.base import Services
from obi_mcp.toolsets.kubernetes.objects import Target, look_up, normalized, restarted, state_of
from obi_mcp.toolsets.kubernetes.place import Place

if TYPE_CHECKING:
    from obi_mcp.toolsets.kubernetes.take_back import TakingBack

Action = Literal["create", "change", "delete", "restart", "same"]

MAX_PLANS = 32
KEPT_S = 1_800.0
MAX_DIFF = 4_000
_SOME_TIME = "when the plan is carried out"


@dataclass(frozen=True, slots=True)
class Undo:
    """A command line that takes a write back, or a part of it."""

    command: str
    stdin: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One write: the command line with its document, and what it writes.

    ``dry`` False: the command has no dry run (``rollout restart``), or what it goes into does not exist yet.
    ``generations``: of targets that are somebody else's (a sidecar's Deployment), before. Not all of them is seen, so
    they are not put back as objects: ``undo`` takes back what the step did, where it did it and nobody else after it.
    ``by_hand``: the command line of whoever may take it back, where this server cannot.
    """

    command: str
    targets: tuple[Target, ...]
    stdin: str | None = None
    undo: tuple[Undo, ...] = ()
    dry: bool = True
    generations: Mapping[Target, int] = field(default_factory=dict, hash=False)
    by_hand: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one object."""

    target: Target
    action: Action
    diff: str = ""

    def as_json(self) -> dict[str, str]:
        row = {"object": str(self.target), "action": self.action}
        return {**row, "diff": self.diff} if self.diff else row


@dataclass(frozen=True, slots=True)
class Plan:
    """``id`` follows from everything that it holds. ``watched``: the workload whose rollout is waited for.

    ``befores`` and ``afters``: each object as it is and as it will be, None where there is none; as the dry run gave
    it, or as it will be sent.
    """

    id: str
    tool: str
    place: Place
    steps: tuple[Step, ...]
    state: Mapping[Target, str]
    changes: tuple[Change, ...]
    warnings: tuple[str, ...] = ()
    watched: Target | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    """What else the answer says of it."""
    befores: Mapping[Target, Object | None] = field(default_factory=dict, compare=False)
    afters: Mapping[Target, Object | None] = field(default_factory=dict, compare=False)
    made: float = field(default_factory=time.monotonic, compare=False)


@dataclass(frozen=True, slots=True)
class Recovery:
    """A taking back that could not be finished, and goes on when its id is given as ``plan_id``.

    ``done`` and ``error``: what the plan had done, and why it failed.
    """

    id: str
    tool: str
    place: Place
    taking: TakingBack
    done: tuple[str, ...]
    error: ObiMcpError
    made: float = field(default_factory=time.monotonic, compare=False)


class Plans:
    """The plans of one server: few, and for half an hour."""

    def __init__(self) -> None:
        self._plans: OrderedDict[str, Plan | Recovery] = OrderedDict()

    def keep(self, plan: Plan | Recovery) -> None:
        """The newest of the same content counts."""
        self._plans[plan.id] = plan
        self._plans.move_to_end(plan.id)
        while len(self._plans) > MAX_PLANS:
            self._plans.popitem(last=False)

    def look(self, plan_id: str, tool: str) -> Plan | Recovery:
        """The plan of that id. Raises: InvalidArgument where there is none, it is old, or another tool's."""
        plan = self._plans.get(plan_id)
        if plan is None or time.monotonic() - plan.made > KEPT_S:
            self._plans.pop(plan_id, None)
            raise InvalidArgument(
                f"there is no plan {plan_id[:40]!r}", f"call {tool} without plan_id for a new one; each is good once"
            )
        if plan.tool != tool:
            raise InvalidArgument(f"the plan {plan_id} was made by {plan.tool}", f"give it to {plan.tool}")
        return plan

    def take(self, plan_id: str, tool: str) -> Plan | Recovery:
        """The plan of that id, once. Raises: as ``look``."""
        plan = self.look(plan_id, tool)
        del self._plans[plan_id]
        return plan


async def make_plan(
    services: Services,
    place: Place,
    steps: Sequence[Step],
    *,
    warnings: Sequence[str] = (),
    watched: Target | None = None,
) -> Plan:
    """Reads what stands there, and asks the API server what each step would make of it.

    Raises: Denied and whatever else the dry runs raise; nothing is written.
    """
    for step in steps:
        await judged(services, place, step.command, step.stdin)
    targets = list(dict.fromkeys(target for step in steps for target in step.targets))
    befores = {target: await look_up(services, place, target) for target in targets}
    afters = dict(befores)
    restarts: set[Target] = set()
    for step in steps:
        if step.command.startswith("kubectl delete"):
            afters |= dict.fromkeys(step.targets)
        elif step.dry:
            for body in await dry_run(services, place, step):
                afters[Target.of(body)] = body
        elif step.stdin is not None:
            afters |= {Target.of(body): body for body in json.loads(step.stdin)["items"]}
        else:
            afters |= {target: _restarted(befores.get(target)) for target in step.targets}
            restarts |= set(step.targets)
    changes = tuple(
        change_of(target, befores.get(target), afters.get(target), restarts=target in restarts) for target in targets
    )
    state = {target: state_of(body) for target, body in befores.items()}
    return Plan(
        _digest(place, steps, state),
        place.tool,
        place,
        tuple(steps),
        state,
        changes,
        tuple(warnings),
        watched,
        befores=befores,
        afters=afters,
    )


def _digest(place: Place, steps: Sequence[Step], state: Mapping[Target, str]) -> str:
    """What the plan is called: the same for the same commands in the same context, over the same state."""
    commands = [[step.command, step.stdin, [[undo.command, undo.stdin] for undo in step.undo]] for step in steps]
    seen = [[str(target), was] for target, was in state.items()]
    return hashlib.sha256(json.dumps([place.context, commands, seen]).encode()).hexdigest()[:20]


def _restarted(before: Object | None) -> Object | None:
    return restarted(before, _SOME_TIME) if before is not None else None


async def judged(services: Services, place: Place, command: str, stdin: str | None = None) -> None:
    """What the text of a command decides is decided before there is a plan: not every one has a dry run.

    Raises: Denied.
    """
    decision = await asyncio.to_thread(services.enforcer.explain, place.call(command, stdin=stdin))
    if not decision.allowed:
        raise Denied(decision)


async def dry_run(services: Services, place: Place, step: Step) -> Sequence[Object]:
    """What the API server would make of the step's objects. Raises: Denied, ProgramFailed, and what the road raises."""
    limit = services.settings.limits.max_max_bytes
    call = place.call(f"{step.command} --dry-run=server -o json", stdin=step.stdin, max_bytes=limit)
    answer = await services.enforcer.run(call)
    if answer.exit_code or answer.truncated:
        said = answer.stderr or answer.cut or ""
        raise ProgramFailed(f"the dry run of the plan failed: {said[:600]}", "mend what it names; nothing was written")
    body = json.loads(answer.stdout)
    items: Sequence[Object] = body["items"] if body.get("kind") == "List" else [body]
    return items


def change_of(target: Target, before: Object | None, after: Object | None, *, restarts: bool = False) -> Change:
    """What becomes of an object, with the difference as text."""
    if restarts:
        return Change(target, "restart")
    if after is None:
        return Change(target, "delete" if before is not None else "same")
    new = _text(after)
    if before is None:
        return Change(target, "create", _diff("", new))
    old = _text(before)
    return Change(target, "change", _diff(old, new)) if old != new else Change(target, "same")


def _text(body: Object) -> str:
    """In one order: kubectl sorts keys, the API server does not."""
    return to_yaml(json.loads(json.dumps(normalized(body), sort_keys=True)))


def _diff(old: str, new: str) -> str:
    import difflib

    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), "before", "after", lineterm="", n=2)
    text = "\n".join(lines)
    if len(text) > MAX_DIFF:
        left = len(text) - MAX_DIFF
        return f"{text[:MAX_DIFF]}\n… {left} more characters"
    return text
