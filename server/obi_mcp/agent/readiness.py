"""When an agent that was started is ready: what its log has to say for what it was asked, and which ports answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from obi_mcp.agent.asks import Asks
from obi_mcp.agent.probes import answers
from obi_mcp.agent.record import Record, read_record
from obi_mcp.obi.capabilities import Feature
from obi_mcp.obi.symptoms import Symptom, symptoms_in

_POLL_S = 0.05

# What OBI and Beyla say once the part has begun (OBI v0.5.0, Beyla 1.8: runs).
READY_LINES = {
    "network": "Flows agent successfully started",
    "application": "Starting main node",
}
_NETWORK = frozenset({Feature.NETWORK, Feature.NETWORK_TC})


@dataclass(frozen=True, slots=True)
class Readiness:
    """``waiting_for``: what has not been seen yet, in words. ``ended``: the record, when the agent is gone.

    ``symptoms``: what its lines show to be wrong, the latest first; also of an agent that is ready.
    """

    ready: bool
    lines: tuple[str, ...]
    waiting_for: tuple[str, ...] = ()
    symptoms: tuple[Symptom, ...] = ()
    ended: Record | None = None


async def wait_until_ready(directory: Path, pid: int, asks: Asks, *, within_s: float) -> Readiness:
    """Looks until the agent is ready or has ended, at most so long; the last look is the answer."""
    deadline = asyncio.get_running_loop().time() + within_s
    while True:
        found = await look(directory, pid, asks)
        if found.ready or found.ended is not None or asyncio.get_running_loop().time() >= deadline:
            return found
        await asyncio.sleep(_POLL_S)


async def look(directory: Path, pid: int, asks: Asks) -> Readiness:
    """How far the agent is now."""
    record = await asyncio.to_thread(read_record, directory)
    first = record.first_lines if record is not None else ()
    symptoms = symptoms_in((*first, *(record.last_lines if record is not None else ())))
    if record is None or record.agent.pid != pid or record.phase == "failed":
        # Written before the keeper had seen the end, or by another start: the keeper knows.
        return Readiness(False, first, ("the agent",), symptoms, ended=record)
    missing = [f"the line {text!r}" for text in _missing(asks, first)]
    if not missing:
        missing = [f"an answer on port {port.number}" for port in asks.ports if not await answers(port)]
    return Readiness(not missing, first, tuple(missing), symptoms)


def _missing(asks: Asks, lines: tuple[str, ...]) -> list[str]:
    wanted = []
    if asks.features & _NETWORK:
        wanted.append(READY_LINES["network"])
    if asks.features - _NETWORK:
        wanted.append(READY_LINES["application"])
    return [text for text in wanted if not any(text in line for line in lines)]
