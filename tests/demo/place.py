"""Where the demo plays: the sandbox, or a cluster that was named."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tests.sandbox import start
from tests.sandbox.instance import load, state_root
from tests.sandbox.sandbox import Sandbox

PREFIX = "demo-"
ANY_NODE = r"\S+"


class Needs(Enum):
    """What a place must have for a step, beside an API server with OBI in it."""

    NOTHING = "nothing"
    CHANGES = "changes"
    ANSWERING_POD = "answering pod"
    COUNTED_TRAFFIC = "counted traffic"
    SANDBOX = "sandbox"


@dataclass(frozen=True, slots=True)
class Place:
    """A cluster. ``kubeconfig`` None: where kubectl looks; ``context`` None: the current one.

    ``changes``: whether the demo may change something there. ``canaries`` are texts that no answer may show.
    """

    kubeconfig: str | None
    context: str | None = None
    sandbox: Sandbox | None = None
    changes: bool = False
    canaries: tuple[str, ...] = ()

    @property
    def has_real_node(self) -> bool:
        return self.sandbox is not None and self.sandbox.facts["nodes"]["real"] is not None

    def facts(self) -> dict[str, str]:
        """What the demo knows beforehand, as regular expressions: ``node``, whose OBI pod it looks at, and
        ``releases``, which ``helm list`` must show at the end."""
        return {
            "node": str(self.sandbox.facts["nodes"]["real"]) if self.sandbox and self.has_real_node else ANY_NODE,
            "releases": r"^obi\s+obi\s+1\s" if self.sandbox else r"^NAME\s",
        }

    def lacks(self, needs: Needs) -> str | None:
        """Why a step with these needs is left out here, or None."""
        if self.sandbox is None:
            return _NAMED_LACKS.get(needs) if not (needs is Needs.CHANGES and self.changes) else None
        if needs in {Needs.ANSWERING_POD, Needs.COUNTED_TRAFFIC} and not self.has_real_node:
            return "; ".join(self.sandbox.facts["left_out"]) or "the sandbox has simulated nodes alone"
        return None


_NAMED_LACKS = {
    Needs.CHANGES: "nothing is changed in a cluster of yours, unless you say --changes",
    Needs.COUNTED_TRAFFIC: "only in the sandbox does the demo know what was sent",
    Needs.SANDBOX: "it plays with what stands in the sandbox",
}


def named_cluster(context: str, *, changes: bool) -> Place:
    """A cluster of the user's own kubeconfig."""
    return Place(kubeconfig=os.environ.get("KUBECONFIG"), context=context, changes=changes)


@contextmanager
def sandbox_cluster(tell: Callable[[str], None], *, real_node: bool = True, kwok_nodes: int = 3) -> Iterator[Place]:
    """A sandbox of the demo's own, taken down at the end. Raises: SandboxError."""
    _take_down_orphans(tell)
    sandbox = Sandbox.up(
        f"{PREFIX}{os.getpid()}",
        real_node=real_node,
        kwok_nodes=kwok_nodes,
        tell=lambda line: tell(f"sandbox: {_untimed(line)}"),
    )
    try:
        for sentence in sandbox.facts["left_out"]:
            tell(f"the sandbox has {sentence}")
        yield Place(
            kubeconfig=str(sandbox.kubeconfig),
            sandbox=sandbox,
            changes=True,
            canaries=tuple(canary["text"] for canary in sandbox.facts["canaries"]),
        )
    finally:
        with _without_interruption():
            tell("stopping the sandbox")
            sandbox.down()


def _untimed(line: str) -> str:
    """A sandbox's line of progress without its own clock: the demo has one."""
    return line.rpartition(" s  ")[2].strip()


@contextmanager
def _without_interruption() -> Iterator[None]:
    """A second Ctrl-C must not leave half a sandbox."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _take_down_orphans(tell: Callable[[str], None]) -> None:
    """Take down what a demo left that was killed before it could clean up."""
    for directory in sorted(state_root().glob(f"{PREFIX}*")):
        number = directory.name.removeprefix(PREFIX)
        if number.isdigit() and not Path(f"/proc/{number}").exists():
            found = load(directory.name)
            if found is not None:
                tell(f"taking down {directory.name}, which an earlier demo left")
                with suppress(FileNotFoundError):  # another demo is doing the same
                    start.take_down(found)
