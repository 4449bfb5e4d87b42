"""Preconditions of writes: the uid and resource version of the object that was judged, in the write itself.

kubectl looks an object up again when it starts, and most of its writes say nothing of the version that they were worked
out from. So an object that was replaced or relabelled in between would be written as if it had been judged. Where the
API takes a precondition, the write carries it, and the API server refuses with 409 what is no longer the same:

- the caller's ``patch`` gets ``metadata.uid`` and ``metadata.resourceVersion`` in its own document;
- ``set``, ``label``, ``annotate``, ``rollout undo`` and ``apply`` to what exists run as ``kubectl patch`` of exactly
  the difference between the object and its judged form, with the same two fields;
- documents of ``replace`` and ``apply --server-side`` get them in their metadata;
- deletions and ``rollout restart``, ``pause`` and ``resume`` run object by object (``held.py``);
- what ``apply`` would make anew is made by ``create``, which never touches what is there.

INVARIANT: pure. What may be added is asserted here for ``approval``, with the functions that add it.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from obi_mcp.command.model import Command, Flag, Operand
from obi_mcp.policy.model import Document

if TYPE_CHECKING:
    from obi_mcp.policy.model import Resource

MAX_PATCH = 49_152
"""Characters of a patch as one word of a command line that is read again before it runs."""
CHANGE = ("patch",)
# The name under which the API server remembers who wrote a field: kubectl's own for the verb that was decided.
_MANAGERS = {
    ("set", "image"): "kubectl-set",
    ("set", "env"): "kubectl-set",
    ("set", "resources"): "kubectl-set",
    ("label",): "kubectl-label",
    ("annotate",): "kubectl-annotate",
    ("rollout", "undo"): "kubectl-rollout",
    ("apply",): "kubectl-client-side-apply",
}
_KEPT = frozenset({"namespace", "context", "request-timeout", "output", "warnings-as-errors", "v"})
_METADATA: dict[tuple[str, ...], frozenset[str]] = {
    ("label",): frozenset({"labels"}),
    ("annotate",): frozenset({"annotations"}),
    ("apply",): frozenset({"labels", "annotations"}),
}
_IDENTITY = frozenset({"apiVersion", "kind", "metadata", "status"})
_PINS = frozenset({"uid", "resourceVersion"})
_PLACE = frozenset({"namespace"})


@dataclass(frozen=True, slots=True)
class Pin:
    """Which object, and which state of it: every write of it gives it another ``version``."""

    uid: str
    version: str

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Pin:
        """The pin of a live object. Raises: ValueError where the API server gave it none."""
        metadata = body.get("metadata") or {}
        uid, version = metadata.get("uid"), metadata.get("resourceVersion")
        if not (isinstance(uid, str) and uid and isinstance(version, str) and version):
            raise ValueError("the object has no uid and resource version")
        return cls(uid, version)

    @property
    def fields(self) -> dict[str, str]:
        """As they stand in an object's metadata."""
        return {"uid": self.uid, "resourceVersion": self.version}


# --- adding them ---


