"""The argument ``capture`` of the tools that start OBI, and what status tools tell of it.

The built-in receiver runs from the first time that it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from obi_mcp.errors import InvalidArgument
from obi_mcp.toolsets.base import Services

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_OTLP_PORT = 4318
_SIGNALS = (("traces", "spans"), ("metrics", "metric points"), ("logs", "log records"))


async def captured_by(services: Services, given: Mapping[str, Any]) -> dict[str, str]:
    """The variables that make OBI send to the receiver; none without ``capture``. A dry run starts nothing and has a
    port that stands for the one to come.

    Raises: ConfigError, InvalidArgument, ProgramFailed.
    """
    if not given.get("capture", False):
        return {}
    if "otlp_endpoint" in given:
        raise InvalidArgument("capture and otlp_endpoint are both given", "OBI sends to one of them: leave one out")
    if services.capture is None:
        raise InvalidArgument(
            "capture needs a server that goes on after the call", "ask a running `obi-mcp serve`, not `obi-mcp call`"
        )
    if given.get("dry_run", False):
        return {ENDPOINT: f"http://127.0.0.1:{services.settings.capture.port or _OTLP_PORT}"}
    receiver = await services.capture.start()
    return receiver.environment


async def capture_row(services: Services) -> dict[str, Any] | None:
    """What the receiver has taken, and what became of it; None while it does not run. Raises: ProgramFailed."""
    receiver = services.capture.receiver if services.capture is not None else None
    if receiver is None:
        return None
    return {"endpoint": receiver.endpoint, **(await receiver.counts()).as_json()}


def capture_lines(row: Mapping[str, Any] | None) -> list[str]:
    """The row of ``capture_row`` in a line."""
    if row is None:
        return []
    kept = ", ".join(f"{row[name]['kept']:,} {words}" for name, words in _SIGNALS)
    gone = sum(row[name][how] for name, _ in _SIGNALS for how in ("rejected", "lost", "dropped"))
    refused = sum(row["refused"].values())
    return [f"captured at {row['endpoint']}: {kept}; {gone:,} rejected, lost or dropped, {refused:,} requests refused"]
