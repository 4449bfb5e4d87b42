"""helm releases: what one is made of, whether it is OBI's, and whether what helm stored is what was judged.

A release named ``obi`` may be anybody's: its name proves nothing, its manifest does. Reading it (``get values`` prints
whatever its values hold) needs the chart's name and every object and hook to be OBI's; making one needs every object
and hook of helm's own rendering to pass the manifest check. Pure: helm's output comes in as text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from obi_mcp.errors import InvalidDocument
from obi_mcp.policy.documents import documents_of
from obi_mcp.policy.membership import object_is_obi
from obi_mcp.policy.model import Document, Violation

if TYPE_CHECKING:
    from obi_mcp.policy.manifest import Judgement, ManifestPolicy
    from obi_mcp.policy.resource import ResourceTable
    from obi_mcp.policy.scope import Scope

HOOK = "helm.sh/hook"
MAX_BYTES = 2 * 1024 * 1024
MAX_OBJECTS = 200
# `helm test` is denied, and so is what only it would run; helm ignores events that it does not know.
_EVENTS = frozenset(
    {f"{when}-{what}" for when in ("pre", "post") for what in ("install", "upgrade", "rollback", "delete")}
    | {"test", "test-success"}
)
_SOURCE = re.compile(r"# Source: (\S+)")


@dataclass(frozen=True, slots=True)
class RenderedObject:
    """One object as helm rendered or stored it. ``source``: the template. ``events``: those of a hook, else none."""

    document: Document
    source: str = ""
    events: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """How the object is named in messages: ``DaemonSet obi (obi/templates/daemonset.yaml)``."""
        where = f" ({self.source})" if self.source else ""
        return f"{self.document.kind} {self.document.name}{where}"


@dataclass(frozen=True, slots=True)
class Release:
    """A release, stored or about to be made. ``chart`` is the chart's name without its version."""

    name: str
    namespace: str
    chart: str
    version: str
    revision: int
    status: str
    objects: tuple[RenderedObject, ...]
    hooks: tuple[RenderedObject, ...] = ()

    @property
    def everything(self) -> tuple[RenderedObject, ...]:
        """Objects and hooks."""
        return (*self.objects, *self.hooks)

    @property
    def documents(self) -> tuple[Document, ...]:
        """The same as plain documents."""
        return tuple(item.document for item in self.everything)


def read_objects(text: str) -> tuple[RenderedObject, ...]:
    """The objects of ``helm get manifest|hooks`` or ``helm template``, each with the template it came from.

    Raises: ValueError for what a strict reader of YAML does not take, and for what is no Kubernetes object.
    """
    from obi_mcp.policy.yaml_reader import read_stream

    lines = text.split("\n")
    found: list[RenderedObject] = []
    try:
        for _, line, body in read_stream(text, max_bytes=MAX_BYTES, max_documents=MAX_OBJECTS, max_aliases=20):
            if body is not None:
                source = _source(lines, line)
                for document in documents_of([body]):
                    placed = replace(document, index=len(found))
                    found.append(RenderedObject(placed, source, _events(document.body)))
    except InvalidDocument as error:
        raise ValueError(error.message) from None
    return tuple(found)


def read_manifest(text: str) -> tuple[Document, ...]:
    """The same, as plain documents. Raises: ValueError."""
    return tuple(item.document for item in read_objects(text))


def read_release(metadata: Mapping[str, Any], manifest: str, hooks: str) -> Release:
    """A stored release from the JSON of ``helm get metadata``, and the text of ``get manifest`` and ``get hooks``.

    Raises: ValueError.
    """
    return Release(
        name=_text(metadata, "name"),
        namespace=_text(metadata, "namespace"),
        chart=_text(metadata, "chart"),
        version=_text(metadata, "version"),
        revision=_number(metadata, "revision"),
        status=_text(metadata, "status"),
        objects=read_objects(manifest),
        hooks=read_objects(hooks),
    )


def read_dry_run(data: Mapping[str, Any]) -> Release:
    """What ``helm install|upgrade --dry-run=server -o json`` prints. Raises: ValueError."""
    metadata = _map(_map(data, "chart"), "metadata")
    hooks: list[RenderedObject] = []
    for hook in data.get("hooks") or ():
        events = tuple(str(event) for event in hook.get("events") or ())
        found = read_objects(_text(hook, "manifest"))
        hooks.extend(replace(item, source=str(hook.get("path", "")), events=events) for item in found)
    return Release(
        name=_text(data, "name"),
        namespace=_text(data, "namespace"),
        chart=_text(metadata, "name"),
        version=_text(metadata, "version"),
        revision=_number(data, "version"),
        status=str(_map(data, "info").get("status", "")),
        objects=read_objects(str(data.get("manifest") or "")),
        hooks=tuple(hooks),
    )


def foreign_in(release: Release, *, scope: Scope, resources: ResourceTable) -> str | None:
    """Why a stored release is not OBI's, or None when it is: chart, namespace, and every object and hook.

    This is what reading it needs. Whether its objects may be written (again) is :func:`judge_release`'s question.
    """
    for violation in _whose(release, scope):
        return violation.reason
    for item in release.everything:
        document = item.document
        entry = resources.for_object(document.api_version, document.kind)
        if entry is None:
            return f"{item.label} is of a kind that OBI does not have"
        body = _placed(document, entry.resource.namespaced, release)
        if not object_is_obi(body, entry.resource, scope).proven:
            return f"{item.label} is not OBI's"
    return None