def merge_patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON merge patch (RFC 7386) that makes ``after`` of ``before``: lists whole, removed keys as null."""
    patch: dict[str, Any] = {key: None for key in before if key not in after}
    for key, value in after.items():
        was = before.get(key)
        if isinstance(value, Mapping) and isinstance(was, Mapping):
            if inner := merge_patch(was, value):
                patch[key] = inner
        elif key not in before or was != value:
            patch[key] = value
    return patch


def change_of(path: tuple[str, ...], before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """What a command of that path changes, as a merge patch; other differences (a webhook's, say) are left out."""
    changed: dict[str, Any] = {}
    was, becomes = before.get("metadata") or {}, after.get("metadata") or {}
    for key in sorted(_METADATA.get(path, frozenset())):
        if inner := merge_patch(was.get(key) or {}, becomes.get(key) or {}):
            changed.setdefault("metadata", {})[key] = inner
    whole = merge_patch(_content(before), _content(after))
    if path == ("apply",):
        return {**whole, **changed}
    template = (whole.get("spec") or {}).get("template") if path not in _METADATA else None
    return {**changed, **({"spec": {"template": template}} if template else {})}


def pinned_change(decided: Command, target: Resource, name: str, change: Mapping[str, Any], pin: Pin) -> Command | None:
    """``kubectl patch`` of that change in place of the decided command; None where it is too long for a word."""
    pinned = {**change, "metadata": {**(change.get("metadata") or {}), **pin.fields}}
    text = _text(pinned)
    if len(shlex.quote(text)) > MAX_PATCH:
        return None
    flags = (*_kept(decided), *_written(decided, text))
    return Command("kubectl", CHANGE, flags, (Operand(f"{target.argument}/{name}"),), None, decided.style)


def in_namespace(command: Command, namespace: str | None) -> Command:
    """The command for one object of several: its namespace is the object's own."""
    flags = tuple(flag for flag in command.flags if flag.name != "namespace")
    return replace(command, flags=(*flags, *((Flag("namespace", (namespace,)),) if namespace else ())))


def pinned_patch(decided: Command, pin: Pin) -> Command | None:
    """The caller's own patch with the two fields in it; None where it has no place for them."""
    patch = json.loads(decided.value("patch"))
    if isinstance(patch, list):
        # At the end: an operation before could replace the whole metadata.
        added: Any = [*patch, *_operations(pin)]
    else:
        metadata = patch.get("metadata", {})
        if not isinstance(metadata, dict):
            return None
        added = {**patch, "metadata": {**metadata, **pin.fields}}
    text = _text(added)
    if len(shlex.quote(text)) > MAX_PATCH:
        return None
    return replace(
        decided,
        flags=tuple(Flag("patch", (text,), flag.word) if flag.name == "patch" else flag for flag in decided.flags),
    )


def is_of_another(document: Document, pin: Pin | None) -> bool:
    """Whether the submitted document itself names another object, or another state of it, than the one there is."""
    given = {key: value for key, value in document.body["metadata"].items() if key in _PINS}
    return any(pin is None or pin.fields[key] != value for key, value in given.items())


def pinned_document(document: Document, pin: Pin) -> Document:
    """The document for this state of the object only."""
    metadata = {**document.body["metadata"], **pin.fields}
    return replace(document, body={**document.body, "metadata": metadata})


def creation(decided: Command) -> Command:
    """``apply`` as the ``create`` that it is where nothing is there yet; kubectl says the same words for both."""
    flags = tuple(flag for flag in decided.flags if flag.name not in {"save-config", "server-side"})
    return replace(decided, path=("create",), flags=(*flags, Flag("save-config", ("true",))))


# --- asserting that nothing else was ---


def refuse_change(decided: Command, command: Command, objects: frozenset[tuple[str, str]]) -> str | None:
    """Why this ``patch`` may not run in place of the decided command, or None. ``objects``: what the documents of an
    ``apply`` name, as ``TYPE/NAME`` and namespace."""
    change = _read(command.value("patch"))
    metadata = change.get("metadata") if isinstance(change, dict) else None
    if not isinstance(change, dict) or not isinstance(metadata, dict) or not _pinned(metadata):
        return "a change of what was judged names its uid and resource version"
    wanted = (*_kept(decided), *_written(decided, command.value("patch")))
    if _flags(command.flags, _PLACE) != _flags(wanted, _PLACE):
        return "its flags are not those of the decided command"
    if decided.path == ("apply",):
        if (command.operands[0].text, command.value("namespace")) not in objects or len(command.operands) != 1:
            return "it changes an object that was not submitted"
    elif command.value("namespace") != decided.value("namespace") or not _same_object(decided, command):
        return "it changes another object than the decided one"
    if metadata.keys() - _PINS - _METADATA.get(decided.path, frozenset()):
        return "it changes other metadata than the decided command does"
    return _refuse_content(decided.path, change)


def refuse_patch(decided: Command, command: Command) -> str | None:
    """Why this is not the caller's own patch with its preconditions, or None if it is."""
    without = frozenset({"patch"})
    if _flags(command.flags, without) != _flags(decided.flags, without) or _texts(command) != _texts(decided):
        return "only preconditions may be added to a patch"
    ours, theirs = _read(command.value("patch")), _read(decided.value("patch"))
    if isinstance(ours, list) and isinstance(theirs, list):
        same = ours[:-2] == theirs and [operation.get("path") for operation in ours[-2:]] == _PATHS
        return None if same else "only preconditions may be added to a patch"
    if not isinstance(ours, dict) or not isinstance(theirs, dict) or not isinstance(ours.get("metadata"), dict):
        return "only preconditions may be added to a patch"
    kept = {key: value for key, value in ours["metadata"].items() if key not in _PINS}
    same = _pinned(ours["metadata"]) and {**ours, "metadata": kept} == {
        **theirs,
        "metadata": theirs.get("metadata", {}),
    }
    return None if same else "only preconditions may be added to a patch"


def refuse_creation(decided: Command, command: Command) -> str | None:
    """Why this is not the ``create`` that a client-side ``apply`` is where nothing is there yet, or None."""
    wanted = creation(decided)
    same = _flags(command.flags) == _flags(wanted.flags) and _texts(command) == _texts(wanted)
    same = same and decided.path == ("apply",) and decided.value("server-side") != "true"
    return None if same else "it is not what the decided apply does to what is not there"


def refuse_documents(decided: Sequence[Document], given: Sequence[Document]) -> str | None:
    """Why these may not be written in place of the decided documents, or None: some of them, and preconditions."""
    known = {document.identity: document.body for document in decided}
    for document in given:
        body = known.pop(document.identity, None)
        if body is None or not _only_pinned(body, document.body):
            return f"{document.kind} {document.name} is not what was submitted"
    return None if given else "there is nothing to write"


def _only_pinned(submitted: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    """Whether ``given`` is the submitted object and perhaps preconditions; those that were submitted are in it."""
    added = {key: value for key, value in given["metadata"].items() if key in _PINS}
    return {**submitted, "metadata": {**added, **submitted["metadata"]}} == given


def _refuse_content(path: tuple[str, ...], change: Mapping[str, Any]) -> str | None:
    content = change.keys() - {"metadata"}
    if path == ("apply",):
        return "it changes what tells objects apart" if content & _IDENTITY else None
    if path in _METADATA:
        return "it changes more than metadata" if content else None
    spec = change.get("spec", {"template": None})
    return None if content <= {"spec"} and set(spec) == {"template"} else "it changes more than the pods' template"


def _same_object(decided: Command, command: Command) -> bool:
    words = [text for text in _texts(decided) if "=" not in text and not text.endswith("-")]
    return _texts(command) == ["/".join(words)]


def _written(decided: Command, patch: str) -> tuple[Flag, ...]:
    manager = _MANAGERS.get(decided.path, "")
    return (Flag("type", ("merge",)), Flag("patch", (patch,)), Flag("field-manager", (manager,)))


def _kept(decided: Command) -> tuple[Flag, ...]:
    return tuple(flag for flag in decided.flags if flag.name in _KEPT)


def _texts(command: Command) -> list[str]:
    return [operand.text for operand in command.operands]


def _flags(flags: Sequence[Flag], without: frozenset[str] = frozenset()) -> dict[str, list[tuple[str, ...]]]:
    found: dict[str, list[tuple[str, ...]]] = {}
    for flag in flags:
        if flag.name not in without:
            found.setdefault(flag.name, []).append(flag.values)
    return found


def _operations(pin: Pin) -> list[dict[str, str]]:
    return [{"op": "add", "path": path, "value": pin.fields[path.rpartition("/")[2]]} for path in _PATHS]


_PATHS = ["/metadata/uid", "/metadata/resourceVersion"]


def _pinned(metadata: Mapping[str, Any]) -> bool:
    return all(isinstance(metadata.get(key), str) and metadata[key] for key in _PINS)


def _content(body: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key not in _IDENTITY}


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
