"""The engine's JSON as our types. What is missing or misshapen in it gives empty values, never an exception."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from obi_mcp.containers.address import Address
from obi_mcp.containers.model import Container, EngineFacts, Usage

_KERNEL = re.compile(r"(\d+)\.(\d+)")
_NEVER = "0001-01-01T00:00:00Z"


def engine_facts(address: Address, version: Mapping[str, Any], info: Mapping[str, Any]) -> EngineFacts:
    """From ``/version`` and ``/info``."""
    options = " ".join(map(str, info.get("SecurityOptions") or ()))
    kernel = _KERNEL.match(str(version.get("KernelVersion") or info.get("KernelVersion") or ""))
    # Docker Desktop has a socket here and a kernel in a virtual machine.
    same_kernel = str(info.get("KernelVersion", "")) == os.uname().release
    return EngineFacts(
        address=address.url,
        version=str(version.get("Version", "")),
        api_version=str(version.get("ApiVersion", "")),
        kernel=(int(kernel[1]), int(kernel[2])) if kernel else None,
        local=address.local and same_kernel,
        rootless="name=rootless" in options,
        remapped="name=userns" in options,
        apparmor="name=apparmor" in options,
    )


def container(data: Mapping[str, Any], digests: tuple[str, ...] = ()) -> Container:
    """From ``/containers/ID/json``."""
    config, state, host = (data.get(key) or {} for key in ("Config", "State", "HostConfig"))
    running = bool(state.get("Running"))
    status = str(state.get("Status", ""))
    ended = status in ("exited", "dead", "restarting")
    return Container(
        id=str(data.get("Id", "")),
        name=str(data.get("Name", "")).removeprefix("/"),
        image=str(config.get("Image", "")),
        labels=tuple(sorted((str(key), str(value)) for key, value in (config.get("Labels") or {}).items())),
        image_id=str(data.get("Image", "")),
        state=status,
        created=_time(data.get("Created")),
        started=_time(state.get("StartedAt")),
        finished="" if running and not ended else _time(state.get("FinishedAt")),
        restarts=int(data.get("RestartCount") or 0),
        exit_code=int(state.get("ExitCode") or 0) if ended else None,
        out_of_memory=bool(state.get("OOMKilled")),
        error=str(state.get("Error") or ""),
        privileged=bool(host.get("Privileged")),
        capabilities=tuple(str(name).removeprefix("CAP_") for name in host.get("CapAdd") or ()),
        memory_limit_bytes=int(host.get("Memory") or 0),
        digests=digests,
    )


def usage(before: Mapping[str, Any], after: Mapping[str, Any], seconds: float, limit: int) -> Usage | None:
    """From two one-shot samples of ``/containers/ID/stats``; None when it does not run."""
    used, later = _cpu_ns(before), _cpu_ns(after)
    memory = after.get("memory_stats") or {}
    if used is None or later is None or "usage" not in memory:
        return None
    cache = memory.get("stats") or {}
    # What the kernel could drop at once is no use of OBI's; the name differs between cgroup versions.
    reclaimable = int(cache.get("inactive_file") or cache.get("total_inactive_file") or 0)
    percent = max(later - used, 0) / 1e9 / seconds * 100 if seconds > 0 else 0.0
    return Usage(round(percent, 1), max(int(memory["usage"]) - reclaimable, 0), limit)


def _cpu_ns(sample: Mapping[str, Any]) -> int | None:
    total = ((sample.get("cpu_stats") or {}).get("cpu_usage") or {}).get("total_usage")
    return int(total) if total else None


def _time(value: object) -> str:
    return "" if not isinstance(value, str) or value == _NEVER else value
