"""The words of the policy layer: access levels, decisions, checks, and what may run.

Static decisions and checks are separate. ``Policy.decide`` looks at text only and lists the checks that a run would
make; the enforcer makes them against the cluster and asks ``Policy.approve`` for the ``Approved`` that alone may run.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from obi_mcp.command.model import Pipeline

Effect = Literal["allow", "narrow", "deny"]
CheckKind = Literal["membership", "manifest", "dry-run", "render", "release"]


class Access(enum.IntEnum):
    """How much a caller may change; each level allows what the ones below it allow."""

    READ_ONLY = 0
    NON_DESTRUCTIVE = 1
    FULL = 2

    @property
    def label(self) -> str:
        """The name used in configuration, rules and decisions: ``read-only`` and so on."""
        return self.name.lower().replace("_", "-")

    @classmethod
    def parse(cls, label: str) -> Access:
        """The level of that name. Raises: ValueError that lists the names."""
        for level in cls:
            if level.label == label:
                return level
        raise ValueError(f"unknown access level {label!r}; use one of {', '.join(level.label for level in cls)}")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the cause stands. Stage and word count from 0 (program = word 0), column from 1, document from 0."""

    stage: int | None = None
    word: int | None = None
    column: int | None = None
    document: int | None = None
    path: str | None = None

    def as_json(self) -> dict[str, int | str]:
        """Only the parts that are known."""
        parts: dict[str, int | str | None] = {
            "stage": self.stage,
            "word": self.word,
            "column": self.column,
            "document": self.document,
            "path": self.path,
        }
        return {key: value for key, value in parts.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of the resource table. ``argument`` is how kubectl is given it: ``pods.v1.``, ``daemonsets.v1.apps``."""

    plural: str
    kind: str
    group: str
    version: str
    namespaced: bool
    names: tuple[str, ...] = ()
    """Everything a caller may call it: plural, singular, short names (not the qualified forms)."""

    @property
    def argument(self) -> str:
        return f"{self.plural}.{self.version}.{self.group}"

    @property
    def api_path(self) -> str:
        """``/api/v1`` or ``/apis/GROUP/VERSION``."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"


# --- what a check has to prove ---


@dataclass(frozen=True, slots=True)
class MembersSpec:
    """Objects that must be shown to be OBI's by looking them up.

    ``mode``:

    - ``named``: every name in ``names`` exists and is OBI's; not found and not OBI's are the same answer (NotFound);
    - ``every``: every object that ``selector`` matches is OBI's, or the call is refused (writes, wait, describe);
    - ``each``: pods matched by ``selector`` (or owned by the workload in ``names``, resolved by uid) are looked up; the
      command runs once per member, others are counted as skipped (``logs``);
    - ``drop``: the command runs as it is; objects of its JSON list that are not OBI's are dropped and counted before
      any filter sees them.

    ``container`` is the container that is meant (logs -c); it must run an OBI image. ``reappears`` asks besides that
    the pod has a controller that makes it again (delete of one pod below ``full``). ``namespace`` None: all namespaces.
    """

    mode: Literal["named", "every", "each", "drop"]
    resource: Resource
    namespace: str | None
    names: tuple[str, ...] = ()
    selector: str = ""
    container: str | None = None
    all_containers: bool = False
    reappears: bool = False


@dataclass(frozen=True, slots=True)
class DocumentsSpec:
    """Documents to be written (or deleted, or diffed): each object absent or OBI's before, good after.

    ``verb`` is apply, create, replace, delete or diff. For all but delete the server-side dry run of the same command
    must give the same set of objects, and each passes the manifest check again.
    """

    verb: str


@dataclass(frozen=True, slots=True)
class ChangeSpec:
    """A change of one live object by patch, set, label, annotate or scale: the object before is OBI's, and what the
    same command gives under ``--dry-run=server -o json`` passes the manifest check."""

    resource: Resource
    name: str
    namespace: str


@dataclass(frozen=True, slots=True)
class SidecarSpec:
    """A change of somebody else's Deployment: what the server-side dry run gives is what it was, and OBI's container
    beside it; with ``removes`` the other way round."""

    resource: Resource
    name: str
    namespace: str
    removes: bool


@dataclass(frozen=True, slots=True)
class UndoSpec:
    """``rollout undo``: the template of the revision (0: the one before) put into the live object passes the check."""

    resource: Resource
    name: str
    namespace: str
    revision: int


@dataclass(frozen=True, slots=True)
class ReleaseSpec:
    """A stored helm release: its chart's name is the scope's, and every object and hook of its manifest is OBI's.

    ``revision`` 0: the deployed one. ``may_be_absent``: install, or upgrade --install.
    """

    release: str
    namespace: str
    revision: int = 0
    may_be_absent: bool = False


@dataclass(frozen=True, slots=True)
class RenderSpec:
    """What ``helm template|install|upgrade`` would make, by the verb's own rendering: every object passes the check.

    ``chart`` is the caller's CHART operand, resolved in the chart store by the enforcer.
    """

    verb: str
    release: str
    namespace: str
    chart: str


@dataclass(frozen=True, slots=True)
class RawSpec:
    """``get --raw`` of an OBI pod's proxy: fetched by the warm channel from a port its OBI container declares."""

    namespace: str
    pod: str
    port: int
    path: str


Spec = MembersSpec | DocumentsSpec | ChangeSpec | SidecarSpec | UndoSpec | ReleaseSpec | RenderSpec | RawSpec


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that text cannot prove. ``raises_to``: the access level needed if the check finds the change to be so.

    ``via`` is ``channel`` where the bytes of the check take the place of the program's.
    """

    kind: CheckKind
    target: str
    namespace: str | None
    why: str
    spec: Spec
    via: Literal["channel"] | None = None
    raises_to: Access | None = None

    def as_json(self) -> dict[str, Any]:
        """The public shape: kind, target, namespace, why, and via and raises_to where they apply."""
        out: dict[str, Any] = {
            "kind": self.kind,
            "target": self.target,
            "namespace": self.namespace,
            "why": self.why,
        }
        if self.via:
            out["via"] = self.via
        if self.raises_to is not None:
            out["raises_to"] = self.raises_to.label
        return out


# --- documents and output ---


@dataclass(frozen=True, slots=True)
class Document:
    """One Kubernetes object from ``stdin`` (or from a dry run or a rendering), as plain JSON data.

    ``index`` counts documents from 0; objects of a v1/List share their list's index and have a ``path`` prefix
    (``items[1]``).
    """

    index: int
    body: Mapping[str, Any]
    prefix: str = ""

    @property
    def kind(self) -> str:
        return str(self.body.get("kind", ""))

    @property
    def api_version(self) -> str:
        return str(self.body.get("apiVersion", ""))

    @property
    def name(self) -> str:
        metadata = self.body.get("metadata")
        return str(metadata.get("name", "")) if isinstance(metadata, dict) else ""

    @property
    def namespace(self) -> str | None:
        metadata = self.body.get("metadata")
        value = metadata.get("namespace") if isinstance(metadata, dict) else None
        return value if isinstance(value, str) else None

    @property
    def identity(self) -> tuple[str, str, str | None, str]:
        """apiVersion, kind, namespace, name: what the API server tells objects apart by."""
        return (self.api_version, self.kind, self.namespace, self.name)


@dataclass(frozen=True, slots=True)
class Output:
    """How the head's bytes are treated before any filter or caller sees them.

    ``head``: what the program prints: ``json`` (one object or a List, parsed item by item), ``text`` (redacted line
    by line), or ``raw`` (untouched: only for the server's own reads). ``render``: what the server writes from JSON:
    ``json`` or ``yaml``. ``confine``: drop
    objects that are not OBI's. ``project``: keep only the harmless fields of facts (``fact``) or of workload status
    (``status``).
    """

    head: Literal["text", "json", "raw"] = "text"
    render: Literal["json", "yaml"] = "json"
    confine: bool = False
    project: Literal["fact", "status"] | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What the policy says of one call. ``access`` is the level needed, None for hard denials and syntax errors."""

    effect: Effect
    rule: str | None
    reason: str
    access: Access | None = None
    hint: str | None = None
    at: Place | None = None
    added: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    pipeline: Pipeline | None = None
    documents: tuple[Document, ...] = ()
    output: Output = field(default_factory=Output)

    @property
    def allowed(self) -> bool:
        """Allowed or narrowed, subject to the checks."""
        return self.effect != "deny"

    def as_json(self) -> dict[str, Any]:
        """The promised shape of ``policy.md``; a denial that did not parse has an empty pipeline."""
        return {
            "effect": self.effect,
            "access": self.access.label if self.access is not None else None,
            "rule": self.rule,
            "reason": self.reason,
            "hint": self.hint,
            "at": self.at.as_json() if self.at else None,
            "pipeline": [list(argv) for argv in self.pipeline.argv()] if self.pipeline else [],
            "added": list(self.added),
            "checks": [check.as_json() for check in self.checks],
        }


@dataclass(frozen=True, slots=True)
class Violation:
    """One way in which an object fails the manifest check; ``path`` like ``spec.template.spec.containers[0].image``."""

    rule: str
    reason: str
    path: str
    hint: str | None = None
    document: int | None = None


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check found. ``raised`` is the access level that the change turned out to need; ``not_found`` makes the
    refusal the same answer as for an object that does not exist."""

    check: Check
    passed: bool
    reason: str = ""
    hint: str | None = None
    at: Place | None = None
    raised: Access | None = None
    not_found: bool = False


@dataclass(frozen=True, slots=True)
class Approved:
    """A decision whose checks have been made. Only ``policy/engine.py`` makes one; only this may run.

    ``heads`` are the head's argument vectors to run, one after another (one, save for ``logs`` by selector);
    ``stdin`` is the server's own canonical JSON, never the caller's bytes.
    """

    decision: Decision
    heads: tuple[tuple[str, ...], ...]
    filters: tuple[tuple[str, ...], ...]
    stdin: bytes | None
    output: Output
    skipped: int = 0
    members: frozenset[str] | None = None
    """uids that may pass when ``output.confine`` is set."""
