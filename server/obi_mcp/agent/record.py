"""What is written down of the local agent, so that whichever server comes next knows it: ``agent.json``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from obi_mcp.policy.effects import ProcessProof

Phase = Literal["starting", "running", "waiting", "failed", "stopped"]

RECORD, LOG, CONFIG, LOCK, SOCKET = "agent.json", "agent.log", "config.yaml", "agent.lock", "keeper.sock"
_MAX_BYTES = 262_144


@dataclass(frozen=True, slots=True)
class Exit:
    """How the agent ended once. ``at``: Unix time; ``code``: its exit code, or 128 + the signal's number."""

    code: int
    signal: int
    at: float
    uptime_s: float

    def __str__(self) -> str:
        how = f"signal {self.signal}" if self.signal else f"exit code {self.code}"
        return f"{how} after {self.uptime_s:.0f} s"


@dataclass(frozen=True, slots=True)
class Record:
    """The agent and its keeper. Times are Unix times.

    ``waiting``: it ended and is started again at ``next_start``. ``failed``: it will not be started again, ``why`` says
    why and ``last_lines`` what it said last. ``first_lines``: of the
    last start, without flows. ``lost_bytes``: of the log, for want of room on the disk.
    ``version``: what the agent's first line said.
    """

    phase: Phase
    binary: str
    config_path: str
    digest: str
    environment: Mapping[str, str]
    keeper: ProcessProof
    agent: ProcessProof
    started_at: float
    restarts: int = 0
    exits: tuple[Exit, ...] = ()
    next_start: float = 0.0
    why: str = ""
    first_lines: tuple[str, ...] = ()
    last_lines: tuple[str, ...] = ()
    lost_bytes: int = 0
    version: str = ""

    def with_(self, **changes: Any) -> Record:
        """The record with other values."""
        return replace(self, **changes)


def write_record(directory: Path, record: Record) -> None:
    """In one step: who reads sees the old or the new one. After the next boot it says nothing, so that it need not be
    on the disk. Raises: OSError."""
    text = json.dumps(asdict(record), separators=(",", ":"))
    write_whole(directory / RECORD, text, durable=False)


def write_whole(path: Path, text: str, *, durable: bool = True) -> None:
    """Writes a private file in one step. ``durable``: it is on the disk before it takes the old one's place.

    Raises: OSError.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def read_record(directory: Path) -> Record | None:
    """The record, or None where there is none that can be read: then nothing is known, and nothing is signalled."""
    try:
        with (directory / RECORD).open("rb") as file:
            data = json.loads(file.read(_MAX_BYTES))
        known = {entry.name for entry in fields(Record)}
        return Record(**{**{name: data[name] for name in known & data.keys()}, **_nested(data)})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _nested(data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "keeper": ProcessProof(**data["keeper"]),
        "agent": ProcessProof(**data["agent"]),
        "exits": tuple(Exit(**entry) for entry in data["exits"]),
        "first_lines": tuple(data["first_lines"]),
        "last_lines": tuple(data["last_lines"]),
    }
