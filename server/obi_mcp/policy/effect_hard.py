"""What no effect may do, whatever the level and whatever the rules say; ``policy explain`` knows every name.

It is code and not data on purpose, like ``hard.py`` for command lines.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from obi_mcp.policy.effects import (
    CONTAINER_MARK,
    AgentCheck,
    AgentEnd,
    AgentSignal,
    AgentStart,
    ConfigRead,
    ConfigWrite,
    ContainerProof,
    ContainerRead,
    ContainerRun,
    ContainerStop,
    Effect,
)
from obi_mcp.policy.hard_names import HardDenial
from obi_mcp.policy.image import is_obi_image
from obi_mcp.policy.telemetry_config import judge_config, judge_variable

if TYPE_CHECKING:
    from obi_mcp.policy.effects import Host
    from obi_mcp.policy.scope import Scope

EFFECT_HARD: dict[str, HardDenial] = {
    denial.id: denial
    for denial in (
        HardDenial(
            "hard.binary",
            "only the OBI program that was found when the server started is ever run on this host",
            "name it by local.binary in the server's configuration; obi-mcp doctor shows what was found",
        ),
        HardDenial(
            "hard.agent-config",
            "a configuration for OBI sends telemetry only to known endpoints, reads no foreign file, holds no "
            "credential, and has only keys that OBI has",
            "send to loopback, or let the operator add the host to scope.endpoints",
        ),
        HardDenial(
            "hard.environment",
            "an agent gets only variables that OBI reads, and none that sends telemetry elsewhere, loads code or holds "
            "a credential",
            "put it into the configuration, or leave it out",
        ),
        HardDenial(
            "hard.path",
            "only OBI's own configuration files are read and written on this host",
            "leave config_path out and give the text in config, or let the operator add its directory to "
            "local.config_directories",
        ),
        HardDenial(
            "hard.process",
            "a signal goes to an OBI process that was recognised by pid, start time and program, and to no other",
            "ask obi_get_status which processes are OBI's",
        ),
        HardDenial(
            "hard.image",
            "only images of scope.images are run, whatever they are called",
            "use one of scope.images, or let the operator add your mirror to it",
        ),
        HardDenial(
            "hard.mount",
            "a container sees no path of this host but OBI's configuration and what OBI has to read of the kernel, and "
            "never the engine's socket",
            "leave the mount out, or let the operator add the path to docker.mounts",
        ),
        HardDenial(
            "hard.container",
            "only containers that run an OBI image and that this server made are looked at or stopped",
            "ask obi_docker_status which containers are OBI's",
        ),
        HardDenial(
            "hard.privileged",
            "no container is privileged where scope.allow_privileged is false",
            "leave privileged out: the capabilities that the configuration needs are given one by one",
        ),
    )
}

KERNEL_PATHS = (
    "/sys/kernel/security",
    "/sys/kernel/tracing",
    "/sys/kernel/debug",
    "/sys/kernel/btf",
    "/sys/fs/bpf",
    "/sys/fs/cgroup",
    "/lib/modules",
    "/usr/lib/modules",
)
"""What OBI reads of the kernel: a container of it may see these."""

_WRITABLE = frozenset({"/sys/fs/bpf"})
_NUMBERS = re.compile(r"v?([0-9]{1,6})\.([0-9]{1,6})")
_FIRST_WITH_COMMAND = (0, 11)
_BEYLA, _OBI = "BEYLA_", "OTEL_EBPF_"
_CONFIG_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}\.(?:ya?ml|json)")
_OWN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}\.ya?ml")
"""In the server's own directory: ``agent.json`` there says what is to be signalled, and is nobody's to write."""


@dataclass(frozen=True, slots=True)
class HardRefusal:
    """One hard denial that holds, with the reason that names the value."""

    id: str
    reason: str
    hint: str | None = None


def hard_refusal(effect: Effect, scope: Scope, host: Host) -> HardRefusal | None:
    """The first hard denial that the effect meets, or None."""
    for judge in _JUDGES.get(effect.kind, ()):
        found = next(iter(judge(effect, scope, host)), None)
        if found is not None:
            return found
    return None


# --- the local agent ---


def _binary(effect: Any, scope: Scope, host: Host) -> Iterator[HardRefusal]:
    if not host.binaries:
        yield HardRefusal("hard.binary", "no OBI program was found on this host when the server started")
    elif effect.binary not in host.binaries:
        known = ", ".join(host.binaries)
        yield HardRefusal("hard.binary", f"{effect.binary!r} is not the OBI program that was found: {known}")


def _has_the_command(effect: Any, scope: Scope, host: Host) -> Iterator[HardRefusal]:
    match = _NUMBERS.match(effect.version)
    if match is None or (int(match[1]), int(match[2])) < _FIRST_WITH_COMMAND:
        version = effect.version[:40] or "unknown"
        reason = f"a program of version {version} may not have config validate, and would start instrumenting"
        yield HardRefusal("hard.binary", reason, "let the operator set obi.version, if it is 0.11.0 or later")


def _config_text(effect: Any, scope: Scope, host: Host) -> Iterator[HardRefusal]:
    text = effect.text if isinstance(effect, ConfigWrite) else effect.config
    for violation in judge_config(text, scope=scope, path=""):
        where = violation.path.lstrip(".")
        reason = violation.reason if not where or where in violation.reason else f"{where}: {violation.reason}"
        yield HardRefusal("hard.agent-config", reason, violation.hint)


def _own_config(effect: Any, scope: Scope, host: Host) -> Iterator[HardRefusal]:
    path = effect.path if isinstance(effect, ConfigWrite) else effect.config_path
    if not host.directory or os.path.dirname(path) != host.directory or not _OWN_NAME.fullmatch(_name(path)):
        yield HardRefusal(
            "hard.path", f"{path!r} is no configuration file in {host.directory or 'a directory of ours'}"
        )


def _readable_config(effect: Any, scope: Scope, host: Host) -> Iterator[HardRefusal]:
    path = effect.path
    known = tuple(filter(None, (host.directory, *host.config_directories)))
    inside = any(path.startswith(directory.rstrip("/") + "/") for directory in known)
    name = _OWN_NAME if os.path.dirname(path) == host.directory else _CONFIG_NAME
    if not inside or ".." in path.split("/") or not name.fullmatch(_name(path)):
        yield HardRefusal(
            "hard.path", f"{path!r} is no configuration file (.yaml, .yml, .json) in {', '.join(known) or 'any place'}"
        )


def _environment(effect: Any, scope: Scope, host: Host) -> Iterator[HardRefusal]:
    seen: set[str] = set()
    for name, value in effect.environment:
        reason = f"{name} is given twice" if name in seen else judge_agent_variable(name, value, scope)
        seen.add(name)
        if reason is not None:
            yield HardRefusal("hard.environment", reason)


def judge_agent_variable(name: str, value: str, scope: Scope) -> str | None:
    """Why an agent may not have this variable (Beyla's names count as OBI's of the same end); None when it may."""
    if "\0" in name or "\0" in value or "\n" in name:
        return f"{name[:40]!r} holds a control character"
    known = _OBI + name.removeprefix(_BEYLA) if name.startswith(_BEYLA) else name
    reason = judge_variable(known, value, scope=scope)
    return reason.replace(known, name, 1) if reason else None


def _proof(effect: Any, scope: Scope, host: Host) -> Iterator[HardRefusal]:
    signal: AgentSignal = effect
    proof, seen = signal.proof, signal.seen
    if proof.pid <= 1 or proof.started <= 0:
        yield HardRefusal("hard.process", f"pid {proof.pid} was never written down as an OBI process")
    elif (proof.pid, proof.started, proof.boot) != (seen.pid, seen.started, seen.boot):
        yield HardRefusal("hard.process", f"pid {proof.pid} is another process now: the one that was meant has ended")
    elif seen.executable and seen.executable.removesuffix(" (deleted)") not in {*host.binaries, proof.executable}:
        yield HardRefusal("hard.process", f"pid {proof.pid} runs {seen.executable}, which is not OBI")
    elif proof.executable not in host.binaries:
        yield HardRefusal("hard.process", f"pid {proof.pid} was started from {proof.executable!r}, which is not OBI")


def _own_directory(effect: Any, scope: Scope, host: Host) -> Iterator[HardRefusal]:
    if not host.directory or effect.directory != host.directory:
        yield HardRefusal("hard.process", f"{effect.directory!r} is not where this server keeps its agent")


# --- containers ---


def _image(effect: Any, scope: Scope, host: Host) -> Iterator[HardRefusal]:
    run: ContainerRun = effect
    if not is_obi_image(run.image, scope):
        yield HardRefusal("hard.image", f"{run.image[:200]!r} is none of scope.images")


def _mounts(effect: Any, scope: Scope, host: Host) -> Iterator[HardRefusal]:
    run: ContainerRun = effect
    for mount in run.mounts:
        source = mount.source
        if os.path.normpath(source) != source or not source.startswith("/"):
            yield HardRefusal("hard.mount", f"{source[:200]!r} is no absolute path in its shortest form")
        elif not _may_mount(source, mount.read_only, host):
            how = "" if mount.read_only else " for writing"
            yield HardRefusal("hard.mount", f"{source} may not be mounted{how}")


def _may_mount(source: str, read_only: bool, host: Host) -> bool:
    if source in KERNEL_PATHS:
        return read_only or source in _WRITABLE
    ours = bool(host.directory) and os.path.dirname(source) == host.directory and _OWN_NAME.fullmatch(_name(source))
    allowed = any(source == path or source.startswith(path.rstrip("/") + "/") for path in host.mounts)
    return read_only and (bool(ours) or allowed)


def _container_config(effect: Any, scope: Scope, host: Host) -> Iterator[HardRefusal]:
    if effect.config:
        yield from _config_text(effect, scope, host)


def _container(effect: Any, scope: Scope, host: Host) -> Iterator[HardRefusal]:
    proof: ContainerProof = effect.replaces if isinstance(effect, ContainerRun) else effect.proof
    if proof == ContainerProof() and isinstance(effect, ContainerRead | ContainerRun):
        return  # the list, of which only OBI's are shown; or a container that takes nobody's place
    # A label alone is anybody's to put on, and an image alone anybody's to run: both together are ours.
    name = proof.name or proof.id or "it"
    if not proof.id or not is_obi_image(proof.image, scope):
        yield HardRefusal("hard.container", f"{name} runs {proof.image!r}, which is not OBI's")
    elif CONTAINER_MARK not in dict(proof.labels):
        yield HardRefusal("hard.container", f"{name} has no label {CONTAINER_MARK}: this server did not make it")


def _privileged(effect: Any, scope: Scope, host: Host) -> Iterator[HardRefusal]:
    if effect.privileged and not scope.allow_privileged:
        yield HardRefusal("hard.privileged", "the container would be privileged, and scope.allow_privileged is false")


def _name(path: str) -> str:
    return path.rpartition("/")[2]


_Judge = Callable[[Any, "Scope", "Host"], Iterator[HardRefusal]]
_JUDGES: Mapping[str, tuple[_Judge, ...]] = {
    ConfigRead.kind: (_readable_config,),
    ConfigWrite.kind: (_own_config, _config_text),
    AgentCheck.kind: (_binary, _has_the_command),
    AgentStart.kind: (_binary, _own_config, _environment, _config_text),
    AgentEnd.kind: (_own_directory,),
    AgentSignal.kind: (_proof,),
    ContainerRead.kind: (_container,),
    ContainerRun.kind: (_image, _privileged, _mounts, _environment, _container_config, _container),
    ContainerStop.kind: (_container,),
}
