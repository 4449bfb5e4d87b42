"""Writes that only name their objects (``delete``, ``rollout restart``, ``pause``, ``resume``), one object at a time.

kubectl writes whatever bears the name when it comes to it. Here each object is written in the state that was checked:
a deletion by ``kubectl delete --raw``, with the ``DeleteOptions`` that kubectl would send and preconditions in them; a
rollout by ``kubectl patch`` of the one field that it sets.

INVARIANT: everything but the precondition and the time of a restart comes from the decided command and the object's
own place; nothing in it is a caller's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from obi_mcp.policy.draft import NAME, NAMESPACE
from obi_mcp.policy.model import MembersSpec, Resource

if TYPE_CHECKING:
    from obi_mcp.command.model import Command
    from obi_mcp.policy.model import Decision
    from obi_mcp.policy.pins import Pin

RESTARTED = "kubectl.kubernetes.io/restartedAt"
ROLLOUTS = frozenset({("rollout", "restart"), ("rollout", "pause"), ("rollout", "resume")})
DELETE = ("delete",)
_MANAGER = "kubectl-rollout"


@dataclass(frozen=True, slots=True)
class Held:
    """One object, by its place."""

    resource: Resource
    namespace: str | None
    name: str

    @property
    def called(self) -> str:
        """As kubectl prints its kind: ``daemonset.apps``, ``pod``."""
        return ".".join(filter(None, (self.resource.kind.lower(), self.resource.group)))

    @property
    def path(self) -> str:
        """Its path in the API."""
        inside = f"namespaces/{self.namespace}/" if self.namespace else ""
        return f"{self.resource.api_path}/{inside}{self.resource.plural}/{self.name}"


def refuse_held(decision: Decision, held: Held) -> str | None:
    """Why this object may not be written for the decision, or None: a check of it names the object, or may have found
    it by its selector."""
    if not (NAME.match(held.name) and (held.namespace is None or NAMESPACE.match(held.namespace))):
        return f"{held.name!r} is no name"
    for document in decision.documents:
        if (document.kind, document.name, document.namespace) == (held.resource.kind, held.name, held.namespace):
            return None
    for spec in (check.spec for check in decision.checks):
        if not isinstance(spec, MembersSpec) or (spec.resource, spec.namespace) != (held.resource, held.namespace):
            continue
        if held.name in spec.names if spec.mode == "named" else spec.mode == "every":
            return None
    return f"{held.resource.plural} {held.name} is not what the decision is about"


def held_write(decided: Command, held: Held, pin: Pin) -> tuple[tuple[str, ...], bytes | None]:
    """The argument vector that writes this object in this state, and what it reads."""
    context = decided.value("context")
    asked = (f"--context={context}",) if context else ()
    if decided.path == DELETE:
        body = json.dumps(deletion(decided, pin)).encode()
        return ("kubectl", "delete", *asked, f"--raw={held.path}", "--filename=-"), body
    patch = json.dumps({"metadata": pin.fields, "spec": _rolled(decided.path)}, separators=(",", ":"))
    place = (f"--namespace={held.namespace}",) if held.namespace else ()
    flags = (*asked, *place, "--type=merge", f"--patch={patch}", f"--field-manager={_MANAGER}", "--output=name")
    return ("kubectl", "patch", *flags, f"{held.resource.argument}/{held.name}"), None


def deletion(decided: Command, pin: Pin) -> dict[str, Any]:
    """The ``DeleteOptions`` that ``kubectl delete`` would send, and the preconditions that it would not."""
    options: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "preconditions": pin.fields,
        "propagationPolicy": decided.value("cascade", "background").capitalize(),
    }
    grace = decided.flag("grace-period")
    if decided.value("now") == "true":
        options["gracePeriodSeconds"] = 1
    elif grace is not None and int(grace.value) >= 0:
        # Without --force, which nobody may give, kubectl makes 1 of 0.
        options["gracePeriodSeconds"] = max(1, int(grace.value))
    return options


def _rolled(path: tuple[str, ...]) -> dict[str, Any]:
    """What kubectl sets: the time in the template, or whether the rollout is paused."""
    if path == ("rollout", "restart"):
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {"template": {"metadata": {"annotations": {RESTARTED: now}}}}
    return {"paused": True if path == ("rollout", "pause") else None}
