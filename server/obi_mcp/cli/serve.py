"""``obi-mcp serve``: the MCP server on standard input and output."""

from __future__ import annotations

import gc
import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING

from obi_mcp import __version__
from obi_mcp.cli.arguments import VerbParser, add_settings_flags, settings_from
from obi_mcp.config import Settings
from obi_mcp.errors import ConfigError
from obi_mcp.log import StderrWriter, start_logging
from obi_mcp.toolsets.base import Services
from obi_mcp.toolsets.registry import enabled_toolsets, left_out, listed_tools

if TYPE_CHECKING:
    from obi_mcp.process.confinement import Confinement
    from obi_mcp.process.runner import Runner

COLLECT_AFTER = 20_000
"""New objects before the garbage collector looks: with Python's 700 that is half of the time of reading a long list."""

SWITCH_S = 0.001
"""How long a thread that computes keeps the interpreter from one that has just read a request; Python's own is 5 ms."""

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
    for stream, name in ((sys.stdin, "input"), (sys.stdout, "output")):
        if stream is None:  # Python found its descriptor closed
            raise ConfigError(f"standard {name} is closed, and MCP is spoken there", "let an MCP client start it")
    if sys.stdin.isatty():
        print(
            "obi-mcp serve speaks MCP on standard input, and this is a terminal: let an MCP client start it "
            "(README.md), or use `obi-mcp call`. Ctrl-C ends it.",
            file=sys.stderr,
        )
    stderr = StderrWriter()
    start_logging(settings.log_level, stderr)
    from obi_mcp.cli.services import build_services
    from obi_mcp.process.runner import Runner
    from obi_mcp.redact import Redactor
    from obi_mcp.telemetry.capture import Capture

    runner = Runner.for_settings(settings, Redactor.load())
    services = build_services(settings, stderr, runner, Capture(settings))
    for name, reason in left_out(settings).items():
        logger.warning("toolset left out", extra={"toolset": name, "why": reason})
    if services.effects.host.binaries and any(toolset.name == "local" for toolset in enabled_toolsets(settings)):
        services.agents.start_process()  # without an OBI program there is nothing that it could start
    # INVARIANT: what shall not be confined (the launcher of agents) is forked before this line, while there is one
    # thread; what has to be opened outside the server's files (policy, audit log) has been.
    confinement = confine(settings, runner)
    _serve(services, stderr, confinement, runner)
    return 0


def confine(settings: Settings, runner: Runner) -> Confinement:
    """Holds this process to its files, and starts the launcher of commands within. Raises: ConfigError."""
    from obi_mcp.process.confinement import confine_server

    private = str(runner.directory.root)
    try:
        confinement = confine_server(settings, runner.programs, private=private)
    except BaseException:
        runner.directory.discard()
        raise
    runner.start_launcher()
    os.environ["TMPDIR"] = tempfile.tempdir = runner.directory.path("tmp")  # for whatever a library asks for
    return confinement


def _serve(services: Services, stderr: StderrWriter, confinement: Confinement, runner: Runner) -> None:
    gc.disable()  # the SDK builds 551 models at import, and walking them again and again costs a tenth of it
    from obi_mcp.app import ObiServer
    from obi_mcp.transport import serve_stdio

    gc.enable()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, 20, 10)
    sys.setswitchinterval(SWITCH_S)
    server = ObiServer(services, warm=runner.warm)
    logger.info("serving", extra=_facts(services.settings, confinement))

    async def close() -> None:
        await server.end_calls()
        services.agents.close()
        if services.capture is not None:
            await services.capture.close()
        await services.enforcer.close()

    def finish() -> None:
        head = services.audit.close()
        logger.info("stopped", extra={"audit_head": head})
        stderr.flush()

    serve_stdio(server, close=close, finish=finish)


def _facts(settings: Settings, confinement: Confinement) -> dict[str, object]:
    return {
        "version": __version__,
        "pid": os.getpid(),
        "access": settings.access.label,
        "config": str(settings.source) if settings.source else None,
        "audit": settings.audit.file or "standard error",
        "confined": confinement.describe(),
    }
