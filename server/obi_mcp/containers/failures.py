"""What the engine's refusals mean, and the way out of each."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from obi_mcp.containers.address import Address
from obi_mcp.errors import Conflict, EngineUnreachable, HostUnfit, ObiMcpError, ProgramFailed

if TYPE_CHECKING:
    from obi_mcp.containers.model import EngineFacts

OLDEST_API = (1, 40)
"""Docker 19.03. Older engines lack cgroup namespaces and one-shot statistics."""
NEW_CAPABILITIES = frozenset({"BPF", "PERFMON", "CHECKPOINT_RESTORE"})
_TOLD = 400
_UNKNOWN_CAPABILITY = re.compile(r"unknown capability: \W*CAP_(\w+)")
_NO_SOURCE = re.compile(r"bind source path does not exist: (/[^\s\"']+)")


def unreachable(error: BaseException, address: Address) -> EngineUnreachable:
    """Why nothing answered at the address."""
    at = address.url
    number = next((code for code in _numbers(error)), None)
    if number in (errno.EACCES, errno.EPERM):
        return EngineUnreachable(
            f"the Docker engine at {at} refuses this user",
            "start the server as a user who may use the engine (on Linux the group docker, which is as good as root), "
            "or set docker.host to an engine of your own",
        )
    if number == errno.ENOENT:
        return EngineUnreachable(
            f"there is no Docker engine at {at}",
            "start it (systemctl start docker), or name another by docker.host or DOCKER_HOST; in a container, mount "
            "its socket",
        )
    if number == errno.ECONNREFUSED:
        return EngineUnreachable(
            f"nothing listens at {at}: the Docker engine is stopped, or was", "start it (systemctl start docker)"
        )
    told = _told(error)
    if "HTTP request to an HTTPS server" in told:
        return EngineUnreachable(
            f"the Docker engine at {at} wants TLS",
            "set DOCKER_TLS_VERIFY=1, and DOCKER_CERT_PATH to the folder with ca.pem, cert.pem and key.pem",
        )
    if "404 Client Error" in told:
        return EngineUnreachable(
            f"what answers at {at} is no Docker engine", "docker.host and DOCKER_HOST say where it is looked for"
        )
    return EngineUnreachable(
        f"the Docker engine at {at} does not answer: {told}",
        "look at it with `docker version`; docker.host and DOCKER_HOST say where it is looked for",
    )


def too_old(facts: EngineFacts) -> EngineUnreachable | None:
    """Why this engine cannot be used, None when it can."""
    parts = facts.api_version.split(".")
    found = tuple(int(part) for part in parts[:2] if part.isdigit())
    if found >= OLDEST_API:
        return None
    oldest = ".".join(map(str, OLDEST_API))
    return EngineUnreachable(
        f"the Docker engine {facts.version} at {facts.address} speaks API {facts.api_version}; {oldest} is the oldest "
        "that has what OBI needs",
        "upgrade Docker to 19.03 or newer; 23 or newer where OBI is not to be privileged",
    )


def unfit(facts: EngineFacts) -> HostUnfit | None:
    """Why OBI cannot run in a container of this engine, None when it can."""
    if facts.rootless:
        return HostUnfit(
            f"the Docker engine at {facts.address} is rootless: its containers may not load eBPF programs",
            "set docker.host to the system's engine (unix:///var/run/docker.sock), or run OBI itself with "
            "obi_deploy_local",
        )
    if facts.remapped:
        return HostUnfit(
            f"the Docker engine at {facts.address} gives containers other users (userns-remap), and such a container "
            "can neither see the host's processes nor load eBPF programs",
            "use an engine without userns-remap, or run OBI itself with obi_deploy_local",
        )
    return None


def refused(message: str, facts: EngineFacts) -> ObiMcpError:
    """What the engine's answer to creating or starting a container means."""
    told = message[:_TOLD]
    if (match := _UNKNOWN_CAPABILITY.search(message)) is not None:
        return HostUnfit(
            f"the Docker engine {facts.version} does not know the capability {match[1]}",
            "upgrade Docker to 23 or newer, or deploy with privileged: true",
        )
    if "unable to apply caps" in message or "unable to set capability" in message:
        return HostUnfit(
            f"the engine may not give the capabilities that were asked for: {told}",
            "the engine itself lacks some (it runs in a container or a virtual machine that does): give it all of them",
        )
    if "is already in use by container" in message:
        return Conflict(f"the container's name is taken: {told}", "give another name")
    if "seccomp" in message:
        return HostUnfit(f"the engine's seccomp profile stops OBI: {told}", "deploy with privileged: true")
    return ProgramFailed(f"the Docker engine refused: {told}", "obi_docker_status shows what is there now")


def missing_mount(message: str) -> str | None:
    """The path that the engine's host does not have, when that is what it says."""
    match = _NO_SOURCE.search(message)
    return match[1] if match else None


def _numbers(error: BaseException) -> Iterator[int]:
    """Error numbers of the operating system, from the innermost cause outwards."""
    found: list[int] = []
    seen: set[int] = set()
    waiting: list[BaseException] = [error]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, OSError) and one.errno is not None:
            found.append(one.errno)
        further = (one.__cause__, one.__context__, *(arg for arg in one.args if isinstance(arg, BaseException)))
        waiting += [each for each in further if each is not None]
    yield from reversed(found)


def _told(error: BaseException) -> str:
    text = str(error).replace("\n", " ")
    return text[:_TOLD] if text else type(error).__name__
