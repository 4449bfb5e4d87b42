"""Which argument vectors may run besides the decided one: what a check resolved, and the server's own reads.

INVARIANT: what was judged is what runs. Every vector is parsed again, and may differ from the decided command only in
the places named here; the values in those places come from the server's own look at the cluster or the chart store.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from obi_mcp.command.parser import parse
from obi_mcp.errors import Denied, InvalidCommand, InvalidDocument
from obi_mcp.policy import hard, pins
from obi_mcp.policy.documents import documents_of
from obi_mcp.policy.draft import NAME, NAMESPACE
from obi_mcp.policy.model import MembersSpec

if TYPE_CHECKING:
    from obi_mcp.command.grammar import Grammars
    from obi_mcp.command.model import Command
    from obi_mcp.policy.model import Decision
    from obi_mcp.policy.resource import ResourceTable

Flags = Mapping[str, list[tuple[str, ...]]]

# What one pod's run of `logs` may lack and have in place of a selector or a workload.
_EACH_DROPS = frozenset({"selector", "all-pods", "max-log-requests", "namespace", "all-containers"})
_EACH_ADDS = frozenset({"namespace", "tail", "container"})
_VERSIONED = frozenset({("scale",)})
_PINNED = frozenset(
    {("set", "image"), ("set", "env"), ("set", "resources"), ("label",), ("annotate",), ("rollout", "undo"), ("apply",)}
)
_CHARTED = frozenset({"install", "upgrade", "template", "lint", "show"})
# What the server's own dry run of a command sets itself.
_DRY_RUN_SETS = frozenset(
    {
        *("dry-run", "output", "show-managed-fields", "hide-secret", "hide-notes"),
        *("wait", "wait-for-jobs", "timeout", "rollback-on-failure", "atomic"),
    }
)
_OWN_READS = frozenset(
    {
        ("helm", "get", "manifest"),
        ("helm", "get", "hooks"),
        ("helm", "get", "values"),
        ("helm", "get", "metadata"),
        ("helm", "history"),
        ("helm", "status"),
        ("helm", "list"),
        ("helm", "template"),
        ("kubectl", "get"),
    }
)
_CONTEXTS = ("context", "kube-context")


def refuse_head(decision: Decision, head: tuple[str, ...], grammars: Grammars, resources: ResourceTable) -> str | None:
    """Why this vector may not run for the decision, or None if it may."""
    decided = decision.pipeline.head if decision.pipeline else None
    if decided is not None and head == decided.argv():
        return None
    command = _parsed(head, grammars)
    if decided is None or command is None or command.program != decided.program:
        return "it is another command than the decided one"
    if decided.program == "kubectl" and decided.flag("dry-run") is None:
        if command.path == pins.CHANGE and decided.path == pins.CHANGE:
            return pins.refuse_patch(decided, command)
        if command.path == pins.CHANGE and decided.path in _PINNED:
            return pins.refuse_change(decided, command, _objects(decision, resources))
        if command.path == ("create",) and decided.path == ("apply",):
            return pins.refuse_creation(decided, command)
    if command.path != decided.path:
        return "it is another command than the decided one"
    return _refuse_changed(decision, decided, command)


def refuse_stdin(decision: Decision, stdin: bytes) -> str | None:
    """Why these bytes may not be what the head reads, or None: the decided documents, some of them, or the same for
    one state of the objects only."""
    try:
        given = documents_of((json.loads(stdin),))
    except (InvalidDocument, ValueError):
        return "they are no documents"
    return pins.refuse_documents(decision.documents, given)


def _objects(decision: Decision, resources: ResourceTable) -> frozenset[tuple[str, str]]:
    """What the decided documents name, as ``TYPE/NAME`` and namespace (empty for what is cluster-wide)."""
    found = set()
    for document in decision.documents:
        entry = resources.for_object(document.api_version, document.kind)
        if entry is not None:
            namespace = (document.namespace or "") if entry.resource.namespaced else ""
            found.add((f"{entry.resource.argument}/{document.name}", namespace))
    return frozenset(found)


def _refuse_changed(decision: Decision, decided: Command, command: Command) -> str | None:
    if decided.path == ("logs",) and any(
        isinstance(check.spec, MembersSpec) and check.spec.mode == "each" for check in decision.checks
    ):
        return _refuse_each(decided, command)
    if decided.program == "obi":
        same = _flags(command) == _flags(decided) and len(command.operands) == 1
        return None if same and command.operands[0].text.startswith("/") else "only - may become a private file"
    if decided.program == "helm" and decided.path[:1] and decided.path[0] in _CHARTED:
        return _refuse_charted(decided, command, frozenset({"version"}))
    if decided.path in _VERSIONED:
        same = _without(_flags(command), {"resource-version"}) == _without(_flags(decided), {"resource-version"})
        return None if same and _texts(command) == _texts(decided) else "only --resource-version may be added"
    return "the command may only run as it was decided"


def refuse_derived(decided: Command, head: tuple[str, ...], grammars: Grammars) -> str | None:
    """Why this vector is not one of the server's own reads for the decided command, or None if it is."""
    command = _parsed(head, grammars)
    if command is None or command.program != decided.program:
        return "it is not a read of the program that was decided on"
    try:
        hard.check(command, hard.forbidden_root_flags(grammars)[command.program])
    except Denied as denied:
        return denied.decision.reason
    return _refuse_read(decided, command)


