"""One sandbox among several: its name, its place on disk, its addresses and ports."""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

STATE_VARIABLE = "OBI_SANDBOX_STATE"
LINK_PREFIX = "obimcp"
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?")
_RECORD = "instance.json"
# A socket's path may have 107 characters.
_LONGEST_STATE = 64


class SandboxError(Exception):
    """A sandbox could not be made, found or stopped; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the components listen, on ``Instance.address``."""

    api: int = 443
    etcd: int = 2379
    etcd_peer: int = 2380
    controllers: int = 10257
    scheduler: int = 10259
    kwok: int = 10247
    kubelet: int = 10250
    kubelet_health: int = 10248


@dataclass(frozen=True, slots=True)
class Instance:
    """A sandbox's identity. Everything it makes on the machine has a name that follows from it.

    ``index`` tells the host's ends of the veth pairs apart; None means no network namespace (not root): ``address``
    is loopback then, and the ports are free ones.
    """

    name: str
    state: Path
    address: str
    ports: Ports
    index: int | None
    host_address: str = ""

    @property
    def netns(self) -> str | None:
        return f"obi-mcp-{self.name}" if self.index is not None else None

    @property
    def peer_netns(self) -> str:
        """Where the HTTP server of the measured traffic is."""
        return f"obi-mcp-{self.name}-peer"

    @property
    def pods_netns(self) -> str:
        """Where the addresses of simulated nodes and pods are, and kwok with them."""
        return f"obi-mcp-{self.name}-pods"

    @property
    def namespaces(self) -> tuple[str, ...]:
        """Its network namespaces, there or not."""
        return () if self.netns is None else (self.netns, self.peer_netns, self.pods_netns)

    @property
    def cgroup(self) -> str:
        return f"obi-mcp-{self.name}"

    @property
    def host_link(self) -> str:
        return host_link(self.index or 0)

    @property
    def api_server(self) -> str:
        port = "" if self.ports.api == 443 else f":{self.ports.api}"
        return f"https://{self.address}{port}"

    @property
    def kubeconfig(self) -> Path:
        return self.state / "kubeconfig"

    @property
    def certificates(self) -> Path:
        return self.state / "pki"

    def log(self, daemon: str) -> Path:
        return self.state / "log" / f"{daemon}.log"

    def save(self) -> None:
        """Record the instance; what is not recorded cannot be stopped by another process."""
        record = asdict(self) | {"state": str(self.state)}
        # Whole or not at all: whoever looks for other instances reads it.
        begun = self.state / f"{_RECORD}.begun"
        begun.write_text(json.dumps(record), encoding="utf-8")
        begun.replace(self.state / _RECORD)


def host_link(index: int) -> str:
    """The host's end of an instance's veth pair."""
    return f"{LINK_PREFIX}{index}"


def state_root() -> Path:
    """``$OBI_SANDBOX_STATE``; by default in /run for root, for others in ``$XDG_RUNTIME_DIR`` or /tmp."""
    named = os.environ.get(STATE_VARIABLE, "")
    if named:
        return Path(named).resolve()
    if os.geteuid() == 0:
        return Path("/run/obi-mcp-sandbox")
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    return Path(runtime) / "obi-mcp-sandbox" if runtime else Path(f"/tmp/obi-mcp-sandbox-{os.geteuid()}")


def state_of(name: str) -> Path:
    """The directory of an instance, there or not. Raises: SandboxError for a name or place that cannot be one."""
    if _NAME.fullmatch(name) is None:
        raise SandboxError(f"{name!r} is no instance name: lower-case letters, digits and hyphens, at most 20")
    state = state_root() / name
    if len(str(state)) > _LONGEST_STATE:
        raise SandboxError(f"{state} is too long for sockets below it: at most {_LONGEST_STATE} characters")
    return state


def load(name: str) -> Instance | None:
    """The recorded instance, or None where nothing is recorded."""
    try:
        fields = json.loads((state_of(name) / _RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:  # or taken down at this moment
        return None
    return Instance(**(fields | {"state": Path(fields["state"]), "ports": Ports(**fields["ports"])}))


def recorded() -> tuple[str, ...]:
    """The names of all instances that are recorded, up or half made."""
    return tuple(sorted(path.parent.name for path in state_root().glob(f"*/{_RECORD}")))


@contextmanager
def machine_lock(purpose: str) -> Iterator[None]:
    """Hold what instances must do one after another."""
    root = state_root()
    root.mkdir(parents=True, exist_ok=True)
    with (root / f".{purpose}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def free_ports() -> Ports:
    """Eight ports of loopback that nobody listened on a moment ago."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(8)]
    numbers = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return Ports(*numbers)
