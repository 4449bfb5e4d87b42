"""What container OBI needs for what it is asked: a pure function from a wish and the engine's facts to an effect."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from obi_mcp.agent.asks import Asks, asks_of
from obi_mcp.containers.failures import NEW_CAPABILITIES
from obi_mcp.containers.model import DEFAULT_MEMORY_BYTES, NOBODY, EngineFacts
from obi_mcp.obi.capabilities import CapabilityFact, Feature, needed
from obi_mcp.obi.finding import Program
from obi_mcp.policy.effects import CONTAINER_CONFIG, CONTAINER_MARK, ContainerProof, ContainerRun, Mount
from obi_mcp.policy.yaml_writer import to_yaml

NEW_ENGINE = 23
"""The first Docker that knows CAP_BPF, CAP_PERFMON and CAP_CHECKPOINT_RESTORE: 20.10 gives them not even to a
privileged container. Source: run (20.10.24, 29)."""
DEFAULT_PORT = 9090
_NETWORK = frozenset({Feature.NETWORK, Feature.NETWORK_TC})
_CONFIG_LABEL = "obi-mcp.config"
_LABELS = {CONTAINER_MARK: "true", "app.kubernetes.io/part-of": "obi"}


@dataclass(frozen=True, slots=True)
class Wish:
    """What a caller wants. ``further`` capabilities and ``mounts`` come on top of what the configuration needs;
    ``program`` and ``version`` are the image's, as far as its name tells."""

    image: str
    config: str
    name: str = "obi"
    environment: Mapping[str, str] = field(default_factory=dict)
    privileged: bool = False
    further: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    memory_bytes: int = DEFAULT_MEMORY_BYTES
    restart: str = "unless-stopped"
    replaces: ContainerProof = NOBODY
    program: Program = "obi"
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Planned:
    """The effect, what the configuration asks, why it gets these capabilities, and what is to be said beside it."""

    effect: ContainerRun
    asks: Asks
    why: tuple[CapabilityFact, ...]
    notes: tuple[str, ...]


def plan(wish: Wish, facts: EngineFacts | None = None, perf_event_paranoid: int | None = None) -> Planned:
    """The container for a wish. ``facts`` None: an engine that nobody asked (for a Compose file)."""
    asks = asks_of(wish.config, wish.environment)
    least = needed(
        asks.features,
        kernel=facts.kernel if facts else None,
        perf_event_paranoid=perf_event_paranoid,
        program=wish.program,
        version=wish.version,
    )
    capabilities = () if wish.privileged else tuple(dict.fromkeys((*least.capabilities, *wish.further)))
    effect = ContainerRun(
        image=wish.image,
        name=wish.name,
        command=("-config", CONTAINER_CONFIG),
        environment=tuple(sorted(wish.environment.items())),
        config=wish.config,
        mounts=tuple(Mount(path, path) for path in dict.fromkeys((*_mounts(asks), *wish.mounts))),
        capabilities=capabilities,
        privileged=wish.privileged,
        pid_mode="host",
        network_mode="host",
        security_options=tuple(_security(wish, asks, facts)),
        labels=tuple(sorted({**_LABELS, _CONFIG_LABEL: config_digest(wish.config)}.items())),
        restart=wish.restart,
        memory_bytes=wish.memory_bytes,
        replaces=wish.replaces,
    )
    return Planned(effect, asks, () if wish.privileged else least.facts, tuple(_notes(effect, asks, facts)))


def config_digest(text: str) -> str:
    """What the label of a container says of its configuration."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def made_config(*, open_port: str | None, network: bool, exports: bool) -> str:
    """A configuration for the first day. ``exports`` False: nothing is told where to send, so it serves Prometheus."""
    data: dict[str, object] = {}
    if open_port:
        data["open_port"] = open_port
    if network:
        data["network"] = {"enable": True}
    if not exports:
        data["prometheus_export"] = {"port": DEFAULT_PORT}
    return to_yaml(data)


def _mounts(asks: Asks) -> Iterator[str]:
    yield "/sys/kernel/security"  # whether the kernel is locked down
    if asks.features - _NETWORK:
        yield "/sys/kernel/tracing"
        yield "/sys/fs/cgroup"


def _security(wish: Wish, asks: Asks, facts: EngineFacts | None) -> Iterator[str]:
    yield "no-new-privileges"
    if facts is not None and facts.apparmor and not wish.privileged and asks.features - _NETWORK:
        # Docker's profile lets a container look into its own processes only.
        yield "apparmor=unconfined"


def _notes(effect: ContainerRun, asks: Asks, facts: EngineFacts | None) -> Iterator[str]:
    if not asks.features:
        yield "the configuration asks for nothing that OBI could watch: set open_port, discovery or network"
    if effect.privileged:
        yield "privileged: it may do on the engine's host what root may; without it, only the capabilities it needs"
    if not effect.memory_bytes:
        yield "no memory limit: OBI may take all of the engine's host"
    if facts is None:
        return
    if not facts.local:
        yield f"the engine is not on this host, and OBI sees the host of the engine ({facts.address})"
    unknown = sorted(NEW_CAPABILITIES.intersection(effect.capabilities))
    if 0 < facts.major < NEW_ENGINE and unknown:
        yield (
            f"Docker {facts.version} does not know {', '.join(unknown)}: it will refuse; upgrade it to {NEW_ENGINE}, "
            "or deploy with privileged: true"
        )
    elif 0 < facts.major < NEW_ENGINE:
        yield (
            f"Docker {facts.version} gives not even a privileged container BPF and PERFMON; OBI warns and goes on, "
            "Beyla needs enforce_sys_caps: false"
        )
