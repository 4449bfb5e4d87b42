"""The deliberate weakenings of ``mutations.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
FILE = Path(__file__).parent / "mutations.yaml"


@dataclass(frozen=True, slots=True)
class Mutation:
    """``text`` of ``file`` becomes ``instead``; ``tests`` (files, or single tests) have to fail then."""

    name: str
    file: str
    text: str
    instead: str
    tests: tuple[str, ...]

    def occurrences(self, root: Path = ROOT) -> int:
        """How often ``text`` stands in the file."""
        return (root / self.file).read_text("utf-8").count(self.text)


@lru_cache(maxsize=1)
def mutations() -> tuple[Mutation, ...]:
    """All of them, in the order of the file."""
    rows = yaml.safe_load(FILE.read_text("utf-8"))
    return tuple(Mutation(row["name"], row["file"], row["text"], row["instead"], tuple(row["tests"])) for row in rows)
