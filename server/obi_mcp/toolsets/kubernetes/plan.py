"""Plans: what would change, bound to its exact content and to the state of the cluster that it was made from.

A plan is a list of command lines, each with the one that takes it back. Making a plan runs their server-side dry runs;
carrying it out runs them, waits for the rollout, and on failure takes back what was written, newest first.
"""

from __future__ import annotations

import asyncio
import difflib
import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from obi_mcp.errors import Denied, InvalidArgument, NotFound, ProgramFailed
from obi_mcp.policy.yaml_writer import to_yaml
from obi_mcp.toolsets.base import Services
from obi_mcp.toolsets.kubernetes.place import Place

Object = Mapping[str, Any]
Action = Literal["create", "change", "delete", "same"]

MAX_PLANS = 32
REDACTED = "[redacted]"
KEPT_S = 1_800.0
MAX_DIFF = 4_000
_BOOKKEEPING = ("managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink")
_WRITTEN_BY_OTHERS = (
    "kubectl.kubernetes.io/last-applied-configuration",
    "deprecated.daemonset.template.generation",
    "deployment.kubernetes.io/revision",
)


@dataclass(frozen=True, slots=True)
class Target:
    """One object. ``namespace`` None: it is in none."""

    kind: str
    name: str
    namespace: str | None

    @classmethod
    def of(cls, body: Object) -> Target:
        metadata = body["metadata"]
        return cls(str(body["kind"]), str(metadata["name"]), metadata.get("namespace"))

    def __str__(self) -> str:
        return f"{self.kind} {f'{self.namespace}/' if self.namespace else ''}{self.name}"

    @property
    def words(self) -> str:
        """As kubectl takes it."""
        return f"{self.kind.lower()} {self.name}" + (f" -n {self.namespace}" if self.namespace else "")


@dataclass(frozen=True, slots=True)
class Undo:
    """A command line that takes a write back, or a part of it."""

    command: str
    stdin: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One write: the command line with its document, what it writes, and what takes it back.

    ``dry`` False: the command has no dry run (``rollout restart``), or what it goes into does not exist yet.
    """

    command: str
    targets: tuple[Target, ...]
    stdin: str | None = None
    undo: tuple[Undo, ...] = ()
    dry: bool = True


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
    """``id`` follows from everything that it holds. ``watched``: the workload whose rollout is waited for."""

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
    made: float = field(default_factory=time.monotonic, compare=False)


class Plans:
    """The plans of one server: few, and for half an hour."""

    def __init__(self) -> None:
        self._plans: OrderedDict[str, Plan] = OrderedDict()

    def keep(self, plan: Plan) -> None:
        """The newest of the same content counts."""
        self._plans[plan.id] = plan
        self._plans.move_to_end(plan.id)
        while len(self._plans) > MAX_PLANS:
            self._plans.popitem(last=False)

    def take(self, plan_id: str, tool: str) -> Plan:
        """The plan of that id, once. Raises: InvalidArgument where there is none, it is old, or another tool's."""
        plan = self._plans.pop(plan_id, None)
        if plan is None or time.monotonic() - plan.made > KEPT_S:
            raise InvalidArgument(
                f"there is no plan {plan_id[:40]!r}", f"call {tool} without plan_id for a new one; each is good once"
            )
        if plan.tool != tool:
            self._plans[plan_id] = plan
            raise InvalidArgument(f"the plan {plan_id} was made by {plan.tool}", f"give it to {plan.tool}")
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
        await _judged(services, place, step)
    targets = list(dict.fromkeys(target for step in steps for target in step.targets))
    befores = {target: await look_up(services, place, target) for target in targets}
    afters = dict(befores)
    for step in steps:
        if step.command.startswith("kubectl delete"):
            afters |= dict.fromkeys(step.targets)
        elif step.dry:
            for body in await _dry_run(services, place, step):
                afters[Target.of(body)] = body
        elif step.stdin is not None:
            afters |= {Target.of(body): body for body in json.loads(step.stdin)["items"]}
    changes = tuple(_change(target, befores.get(target), afters.get(target)) for target in targets)
    state = {target: state_of(body) for target, body in befores.items()}
    digest = hashlib.sha256(
        json.dumps(
            [
                place.context,
                [[step.command, step.stdin, [[undo.command, undo.stdin] for undo in step.undo]] for step in steps],
                [[str(target), seen] for target, seen in state.items()],
            ]
        ).encode()
    ).hexdigest()[:20]
    return Plan(digest, place.tool, place, tuple(steps), state, changes, tuple(warnings), watched)


