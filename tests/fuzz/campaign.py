"""A run: chunks of lines with seeds of their own, over several processes."""

from __future__ import annotations

import itertools
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.generator import Generator, Seeds
from tests.fuzz.judge import Judge, Tally
from tests.fuzz.oracle import ROOT, Oracles, binaries

from obi_mcp.config import Settings
from obi_mcp.policy.engine import Policy

CHUNK = 2000
_TOLD_EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class Campaign:
    """``lines`` and ``seconds`` bound the run, whichever comes first. INVARIANT: lines depend on the seed alone."""

    seed: str
    lines: int | None = None
    seconds: float | None = None
    jobs: int = 4

    def run(self, *, progress: bool = False) -> Tally:
        """All that was seen."""
        paths = binaries()
        # Here, so that a policy that cannot be loaded is told once; the pool would start its processes for ever.
        policy = Policy.load(Settings())
        total, told = Tally(), time.monotonic()
        with multiprocessing.get_context("fork").Pool(self.jobs, _start, (paths, policy)) as pool:
            for tally in pool.imap_unordered(_chunk, self._chunks()):
                total.add(tally)
                if progress and time.monotonic() - told > _TOLD_EVERY_S:
                    told = time.monotonic()
                    print(f"  {total.counts['lines']} lines, {len(total.findings)} findings", file=sys.stderr)
            pool.close()
            pool.join()
        return total

    def _chunks(self) -> Iterator[tuple[str, int]]:
        started = time.monotonic()
        for at in itertools.count():
            left = CHUNK if self.lines is None else self.lines - at * CHUNK
            if left <= 0 or (self.seconds is not None and time.monotonic() - started > self.seconds):
                return
            yield f"{self.seed}/{at}", min(CHUNK, left)


@contextmanager
def judging(*, fresh: bool = False) -> Iterator[Judge]:
    """A judge over the shipped policy, with oracles that end with it. ``fresh``: slow ones that keep no state."""
    oracles = Oracles(binaries(), fresh=fresh)
    try:
        yield Judge(Policy.load(Settings()), oracles)
    finally:
        oracles.close()


def bin_directory() -> Path:
    """The directory of the pinned programs."""
    argv = [sys.executable, str(ROOT / "image/programs.py"), "--print-bin"]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True)
    return Path(done.stdout.splitlines()[-1])


@dataclass(slots=True)
class _Worker:
    judge: Judge
    seeds: Seeds


_WORKERS: list[_Worker] = []


def _start(paths: dict[str, str], policy: Policy) -> None:
    """In each process of the pool: what its chunks have in common."""
    _WORKERS.append(_Worker(Judge(policy, Oracles(paths)), Seeds.load()))


def _chunk(task: tuple[str, int]) -> Tally:
    seed, count = task
    worker = _WORKERS[0]
    generator = Generator(seed, worker.judge.grammars, worker.seeds)
    return worker.judge.judge([generator.line() for _ in range(count)])
