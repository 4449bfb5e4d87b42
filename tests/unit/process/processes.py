"""Looking at processes from outside, by /proc: what tests of children need to believe nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from pathlib import Path

PATIENCE_S = 120.0
"""Generous: it costs nothing where a condition comes, and a machine may be slow."""


def alive(pid: int) -> bool:
    """Whether the process runs: neither gone nor a zombie."""
    return state(pid) not in {"", "Z", "X"}


def state(pid: int) -> str:
    """Its state's letter; empty when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def descendants(pid: int, *, beside: AbstractSet[int] = frozenset()) -> set[int]:
    """Every process below, zombies too, but for those of ``beside`` and what is below these."""
    parents: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parent = int(Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents.setdefault(parent, []).append(int(entry))
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        children = [child for child in parents.get(waiting.pop(), []) if child not in beside]
        found.update(children)
        waiting += children
    return found


def descriptors() -> int:
    """How many this process has open."""
    return len(os.listdir("/proc/self/fd"))


@contextmanager
def no_process_left() -> Iterator[None]:
    """Afterwards there is no process below this one that was not there before.

    What is below those that were there may change: a sandbox starts and ends containers at any time.
    """
    known = descendants(os.getpid())
    yield
    wait_until(lambda: not descendants(os.getpid(), beside=known), "no process is left")


@contextmanager
def nothing_left() -> Iterator[None]:
    """The same for processes, and for descriptors: a server of the test closes one a moment after its client has."""
    before = descriptors()
    with no_process_left():
        yield
    wait_until(lambda: descriptors() <= before, "no descriptor is left")


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Waits for the condition; fails with ``what`` when it never comes."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"never: {what}")
        time.sleep(0.005)
