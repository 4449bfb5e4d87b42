"""The server's own reads of the cluster, by the warm channel: objects by exact name, and lists by selector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote, urlencode

from obi_mcp.errors import ClusterUnreachable, ProgramFailed
from obi_mcp.policy.model import Resource

PAGE = 500
MAX_OBJECTS = 20_000


class Reader(Protocol):
    """What the warm channel offers: one GET of an API path; the status and the parsed body."""

    async def get_json(self, path: str, *, timeout_s: float = ...) -> tuple[int, Mapping[str, Any]]: ...


@dataclass(frozen=True, slots=True)
class Listed:
    """A list as it was at ``version``, the API server's word for that moment."""

    objects: tuple[Mapping[str, Any], ...]
    version: str


class Cluster:
    """Reads of one context. Nothing here writes, and every path is built from parts that are quoted."""

    def __init__(self, reader: Reader, *, timeout_s: float = 10.0) -> None:
        self._reader = reader
        self._timeout_s = timeout_s

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Mapping[str, Any] | None:
        """The object of exactly that name, or None. Raises: ClusterUnreachable, ProgramFailed (403 and others)."""
        path = f"{collection(resource, namespace)}/{quote(name, safe='')}"
        status, body = await self._reader.get_json(path, timeout_s=self._timeout_s)
        if status == 404:
            return None
        return _checked(status, body, f"{resource.plural} {name}", namespace)

    async def list(
        self, resource: Resource, namespace: str | None, selector: str, fields: str = ""
    ) -> tuple[Mapping[str, Any], ...]:
        """Every object that the selector matches; ``namespace`` None: in all of them. Raises: as ``listed``."""
        return (await self.listed(resource, namespace, selector, fields)).objects

    async def listed(self, resource: Resource, namespace: str | None, selector: str, fields: str = "") -> Listed:
        """The same, with the version from which a watch goes on; page by page.

        Raises: ClusterUnreachable; ProgramFailed for 403, a missing resource type, or more than 20,000 objects.
        """
        found: list[Mapping[str, Any]] = []
        token = version = ""
        while True:
            query = {"limit": str(PAGE)}
            if selector:
                query["labelSelector"] = selector
            if fields:
                query["fieldSelector"] = fields
            if token:
                query["continue"] = token
            path = f"{collection(resource, namespace)}?{urlencode(query)}"
            status, body = await self._reader.get_json(path, timeout_s=self._timeout_s)
            page = _checked(status, body, resource.plural, namespace)
            # Items of a list carry no kind of their own; the judges want one.
            typed = {"apiVersion": page.get("apiVersion", ""), "kind": resource.kind}
            found.extend({**typed, **item} for item in page.get("items") or ())
            metadata = page.get("metadata") or {}
            # Every page is of the same moment, that of the first.
            version = version or str(metadata.get("resourceVersion") or "")
            token = metadata.get("continue") or ""
            if not token:
                return Listed(tuple(found), version)
            if len(found) > MAX_OBJECTS:
                raise ProgramFailed(
                    f"more than {MAX_OBJECTS} {resource.plural} match {selector!r}", "name a namespace, or the objects"
                )


def collection(resource: Resource, namespace: str | None) -> str:
    """The API path of a collection: ``/apis/apps/v1/namespaces/obi/daemonsets``."""
    if namespace is None or not resource.namespaced:
        return f"{resource.api_path}/{resource.plural}"
    return f"{resource.api_path}/namespaces/{quote(namespace, safe='')}/{resource.plural}"


def _checked(status: int, body: Mapping[str, Any], what: str, namespace: str | None) -> Mapping[str, Any]:
    if status == 200:
        return body
    where = f" in namespace {namespace}" if namespace else ""
    said = str(body.get("message", ""))[:300]
    if status in {401, 403}:
        raise ProgramFailed(
            f"the API server does not let this server read {what}{where} ({status}): {said}",
            "give the server's account this right (obi-mcp doctor names what it needs)",
        )
    if status >= 500 or status == 429:
        raise ClusterUnreachable(
            f"the API server answered {status} for {what}{where}: {said}", "try again when the API server is well"
        )
    raise ProgramFailed(f"the API server answered {status} for {what}{where}: {said}", "check that this kind exists")
