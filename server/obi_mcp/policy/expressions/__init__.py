"""What kubectl renders before anything can be redacted, and the programs that jq runs: parsed and judged.

``jsonpath``, ``columns``, ``gotemplate`` and ``sortby`` each have ``check(text, paths)``; ``jq`` has
``check_program(text)``. They return nothing and raise ``ExpressionDenied``. ``paths`` comes from
``paths.paths_for(entries)``. A parser here accepts a part of what the real program accepts, and reads that part as the
real program does; everything else is a denial.
"""

from __future__ import annotations

import re

JSON_HINT = "ask for -o json and pipe it through jq (-o json | jq '…'): JSON is redacted before jq reads it"
MAX_EXPRESSION = 4096
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class ExpressionDenied(ValueError):
    """An expression may not be rendered. ``column`` counts characters of the expression from 1."""

    def __init__(self, reason: str, column: int, hint: str = JSON_HINT) -> None:
        super().__init__(f"{reason} (column {column} of the expression)")
        self.reason = reason
        self.column = column
        self.hint = hint


def check_size(text: str) -> None:
    """Raises: ExpressionDenied for an expression of more than 4 KiB, or one that holds control characters."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_EXPRESSION:
        raise ExpressionDenied(f"the expression is longer than {MAX_EXPRESSION} bytes", 1, "make it shorter")
    control = _CONTROL.search(text)
    if control:
        reason = f"the expression holds the control character U+{ord(control[0]):04X}"
        raise ExpressionDenied(reason, control.start() + 1, "leave it out")


__all__ = ["JSON_HINT", "MAX_EXPRESSION", "ExpressionDenied", "check_size"]
