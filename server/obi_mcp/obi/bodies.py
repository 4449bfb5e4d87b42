"""An object of the cluster as JSON data, and the questions that are asked of any kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Object = Mapping[str, Any]
"""As the API server gives it; whatever an author may leave out can be missing, or null."""


def at(thing: Any, *path: str) -> Any:
    """What stands at a path of keys; None where a step of it is missing."""
    for step in path:
        if not isinstance(thing, Mapping):
            return None
        thing = thing.get(step)
    return thing


def name_of(thing: Object) -> str:
    """Its ``metadata.name``; empty where it has none."""
    return str(at(thing, "metadata", "name") or "")


def is_ready(thing: Object) -> bool:
    """Whether the condition Ready of a pod or a node is true."""
    return any(
        condition.get("type") == "Ready" and condition.get("status") == "True"
        for condition in at(thing, "status", "conditions") or ()
    )
