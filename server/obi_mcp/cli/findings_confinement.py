"""What ``doctor`` finds of what holds the server and its children: each layer, and what its absence means."""

from __future__ import annotations

import asyncio
import os
import platform
import resource
from collections.abc import Iterator, Mapping

from obi_mcp.cli.findings import Finding, of_error
from obi_mcp.config import Settings
from obi_mcp.errors import ObiMcpError
from obi_mcp.process import kernel
from obi_mcp.process.children import Children, KernelFacts
from obi_mcp.process.confinement import plan
from obi_mcp.process.programs import find_programs

_OLDER: tuple[tuple[int, str, str], ...] = (
    (2, "5.19", "nothing can be renamed or linked from one folder into another, not even within the server's own"),
    (3, "6.2", "files that may be read and are writable by this user can be cut to nothing"),
    (4, "6.7", "TCP is not held; filters have no sockets all the same, by seccomp"),
    (6, "6.12", "children may send signals to other processes of this user, and use abstract sockets"),
)
"""What each version of Landlock brought, the kernel that has it, and what is open without it."""


def sandbox_findings(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Landlock, seccomp, limits, the launcher, the user; then what the server would be held to with these settings."""
    yield landlock_finding(kernel.landlock_abi())
    yield seccomp_finding(offered=kernel.seccomp_offered(), known=kernel.seccomp_filter() is not None)
    yield limits_finding()
    yield launcher_finding()
    planned = plan(settings, find_programs(settings, environ), environ=environ)
    step = None
    if settings.confine == "none":
        step = "set confine to auto, unless a program needs more than the server knows of"
    elif planned.held == "writing":
        step = "a context with a token or a certificate in place of the plugin lets reading be held too"
    elif planned.held == "nothing":
        step = "use a kernel of 5.13 or later with landlock among its security modules (lsm=)"
    yield Finding("confinement", "note" if step else "ok", planned.describe(), step)
    if os.geteuid() == 0:
        yield Finding("user", "note", "root: children run as root too", "run as another user where you can")


def landlock_finding(version: int) -> Finding:
    """Which version there is, and what is open where it is not the newest that is used."""
    release = platform.release()
    if not version:
        return Finding(
            "landlock",
            "note",
            f"not offered by kernel {release}: the server and its children may open every file that their user may, "
            "and filters are held by the lists of flags and words, seccomp and limits alone",
            "use a kernel of 5.13 or later with landlock among its security modules (lsm=)",
        )
    missing = [(kernel_version, what) for needed, kernel_version, what in _OLDER if version < needed]
    if not missing:
        return Finding("landlock", "ok", f"ABI {version} (kernel {release}): filters reach no files and no network")
    return Finding(
        "landlock",
        "note",
        f"ABI {version} (kernel {release}) is too old for all of it: {'; '.join(what for _, what in missing)}",
        f"use a kernel of {missing[-1][0]} or later",
    )


def seccomp_finding(*, offered: bool, known: bool) -> Finding:
    """Whether filters are kept from sockets by the kernel."""
    if offered and known:
        return Finding("seccomp", "ok", "filters can make no sockets, and look into no other process")
    why = f"the call numbers of {os.uname().machine} are not known here" if offered else "not offered by this kernel"
    return Finding(
        "seccomp",
        "note",
        f"{why}: a filter that is taken over could send UDP, and speak to sockets of this host",
        None if offered else "use a kernel built with CONFIG_SECCOMP_FILTER",
    )


def limits_finding() -> Finding:
    """Whether limits can be put on at all: a container's own filter may forbid it."""
    try:
        resource.setrlimit(resource.RLIMIT_CORE, resource.getrlimit(resource.RLIMIT_CORE))
    except (OSError, ValueError) as error:
        return Finding(
            "limits of children",
            "problem",
            f"they cannot be set ({error}): no command can be started, since none runs without its limits",
            "let the container's seccomp profile allow prlimit64",
        )
    return Finding("limits of children", "ok", "memory, processor time, files and core files can be held")


def launcher_finding() -> Finding:
    """Whether the process that starts all commands can be started."""
    try:
        facts = asyncio.run(_launched())
    except ObiMcpError as error:
        return of_error("launcher", error)
    layers = [f"Landlock ABI {facts.landlock}"] if facts.landlock else []
    layers += ["seccomp"] if facts.seccomp else []
    return Finding("launcher", "ok", f"starts, and holds commands by {', '.join(layers) or 'limits alone'}")


async def _launched() -> KernelFacts:
    children = Children()
    try:
        return await children.facts()
    finally:
        await children.close()
