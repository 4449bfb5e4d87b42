"""What others wrote beside an object that is changed: labels and annotations that no change of ours is about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from obi_mcp.policy.manifest.walk import LONGEST_KEY, below

if TYPE_CHECKING:
    from collections.abc import Mapping


def standing_metadata(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> frozenset[str]:
    """The paths of the object's own labels and annotations that were there before and stay as they were.

    Rancher, Argo CD, Reloader and people mark what they look after; an object so marked could otherwise never be
    changed again. Those of a pod template are not meant: they are read when pods are made, by whatever injects.
    Keys that a path would cut are left out: another one could have the same path.
    """
    was, stays = (before or {}).get("metadata"), after.get("metadata")
    if not isinstance(was, dict) or not isinstance(stays, dict):
        return frozenset()
    return frozenset(
        below(f"metadata.{part}", key)
        for part in ("labels", "annotations")
        if isinstance(had := was.get(part), dict) and isinstance(has := stays.get(part), dict)
        for key, value in has.items()
        if len(key) <= LONGEST_KEY and isinstance(value, str) and had.get(key) == value
    )
