"""Effects on this host: what a tool wants to do besides running a command line, as typed data that the policy judges.

One road for all of them, as for commands: a tool makes an ``Effect``, ``Policy.decide_effect`` says yes or no by rules
that are data (``policy/effects/*.yaml``), ``Policy.approve_effect`` makes the ``ApprovedEffect`` that alone may be
performed, and the enforcer's ``EffectRoad`` performs, redacts and audits it. What performs an effect (the agent
launcher, the writer of files, the Docker client) takes an ``ApprovedEffect`` and nothing else.

A new kind: a frozen dataclass here with a ``kind``, its hard denials in ``effect_hard.py``, a rule that names each of
its fields. A field that no rule names may only have its default.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

if TYPE_CHECKING:
    from obi_mcp.policy.model import Access, Decision


@dataclass(frozen=True, slots=True)
class Host:
    """What of this host is OBI's: the ground on which effects are judged. Absolute real paths.

    ``binaries``: the OBI programs that were found when the server started. ``directory``: where the server keeps its
    agent's configuration, state and log. ``config_directories``: where configurations may be read besides.
    ``mounts``: host paths that a container may see, besides those that OBI needs.
    """

    binaries: tuple[str, ...] = ()
    directory: str = ""
    config_directories: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Effect:
    """Base of all effects. Values are plain: text, numbers, truth values, tuples of them, and dataclasses of these."""

    kind: ClassVar[str] = ""

    @property
    def target(self) -> str:
        """What it is done to, in a word or two."""
        return self.kind

    @property
    def line(self) -> str:
        """The effect in one line, for the audit log: what is done to what; documents by their digest."""
        return f"{self.kind} {self.target}"

    def values(self) -> Mapping[str, Any]:
        """Every field by its name: what rules speak of."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}


# --- the local agent ---


@dataclass(frozen=True, slots=True)
class ProcessProof:
    """One process, so that no other can be taken for it: ``started`` in clock ticks since boot (``/proc/PID/stat``).

    ``executable`` is empty where the kernel does not show it (a program with file capabilities, to another user).
    """

    pid: int = 0
    started: int = 0
    boot: str = ""
    executable: str = ""


@dataclass(frozen=True, slots=True)
class AgentRead(Effect):
    """Looking at the local agent: its status, its configuration, its log."""

    kind: ClassVar[str] = "agent-read"
    what: str = "status"

    @property
    def target(self) -> str:
        return self.what


@dataclass(frozen=True, slots=True)
class ConfigRead(Effect):
    """Reading one of OBI's configuration files on this host."""

    kind: ClassVar[str] = "config-read"
    path: str = ""

    @property
    def target(self) -> str:
        return self.path


@dataclass(frozen=True, slots=True)
class ConfigWrite(Effect):
    """Writing OBI's configuration file. ``text`` is the whole new content."""

    kind: ClassVar[str] = "config-write"
    path: str = ""
    text: str = ""

    @property
    def target(self) -> str:
        return self.path

    @property
    def line(self) -> str:
        return f"{self.kind} {self.path} sha256:{digest(self.text)}"


@dataclass(frozen=True, slots=True)
class AgentCheck(Effect):
    """Asking the OBI program itself what it says of a configuration: ``config validate``, which only a program of
    ``version`` 0.11.0 or later has; an older one ignores the words and starts instrumenting."""

    kind: ClassVar[str] = "agent-check"
    binary: str = ""
    version: str = ""
    config: str = ""

    @property
    def target(self) -> str:
        return self.binary

    @property
    def line(self) -> str:
        return f"{self.kind} {self.binary} {self.version} config validate sha256:{digest(self.config)}"


@dataclass(frozen=True, slots=True)
class AgentStart(Effect):
    """Starting an OBI program with one configuration file, whose whole text is ``config``."""

    kind: ClassVar[str] = "agent-start"
    binary: str = ""
    config_path: str = ""
    config: str = ""
    environment: tuple[tuple[str, str], ...] = ()

    @property
    def target(self) -> str:
        return self.binary

    @property
    def argv(self) -> tuple[str, ...]:
        """The one form in which OBI is started: every other operand would be ignored by it, silently."""
        return (self.binary, "-config", self.config_path)

    @property
    def line(self) -> str:
        names = " ".join(name for name, _ in self.environment)
        return f"{self.kind} {' '.join(self.argv)} sha256:{digest(self.config)}{f' with {names}' if names else ''}"


@dataclass(frozen=True, slots=True)
class AgentEnd(Effect):
    """Ending the agent that this server keeps in its directory: TERM, then KILL, by its keeper, whose child it is.

    ``purpose`` is ``restart`` where the same agent is started again at once.
    """

    kind: ClassVar[str] = "agent-end"
    directory: str = ""
    purpose: str = "stop"

    @property
    def target(self) -> str:
        return f"the agent of {self.directory}"


