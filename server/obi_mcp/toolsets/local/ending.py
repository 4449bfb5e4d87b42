"""``obi_stop``: the agent that is kept here, or another process that is shown to be OBI."""

from __future__ import annotations

import asyncio

from obi_mcp.agent.keeper import GRACE_S
from obi_mcp.agent.proof import lives
from obi_mcp.errors import NotFound, ProgramFailed
from obi_mcp.policy.effects import AgentSignal, ProcessProof
from obi_mcp.toolsets.base import Services, ToolCall, ToolResult
from obi_mcp.toolsets.local.desk import Desk

_POLL_S = 0.02
_AFTER_KILL_S = 2.0


async def run_stop(services: Services, call: ToolCall) -> ToolResult:
    """The tool."""
    desk = Desk.of(services, call, "obi_stop")
    pid: int | None = call.arguments.get("pid")
    grace_s: float = call.arguments.get("timeout_s", GRACE_S)
    record = desk.record
    if record is not None and desk.is_kept() and pid in (None, record.agent.pid):
        ended = await desk.end("stop", grace_s=grace_s)
        how = str(ended.exits[-1]) if ended is not None and ended.exits else "it was not running"
        return _stopped(record.agent.pid, how)
    if pid is None:
        # Its keeper died and it went on: it is known by what was written down of it.
        if record is None or not lives(record.agent):
            raise NotFound("an OBI process that this server keeps", None, "obi_get_status lists what runs here")
        return _stopped(record.agent.pid, await _signalled(desk, record.agent, grace_s))
    (seen,) = await services.agents.look([pid])
    if not seen.started:
        raise NotFound(f"pid {pid}", None, "obi_get_status lists the OBI processes of this host")
    return _stopped(pid, await _signalled(desk, seen, grace_s))


async def _signalled(desk: Desk, proof: ProcessProof, grace_s: float) -> str:
    """TERM, then KILL; each only when the process is still the one that was meant."""
    for signal, within_s in (("TERM", grace_s), ("KILL", _AFTER_KILL_S)):
        (seen,) = await desk.services.agents.look([proof.pid])
        effect = AgentSignal(proof, seen, signal)
        if not await desk.services.effects.run(effect, desk.asked, desk.services.agents.signal):
            return "it had ended"
        if await _gone(proof, within_s):
            return f"ended by {signal}"
    raise ProgramFailed(f"pid {proof.pid} does not end, even by KILL", "the kernel holds it: look at its state by ps")


async def _gone(proof: ProcessProof, within_s: float) -> bool:
    deadline = asyncio.get_running_loop().time() + within_s
    while asyncio.get_running_loop().time() < deadline:
        if not lives(proof):
            return True
        await asyncio.sleep(_POLL_S)
    return not lives(proof)


def _stopped(pid: int, how: str) -> ToolResult:
    return ToolResult({"stopped": True, "pid": pid, "how": how}, f"pid {pid}: {how}" if pid else how)
