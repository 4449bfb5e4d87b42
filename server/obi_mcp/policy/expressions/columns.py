"""``-o custom-columns=HEADER:PATH,…``: every path is judged.

Source of fact: ``kubectl/pkg/cmd/get/customcolumn.go`` (kubectl 1.36): split at every comma, then at the first colon.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from obi_mcp.policy.expressions import ExpressionDenied, check_size
from obi_mcp.policy.expressions.jsonpath import check_relaxed

if TYPE_CHECKING:
    from obi_mcp.policy.expressions.paths import Paths


def check(text: str, paths: Paths) -> None:
    """Judge the specification after ``custom-columns=``. Raises: ExpressionDenied."""
    check_size(text)
    offset = 0
    for part in text.split(","):
        header, colon, path = part.partition(":")
        if not colon or not path:
            hint = "write custom-columns=NAME:.metadata.name"
            raise ExpressionDenied(f"{part!r} is not HEADER:PATH", offset + 1, hint)
        check_relaxed(path, paths, offset=offset + len(header) + 1)
        offset += len(part) + 1
