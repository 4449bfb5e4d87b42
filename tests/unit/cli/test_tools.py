"""``obi-mcp tools``: what a server with these settings offers."""

from __future__ import annotations

import json

import pytest

from obi_mcp.cli.tools import main
from obi_mcp.config import Settings
from obi_mcp.policy.model import Access
from obi_mcp.toolsets.registry import listed_tools


@pytest.mark.parametrize("level", list(Access))
def test_json_is_what_tools_list_gives(level: Access, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json", "--access", level.label, "--toolsets", "command"]) == 0
    shown = json.loads(capsys.readouterr().out)
    settings = Settings(access=level, toolsets=("command",))
    assert shown == {"tools": [spec.public(level) for spec in listed_tools(settings)]}


def test_text_is_one_line_for_every_tool(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--access", "full"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [spec.name for spec in listed_tools(Settings(access=Access.FULL))]
    levels = {line.split()[0]: line for line in lines}
    assert "up to full" in levels["obi_kubectl"]
    assert "up to read-only" in levels["obi_k8s_status"]
