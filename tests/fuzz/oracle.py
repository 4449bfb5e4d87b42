"""The oracles as running processes: argument vectors in, what the real program reads out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Reading:
    """What the program made of one vector. ``dash`` is -1 without ``--``; ``before`` is what it found outside cobra."""

    path: tuple[str, ...]
    flags: tuple[tuple[str, str], ...]
    values: Mapping[str, str | list[str]]
    operands: tuple[str, ...]
    dash: int
    error: str
    before: Mapping[str, Any]

    @property
    def first_pass(self) -> tuple[tuple[str, str], ...]:
        """The flags that helm set in its first reading."""
        return tuple((name, text) for name, text in self.before.get("flags", ()))


class Process:
    """One child that answers NDJSON lines in their order. Close it."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        # One thread: several of these run at once, and the machine is shared.
        base = {"GOMAXPROCS": "1", "HOME": "/nonexistent", "PATH": "/nonexistent"}
        self._child = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=base | dict(environment or {}),
            text=True,
            encoding="utf-8",
        )

    def ask(self, questions: Sequence[Any]) -> list[Any]:
        """One answer a question. Raises: RuntimeError where the child ended."""
        if not questions:
            return []
        stdin, stdout = self._child.stdin, self._child.stdout
        assert stdin is not None and stdout is not None
        text = "".join(json.dumps(question, ensure_ascii=False) + "\n" for question in questions) + "\n"
        writer = threading.Thread(target=_write, args=(stdin, text))
        writer.start()
        answers = [json.loads(line) for _, line in zip(questions, stdout, strict=False)]
        writer.join()
        if len(answers) != len(questions):
            raise RuntimeError(f"the oracle answered {len(answers)} of {len(questions)} lines")
        return answers

    def close(self) -> None:
        """End the child."""
        assert self._child.stdin is not None and self._child.stdout is not None
        self._child.stdin.close()
        self._child.stdout.close()
        self._child.wait()


def _write(stdin: IO[str], text: str) -> None:
    try:
        stdin.write(text)
        stdin.flush()
    except BrokenPipeError:
        return  # the answers that are missing say so


class Oracles:
    """The readings of kubectl, helm and obi. Close it."""

    def __init__(self, binaries: Mapping[str, str], *, fresh: bool = False) -> None:
        extra = ("-fresh",) if fresh else ()
        self._processes = {
            "kubectl": Process([binaries["kubectl"], *extra]),
            "helm": Process([binaries["helm"], *extra]),
            "obi": Process([binaries["kubectl"], "-read=obi"]),
        }

    def read(self, vectors: Sequence[Sequence[str]]) -> list[Reading]:
        """How each vector (with its program) is read by its program."""
        found: list[Reading | None] = [None] * len(vectors)
        for program, process in self._processes.items():
            mine = [at for at, vector in enumerate(vectors) if vector[0] == program]
            for at, answer in zip(mine, process.ask([vectors[at][1:] for at in mine]), strict=True):
                found[at] = _reading(answer)
        return [one for one in found if one is not None]

    def close(self) -> None:
        """End all of them."""
        for process in self._processes.values():
            process.close()


def _reading(answer: Mapping[str, Any]) -> Reading:
    return Reading(
        path=tuple(answer["path"]),
        flags=tuple((name, text) for name, text in answer["flags"]),
        values=answer["values"],
        operands=tuple(answer["operands"]),
        dash=answer["dash"],
        error=answer.get("error", ""),
        before=answer.get("before") or {},
    )


def binaries() -> dict[str, str]:
    """The paths of the built oracles by program, built now where they are not in the cache."""
    argv = [sys.executable, str(ROOT / "image/programs.py"), "--oracle"]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True, env=dict(os.environ))
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())
