"""The manifest check: what may be written, judged by a closed schema, from its text and as it would be stored."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from obi_mcp.errors import PolicyError
from obi_mcp.policy.manifest.closed_schema import KindSchema, compile_kinds
from obi_mcp.policy.manifest.environment import EnvironmentNames
from obi_mcp.policy.manifest.findings import Inspection, Judgement, Mode
from obi_mcp.policy.manifest.predicates import predicates
from obi_mcp.policy.manifest.standing import standing_metadata
from obi_mcp.policy.manifest.walk import walk
from obi_mcp.policy.selector import matches_scope, scope_selectors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from obi_mcp.policy.manifest.walk import Check
    from obi_mcp.policy.model import Document
    from obi_mcp.policy.scope import Scope

SCHEMA_FILES = "manifest/*.yaml"
"""The files of the closed schema, below the policy directory; each is valid by ``schema/manifest.schema.json``."""
ENVIRONMENT_FILE = "obi/env-names.yaml"


@dataclass(frozen=True, slots=True)
class ManifestPolicy:
    """The closed schema, ready to judge."""

    kinds: Mapping[str, KindSchema]
    environment: EnvironmentNames
    predicates: Mapping[str, Check] = field(repr=False)

    @classmethod
    def from_data(cls, files: Mapping[str, Any]) -> ManifestPolicy:
        """From parsed files by their path below the policy directory: ``SCHEMA_FILES`` and ``ENVIRONMENT_FILE``.

        Raises: PolicyError.
        """
        if ENVIRONMENT_FILE not in files:
            raise PolicyError(f"{ENVIRONMENT_FILE} is missing from the policy directory", "restore it")
        checks = predicates()
        schema = {name: data for name, data in files.items() if name.startswith("manifest/")}
        return cls(
            compile_kinds(schema, frozenset(checks)), EnvironmentNames.from_data(files[ENVIRONMENT_FILE]), checks
        )

    def judge(
        self,
        document: Document,
        *,
        scope: Scope,
        batch: Sequence[Document],
        namespace: str | None = None,
        mode: Mode = Mode.SUBMITTED,
        standing: frozenset[str] = frozenset(),
    ) -> Judgement:
        """Whether a caller (or, with ``Mode.RENDERED``, a chart) may write this object.

        ``batch`` is everything that is written with it, itself included. ``namespace`` is the one that documents
        without a namespace go to: helm's ``--namespace``; for documents on standard input None, they name their own.
        ``standing``: paths at which nothing is judged.
        """
        schema = self.kinds.get(document.kind)
        inspection = self.inspection(document, scope=scope, batch=batch, namespace=namespace, mode=mode)
        inspection.standing = standing
        if schema is None:
            return self._no_such_kind(inspection)
        self._target(schema, inspection)
        walk(document.body, schema.root, "", inspection, self.predicates)
        if schema.labelled:
            self._labels(inspection)
        return inspection.judgement()

    def judge_stored(
        self, after: Document, *, scope: Scope, batch: Sequence[Document], before: Mapping[str, Any] | None = None
    ) -> Judgement:
        """The same for what a server-side dry run gives: defaults, status and the server's metadata may be there, and
        the object's own labels and annotations that it had ``before`` and keeps: somebody else put them there."""
        standing = standing_metadata(before, after.body)
        return self.judge(after, scope=scope, batch=batch, mode=Mode.STORED, standing=standing)

    def judge_target(self, document: Document, *, scope: Scope, namespace: str | None = None) -> Judgement:
        """Only whether the object is of a kind and at a place that may be written: for ``delete -f -``, whose documents
        need hold nothing else. What else they hold is not looked at."""
        schema = self.kinds.get(document.kind)
        inspection = self.inspection(document, scope=scope, batch=(document,), namespace=namespace)
        if schema is None:
            return self._no_such_kind(inspection)
        if document.api_version != schema.api_version:
            wanted = schema.api_version
            inspection.violate("value", f"apiVersion is not {wanted}", "apiVersion", f"write apiVersion: {wanted}")
        self._target(schema, inspection)
        return inspection.judgement()

    def inspection(
        self,
        document: Document,
        *,
        scope: Scope,
        batch: Sequence[Document],
        namespace: str | None = None,
        mode: Mode = Mode.SUBMITTED,
    ) -> Inspection:
        """An inspection that has not begun, for the parts that are judged apart from the rest."""
        keys = {key for selector in scope_selectors(scope.selectors) for key in selector.constraints}
        schema = self.kinds.get(document.kind)
        where = document.namespace or namespace if schema is None or schema.namespaced else None
        return Inspection(document, scope, batch, mode, where, self.environment, frozenset(keys))

    def _no_such_kind(self, inspection: Inspection) -> Judgement:
        kind = inspection.document.kind
        if kind == "Secret":
            reason, hint = "a Secret is never written", "secrets are the operator's business"
        else:
            reason, hint = f"{kind} is not a kind of OBI's", f"kinds: {', '.join(sorted(self.kinds))}"
        inspection.violate("kind", reason, "kind", hint)
        return inspection.judgement()

    def _target(self, schema: KindSchema, inspection: Inspection) -> None:
        """The place: a namespace in scope, or a cluster-scoped name that is known as OBI's."""
        document, scope = inspection.document, inspection.scope
        if schema.namespaced:
            if inspection.namespace is None:
                hint = f"add metadata.namespace: {scope.default_namespace}"
                inspection.violate(
                    "namespace", f"{document.kind} {document.name} names no namespace", "metadata.namespace", hint
                )
            else:
                self.predicates["scope-namespace"](inspection.namespace, None, "metadata.namespace", inspection)
            return
        if document.namespace is not None:
            reason = f"a {document.kind} is in no namespace"
            inspection.violate("namespace", reason, "metadata.namespace", "remove metadata.namespace")
        if schema.kind == "Namespace":
            self.predicates["scope-namespace"](document.name, None, "metadata.name", inspection)
        elif document.name not in scope.known_cluster_objects():
            names = ", ".join(sorted(scope.known_cluster_objects()))
            reason = f"the {document.kind} {document.name} is not known as OBI's"
            inspection.violate(
                "cluster-name",
                reason,
                "metadata.name",
                f"use one of {names}, or have it added to scope.cluster_objects",
            )

    def _labels(self, inspection: Inspection) -> None:
        metadata = inspection.document.body.get("metadata")
        labels = metadata.get("labels") if isinstance(metadata, dict) else None
        plain = (
            {key: value for key, value in labels.items() if isinstance(value, str)} if isinstance(labels, dict) else {}
        )
        if not matches_scope(plain, inspection.scope):
            self.predicates["scope-labels"](plain, None, "metadata.labels", inspection)
