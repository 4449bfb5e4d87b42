"""Settings, read once from file, environment and flags, in that order; plain data, no heavy imports."""

from __future__ import annotations

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


@dataclass(frozen=True, slots=True)
class Audit:
    """Where the audit log goes: a file, or standard error when None."""

    file: str | None = None


@dataclass(frozen=True, slots=True)
class Obi:
    """What is known of the obi binary on this host. ``version`` like ``0.12.0``; None: unknown."""

    version: str | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the operator decides. A caller can lower ``access``, nothing else."""

    access: Access = Access.READ_ONLY
    toolsets: tuple[str, ...] = ("command",)
    policy_directory: str | None = None
    log_level: str = "info"
    scope: Scope = field(default_factory=Scope)
    programs: Programs = field(default_factory=Programs)
    limits: Limits = field(default_factory=Limits)
    audit: Audit = field(default_factory=Audit)
    obi: Obi = field(default_factory=Obi)
    source: Path | None = None
    """The configuration file these settings came from; None: none was found."""
