"""``--sort-by PATH``: an order tells about what it orders by, so the path is judged like one that is printed.

Source of fact: ``kubectl/pkg/cmd/get/sorter.go`` (kubectl 1.36).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from obi_mcp.policy.expressions.jsonpath import check_relaxed

if TYPE_CHECKING:
    from obi_mcp.policy.expressions.paths import Paths


def check(text: str, paths: Paths) -> None:
    """Judge the value of ``--sort-by``; an empty one sorts by nothing. Raises: ExpressionDenied."""
    if text:
        check_relaxed(text, paths)
