"""Makes a finding small."""

from __future__ import annotations
from collections.abc import Sequence
from tests.fuzz.judge import Finding


def record(findings: Sequence[Finding], *, seed: str) -> None:
    pass
