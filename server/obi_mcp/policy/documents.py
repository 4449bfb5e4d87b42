"""Documents on standard input: text in, plain Kubernetes objects out, and the only bytes that kubectl is ever given.

Two parsers disagree on duplicate keys, merge keys, UTF-16, concatenated JSON and YAML 1.1's ``yes``. So the text is
read once, strictly, and what runs gets :func:`canonical`, never the caller's bytes. Where kubectl and a reader could
disagree about a plain scalar (``yes``, ``0x1f``, ``1_000``, ``1e3``, ``.inf``) it is refused with the way out: quote
it. Timestamps, ``1:30`` and other look-alikes stay strings, as they do in kubectl; ``0644`` is octal, as it is there.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from obi_mcp.errors import InvalidDocument
from obi_mcp.policy.model import Document

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MAX_BYTES = 1_048_576
MAX_DOCUMENTS = 100
MAX_ALIASES = 20

_LIST_KEYS = frozenset({"apiVersion", "kind", "items", "metadata"})
_API_VERSION = re.compile(r"(?:[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?/)?v[0-9]+(?:(?:alpha|beta)[0-9]+)?")
_KIND = re.compile(r"[A-Z][A-Za-z0-9]{0,62}")
# INVARIANT: a name that passes is one path segment of the API and one word of a command line.
_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?")
_NAMESPACE = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")


def read_documents(
    text: str,
    *,
    max_bytes: int = MAX_BYTES,
    max_documents: int = MAX_DOCUMENTS,
    max_aliases: int = MAX_ALIASES,
) -> tuple[Document, ...]:
    """The objects of a YAML stream (JSON is YAML), ``v1/List`` unfolded, empty documents skipped.

    Every object has apiVersion, kind and metadata.name, and no two are the same object.

    Raises: InvalidDocument with document index, path and line.
    """
    from obi_mcp.policy.yaml_reader import read_stream

    documents: list[Document] = []
    for index, line, body in read_stream(
        text, max_bytes=max_bytes, max_documents=max_documents, max_aliases=max_aliases
    ):
        if body is not None:
            documents.extend(_unfold(body, index, line))
    if len(documents) > max_documents:
        raise InvalidDocument(f"{len(documents)} objects; at most {max_documents} are read", "send them in parts")
    if not documents:
        raise InvalidDocument(
            "there is no document on standard input", "send one or more Kubernetes objects as YAML or JSON"
        )
    _refuse_repeated(documents)
    return tuple(documents)


def documents_of(objects: Iterable[object]) -> tuple[Document, ...]:
    """The same for objects that the API server or helm gave us as parsed JSON; lists are unfolded.

    Raises: InvalidDocument.
    """
    documents: list[Document] = []
    for index, body in enumerate(objects):
        documents.extend(_unfold(body, index, None))
    return tuple(documents)


def canonical(documents: Sequence[Document]) -> bytes:
    """The bytes that kubectl reads: one JSON object, or a ``v1/List`` of them in the same order.

    INVARIANT: reading these bytes again gives the same bodies.
    """
    bodies = [document.body for document in documents]
    whole: Mapping[str, Any] = bodies[0] if len(bodies) == 1 else {"apiVersion": "v1", "kind": "List", "items": bodies}
    return json.dumps(whole, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii")


def _unfold(body: object, index: int, line: int | None) -> list[Document]:
    if not isinstance(body, dict):
        raise InvalidDocument(
            f"document {index} is {_described(body)}, not an object",
            "start it with apiVersion and kind",
            document=index,
            line=line,
        )
    is_list = (body.get("apiVersion"), body.get("kind")) == ("v1", "List")
    if "items" not in body and not is_list:
        return [_object(body, index, "", line)]
    if not is_list:
        raise InvalidDocument(
            f"{body.get('kind')!s:.63} has items at the top level: kubectl would read it as a list",
            "send the objects one by one, or in a v1/List",
            document=index,
            path="items",
            line=line,
        )
    return _items(body, index, line)


def _items(body: Mapping[str, Any], index: int, line: int | None) -> list[Document]:
    for key in body:
        if key not in _LIST_KEYS:
            raise InvalidDocument(f"a v1/List has no {key!r}", "remove it", document=index, path=key, line=line)
    metadata = body.get("metadata")
    # kubectl prints {"resourceVersion": ""} on the lists that it makes.
    if metadata not in (None, {}, {"resourceVersion": ""}):
        raise InvalidDocument(
            "the metadata of a v1/List is empty", "remove it", document=index, path="metadata", line=line
        )
    items = body.get("items")
    if not isinstance(items, list):
        raise InvalidDocument(
            "items is not a list", "make it a list of objects", document=index, path="items", line=line
        )
    unfolded = []
    for position, item in enumerate(items):
        prefix = f"items[{position}]"
        if not isinstance(item, dict):
            raise InvalidDocument(
                f"{prefix} is {_described(item)}, not an object", document=index, path=prefix, line=line
            )
        if "items" in item or item.get("kind") == "List":
            raise InvalidDocument(
                f"{prefix} is a list inside a list",
                "send its objects directly",
                document=index,
                path=f"{prefix}.items",
                line=line,
            )
        unfolded.append(_object(item, index, prefix, line))
    return unfolded


def _object(body: Mapping[str, Any], index: int, prefix: str, line: int | None) -> Document:
    """The document, after what tells objects apart has been shown to be plain."""

    def refuse(path: str, message: str, hint: str) -> InvalidDocument:
        where = f"{prefix}.{path}" if prefix else path
        return InvalidDocument(f"document {index}: {message}", hint, document=index, path=where, line=line)

    if not _matches(_API_VERSION, body.get("apiVersion")):
        raise refuse("apiVersion", f"apiVersion is {_described(body.get('apiVersion'))}", "write it like v1 or apps/v1")
    if not _matches(_KIND, body.get("kind")):
        raise refuse("kind", f"kind is {_described(body.get('kind'))}", "write it like DaemonSet")
    metadata = body.get("metadata")
    if not isinstance(metadata, dict):
        raise refuse("metadata", f"metadata is {_described(metadata)}", "give the object a metadata.name")
    if "generateName" in metadata:
        raise refuse("metadata.generateName", "generateName leaves the name to the API server", "write metadata.name")
    if not _matches(_NAME, metadata.get("name")):
        raise refuse(
            "metadata.name",
            f"metadata.name is {_described(metadata.get('name'))}",
            "use lower-case letters, digits, '-' and '.'",
        )
    namespace = metadata.get("namespace")
    if namespace is not None and not _matches(_NAMESPACE, namespace):
        raise refuse(
            "metadata.namespace",
            f"metadata.namespace is {_described(namespace)}",
            "use lower-case letters, digits and '-'",
        )
    return Document(index=index, body=body, prefix=prefix)


def _refuse_repeated(documents: Sequence[Document]) -> None:
    """kubectl would apply both in turn, and the second would undo what was judged of the first."""
    seen: dict[tuple[str, str, str | None, str], Document] = {}
    for document in documents:
        # The group, not the version: v1 and v2 of a group are the same object.
        group = document.api_version.rpartition("/")[0]
        identity = (group, document.kind, document.namespace, document.name)
        if identity in seen:
            raise InvalidDocument(
                f"{document.kind} {document.name} is in document {seen[identity].index} and again in {document.index}",
                "keep one of them",
                document=document.index,
                path=f"{document.prefix}.metadata.name" if document.prefix else "metadata.name",
            )
        seen[identity] = document


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _described(value: object) -> str:
    """A value in a message: its type, or the value itself, cut."""
    if value is None:
        return "missing"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 80 else text[:77] + "…"
