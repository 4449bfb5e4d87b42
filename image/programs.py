#!/usr/bin/env python3
"""Makes the programs that the server runs: kubectl, helm and jq, pinned and cached, beside the text filters.

A first run takes minutes, one where nothing changed takes no time. Progress goes to standard error.
"""

from __future__ import annotations

import argparse
import difflib
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from recipes import golang, jq, machine
from recipes.step import BuildFailed, say
from recipes.store import Store, cache_root, digest

TOOLS = Path(__file__).resolve().parent / "tools"
GRAMMARS = Path(__file__).resolve().parent.parent / "policy" / "grammar"
NICENESS = 10
DIFF_LINES = 200


def main() -> int:
    """Exit code 0; 1 when a build failed or ``--check`` found a difference; 2 for usage."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a running step is stopped with us
    os.nice(max(0, NICENESS - os.nice(0)))
    store = Store(cache_root())
    try:
        if arguments.grammar:
            return write_grammars(store, check=arguments.check)
        if arguments.oracle:
            print_oracles(store)
            return 0
        directory = bin_directory(store)
    except BuildFailed as failure:
        say(f"{failure}")
        return 1
    except KeyboardInterrupt:
        return 130
    print(directory if arguments.print_bin else f"programs: {directory}")
    return 0


def bin_directory(store: Store) -> Path:
    """A directory with one symbolic link a program, which never changes once it is there. Raises: BuildFailed."""
    programs = machine.find()
    for program in (golang.kubectl(TOOLS), golang.helm(TOOLS)):
        programs[program.name] = store.get(program.recipe(TOOLS, store))
    programs["jq"] = jq.get(store)
    listing = "\n".join(f"{name} {path}" for name, path in sorted(programs.items()))
    final = store.root / digest((listing.encode(),))
    if not final.exists():
        place = Path(tempfile.mkdtemp(prefix=".bin.", suffix=".tmp", dir=store.root))
        (place / "out/bin").mkdir(parents=True)
        for name, path in programs.items():
            (place / "out/bin" / name).symlink_to(path)
        try:
            (place / "out").rename(final)
        except OSError:
            if not final.exists():  # not the other run that made the same
                raise
        finally:
            shutil.rmtree(place)
    return final / "bin"


def print_oracles(store: Store) -> None:
    """One line a program: its name and the path of its oracle, which the parser is tested against."""
    for program in (golang.kubectl(TOOLS), golang.helm(TOOLS)):
        print(program.name, store.get(program.oracle_recipe(TOOLS, store)))


def write_grammars(store: Store, *, check: bool) -> int:
    """Write kubectl.json and helm.json as the pinned programs give them; with ``check``, only compare."""
    changed = 0
    for program in (golang.kubectl(TOOLS), golang.helm(TOOLS)):
        made = store.get(program.grammar_recipe(TOOLS, store)).read_text(encoding="utf-8")
        committed = GRAMMARS / f"{program.name}.json"
        before = committed.read_text(encoding="utf-8") if committed.exists() else ""
        if made == before:
            print(f"{committed.name}: as {program.name} {program.version} gives it")
            continue
        changed += 1
        if check:
            _print_difference(before, made, committed.name, f"{program.name} {program.version}")
        else:
            committed.write_text(made, encoding="utf-8")
            print(f"{committed.name}: written from {program.name} {program.version}; read its diff, run the tests")
    return 1 if check and changed else 0


def _print_difference(before: str, made: str, name: str, program: str) -> None:
    lines = difflib.unified_diff(
        before.splitlines(), made.splitlines(), f"{name} (committed)", program, lineterm="", n=6
    )
    shown = list(lines)
    print("\n".join(shown[:DIFF_LINES]))
    if len(shown) > DIFF_LINES:
        print(f"… {len(shown) - DIFF_LINES} more lines")
    print(f"{name} is not what {program} gives: run `make grammar`")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--print-bin", action="store_true", help="print only the directory, for scripts")
    parser.add_argument("--grammar", action="store_true", help="write policy/grammar/kubectl.json and helm.json")
    parser.add_argument(
        "--check", action="store_true", help="with --grammar: compare, write nothing, exit 1 if they differ"
    )
    parser.add_argument("--oracle", action="store_true", help="build the oracles and print one name and path a line")
    arguments = parser.parse_args()
    if arguments.check and not arguments.grammar:
        parser.error("--check goes with --grammar")
    if arguments.print_bin + arguments.grammar + arguments.oracle > 1:
        parser.error("--print-bin, --grammar and --oracle do not go together")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
