"""Whether an output is the one that a document shows."""

from __future__ import annotations

import re
from collections.abc import Sequence

_ANYTHING = "…"


def fits(shown: Sequence[str], printed: Sequence[str]) -> bool:
    """Whether ``printed`` is what is shown: every line of it, in order.

    ``…`` within a line stands for any characters, alone on a line for any lines.
    """
    if not shown:
        return not printed
    first, *rest = shown
    if first.strip() == _ANYTHING:
        return any(fits(rest, printed[start:]) for start in range(len(printed) + 1))
    return bool(printed) and _line(first).fullmatch(printed[0]) is not None and fits(rest, printed[1:])


def _line(shown: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in shown.rstrip().split(_ANYTHING)) + r"\s*")
