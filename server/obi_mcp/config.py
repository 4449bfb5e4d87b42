"""Settings, read once from file, environment and flags, in that order; plain data, no heavy imports.

What each setting means, its unit and its bounds stand in ``config_table.py``; ``config_reader.py`` reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from obi_mcp.policy.model import Access
from obi_mcp.policy.scope import Scope


@dataclass(frozen=True, slots=True)
class Programs:
    """Where programs are found. ``path``: directories searched in order, before the server's own bin and PATH."""

    path: tuple[str, ...] = ()
    kubeconfig: str | None = None
    environment: dict[str, str] = field(default_factory=dict)
    """Variables that children get besides our own: proxies, cloud credentials for an exec plugin."""
    chart_store: str | None = None
    """Directory of charts; None: the one shipped with the server."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one call and of all calls. Seconds and bytes."""

    timeout_s: float = 30.0
    max_timeout_s: float = 300.0
    max_bytes: int = 100_000
    max_max_bytes: int = 1_000_000
    max_stdin_bytes: int = 1_048_576
    max_children: int = 16
    max_waiting: int = 256
    confirm_timeout_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Audit:
    """Where the audit log goes: a file, or standard error when None."""

    file: str | None = None


@dataclass(frozen=True, slots=True)
class Obi:
    """What is known of the obi binary on this host. ``version`` like ``0.12.0``; None: unknown."""

    version: str | None = None


@dataclass(frozen=True, slots=True)
class Local:
    """The OBI agent that this server runs on its own host."""

    binary: str | None = None
    """The OBI program; None: the first of obi, ebpf-instrument and beyla that is found."""
    config_directories: tuple[str, ...] = ("/etc/obi", "/etc/ebpf-instrument", "/etc/beyla")
    log_bytes: int = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Docker:
    """The Docker engine that runs OBI's containers."""

    host: str | None = None
    """``unix://`` or ``tcp://`` address; None: ``DOCKER_HOST``, else the system's socket."""
    mounts: tuple[str, ...] = ()
    """Paths of the engine's host that a container may see read-only, besides those that OBI needs."""


@dataclass(frozen=True, slots=True)
class Capture:
    """The built-in OTLP receiver, while a tool has it switched on."""

    port: int = 0
    directory: str | None = None
    """None: in the server's state directory."""
    max_rows: int = 1_000_000
    max_disk_bytes: int = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the operator decides. A caller can lower ``access``, nothing else."""

    access: Access = Access.READ_ONLY
    toolsets: tuple[str, ...] = ("command", "local", "kubernetes")
    policy_directory: str | None = None
    log_level: str = "info"
    confirm: str = "never"
    """Which changes a person has to confirm through the client: ``never`` any, ``destructive`` ones, ``always`` all."""
    confine: str = "auto"
    """``auto``: the server holds itself to the files it needs, as far as the kernel can; ``none``: it does not."""
    scope: Scope = field(default_factory=Scope)
    programs: Programs = field(default_factory=Programs)
    limits: Limits = field(default_factory=Limits)
    audit: Audit = field(default_factory=Audit)
    obi: Obi = field(default_factory=Obi)
    local: Local = field(default_factory=Local)
    docker: Docker = field(default_factory=Docker)
    capture: Capture = field(default_factory=Capture)
    source: Path | None = None
    """The configuration file these settings came from; None: none was found."""


def load_settings(
    *,
    config_path: str | None = None,
    flags: Mapping[str, str | None] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """The effective settings: flags win over ``environ`` over the file.

    ``flags`` maps setting names (``access``, ``audit.file``) to their text; None values are flags not given.
    ``environ`` None: the process's own.

    Raises: ConfigError that names the place, the setting, and the nearest known one.
    """
    from obi_mcp.config_reader import read_settings

    return read_settings(config_path=config_path, flags=flags, environ=environ).settings
