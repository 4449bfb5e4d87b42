"""What bounds a capture, and whether one is possible here."""

from __future__ import annotations

import importlib.util
import ipaddress
from dataclasses import asdict, dataclass
from typing import Any

from obi_mcp.errors import ConfigError

REQUIRED = ("duckdb", "google.protobuf", "opentelemetry.proto.collector.trace.v1")
"""Packages of the extra ``analysis``."""

INSTALL_HINT = (
    "install them with: pip install 'obi-mcp[analysis]'; in a container use the image with the analysis layer"
)


@dataclass(frozen=True, slots=True)
class CaptureSettings:
    """The bounds of one capture; what goes over them is refused or dropped, and counted."""

    host: str = "127.0.0.1"
    """A loopback address: the receiver asks nobody who they are."""
    port: int = 0
    """0: one that is free."""
    directory: str | None = None
    """Where segments are kept, in a folder that goes when the capture ends; None: where temporary files go."""
    max_rows: int = 1_000_000
    """Rows of each kind (spans, metric points, log records) that are kept; the oldest are dropped."""
    max_disk_bytes: int = 256 * 1024 * 1024
    max_body_bytes: int = 4 * 1024 * 1024
    """One request as it comes."""
    max_decoded_bytes: int = 4 * 1024 * 1024
    """One request after decompression; parsed it may take thirty times as much."""
    max_pending_bytes: int = 32 * 1024 * 1024
    """Requests that are being read or wait to be stored; further ones get 429."""
    body_within_s: float = 10.0
    """Seconds in which a request's body has to come."""
    engine_memory_bytes: int = 128 * 1024 * 1024
    """What the analytical engine may take; beyond that it spills into ``directory``."""

    def __post_init__(self) -> None:
        """Raises: ConfigError for an address that others could reach."""
        refuse_public_address(self.host)

    @property
    def segment_rows(self) -> int:
        """Rows that are collected in memory before they become a file."""
        return max(100, min(25_000, self.max_rows // 8))

    def as_json(self) -> dict[str, Any]:
        """All fields, as the receiver's process takes them."""
        return asdict(self)


def refuse_public_address(host: str) -> None:
    """Raises: ConfigError with the reason when ``host`` is anything but a literal loopback address."""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ConfigError(
            f"the receiver does not listen on {host!r}: it takes telemetry from anybody who reaches it",
            "use 127.0.0.1 or ::1; for senders on other hosts run an OpenTelemetry Collector",
        )


def unavailable() -> str | None:
    """Why nothing can be captured here, None when it can."""
    missing = [name for name in REQUIRED if not _installed(name)]
    if missing:
        return f"the packages that capture and analysis need are not installed ({', '.join(missing)}); {INSTALL_HINT}"
    return None


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
