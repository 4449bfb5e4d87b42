"""What the validator says: one thing that is wrong or doubtful, where, what was meant, and what OBI would do of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]
Does = Literal["ignored", "exits", "ends", "starts", "without", "unknown"]
Evidence = Literal["recorded", "run", "documented", "unknown"]
Program = Literal["obi", "beyla"]
PROGRAMS: tuple[Program, ...] = ("obi", "beyla")
PROGRAM_NAMES: dict[Program, str] = {"obi": "OBI", "beyla": "Beyla"}

_DOES: dict[Does, str] = {
    "ignored": "ignores it silently",
    "exits": "ends with exit code 255",
    "ends": "ends with exit code 0, as if all were well",
    "starts": "starts and takes it",
    "without": "runs, but without what was asked",
    "unknown": "does what we do not know",
}


@dataclass(frozen=True, slots=True)
class Effect:
    """What the program itself does with it, and how we know.

    ``does``: ignored (drops it silently), exits (255, with ``says`` in its log), ends (0), starts (takes it as it
    stands), without (runs, but what was asked does not happen), unknown. ``evidence``: recorded (a run of OBI that is
    kept), run (on Beyla, which the integration tests repeat), documented (``source`` is the address), unknown.
    """

    does: Does
    says: str
    evidence: Evidence
    source: str
    program: Program = "obi"

    def __str__(self) -> str:
        said = f": {self.says}" if self.says else ""
        source = f", {self.source}" if self.source else ""
        return f"{PROGRAM_NAMES[self.program]} {_DOES[self.does]}{said} ({self.evidence}{source})"


@dataclass(frozen=True, slots=True)
class ConfigFinding:
    """One thing that is wrong (``error``: OBI would not start, or not do it) or doubtful (``warning``).

    ``rule`` is yaml, unknown-key, value, version, pipeline, exporter, target, conflict, secret, environment,
    deprecated, beyla or disagreement; ``case`` names the one rule more closely (``value.duration``). ``key`` is
    dotted, empty for the whole document, a variable's name for ``environment``; line and column count from 1 and
    point at the key, 0 where it is not in the document. ``expected``: what should have been there, in words;
    ``nearest``: the key or word that was probably meant.
    """

    rule: str
    severity: Severity
    key: str
    line: int
    column: int
    message: str
    hint: str | None = None
    expected: str | None = None
    nearest: str | None = None
    case: str = ""
    effect: Effect | None = None

    def __str__(self) -> str:
        where = f"line {self.line}, column {self.column}:" if self.line else "environment:"
        key = f" {self.key}:" if self.key else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{where}{key} {self.message}{hint}"