def _refuse_read(decided: Command, command: Command) -> str | None:
    if any(command.value(name) != decided.value(name) for name in _CONTEXTS):
        return "it asks another context than the decided command"
    if (command.program, *command.path) in _OWN_READS:
        return None
    if command.path != decided.path and (decided.path, command.path) != (("diff",), ("apply",)):
        return "it is neither the decided command nor a read"
    if command.value("dry-run") not in ({"server", "client"}):
        return "the decided command may only be derived as a dry run"
    return _refuse_charted(decided, command, _DRY_RUN_SETS | {"version"})


def _refuse_each(decided: Command, command: Command) -> str | None:
    """One pod's run: the same flags but those of the selection, and one pod by name."""
    wanted = _without(_flags(decided), _EACH_DROPS | _EACH_ADDS)
    if _without(_flags(command), _EACH_DROPS | _EACH_ADDS) != wanted or command.flag("selector"):
        return "one pod's run has the flags of the decided one"
    for name in ("container", "tail"):
        if decided.flag(name) and command.value(name) != decided.value(name):
            return f"one pod's run has the decided --{name}"
    pod = command.operands[0].text.removeprefix("pods.v1./") if len(command.operands) == 1 else ""
    if not NAME.match(pod) or not NAMESPACE.match(command.value("namespace")):
        return "one pod's run names one pod in one namespace"
    return None


def _refuse_charted(decided: Command, command: Command, free: frozenset[str]) -> str | None:
    """The same operands and flags, save for the free ones; a chart may have become its absolute path."""
    if _without(_flags(command), free) != _without(_flags(decided), free):
        return "its flags are not those of the decided command"
    ours, theirs = _texts(command), _texts(decided)
    if ours == theirs:
        return None
    charted = decided.program == "helm" and bool(theirs) and ours[:-1] == theirs[:-1] and ours[-1].startswith("/")
    return None if charted else "its operands are not those of the decided command"


def _parsed(head: Sequence[str], grammars: Grammars) -> Command | None:
    try:
        pipeline = parse(shlex.join(head), grammars)
    except InvalidCommand:
        return None
    return pipeline.head if pipeline.head.argv() == tuple(head) else None


def _flags(command: Command) -> dict[str, list[tuple[str, ...]]]:
    found: dict[str, list[tuple[str, ...]]] = {}
    for flag in command.flags:
        found.setdefault(flag.name, []).append(flag.values)
    return found


def _without(flags: Flags, names: frozenset[str] | set[str]) -> Flags:
    return {name: values for name, values in flags.items() if name not in names}


def _texts(command: Command) -> tuple[str, ...]:
    return tuple(operand.text for operand in command.operands)
