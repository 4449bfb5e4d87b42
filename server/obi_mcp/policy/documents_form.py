"""``-f -``: documents of the ``stdin`` argument, each judged from its text before any dry run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from obi_mcp.errors import Denied, InvalidDocument
from obi_mcp.policy.confine import in_default
from obi_mcp.policy.documents import read_documents
from obi_mcp.policy.draft import Refusal
from obi_mcp.policy.model import Access, Check, Document, DocumentsSpec, Place
from obi_mcp.policy.output import check_output

if TYPE_CHECKING:
    from obi_mcp.policy.draft import Draft

_STDIN_HINT = "put the documents into the stdin argument (obi-mcp policy check: --stdin FILE)"
_WHY = {
    "delete": "every object has to be OBI's",
    "": "every object has to be absent or OBI's, and the API server's dry run of the same command has to give the "
    "same objects and pass the manifest check",
}


def judge_documents(draft: Draft) -> None:
    """apply, create, replace, diff, delete with ``-f -``. Raises: Denied with the document and the path in it."""
    if draft.command.operands:
        raise draft.deny(
            "documents and operands exclude each other", at=draft.command.operands[0], repair=draft.with_operands()
        )
    check_output(draft)
    _check_namespace(draft)
    draft.documents = read_stdin(draft)
    verb = draft.command.path[0]
    for document in draft.documents:
        _judge(draft, document, verb)
    names = ", ".join(f"{document.kind}/{document.name}" for document in draft.documents[:5])
    more = f" and {len(draft.documents) - 5} more" if len(draft.documents) > 5 else ""
    draft.checks.append(
        Check(
            "manifest" if verb == "delete" else "dry-run",
            names + more,
            draft.documents[0].namespace,
            _WHY.get(verb, _WHY[""]),
            DocumentsSpec(verb),
            raises_to=Access.FULL if verb in {"apply", "replace"} else None,
        )
    )


def read_stdin(draft: Draft) -> tuple[Document, ...]:
    """The documents. Raises: Denied where there are none, or they cannot be read."""
    at = draft.command.flag("filename")
    if draft.call.stdin is None or not draft.call.stdin.strip():
        raise draft.deny("-f - reads standard input, and none was given", at=at, hint=_STDIN_HINT)
    try:
        return read_documents(draft.call.stdin)
    except InvalidDocument as error:
        raise refused_in(draft, error.message, error.hint, error.document, error.path) from None


def refused_in(draft: Draft, reason: str, hint: str | None, document: int | None, path: str | None) -> Denied:
    """A refusal that points into a document."""
    at = draft.command.flag("filename") or draft.command.flag("values")
    place = Place(stage=0, word=at.word if at else None, document=document, path=path)
    return Denied(Refusal("deny", draft.rule.id, reason, access=draft.needed, hint=hint, at=place, depth=2))


def _check_namespace(draft: Draft) -> None:
    given = draft.command.flag("namespace")
    if given is not None and given.value not in draft.grounds.namespaces:
        raise draft.deny(
            f"the namespace {given.value} is not one where OBI is installed "
            f"({', '.join(draft.grounds.scope.namespaces)})",
            at=given,
            repair=in_default(draft),
        )


def _judge(draft: Draft, document: Document, verb: str) -> None:
    namespace = draft.command.value("namespace") or None
    violations = (
        draft.grounds.judge_removal(document, namespace)
        if verb == "delete"
        else draft.grounds.judge_document(document, draft.documents, namespace)
    )
    for violation in violations:
        prefix = f"{document.prefix}." if document.prefix and violation.path else document.prefix
        raise refused_in(
            draft, f"{violation.reason} ({violation.rule})", violation.hint, document.index, prefix + violation.path
        )
