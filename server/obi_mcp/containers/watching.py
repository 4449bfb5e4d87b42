"""Whether a container of OBI's is well: when it is ready, how it ended, and what its log shows to be wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from obi_mcp.agent.asks import Asks
from obi_mcp.containers.engine import Engine
from obi_mcp.containers.model import Container
from obi_mcp.obi.capabilities import Feature
from obi_mcp.obi.log_lines import parse_line
from obi_mcp.obi.symptoms import Symptom, symptom_of_end, symptoms_in
from obi_mcp.policy.effects import ApprovedEffect, ContainerRun

TAIL = 200
_POLL_S = 0.1
_SETTLES_S, _ENDS_S = 0.7, 3.0
_NETWORK = frozenset({Feature.NETWORK, Feature.NETWORK_TC})
# What OBI and Beyla say once the part has begun (OBI v0.5.0, Beyla 1.8: runs).
_NETWORK_READY, _APPLICATION_READY = "Flows agent successfully started", "Starting main node"
_EXITS = {
    0: "exit code 0: it was told to end, or gave up, as it does when its Prometheus port is taken",
    2: "exit code 2: the command line has a flag that this version does not know",
    129: "exit code 129: SIGHUP, which OBI does not survive",
    137: "exit code 137: it was killed (SIGKILL)",
    139: "exit code 139: it crashed (SIGSEGV)",
    143: "exit code 143: it was told to end (SIGTERM)",
    255: "exit code 255: it refused its configuration or could not start; its last lines say why",
}


@dataclass(frozen=True, slots=True)
class Watched:
    """``waiting_for``: lines that have not been seen yet. ``container`` as it was at the last look."""

    container: Container
    ready: bool
    waiting_for: tuple[str, ...]
    lines: tuple[str, ...]
    symptoms: tuple[Symptom, ...]


async def watch(
    engine: Engine, approved: ApprovedEffect[ContainerRun], made: Container, asks: Asks, *, within_s: float
) -> Watched:
    """Looks until it is ready or has ended, at most so long."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    seen = await _look(engine, approved, made, asks)
    while not seen.ready and not _gone(seen.container) and loop.time() < deadline:
        await asyncio.sleep(_POLL_S)
        seen = await _look(engine, approved, made, asks)
    if seen.ready:
        # OBI opens its ports after it has said that it has started, and ends when one is taken.
        await asyncio.sleep(_SETTLES_S)
        seen = await _look(engine, approved, made, asks)
        # Where it has said what is wrong, its end may take a little longer on a busy host.
        deadline = loop.time() + _ENDS_S
        while seen.ready and seen.symptoms and loop.time() < deadline:
            await asyncio.sleep(_POLL_S)
            seen = await _look(engine, approved, made, asks)
    return seen


async def _look(engine: Engine, approved: ApprovedEffect[ContainerRun], made: Container, asks: Asks) -> Watched:
    now = await engine.find(made.id) or made
    lines = await engine.log(approved, made, tail=TAIL)
    missing = tuple(text for text in _awaited(asks) if not any(text in line for line in lines))
    return Watched(now, not missing and not _gone(now), missing, lines, problems(now, lines))


def _gone(container: Container) -> bool:
    return container.ended or container.restarts > 0


def problems(container: Container, lines: Iterable[str]) -> tuple[Symptom, ...]:
    """What is wrong, by how it ended and by what it printed; the most telling first."""
    end = symptom_of_end("OOMKilled") if container.out_of_memory else None
    said = symptoms_in(line for line in lines if parse_line(line).kind in ("log", "other"))
    return said if end is None else (end, *said)


def how_it_ended(container: Container) -> str:
    """One sentence; empty while it runs."""
    if container.error:
        return f"the engine could not run it: {container.error[:300]}"
    if container.out_of_memory:
        return "it was killed for want of memory (OOMKilled)"
    if not container.ended or container.exit_code is None:
        return ""
    return _EXITS.get(container.exit_code, f"exit code {container.exit_code}")


def _awaited(asks: Asks) -> tuple[str, ...]:
    network = (_NETWORK_READY,) if asks.features & _NETWORK else ()
    return (*network, *((_APPLICATION_READY,) if asks.features - _NETWORK else ()))
