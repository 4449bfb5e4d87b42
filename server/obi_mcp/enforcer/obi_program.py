"""``obi config validate -`` and ``obi config migrate -``: by the binary where its version is known to have them.

An older binary ignores the operands and starts instrumenting (``obi/FACTS``), so one whose version is not known is
never asked: our own validator and migrator answer then, and say so.
"""

from __future__ import annotations

from obi_mcp.config import Settings
from obi_mcp.policy.model import Approved
from obi_mcp.process.runner import Completed, Runner


async def answer_obi(
    runner: Runner, approved: Approved, settings: Settings, *, timeout_s: float, max_bytes: int
) -> Completed:
    """The answer for the document in ``stdin``, through the filters of the line."""
    return await runner.run(approved, timeout_s=timeout_s, max_bytes=max_bytes)
