"""What an engine and its containers are, as far as OBI is concerned."""

from __future__ import annotations

from dataclasses import dataclass

from obi_mcp.policy.effects import ContainerProof

DEFAULT_MEMORY_BYTES = 2 * 1024 * 1024 * 1024
"""OBI's BPF maps alone have been seen to take 340 MiB at the start."""
NOBODY = ContainerProof()
"""Whose place a container takes that takes nobody's."""


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """``address`` is where it was asked; ``local``: containers run on this very host. ``kernel`` is its host's.

    ``rootless``: its containers have no capability of the host's kernel. ``remapped``: their users are other users.
    """

    address: str
    version: str = ""
    api_version: str = ""
    kernel: tuple[int, int] | None = None
    local: bool = False
    rootless: bool = False
    remapped: bool = False
    apparmor: bool = False

    @property
    def major(self) -> int:
        """The first number of its version; 0 when it has none."""
        first = self.version.partition(".")[0]
        return int(first) if first.isdigit() else 0


@dataclass(frozen=True, slots=True)
class Usage:
    """``cpu_percent``: of one processor, over a quarter of a second. ``memory_limit_bytes`` 0: no limit."""

    cpu_percent: float
    memory_bytes: int
    memory_limit_bytes: int


@dataclass(frozen=True, slots=True)
class Container:
    """One container as the engine shows it. Times are RFC 3339, empty where they do not apply.

    ``state``: created, running, restarting, paused, exited, dead. ``digests``: of its image, where a registry gave it.
    """

    id: str
    name: str
    image: str
    labels: tuple[tuple[str, str], ...]
    image_id: str
    state: str
    created: str = ""
    started: str = ""
    finished: str = ""
    restarts: int = 0
    exit_code: int | None = None
    out_of_memory: bool = False
    error: str = ""
    privileged: bool = False
    capabilities: tuple[str, ...] = ()
    memory_limit_bytes: int = 0
    digests: tuple[str, ...] = ()

    @property
    def proof(self) -> ContainerProof:
        """What the policy judges it by."""
        return ContainerProof(self.id, self.name, self.image, self.labels)

    @property
    def ended(self) -> bool:
        """Whether nothing runs in it just now."""
        return self.state in ("exited", "dead", "restarting")
