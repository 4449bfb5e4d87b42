"""What the engine is asked for to make a container, from the approved effect and from nothing else."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING, Any

from obi_mcp.policy.effects import CONTAINER_CONFIG, ApprovedEffect, ContainerRun

if TYPE_CHECKING:
    from docker import APIClient

LOG_DRIVER = "json-file"
LOG_OPTIONS = {"max-size": "10m", "max-file": "3"}
"""30 MB of log on the engine's host at most; the engine's own default has no bound."""


def create_arguments(
    client: APIClient, approved: ApprovedEffect[ContainerRun], without: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """The keyword arguments of ``APIClient.create_container``; mounts whose source is in ``without`` are left out."""
    from docker.types import LogConfig, Mount

    run = approved.effect
    mounts = [
        Mount(target=mount.target, source=mount.source, type="bind", read_only=mount.read_only)
        for mount in run.mounts
        if mount.source not in without
    ]
    host = client.create_host_config(
        mounts=mounts,
        privileged=run.privileged,
        cap_drop=None if run.privileged else ["ALL"],
        cap_add=None if run.privileged else list(run.capabilities),
        security_opt=list(run.security_options),
        pid_mode=run.pid_mode or None,
        network_mode=run.network_mode or None,
        restart_policy={"Name": run.restart or "no"},
        mem_limit=run.memory_bytes or None,
        log_config=LogConfig(type=LOG_DRIVER, config=LOG_OPTIONS),
        read_only=run.read_only,
    )
    return {
        "image": run.image,
        "name": run.name,
        "command": list(run.command) or None,
        "environment": dict(run.environment),
        "labels": dict(run.labels),
        "user": run.user or None,
        "host_config": host,
        # The user's own proxies are no part of what was judged.
        "use_config_proxy": False,
    }


def config_archive(text: str) -> bytes:
    """The configuration as the archive that the engine unpacks at the container's root.

    So nothing of this host is mounted, and an engine on another host gets it the same way.
    """
    content = text.encode()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo(CONTAINER_CONFIG.lstrip("/"))
        entry.size = len(content)
        entry.mode = 0o600
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
