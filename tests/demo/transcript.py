"""What the demo prints, as it happens."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import TextIO

WIDTH = 160
MOST_LINES = 16


@dataclass(slots=True)
class Transcript:
    """Numbered steps, each with its command, the beginning of its output, and what the policy said."""

    stream: TextIO = field(default_factory=lambda: sys.stdout)
    number: int = 0
    omitted: int = 0
    began: float = field(default_factory=time.monotonic)

    def heading(self, title: str) -> None:
        self.number += 1
        self._write(f"\n{self.number:2}. {title}")

    def left_out(self, title: str, why: str) -> None:
        self.number += 1
        self.omitted += 1
        self._write(f"\n{self.number:2}. {title}\n    LEFT OUT: {why}")

    def end(self) -> None:
        """The last line: how many steps there were, and how many were left out."""
        omitted = f", {self.omitted} left out" if self.omitted else ""
        self.progress(f"done: {self.number - self.omitted} steps as expected{omitted}, and everything was stopped")

    def progress(self, text: str) -> None:
        """A line of set-up, with the seconds since the demo began."""
        self._write(f"[{time.monotonic() - self.began:5.1f} s] {text}")

    def command(self, tool: str, command: str, stdin: str | None) -> None:
        self._write(f"    {tool}: {command}")
        if stdin is not None:
            self._lines(stdin.rstrip("\n"), "    stdin | ")

    def output(self, text: str) -> None:
        self._lines(text.rstrip("\n"), "    > ")

    def line(self, text: str) -> None:
        self._write(f"    {text}")

    def refusal(self, code: str, message: str) -> None:
        self._write(f"    REFUSED ({code}): {message}")

    def note(self, text: str) -> None:
        self._write(f"    · {text}")

    def _lines(self, text: str, before: str) -> None:
        lines = text.split("\n")
        for line in lines[:MOST_LINES]:
            self._write(f"{before}{line if len(line) <= WIDTH else line[: WIDTH - 1] + '…'}")
        if len(lines) > MOST_LINES:
            self._write(f"{before}… {len(lines) - MOST_LINES} more lines")

    def _write(self, text: str) -> None:
        print(text, file=self.stream, flush=True)
