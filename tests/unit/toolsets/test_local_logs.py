"""The log of the agent on this host: what a search may find."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from obi_mcp.agent.logs import Wanted
from obi_mcp.agent.record import LOG
from obi_mcp.redact import Redactor
from obi_mcp.toolsets.local.desk import Desk
from obi_mcp.toolsets.local.looking import logs

TOKEN = "ghp_" + "a1B2" * 9
LINES = (
    'time=2026-11-21T12:00:00.000Z level=INFO msg="starting"',
    f'time=2026-11-21T12:00:01.000Z level=ERROR msg="refused" header="Authorization: Bearer {TOKEN}"',
    'time=2026-11-21T12:00:02.000Z level=ERROR msg="refused again"',
)


@dataclass(frozen=True)
class Folder:
    """Stands for the desk: its directory and its redaction are all that reading a log needs."""

    directory: Path

    def plain(self, text: str) -> str:
        return Redactor.load().text(text)


@pytest.mark.parametrize(
    ("text", "tail", "found", "more"),
    [
        ("refused", 5, 2, False),
        ("refused", 1, 1, True),
        ("nothing of that", 5, 0, False),
        (TOKEN, 5, 0, False),
        (TOKEN[:8], 1, 0, False),
        ("Bearer g", 5, 0, False),
        (None, 2, 2, True),
    ],
)
def test_a_search_finds_nothing_in_what_is_redacted(
    tmp_path: Path, text: str | None, tail: int, found: int, more: bool
) -> None:
    (tmp_path / LOG).write_text("\n".join(LINES) + "\n")
    desk = cast(Desk, Folder(tmp_path))
    answer: Any = asyncio.run(logs(desk, Wanted(tail=tail, text=text))).structured
    assert (len(answer["records"]), answer["more"]) == (found, more)
    assert TOKEN not in str(answer)
    if text is not None:
        assert answer["scanned"] == len(LINES)  # whatever is searched for
