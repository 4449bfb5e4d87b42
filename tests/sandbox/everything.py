"""Every object of every kind in every namespace, in a form that two moments can be compared by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from tests.sandbox.api import Api, wait_until

# What the cluster writes by itself all the time, and what nothing stores.
_RESTLESS = frozenset({"events", "leases", "componentstatuses"})
_VOLATILE = frozenset({"managedFields", "resourceVersion", "selfLink"})
_SETTLED_WITHIN_S = 300.0


def everything(api: Api) -> dict[str, str]:
    """A digest of each object by its path, once nothing is on its way out; status and bookkeeping are left out.

    Raises: SandboxError.
    """
    found: dict[str, str] = {}

    def settled() -> bool:
        found.clear()
        leaving = False
        for path, body in _objects(api):
            metadata = body["metadata"]
            leaving = leaving or "deletionTimestamp" in metadata
            found[f"{path}/{metadata.get('namespace', '-')}/{metadata['name']}"] = _digest(body)
        return not leaving

    wait_until("nothing is being removed", settled, within_s=_SETTLED_WITHIN_S)
    return dict(found)


def _objects(api: Api) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in _lists(api):
        answer = api.get(path)
        if answer.status not in {404, 405}:  # a kind that has gone meanwhile, or cannot be listed
            for body in answer.require(f"list {path}")["items"]:
                yield path, body


def _lists(api: Api) -> Iterator[str]:
    """The path of each kind's list, by the version that its group prefers."""
    groups = api.get("/apis").require("list the groups")["groups"]
    for version in ("/api/v1", *(f"/apis/{group['preferredVersion']['groupVersion']}" for group in groups)):
        answer = api.get(version)
        for kind in answer.require(f"list {version}")["resources"] if answer.status != 404 else ():
            if "list" in kind["verbs"] and kind["name"] not in _RESTLESS:
                yield f"{version}/{kind['name']}"


def _digest(body: dict[str, Any]) -> str:
    metadata = {name: value for name, value in body["metadata"].items() if name not in _VOLATILE}
    kept = {name: value for name, value in body.items() if name not in {"metadata", "status"}}
    return hashlib.sha256(json.dumps({**kept, "metadata": metadata}, sort_keys=True).encode()).hexdigest()
