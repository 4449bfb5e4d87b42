"""The fenced blocks of a document, each with the mark above it that says how it is tested."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
_FENCE = re.compile(r"(?P<indent> *)```(?P<language>[\w-]*)")
_MARK = re.compile(r"<!-- test: (?P<mark>.+?) -->")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block. ``mark`` is empty where nothing says how it is tested."""

    path: Path
    line: int
    language: str
    text: str
    mark: str = ""

    @property
    def kind(self) -> str:
        """The first word of the mark."""
        return self.mark.partition(" ")[0]

    @property
    def words(self) -> tuple[str, ...]:
        """The other words of the mark."""
        return tuple(self.mark.split()[1:])

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(line for line in self.text.splitlines() if line.strip())

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"


def marked_documents() -> list[Path]:
    """The documents in which every block carries a mark."""
    folders = ("examples", "guides", "troubleshooting")
    return sorted([*(path for name in folders for path in (DOCS / name).rglob("*.md")), DOCS / "faq.md"])


def all_documents() -> list[Path]:
    return sorted((*ROOT.glob("*.md"), *DOCS.rglob("*.md")))


def blocks(path: Path) -> list[Block]:
    """Every fenced block of a document, in order."""
    return list(_blocks(path))


def marked(*kinds: str) -> list[Block]:
    """The blocks of the marked documents whose mark is one of these."""
    return [block for path in marked_documents() for block in blocks(path) if block.kind in kinds]


def _blocks(path: Path) -> Iterator[Block]:
    opened: tuple[int, str, str, str] | None = None
    inside: list[str] = []
    before = ""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if opened is None:
            if (fence := _FENCE.fullmatch(line.rstrip())) is not None:
                mark = _MARK.fullmatch(before.strip())
                opened = (number, fence["language"], mark["mark"] if mark else "", fence["indent"])
                inside = []
            elif line.strip():
                before = line
        elif line.strip() == "```":
            start, language, mark_text, indent = opened
            text = "\n".join(entry.removeprefix(indent) for entry in inside) + "\n"
            yield Block(path, start, language, text, mark_text)
            opened, before = None, ""
        else:
            inside.append(line)
