"""Writes that hold for one state of their objects only: the vectors and documents that carry the preconditions.

What is not pinned here is named in ``docs/decisions/0004-remainders.md``; it is looked at again afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from obi_mcp.command.model import Command
from obi_mcp.enforcer.afterwards import as_judged
from obi_mcp.enforcer.case import Case, Proved, failed
from obi_mcp.enforcer.failures import changed_since
from obi_mcp.errors import ProgramFailed
from obi_mcp.policy import pins
from obi_mcp.policy.documents import canonical, documents_of
from obi_mcp.policy.model import Approved, Check, Document, Place, Resource
from obi_mcp.policy.pins import Pin

_TOO_LONG = "the change is too long to be made for one state of the object only"
_OF_ANOTHER = "the uid or resourceVersion in the document is not the live object's: it changed since it was read"
_LOOK = "read it again, and make the change on what is there now"
_NOTE = (
    "kubectl says patched: exactly the judged change is written, and only to the state of the object that was judged"
)


def pin_change(
    case: Case, proved: Proved, resource: Resource, before: Mapping[str, Any], after: Mapping[str, Any]
) -> Proved:
    """A change of one object, for the state that was judged; a dry run prints what was judged and looks at nothing."""
    head = case.head
    if not proved.result.passed:
        return proved
    if head.flag("dry-run"):
        return replace(proved, source=canonical((Document(0, after),))) if _prints_objects(case) else proved
    pin = Pin.of(before)
    own = head.path == pins.CHANGE
    if own:
        command = pins.pinned_patch(head, pin)
    else:
        name = str(before["metadata"]["name"])
        change = pins.change_of(head.path, before, after)
        command = pins.pinned_change(head, resource, name, change, pin)
    if command is None:
        return Proved(failed(proved.result.check, _TOO_LONG, "change less at once"))
    return replace(proved, heads=(command.argv(),), pinned=frozenset({pin.uid}), notes=() if own else (_NOTE,))


@dataclass(frozen=True, slots=True)
class Written:
    """One submitted document, the object that it names as it is (None: there is none), and as it would be stored."""

    resource: Resource
    document: Document
    before: Mapping[str, Any] | None
    after: Document

    @property
    def namespace(self) -> str | None:
        return self.document.namespace if self.resource.namespaced else None


def refuse_other_state(check: Check, document: Document, before: Mapping[str, Any] | None) -> Proved | None:
    """The refusal of a document that itself names another object, or another state of it, than the one there is."""
    if not pins.is_of_another(document, Pin.of(before) if before is not None else None):
        return None
    return Proved(failed(check, _OF_ANOTHER, _LOOK, Place(document=document.index, path="metadata")))


def pin_documents(case: Case, proved: Proved, written: Sequence[Written]) -> Proved:
    """Documents for the states of their objects that were judged."""
    head = case.head
    if not proved.result.passed or head.path == ("create",):
        return proved  # create never touches what is there
    if head.flag("dry-run"):
        prints = head.path == ("apply",) and _prints_objects(case)
        return replace(proved, source=canonical([entry.after for entry in written])) if prints else proved
    if head.path == ("replace",) or head.value("server-side") == "true":
        given = [
            pins.pinned_document(entry.document, Pin.of(entry.before)) if entry.before is not None else entry.document
            for entry in written
        ]
        proved = replace(proved, stdin=canonical(given), pinned=_uids(written))
        new = [entry.document for entry in written if entry.before is None]
        return replace(proved, afterwards=lambda: as_judged(case, new, [None] * len(new))) if new else proved
    return _applied(case, proved, written) if head.path == ("apply",) else proved


def _applied(case: Case, proved: Proved, written: Sequence[Written]) -> Proved:
    """What is not there is created; what is there is changed by exactly the judged difference."""
    head = case.head
    new = [entry.document for entry in written if entry.before is None]
    changes = [_change(head, entry, entry.before) for entry in written if entry.before is not None]
    vectors = [command.argv() for command in (*((pins.creation(head),) if new else ()), *changes) if command]
    if None in changes:
        documents, befores = [entry.document for entry in written], [entry.before for entry in written]
        return replace(proved, afterwards=lambda: as_judged(case, documents, befores))
    stdin = canonical(new) if new else proved.stdin
    proved = replace(
        proved, heads=tuple(vectors), stdin=stdin, pinned=_uids(written), notes=(_NOTE,) if changes else ()
    )
    if len(vectors) > 1 and _prints_objects(case):
        return replace(proved, perform=lambda approved: _as_one_list(case, approved, _uids(written)))
    return proved


async def _as_one_list(case: Case, approved: Approved, uids: frozenset[str]) -> bytes:
    """Several programs print several values where kubectl prints one list. Raises: ChangedSince, ProgramFailed."""
    printed: list[object] = []
    for part in case.policy.parts(approved):
        completed = await case.run_own(part)
        if conflict := changed_since(completed):
            conflict.uids = uids
            raise conflict
        if completed.exit_code != 0:
            raise ProgramFailed(completed.stderr.decode("utf-8", "replace").strip()[:600])
        printed.append(json.loads(completed.stdout))
    return canonical(documents_of(printed))


def _change(head: Command, entry: Written, before: Mapping[str, Any]) -> Command | None:
    change = pins.change_of(head.path, before, entry.after.body)
    command = pins.pinned_change(head, entry.resource, entry.document.name, change, Pin.of(before))
    return pins.in_namespace(command, entry.namespace) if command else None


def _uids(written: Sequence[Written]) -> frozenset[str]:
    return frozenset(Pin.of(entry.before).uid for entry in written if entry.before is not None)


def _prints_objects(case: Case) -> bool:
    return case.decision.output.head == "json"
