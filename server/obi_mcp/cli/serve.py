"""``obi-mcp serve``: the MCP server on standard input and output."""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Sequence

from obi_mcp import __version__
from obi_mcp.cli.arguments import VerbParser, add_settings_flags, settings_from
from obi_mcp.config import Settings
from obi_mcp.log import StderrWriter, start_logging
from obi_mcp.toolsets.base import Services
from obi_mcp.toolsets.registry import listed_tools

LAST_LINES_S = 1.0
"""How long the last log lines may take when nobody reads standard error."""

logger = logging.getLogger("obi_mcp.serve")


def parser() -> VerbParser:
    """The flags of ``serve``."""
    made = VerbParser("obi-mcp serve", "Serves MCP on standard input and output until the client leaves.")
    add_settings_flags(made)
    return made


def main(argv: Sequence[str]) -> int:
    """Serves; does not return unless it cannot start."""
    settings = settings_from(parser().parse_args(argv)).settings
    listed_tools(settings)  # a toolset that is none is said before anything is loaded
    if sys.stdin.isatty():
        print(
            "obi-mcp serve speaks MCP on standard input, and this is a terminal: let an MCP client start it "
            "(README.md), or use `obi-mcp call`. Ctrl-C ends it.",
            file=sys.stderr,
        )
    stderr = StderrWriter()
    start_logging(settings.log_level, stderr)
    from obi_mcp.cli.services import build_services

    services = build_services(settings, stderr)
    _serve(services, stderr)
    return 0


def _serve(services: Services, stderr: StderrWriter) -> None:
    gc.disable()  # the SDK builds 551 models at import, and walking them again and again costs a tenth of it
    from obi_mcp.app import ObiServer
    from obi_mcp.transport import serve_stdio

    gc.enable()
    gc.freeze()
    server = ObiServer(services)
    logger.info("serving", extra=_facts(services.settings))

    async def close() -> None:
        await server.end_calls()
        await services.enforcer.close()

    def finish() -> None:
        head = services.audit.close()
        logger.info("stopped", extra={"audit_head": head})
        stderr.flush(LAST_LINES_S)

    serve_stdio(server, close=close, finish=finish)


def _facts(settings: Settings) -> dict[str, object]:
    return {
        "version": __version__,
        "pid": os.getpid(),
        "access": settings.access.label,
        "config": str(settings.source) if settings.source else None,
        "audit": settings.audit.file or "standard error",
    }
