"""The API server, as the sandbox itself talks to it: small, quick, and no program in between."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from tests.sandbox.instance import SandboxError

TIMEOUT_S = 60.0
_POLL_S = 0.02
# Everything that the API server knows, as kubectl asks for it.
_DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API server said; ``body`` is parsed where it is JSON, text otherwise."""

    status: int
    body: Any

    def require(self, doing: str, *accepted: int) -> Any:
        """The body. Raises: SandboxError when the status is neither a success nor accepted."""
        if self.status < 300 or self.status in accepted:
            return self.body
        said = self.body.get("message", "") if isinstance(self.body, dict) else self.body
        raise SandboxError(f"{doing}: {self.status} {said}")


@dataclass(frozen=True, slots=True)
class Api:
    """A client with one identity. Each request has a connection of its own, so that threads may share a client."""

    server: str
    token: str
    authority: Path

    def get(self, path: str) -> Answer:
        return self.request("GET", path)

    def post(self, path: str, document: dict[str, Any]) -> Answer:
        return self.request("POST", path, json.dumps(document).encode(), "application/json")

    def request(
        self,
        verb: str,
        path: str,
        body: bytes | None = None,
        kind: str = "application/json",
        accept: str = "application/json",
    ) -> Answer:
        """One request. Raises: OSError or http.client.HTTPException where nothing answers."""
        place = urlsplit(self.server)
        context = ssl.create_default_context(cafile=str(self.authority))
        connection = http.client.HTTPSConnection(
            place.hostname or "", place.port or 443, timeout=TIMEOUT_S, context=context
        )
        try:
            connection.request(
                verb,
                path,
                body,
                {"Authorization": f"Bearer {self.token}", "Accept": accept, "Content-Type": kind},
            )
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
            parsed = json.loads(text) if answer.headers.get_content_type() == "application/json" and text else text
            return Answer(answer.status, parsed)
        finally:
            connection.close()

    def ready(self) -> bool:
        """Whether /readyz says so; False too while nothing listens."""
        try:
            return self.get("/readyz").status == 200
        except (OSError, http.client.HTTPException):
            return False

    def serves(self, group: str, version: str, *plurals: str) -> bool:
        """Whether these kinds can be listed, and kubectl finds them: that follows their definition by and by."""
        if not all(self.get(f"/apis/{group}/{version}/{plural}").status == 200 for plural in plurals):
            return False
        known = self.request("GET", "/apis", accept=_DISCOVERY).require("ask what is served")["items"]
        found = {
            (one["metadata"]["name"], in_version["version"], kind["resource"])
            for one in known
            for in_version in one["versions"]
            for kind in in_version.get("resources", ())
        }
        return found >= {(group, version, plural) for plural in plurals}

    def node_ready(self, name: str) -> bool:
        answer = self.get(f"/api/v1/nodes/{name}")
        return answer.status == 200 and _condition(answer.body, "Ready")

    def pods(self, namespace: str, selector: str = "") -> list[dict[str, Any]]:
        """The pods of a namespace, those that ``selector`` selects."""
        query = f"?labelSelector={quote(selector)}" if selector else ""
        items: list[dict[str, Any]] = self.get(f"/api/v1/namespaces/{namespace}/pods{query}").require("list pods")[
            "items"
        ]
        return items


def pod_ready(pod: dict[str, Any]) -> bool:
    """Whether a pod's condition Ready is true."""
    return _condition(pod, "Ready")


def wait_until(
    what: str, reached: Callable[[], bool], *, within_s: float, check: Callable[[], None] | None = None
) -> None:
    """Poll until a condition holds; ``check`` runs between and may raise.

    Raises: SandboxError when it does not hold in time.
    """
    deadline = time.monotonic() + within_s
    while not reached():
        if check is not None:
            check()
        if time.monotonic() > deadline:
            raise SandboxError(f"{what}: not within {within_s:.0f} s")
        time.sleep(_POLL_S)


def _condition(document: dict[str, Any], kind: str) -> bool:
    conditions = document.get("status", {}).get("conditions", [])
    return any(one["type"] == kind and one["status"] == "True" for one in conditions)
