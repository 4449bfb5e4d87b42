"""Which process is meant: a pid together with what no later process of that pid has. Source of fact: proc(5)."""

from __future__ import annotations

import os
from pathlib import Path

from obi_mcp.policy.effects import ProcessProof

_STATE, _STARTED = 2, 21
_DEAD = "ZXx"
PROC = "/proc"


def boot_id(proc: str = PROC) -> str:
    """A new one with every boot: a start time counts from it."""
    try:
        return Path(proc, "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def started_ticks(pid: int, proc: str = PROC) -> int:
    """When the process began, in clock ticks since boot; 0 when it is not there or has ended (a zombie, too)."""
    try:
        text = Path(proc, str(pid), "stat").read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):
        return 0
    # The name may hold blanks and brackets: what comes after the last bracket is fixed.
    fields = ["", "", *text.rpartition(")")[2].split()]
    if len(fields) <= _STARTED or fields[_STATE] in _DEAD:
        return 0
    return int(fields[_STARTED])


def proof_of(pid: int, proc: str = PROC) -> ProcessProof:
    """What ``/proc`` shows of the process now; one without ``started`` when it is not there."""
    started = started_ticks(pid, proc)
    if not started:
        return ProcessProof(pid)
    try:
        executable = os.readlink(f"{proc}/{pid}/exe")
    except OSError:
        executable = ""  # of a program with file capabilities, or from behind Landlock
    return ProcessProof(pid, started, boot_id(proc), executable)


def lives(proof: ProcessProof, proc: str = PROC) -> bool:
    """Whether that very process lives. Its program need not be visible."""
    if proof.pid <= 1 or not proof.started or proof.boot != boot_id(proc):
        return False
    return started_ticks(proof.pid, proc) == proof.started
