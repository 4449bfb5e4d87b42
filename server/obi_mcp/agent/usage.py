"""What an agent uses: processor time and memory. Source of fact: proc(5)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from obi_mcp.agent.proof import PROC

_USER, _SYSTEM, _STARTED = 13, 14, 21


@dataclass(frozen=True, slots=True)
class Usage:
    """``cpu_percent``: of one core, on average since it was started; ``memory_bytes``: resident."""

    uptime_s: float
    cpu_s: float
    cpu_percent: float
    memory_bytes: int


def usage_of(pid: int, proc: str = PROC) -> Usage | None:
    """None when the process is not there."""
    try:
        stat = Path(proc, str(pid), "stat").read_text(encoding="utf-8", errors="replace")
        pages = int(Path(proc, str(pid), "statm").read_text(encoding="ascii").split()[1])
        since_boot_s = float(Path(proc, "uptime").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return None
    fields = ["", "", *stat.rpartition(")")[2].split()]
    ticks = os.sysconf("SC_CLK_TCK")
    cpu_s = (int(fields[_USER]) + int(fields[_SYSTEM])) / ticks
    uptime_s = max(since_boot_s - int(fields[_STARTED]) / ticks, 0.01)
    return Usage(
        round(uptime_s, 1), round(cpu_s, 2), round(100 * cpu_s / uptime_s, 1), pages * os.sysconf("SC_PAGE_SIZE")
    )
