"""Ending the kept agent over its keeper's socket, and writing its configuration: what approved effects do."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from obi_mcp.agent.keeper import GRACE_S
from obi_mcp.agent.proof import lives
from obi_mcp.agent.record import SOCKET, Record, read_record, write_whole
from obi_mcp.errors import ProgramFailed
from obi_mcp.policy.effects import AgentEnd, ApprovedEffect, ConfigRead, ConfigWrite

MAX_CONFIG_BYTES = 1_048_576
_MORE_S = 5.0
_POLL_S, _GOING_S = 0.005, 1.0


async def end_agent(approved: ApprovedEffect[AgentEnd], *, grace_s: float = GRACE_S) -> Record | None:
    """Tells the keeper to end its agent and waits until both are gone; gives what is written down then.

    Raises: ProgramFailed when the keeper does not answer.
    """
    directory = Path(approved.effect.directory)
    before = read_record(directory)
    folder = os.open(directory, os.O_PATH | os.O_CLOEXEC)
    try:
        async with asyncio.timeout(grace_s + _MORE_S):
            reader, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{folder}/{SOCKET}")
            writer.write(f"stop {grace_s:g}".encode())
            await reader.read()
            writer.close()
            while kept(before):  # it has said goodbye and is about to go
                await asyncio.sleep(_POLL_S)
    except (OSError, TimeoutError) as error:
        if await _gone(before):  # it was about to end by itself
            return read_record(directory)
        raise ProgramFailed(
            f"the keeper of the agent does not answer: {error}", "obi_get_status says what lives"
        ) from None
    finally:
        os.close(folder)
    return read_record(directory)


async def write_config(approved: ApprovedEffect[ConfigWrite]) -> None:
    """Writes the configuration in one step. Raises: ProgramFailed with what the disk said."""
    effect = approved.effect
    path = Path(effect.path)
    try:
        await asyncio.to_thread(make_directory, path.parent)
        await asyncio.to_thread(write_whole, path, effect.text)
    except OSError as error:
        raise ProgramFailed(
            f"{path} cannot be written: {error.strerror}",
            "make room on that disk, or set XDG_STATE_HOME to a place that can be written",
        ) from None


async def read_config_file(approved: ApprovedEffect[ConfigRead]) -> str:
    """The text of a configuration file. Raises: ProgramFailed when it cannot be read or is too large."""
    return await asyncio.to_thread(_read, Path(approved.effect.path))


def make_directory(directory: Path) -> None:
    """The private directory, where it is missing. Raises: OSError."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)


def kept(record: Record | None) -> bool:
    """Whether the keeper of this record lives: then the agent does, or will again."""
    return record is not None and lives(record.keeper)


async def _gone(record: Record | None) -> bool:
    deadline = asyncio.get_running_loop().time() + _GOING_S
    while kept(record) and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(_POLL_S)
    return not kept(record)


def _read(path: Path) -> str:
    hint = "is it a file that the server's user may read? a link is not followed"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise ProgramFailed(f"{path} cannot be read: {error.strerror}", hint) from None
    if len(data) > MAX_CONFIG_BYTES:
        raise ProgramFailed(f"{path} has more than {MAX_CONFIG_BYTES:,} bytes", "no configuration of OBI's has")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ProgramFailed(f"{path} is no UTF-8 text: {error.reason} at byte {error.start}", hint) from None
