"""What tests of documents share: commands as a document shows them, and the CLI that they call. Not a test."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.unit.cli.in_process import run_verb

ROOT = Path(__file__).resolve().parent.parent.parent
_CLI = (sys.executable, "-m", "obi_mcp")
# Verbs that start nothing and leave this process as it was.
_PRINTING = frozenset({"policy", "config", "tools", "completion", "rbac"})
_NAMES = ("obi-mcp", ".venv/bin/obi-mcp")


@dataclass(frozen=True, slots=True)
class Shown:
    """A command with the output that a ``console`` block shows, and the exit code of an ``echo $?`` after it."""

    command: str
    output: tuple[str, ...]
    exit_code: int | None


def transcripts(document: Path) -> list[Shown]:
    """Every command of every ``console`` block."""
    return [shown for block in fenced(document, "console") for shown in shown_in(block)]


def shown_in(block: str) -> list[Shown]:
    """Every command of one ``console`` block."""
    found: list[Shown] = []
    for part in block.split("$ ")[1:]:
        command, *output = part.rstrip("\n").split("\n")
        if command == "echo $?":
            found[-1] = Shown(found[-1].command, found[-1].output, int(output[0]))
        else:
            found.append(Shown(command, tuple(output), None))
    return found


def fenced(document: Path, language: str) -> list[str]:
    """The contents of the fenced blocks of a language."""
    blocks: list[str] = []
    lines: list[str] | None = None
    for line in document.read_text(encoding="utf-8").splitlines():
        if lines is None and line.strip() == f"```{language}":
            lines = []
        elif lines is not None and line.strip() == "```":
            blocks.append("\n".join(lines) + "\n")
            lines = None
        elif lines is not None:
            lines.append(line)
    return blocks


def run_cli(words: Sequence[str], **more: str) -> subprocess.CompletedProcess[str]:
    """``obi-mcp …`` without the configuration of whoever runs the tests: as a process, unless the verb only prints."""
    assert words[0] in _NAMES, words
    environment: Mapping[str, str] = {
        name: value for name, value in os.environ.items() if not name.startswith("OBI_MCP_")
    } | {"XDG_CONFIG_HOME": "/nonexistent", **more}
    if words[1] in _PRINTING or words[-1] == "--help":
        with contextlib.chdir(ROOT):
            return run_verb(tuple(words[1:]), b"", environment)
    return subprocess.run(
        [*_CLI, *words[1:]],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
