"""One step of a build: a child process whose output goes to a log and whose life is told on standard error."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

HEARTBEAT_S = 10.0
GRACE_S = 5.0
TAIL_LINES = 15
TAIL_BYTES = 64 * 1024


class BuildFailed(Exception):
    """A program could not be made; the text says which step failed and what to do."""


def say(text: str) -> None:
    """One line of progress on standard error."""
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Steps:
    """Runs the steps of one build. ``title`` is what is being made, ``log`` takes all output."""

    title: str
    log: Path

    def run(self, argv: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str] | None = None) -> None:
        """Run one command to its end, with a line of progress every HEARTBEAT_S. Raises: BuildFailed."""
        words = [str(word) for word in argv]
        with self.log.open("ab") as log:
            log.write(f"\n$ {' '.join(words)}\n".encode())
            try:
                child = subprocess.Popen(
                    words,
                    cwd=cwd,
                    env=env,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                raise BuildFailed(f"{self.title}: {words[0]} cannot be started: {error}") from error
            try:
                self._follow(child, log)
            finally:
                _end_group(child)
        if child.returncode != 0:
            raise BuildFailed(
                f"{self.title}: {' '.join(words[:3])} … ended with {child.returncode}; "
                f"the end of {self.log}:\n{self._tail()}"
            )

    def _follow(self, child: subprocess.Popen[bytes], log: IO[bytes]) -> None:
        """Copy the child's output to the log until it ends, telling the newest line at intervals."""
        assert child.stdout is not None
        started = told = time.monotonic()
        newest = b""
        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ)
            while True:
                if selector.select(timeout=HEARTBEAT_S):
                    block = os.read(child.stdout.fileno(), 1 << 16)
                    if not block:
                        break
                    log.write(block)
                    newest = block.rstrip().rsplit(b"\n", 1)[-1] or newest
                if time.monotonic() - told >= HEARTBEAT_S:
                    told = time.monotonic()
                    line = newest.decode(errors="replace")[:90]
                    say(f"  {self.title}: {told - started:.0f} s … {line}")
        child.wait()

    def _tail(self) -> str:
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - TAIL_BYTES))
            lines = log.read().decode(errors="replace").splitlines()
        return "\n".join(lines[-TAIL_LINES:])


def _end_group(child: subprocess.Popen[bytes]) -> None:
    """Stop what is left of a step that was interrupted; one that ended by itself is already reaped."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGTERM)
        try:
            child.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    if child.stdout is not None:
        child.stdout.close()
