"""``obi config validate -`` and ``obi config migrate -``, answered by our own validator and migrator, which say so.

A binary that does not have these sub-commands ignores the words and starts instrumenting, and none of them says its
version when asked (``docs/decisions/0003-obi-config.md``). So no obi binary is started from a command line at all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING

from obi_mcp.config import Settings
from obi_mcp.policy.model import Approved
from obi_mcp.process.runner import Completed, Runner

if TYPE_CHECKING:
    from obi_mcp.obi.config_command import ConfigAnswer

_WHY = "no obi binary is started from a command line"


async def answer_obi(
    runner: Runner, approved: Approved, settings: Settings, document: str, *, timeout_s: float, max_bytes: int
) -> Completed:
    """The answer for the document, through the filters of the line; the exit code is the head's, as OBI's would be."""
    answer = _answer(approved, settings, document)

    async def printed() -> AsyncIterator[bytes]:
        yield answer.stdout.encode()

    completed = await runner.run(approved, timeout_s=timeout_s, max_bytes=max_bytes, head_source=printed())
    stderr = answer.stderr.encode() + completed.stderr
    return replace(completed, stderr=stderr, exit_code=answer.exit_code or completed.exit_code)


def _answer(approved: Approved, settings: Settings, document: str) -> ConfigAnswer:
    from obi_mcp.obi.config_command import ConfigAnswer, answer_migrate, answer_validate

    pipeline = approved.decision.pipeline
    if pipeline is None:  # INVARIANT: what is approved has a pipeline
        return ConfigAnswer("", "there is no command\n", 2)
    head = pipeline.head
    mode = head.value("mode", "standalone")
    if head.path[-1] == "validate":
        return answer_validate(document, mode=mode, version=settings.obi.version, why=_WHY)
    partial = head.value("allow-partial", "false") == "true"
    return answer_migrate(document, mode=mode, allow_partial=partial, why=_WHY)
