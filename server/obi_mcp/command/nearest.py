"""The word that was probably meant by one that is not known."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like ``word``; None when nothing is near, or ``word`` is a single letter."""
    if len(word) < 2:
        return None
    import difflib  # nearly every line knows its words

    found = difflib.get_close_matches(word, list(known), 1, 0.7)
    return found[0] if found else None
