"""Why a container of OBI's ended: what it printed before, and what the kubelet says of its pod."""

from __future__ import annotations

import asyncio

from obi_mcp.errors import ObiMcpError, ProgramFailed
from obi_mcp.obi.crashes import Crash, explained
from obi_mcp.obi.findings import Finding
from obi_mcp.obi.symptoms import symptoms_in
from obi_mcp.toolsets.base import Services
from obi_mcp.toolsets.kubernetes.place import Place
from obi_mcp.toolsets.kubernetes.survey import complaints

TAIL = 200


async def why_ended(services: Services, place: Place, namespace: str, crash: Crash) -> Finding:
    """The end as a finding. Raises: what reading the pod's events raises."""
    lines, said = await asyncio.gather(
        last_lines(services, place, namespace, crash), complaints(services, place, "Pod", crash.pod, namespace)
    )
    return explained(crash, lines, said)


async def last_lines(services: Services, place: Place, namespace: str, crash: Crash) -> tuple[str, ...]:
    """What the container said that ended: of the one before, or of this one where it was not started again yet.

    Nothing where the kubelet has none, or does not give it.
    """
    target = f"{crash.pod} -c {crash.container} -n {namespace} --tail={TAIL}"
    found: tuple[str, ...] = ()
    for previous in (" --previous", "") if crash.count else ("",):
        try:
            lines = await log_lines(services, place, target + previous)
        except ObiMcpError:
            continue  # the kubelet keeps one ended container; of one that waits to be started both are the same
        if symptoms_in(lines):
            return lines
        found = found or lines
    return found


async def log_lines(services: Services, place: Place, target: str) -> tuple[str, ...]:
    """The lines of ``kubectl logs TARGET``. Raises: ProgramFailed, and what the road raises."""
    reading = await services.enforcer.read_logs(place.call(f"kubectl logs {target}"))
    for log in reading.logs:
        if log.problem:
            raise ProgramFailed(log.problem)
    return tuple(line for log in reading.logs for line in log.text.splitlines())
