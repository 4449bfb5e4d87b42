"""Typed objects as the API server takes them.

What is None or empty is left out, so that an object holds exactly what was decided about.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, fields, is_dataclass
from typing import Any

from obi_mcp.obi.manifests.kinds import KubernetesObject


def body_of(thing: KubernetesObject) -> dict[str, Any]:
    """The object as JSON data: apiVersion, kind, metadata, then the rest in the order of its fields."""
    return {"apiVersion": thing.api_version, "kind": thing.kind, **plain(thing)}


def plain(value: Any) -> Any:
    """A typed part as JSON data, in Kubernetes' spelling, without what is None or empty."""
    if is_dataclass(value) and not isinstance(value, type):
        parts = {_spelling(item): plain(getattr(value, item.name)) for item in fields(value)}
        return {name: part for name, part in parts.items() if part is not None and part not in ("", [], {})}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return dict(value)
    return value


def _spelling(item: Field[Any]) -> str:
    if "as" in item.metadata:
        return str(item.metadata["as"])
    first, *rest = item.name.split("_")
    return first + "".join(word.capitalize() for word in rest)
