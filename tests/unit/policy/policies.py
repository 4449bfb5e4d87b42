"""The built-in policy, read once for all tests, and the same over a scope with a few fields changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from obi_mcp.config import Settings
from obi_mcp.policy.assembly import assemble
from obi_mcp.policy.engine import Policy


@lru_cache(maxsize=1)
def built_in() -> Policy:
    """The built-in policy over the default scope, validated, its examples not run."""
    return assemble(Settings())[0]


def over(changes: Mapping[str, Any]) -> Policy:
    """The built-in policy over a scope with these fields."""
    policy = built_in()
    if not changes:
        return policy
    plain: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in changes.items()
    }
    return policy.over(replace(policy.scope, **plain))