async def _judged(services: Services, place: Place, step: Step) -> None:
    """What the text of a step decides is decided before there is a plan: not every step has a dry run.

    Raises: Denied.
    """
    decision = await asyncio.to_thread(services.enforcer.explain, place.call(step.command, stdin=step.stdin))
    if not decision.allowed:
        raise Denied(decision)


async def look_up(services: Services, place: Place, target: Target) -> Object | None:
    """The object as it is, or None where there is none (or it is not OBI's: then writing it is refused)."""
    kind = "ns" if target.kind == "Namespace" else target.kind.lower()
    where = f" -n {target.namespace}" if target.namespace else ""
    try:
        reading = await services.enforcer.read(place.call(f"kubectl get {kind} {target.name}{where} -o json"))
    except NotFound:
        return None
    return next(iter(reading.objects), None)


def state_of(body: Object | None) -> str:
    """What tells whether the object is still the one that was looked at: not its status, which changes by itself."""
    if body is None:
        return "absent"
    metadata = body["metadata"]
    version = metadata.get("generation") or metadata.get("resourceVersion")
    said = json.dumps(normalized(body), sort_keys=True)
    return f"{metadata.get('uid')}/{version}/{hashlib.sha256(said.encode()).hexdigest()[:12]}"


def normalized(body: Object) -> dict[str, Any]:
    """The object as somebody would write it: without status and what the cluster keeps books of."""
    metadata = {key: value for key, value in body["metadata"].items() if key not in _BOOKKEEPING}
    annotations = {
        key: value for key, value in (metadata.pop("annotations", None) or {}).items() if key not in _WRITTEN_BY_OTHERS
    }
    if annotations:
        metadata["annotations"] = annotations
    return {**{key: value for key, value in body.items() if key != "status"}, "metadata": metadata}


def as_written(body: Object) -> dict[str, Any]:
    """A live object as a document that puts it back: what was applied last where kubectl noted it, else the object
    without what the cluster added."""
    noted = (body["metadata"].get("annotations") or {}).get(_WRITTEN_BY_OTHERS[0])
    if noted:
        document: dict[str, Any] = json.loads(noted)
        return document
    document = normalized(body)
    pod = ((document.get("spec") or {}).get("template") or {}).get("spec")
    if isinstance(pod, dict):
        pod.pop("serviceAccount", None)  # the old spelling, which only the API server writes
    return document


def holds_a_secret(body: Object) -> bool:
    """Whether redaction took something out of the object: such a document would write the marker, not the secret."""
    return REDACTED in json.dumps(body)


async def _dry_run(services: Services, place: Place, step: Step) -> Sequence[Object]:
    limit = services.settings.limits.max_max_bytes
    call = place.call(f"{step.command} --dry-run=server -o json", stdin=step.stdin, max_bytes=limit)
    answer = await services.enforcer.run(call)
    if answer.exit_code or answer.truncated:
        said = answer.stderr or answer.cut or ""
        raise ProgramFailed(f"the dry run of the plan failed: {said[:600]}", "mend what it names; nothing was written")
    body = json.loads(answer.stdout)
    items: Sequence[Object] = body["items"] if body.get("kind") == "List" else [body]
    return items


def _change(target: Target, before: Object | None, after: Object | None) -> Change:
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
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), "before", "after", lineterm="", n=2)
    text = "\n".join(lines)
    if len(text) > MAX_DIFF:
        left = len(text) - MAX_DIFF
        return f"{text[:MAX_DIFF]}\n… {left} more characters"
    return text
