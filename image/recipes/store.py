"""Where finished builds are kept: one directory each, named by the hash of all that went into it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from recipes.step import Steps, say

KEY_LENGTH = 16


@dataclass(frozen=True, slots=True)
class Workplace:
    """What a build gets: an empty directory for the result, one for scratch, and a way to run steps."""

    out: Path
    scratch: Path
    steps: Steps


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one thing is made. ``result`` is the file, relative to ``out``, that the build must leave."""

    name: str
    version: str
    result: str
    inputs: tuple[bytes, ...]
    build: Callable[[Workplace], None]

    @property
    def title(self) -> str:
        return f"{self.name} {self.version}"

    @property
    def key(self) -> str:
        """Changes when any input does, and with nothing else."""
        return digest((self.name.encode(), self.version.encode(), self.result.encode(), *self.inputs))


@dataclass(frozen=True, slots=True)
class Store:
    """The directory of builds. Safe for several runs at once: the second waits and takes what the first made."""

    root: Path

    def get(self, recipe: Recipe) -> Path:
        """The recipe's result, built now if it is not there. Raises: BuildFailed."""
        final = self.root / f"{recipe.name}-{recipe.key}"
        result = final / recipe.result
        if result.exists():
            return result
        self.root.mkdir(parents=True, exist_ok=True)
        with self._lock(recipe):
            if not result.exists():
                self._build(recipe, final)
        return result

    def _build(self, recipe: Recipe, final: Path) -> None:
        for leftover in self.root.glob(f".{recipe.name}.*.tmp"):  # of a run that was killed
            shutil.rmtree(leftover)
        place = Path(tempfile.mkdtemp(prefix=f".{recipe.name}.", suffix=".tmp", dir=self.root))
        log = self.root / f"{recipe.name}.log"
        log.write_bytes(b"")
        started = time.monotonic()
        say(f"{recipe.title}: building (log: {log})")
        try:
            work = Workplace(place / "out", place / "scratch", Steps(recipe.title, log))
            work.out.mkdir(mode=0o755)
            work.scratch.mkdir()
            recipe.build(work)
            if final.exists():  # without its result: somebody removed files from it
                shutil.rmtree(final)
            # INVARIANT: a directory with its final name is complete.
            work.out.rename(final)
        finally:
            shutil.rmtree(place, ignore_errors=True)
        say(f"{recipe.title}: built in {time.monotonic() - started:.0f} s")

    @contextmanager
    def _lock(self, recipe: Recipe) -> Iterator[None]:
        with (self.root / f".{recipe.name}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"{recipe.title}: waiting for another run that builds it")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def digest(parts: tuple[bytes, ...]) -> str:
    """A short name for the parts; each is preceded by its length, so that no two lists collide by joining."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(f"{len(part)}:".encode())
        whole.update(part)
    return whole.hexdigest()[:KEY_LENGTH]


def cache_root() -> Path:
    """``$XDG_CACHE_HOME/obi-mcp/programs``, by default below ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    home = Path(base) if base.startswith("/") else Path.home() / ".cache"
    return home / "obi-mcp" / "programs"
