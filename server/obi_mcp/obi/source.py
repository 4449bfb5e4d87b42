"""The v1 document that a migration takes keys from, as its parts see it."""

from __future__ import annotations

from typing import Any, Protocol


class Source(Protocol):
    """Keys are dotted; what is still there at the end was not moved, and is reported."""

    def peek(self, key: str) -> Any:
        """A value that is still there, or None."""

    def take(self, key: str) -> Any:
        """The same, and it counts as moved."""

    def put(self, target: str, value: Any) -> bool:
        """Writes a v2 key (``~`` is extensions.obi). False where this mode has no such place."""

    def keep(self, key: str, reason: str) -> None:
        """Says why a key stays behind."""

    def note(self, text: str) -> None:
        """Something to look at in the result."""