@dataclass(frozen=True, slots=True)
class AgentSignal(Effect):
    """Ending another OBI process. ``proof`` is what the caller means, ``seen`` what ``/proc`` shows now."""

    kind: ClassVar[str] = "agent-signal"
    proof: ProcessProof = ProcessProof()
    seen: ProcessProof = ProcessProof()
    signal: str = "TERM"

    @property
    def target(self) -> str:
        return f"pid {self.proof.pid}"

    @property
    def line(self) -> str:
        return f"{self.kind} {self.signal} {self.target} {self.seen.executable}".rstrip()


# --- containers ---

CONTAINER_MARK = "obi-mcp.managed"
"""The label of every container that a server of ours made. Anybody can put it on theirs: the image decides, too."""
CONTAINER_CONFIG = "/etc/obi/config.yaml"
"""Where a container of ours has its configuration."""


@dataclass(frozen=True, slots=True)
class Mount:
    """One host path that a container sees."""

    source: str
    target: str
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class ContainerProof:
    """One container: its id, the image it was made from, and its labels, as the engine shows them now."""

    id: str = ""
    name: str = ""
    image: str = ""
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ContainerRead(Effect):
    """Looking at OBI's containers: status or logs. ``proof`` empty: the list of those that are OBI's."""

    kind: ClassVar[str] = "container-read"
    what: str = "status"
    proof: ContainerProof = ContainerProof()

    @property
    def target(self) -> str:
        return self.proof.name or self.what


@dataclass(frozen=True, slots=True)
class ContainerRun(Effect):
    """Making and starting one container of OBI's. ``config``: the whole text of the configuration that it gets."""

    kind: ClassVar[str] = "container-run"
    image: str = ""
    name: str = ""
    command: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    config: str = ""
    mounts: tuple[Mount, ...] = ()
    capabilities: tuple[str, ...] = ()
    privileged: bool = False
    pid_mode: str = ""
    network_mode: str = ""
    cgroupns_mode: str = ""
    security_options: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    restart: str = ""
    memory_bytes: int = 0
    user: str = ""
    read_only: bool = False
    replaces: ContainerProof = ContainerProof()
    """The container of the same name that goes when this one is ready, and comes back when it is not."""

    @property
    def target(self) -> str:
        return f"{self.name} from {self.image}"

    @property
    def line(self) -> str:
        parts = [self.kind, self.name, self.image]
        parts += [f"instead of {self.replaces.id[:12]}"] if self.replaces.id else []
        parts += ["privileged"] if self.privileged else [f"cap:{name}" for name in self.capabilities]
        parts += [f"mount:{mount.source}{'' if mount.read_only else ':rw'}" for mount in self.mounts]
        return " ".join(parts) + (f" sha256:{digest(self.config)}" if self.config else "")


@dataclass(frozen=True, slots=True)
class ContainerStop(Effect):
    """Stopping a container of OBI's, and removing it where ``remove`` says so."""

    kind: ClassVar[str] = "container-stop"
    proof: ContainerProof = ContainerProof()
    remove: bool = False

    @property
    def target(self) -> str:
        return self.proof.name or self.proof.id

    @property
    def line(self) -> str:
        return f"{self.kind} {self.target} {self.proof.image}{' and remove' if self.remove else ''}"


EFFECTS: Mapping[str, type[Effect]] = {
    effect.kind: effect
    for effect in (
        AgentRead,
        ConfigRead,
        ConfigWrite,
        AgentCheck,
        AgentStart,
        AgentEnd,
        AgentSignal,
        ContainerRead,
        ContainerRun,
        ContainerStop,
    )
}

EffectT = TypeVar("EffectT", bound=Effect)


@dataclass(frozen=True, slots=True)
class ApprovedEffect(Generic[EffectT]):
    """An effect that may be performed. Only ``policy/engine.py`` makes one; what performs effects takes only this."""

    effect: EffectT
    decision: Decision
    access: Access


# --- from data, for the examples of rules ---

_NESTED: Mapping[str, type] = {"mounts": Mount}
_PROOFS: Mapping[tuple[str, str], type] = {
    ("agent-signal", "proof"): ProcessProof,
    ("agent-signal", "seen"): ProcessProof,
    ("container-read", "proof"): ContainerProof,
    ("container-run", "replaces"): ContainerProof,
    ("container-stop", "proof"): ContainerProof,
}


def effect_from_data(kind: str, data: Mapping[str, Any]) -> Effect:
    """The effect that plain data describes. Raises: KeyError for an unknown kind, TypeError for an unknown field."""
    return EFFECTS[kind](**{name: _value(kind, name, value) for name, value in data.items()})


def _value(kind: str, name: str, value: Any) -> Any:
    if name in _NESTED:
        return tuple(_NESTED[name](**entry) for entry in value)
    if (kind, name) in _PROOFS:
        return _PROOFS[kind, name](**{key: _value("", key, entry) for key, entry in value.items()})
    if isinstance(value, dict):
        return tuple(value.items())
    return tuple(value) if isinstance(value, list) else value


def default_of(effect: Effect, name: str) -> Any:
    """The value that a field has when nobody sets it."""
    for entry in fields(effect):
        if entry.name == name:
            return entry.default if entry.default is not MISSING else None
    raise KeyError(name)


def digest(text: str) -> str:
    """SHA-256 of the text, in hexadecimal."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
