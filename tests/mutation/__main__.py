"""``make mutation``: each weakening in a copy of this tree, with the tests that have to fail; prints what came of it.

    python -m tests.mutation [--jobs N] [WORD…]      only those whose name or file holds one of the words

Exit code 1 when a weakening survives, or a test fails without one.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from tests.mutation.mutations import ROOT, Mutation, mutations

COPIED = ("server", "policy", "image", "tests", "docs", "pyproject.toml", "README.md", "Makefile", "LICENSE")
TIMEOUT_S = 300
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.M)
_CAUGHT, _SURVIVED = 1, 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """``code`` is pytest's; ``by`` the first test that failed."""

    mutation: Mutation
    code: int
    by: str
    seconds: float

    @property
    def caught(self) -> bool:
        return self.code == _CAUGHT

    @property
    def word(self) -> str:
        return {_CAUGHT: "caught", _SURVIVED: "SURVIVED"}.get(self.code, f"pytest ended with {self.code}")


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("words", nargs="*", metavar="WORD")
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 2) - 1))
    args = parser.parse_args(argv)
    wanted = [
        one for one in mutations() if not args.words or any(word in one.name or word in one.file for word in args.words)
    ]
    with tempfile.TemporaryDirectory(prefix="obi-mcp-mutation-") as folder:
        copies: SimpleQueue[Path] = SimpleQueue()
        for number in range(args.jobs):
            copies.put(_copy(Path(folder) / str(number)))
        if not _passes(copies, sorted({test for one in wanted for test in one.tests})):
            return 1
        with ThreadPoolExecutor(args.jobs) as pool:
            outcomes = list(pool.map(lambda one: _try(one, copies), wanted))
    survived = [outcome for outcome in outcomes if not outcome.caught]
    print(f"\n{len(outcomes) - len(survived)} of {len(outcomes)} weakenings were caught")
    return 1 if survived else 0


def _copy(folder: Path) -> Path:
    folder.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".hypothesis"))
        elif source.exists():
            shutil.copy(source, folder / name)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    return folder


def _passes(copies: SimpleQueue[Path], tests: Sequence[str]) -> bool:
    """Whether the tests pass before anything is weakened."""
    copy = copies.get()
    done = _pytest(copy, tests)
    copies.put(copy)
    if done.returncode != 0:
        print(f"the tests fail before anything is weakened:\n{done.stdout[-4000:]}", file=sys.stderr)
    return done.returncode == 0


def _try(mutation: Mutation, copies: SimpleQueue[Path]) -> Outcome:
    copy = copies.get()
    started = time.monotonic()
    path = copy / mutation.file
    before = path.read_text("utf-8")
    try:
        path.write_text(before.replace(mutation.text, mutation.instead, 1), "utf-8")
        done = _pytest(copy, mutation.tests)
    finally:
        path.write_text(before, "utf-8")
        copies.put(copy)
    failed = _FAILED.search(done.stdout)
    outcome = Outcome(mutation, done.returncode, failed[1] if failed else "", time.monotonic() - started)
    print(f"{outcome.word:9} {outcome.seconds:5.1f} s  {mutation.name}\n{'':18} {outcome.by}", flush=True)
    return outcome


def _pytest(copy: Path, tests: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """The tests in the copy, which is what they import: in processes that they start, too."""
    cache = copy / ".cache" / "obi-mcp"
    if not cache.exists():
        # The compiled policy is this copy's own; the pinned programs are everybody's.
        cache.mkdir(parents=True)
        for name in ("programs", "sandbox"):
            shared = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "obi-mcp" / name
            if shared.exists():
                (cache / name).symlink_to(shared)
    environment = {
        **os.environ,
        "PYTHONPATH": f"{copy / 'server'}{os.pathsep}{copy}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "XDG_CACHE_HOME": str(copy / ".cache"),
    }
    shutil.rmtree(cache / "policy", ignore_errors=True)
    options = ("-x", "-q", "-p", "no:cacheprovider", "--tb=no", "-m", "not integration")
    try:
        return subprocess.run(
            [sys.executable, "-m", "pytest", *options, *tests],
            cwd=copy,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        return subprocess.CompletedProcess(error.cmd, 124, "", "")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