def judge_release(release: Release, *, scope: Scope, manifests: ManifestPolicy) -> Judgement:
    """Whether the release is of OBI's chart and every object and hook may be written, as one batch.

    Violations name the template in their path.
    """
    from obi_mcp.policy.manifest import Judgement, Mode

    whole = Judgement(violations=(*_whose(release, scope), *_repeated(release)))
    for item in release.everything:
        judged = manifests.judge(
            item.document, scope=scope, batch=release.documents, namespace=release.namespace, mode=Mode.RENDERED
        )
        whole += replace(
            judged,
            violations=tuple(_placed_at(violation, item) for violation in (*judged.violations, *_hook(item))),
            warnings=tuple(_placed_at(warning, item) for warning in judged.warnings),
        )
    return whole


def same_objects(judged: Sequence[Document], stored: Sequence[Document]) -> bool:
    """Whether helm stored what was judged: the same objects, each with the same body."""
    return not differences(judged, stored)


def differences(judged: Sequence[Document], stored: Sequence[Document]) -> tuple[str, ...]:
    """What helm stored otherwise than it was judged, a sentence each."""
    before, after = _by_identity(judged), _by_identity(stored)
    said = [f"{_named(document)} was not judged" for identity, document in after.items() if identity not in before]
    said += [f"{_named(document)} is missing" for identity, document in before.items() if identity not in after]
    changed = (
        document
        for identity, document in after.items()
        if identity in before and before[identity].body != document.body
    )
    said += [f"{_named(document)} is not what was judged" for document in changed]
    if len(judged) != len(before) or len(stored) != len(after):
        said.append("an object is there twice")
    return tuple(said)


def dropped(before: Release, after: Sequence[Document]) -> tuple[Document, ...]:
    """Objects that an upgrade takes away: stored, and not in what is to come. Hooks stay where they are."""
    kept = _by_identity(after)
    known = _by_identity([item.document for item in before.objects])
    return tuple(document for identity, document in known.items() if identity not in kept)


_Identity = tuple[str, str, str | None, str, bool]


def _by_identity(documents: Sequence[Document]) -> dict[_Identity, Document]:
    return {_identity(document): document for document in documents}


def _identity(document: Document) -> _Identity:
    """Group, kind, namespace, name; a hook is apart from an object of the same name."""
    group = document.api_version.rpartition("/")[0]
    return (group, document.kind, document.namespace, document.name, bool(_events(document.body)))


def _named(document: Document) -> str:
    return f"{document.kind} {document.name}"


def _whose(release: Release, scope: Scope) -> list[Violation]:
    """The release's chart is one of its name's, and its namespace in scope."""
    found = []
    charts = scope.releases.get(release.name, ())
    if release.chart not in charts:
        wanted = f"; OBI's is {' or '.join(charts)}" if charts else ""
        reason = f"the release {release.name} is of the chart {release.chart!r}{wanted}"
        found.append(Violation("release.chart", reason, "chart"))
    if release.namespace not in scope.namespaces:
        reason = f"the release {release.name} is in the namespace {release.namespace}, which is not in scope"
        found.append(Violation("release.namespace", reason, "namespace"))
    return found


def _repeated(release: Release) -> list[Violation]:
    """Two objects of one name: helm would write both, and the second is what stays."""
    seen: set[_Identity] = set()
    found = []
    for item in release.everything:
        identity = _identity(item.document)
        if identity in seen:
            found.append(Violation("release.repeated", f"{item.label} is rendered twice", item.source))
        seen.add(identity)
    return found


def _hook(item: RenderedObject) -> tuple[Violation, ...]:
    unknown = [event for event in item.events if event not in _EVENTS]
    if not unknown:
        return ()
    reason = f"{item.label} is a hook for {', '.join(unknown)}, which helm does not know"
    return (Violation("release.hook", reason, f"metadata.annotations[{HOOK!r}]"),)


def _placed_at(violation: Violation, item: RenderedObject) -> Violation:
    reason = f"{item.document.kind} {item.document.name}: {violation.reason}"
    path = f"{item.source}: {violation.path}" if item.source else violation.path
    return replace(violation, reason=reason, path=path)


def _placed(document: Document, namespaced: bool, release: Release) -> Mapping[str, Any]:
    """The object with the namespace that helm puts it into."""
    metadata = dict(document.body.get("metadata") or {})
    if namespaced:
        metadata.setdefault("namespace", release.namespace)
    return {**document.body, "metadata": metadata}


def _events(body: Mapping[str, Any]) -> tuple[str, ...]:
    metadata = body.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    text = annotations.get(HOOK) if isinstance(annotations, dict) else None
    return tuple(event.strip() for event in text.split(",")) if isinstance(text, str) else ()


def _source(lines: Sequence[str], line: int) -> str:
    """The ``# Source:`` comment above a document's first field (its line, from 1), up to the marker."""
    for text in reversed(lines[: line - 1]):
        match = _SOURCE.fullmatch(text.rstrip())
        if match is not None:
            return match[1]
        if text.strip() and not text.startswith("#"):
            break
    return ""


def _map(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    if not isinstance(value, str):
        raise ValueError(f"helm said nothing of the release's {key}")
    return value


def _number(data: Mapping[str, Any], key: str) -> int:
    value = data.get(key)
    if not isinstance(value, int):
        raise ValueError(f"helm said nothing of the release's {key}")
    return value
