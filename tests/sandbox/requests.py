"""What was asked of an instance's API server, and by whom, as the API server itself wrote it down."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.sandbox.instance import Instance

POLICY = Path(__file__).resolve().parent / "config" / "audit.yaml"
_WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
# Questions that the API takes as objects and stores nowhere.
_QUESTIONS = frozenset({"selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"})
# The sandbox's own programs, some of which are administrators like the tests.
_OWN_AGENTS = ("cluster/", "kube-", "kwok", "kubelet")


@dataclass(frozen=True, slots=True)
class Request:
    """One request. ``resource`` with its sub-resource (``pods/log``); ``status`` the answer's HTTP status."""

    user: str
    agent: str
    verb: str
    group: str
    resource: str
    namespace: str
    name: str
    dry_run: bool
    status: int
    path: str

    @property
    def writes(self) -> bool:
        """Whether it was to change something that is stored."""
        return self.verb in _WRITES and not self.dry_run and self.resource not in _QUESTIONS


def log_of(instance: Instance) -> Path:
    """Where the API server writes them."""
    return instance.state / "log" / "audit.ndjson"


def requests(instance: Instance, begin: int = 0) -> tuple[tuple[Request, ...], int]:
    """The requests since that place in the log, without the sandbox's own programs', and the place after them."""
    with log_of(instance).open("rb") as log:
        log.seek(begin)
        text = log.read()
    whole = text[: text.rfind(b"\n") + 1]
    made = tuple(_request(json.loads(line)) for line in whole.splitlines())
    return tuple(one for one in made if not one.agent.startswith(_OWN_AGENTS)), begin + len(whole)


def _request(entry: dict[str, Any]) -> Request:
    target = entry.get("objectRef") or {}
    sub = target.get("subresource")
    return Request(
        user=str(entry["user"].get("username", "")),
        agent=str(entry.get("userAgent", "")),
        verb=str(entry["verb"]),
        group=str(target.get("apiGroup", "")),
        resource=str(target.get("resource", "")) + (f"/{sub}" if sub else ""),
        namespace=str(target.get("namespace", "")),
        name=str(target.get("name", "")),
        dry_run="dryRun" in parse_qs(urlsplit(entry["requestURI"]).query),
        status=int((entry.get("responseStatus") or {}).get("code", 0)),
        path=str(entry["requestURI"]),
    )
