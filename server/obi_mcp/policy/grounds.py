"""What every decision rests on besides the text: the scope, the table of kinds, the closed schema; with memories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from obi_mcp.policy.model import Document, Resource, Violation
from obi_mcp.policy.selector import implies_scope

if TYPE_CHECKING:
    from obi_mcp.policy.manifest import ManifestPolicy
    from obi_mcp.policy.resource import ResourceTable
    from obi_mcp.policy.rule import Rule
    from obi_mcp.policy.scope import Scope

_MEMORY = 4096


class Grounds:
    """The scope in forms that are quick to ask, and what has been worked out once."""

    def __init__(self, scope: Scope, resources: ResourceTable, manifest_files: Mapping[str, Any]) -> None:
        self.scope = scope
        self.resources = resources
        self._manifest_files = manifest_files
        self._manifest: ManifestPolicy | None = None
        self.namespaces = frozenset(scope.namespaces)
        self.instrumented = frozenset(scope.instrumented_namespaces)
        self.contexts = frozenset(scope.contexts)
        self.selector = scope.selectors[0]
        self._implied: dict[str, bool | ValueError] = {}
        self._words: dict[str, tuple[str, Resource]] = {}
        self._kinds: dict[str, Mapping[str, Resource]] = {}

    def over(self, scope: Scope) -> Grounds:
        """The same tables over another scope."""
        if scope == self.scope:
            return self
        made = Grounds(scope, self.resources, self._manifest_files)
        made._manifest = self._manifest
        return made

    def implies(self, selector: str) -> bool:
        """Whether the selector implies the scope. Raises: ValueError for what is no selector."""
        known = self._implied.get(selector)
        if known is None:
            known = self._work_out(selector)
            if len(self._implied) < _MEMORY:
                self._implied[selector] = known
        if isinstance(known, ValueError):
            raise known
        return known

    def _work_out(self, selector: str) -> bool | ValueError:
        try:
            return implies_scope(selector, self.scope)
        except ValueError as error:
            return error

    def kind(self, word: str) -> tuple[str, Resource] | None:
        """The kind that a word names, with its full name; None for a word that the table does not know."""
        known = self._words.get(word)
        if known is None:
            entry = self.resources.find(word)
            if entry is None:
                return None
            known = (entry.resource.argument, entry.resource)
            # Only words of the table get here, so the memory is bounded by their spellings.
            self._words[word] = known
        return known

    def kinds_of(self, rule: Rule) -> Mapping[str, Resource]:
        """The kinds that a rule names, by their full name; words that nobody knows have been refused at load."""
        known = self._kinds.get(rule.id)
        if known is None:
            known = dict(filter(None, map(self.kind, rule.targets.kinds)))
            self._kinds[rule.id] = known
        return known

    @property
    def manifest(self) -> ManifestPolicy:
        """The closed schema of what may be written, built when the first document is judged."""
        if self._manifest is None:
            from obi_mcp.policy.manifest import ManifestPolicy

            self._manifest = ManifestPolicy.from_data(self._manifest_files)
        return self._manifest

    def judge_document(
        self, document: Document, batch: Sequence[Document], namespace: str | None
    ) -> tuple[Violation, ...]:
        """What is wrong with an object that is to be written."""
        return (
            _elsewhere(document, namespace) or self.manifest.judge(document, scope=self.scope, batch=batch).violations
        )

    def judge_removal(self, document: Document, namespace: str | None) -> tuple[Violation, ...]:
        """What is wrong with an object that is to be deleted: its kind, its namespace or its name."""
        return _elsewhere(document, namespace) or self.manifest.judge_target(document, scope=self.scope).violations

    def judge_variable(self, name: str, value: str) -> tuple[Violation, ...]:
        """What is wrong with a variable for a container of OBI's or Beyla's (one of the two may take it)."""
        found: tuple[Violation, ...] = ()
        for image in (self.scope.images[0], *(image for image in self.scope.images if "beyla" in image)):
            document = _carrier(name, value, image, self.scope)
            judged = self.manifest.judge(document, scope=self.scope, batch=(document,)).violations
            found = tuple(violation for violation in judged if violation.path.startswith(_ENVIRONMENT))
            if not found:
                return ()
        return found

    def judge_metadata(self, field: str, key: str, value: str) -> tuple[Violation, ...]:
        """What is wrong with a label or annotation (``field``: ``labels``, ``annotations``) of an object of OBI's."""
        document, places = _bearer(field, key, value, self.scope), (f"metadata.{field}.", f"metadata.{field}[")
        judged = self.manifest.judge(document, scope=self.scope, batch=(document,)).violations
        return tuple(violation for violation in judged if violation.path.startswith(places))


def _bearer(field: str, key: str, value: str, scope: Scope) -> Document:
    """The smallest ConfigMap with that one label or annotation, for judging it as the manifest check does."""
    metadata = {"name": "obi-config", "namespace": scope.default_namespace, field: {key: value}}
    return Document(0, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {}})


_ENVIRONMENT = "spec.template.spec.containers[0].env"


def _elsewhere(document: Document, namespace: str | None) -> tuple[Violation, ...]:
    """kubectl refuses a document whose namespace is not the command's."""
    if namespace is None or document.namespace in {None, namespace}:
        return ()
    return (
        Violation(
            "manifest.namespace",
            f"{document.kind} {document.name} is in {document.namespace}, the command in {namespace}",
            "metadata.namespace",
            "leave --namespace out: every document names its own",
        ),
    )


def _carrier(name: str, value: str, image: str, scope: Scope) -> Document:
    """The smallest DaemonSet with that one variable, for judging the variable as the manifest check does."""
    container = {"name": "obi", "image": image, "env": [{"name": name, "value": value}]}
    return Document(
        0,
        {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {"name": "obi", "namespace": scope.default_namespace},
            "spec": {
                "selector": {"matchLabels": {}},
                "template": {"metadata": {}, "spec": {"containers": [container]}},
            },
        },
    )
