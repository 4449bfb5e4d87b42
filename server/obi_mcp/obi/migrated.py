"""What a migration gives: the new text, and everything of the old one that is not in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Origin = Literal["v1", "v2", "beyla", "ts-obi-mcp"]
Target = Literal["obi-v2", "obi-v1", "obi-mcp"]


@dataclass(frozen=True, slots=True)
class Unmoved:
    """A key (or a variable, then without a line) that is not in the result, and why."""

    key: str
    reason: str
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Migration:
    """The new text, what of the old one is not in it, and what to look at. ``problem``: nothing could be migrated.

    ``source``: what the text was taken for. ``target``: ``obi-v2``, ``obi-v1`` (from Beyla and from the predecessor's
    OBI configuration; migrate it once more for v2), or ``obi-mcp``, a configuration of this server. ``environment``:
    the variables under the names that are read now.
    """

    text: str = ""
    unmoved: tuple[Unmoved, ...] = ()
    notes: tuple[str, ...] = ()
    problem: str | None = None
    source: Origin = "v1"
    target: Target = "obi-v2"
    environment: Mapping[str, str] = field(default_factory=dict)
