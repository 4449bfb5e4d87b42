"""The tools as data: their public definitions, and which of them are listed."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import jsonschema
import pytest
from mcp import Client
from tests.snapshots.update import TOOLS, tool_snapshots
from tests.unit.recorded_road import RecordedRoad, services
from tests.unit.tool_calls import FULL, spec

from obi_mcp.app import ObiServer
from obi_mcp.cli.findings import toolset_findings
from obi_mcp.config import Limits, Settings
from obi_mcp.errors import (
    ConfigError,
)
from obi_mcp.policy.model import Access
from obi_mcp.toolsets.base import SHARED, UNLISTED, ToolSpec
from obi_mcp.toolsets.registry import ALL, TOOLSETS, all_toolsets, left_out, listed_tools

NAMES = ("obi_kubectl", "obi_helm", "obi_command", "obi_explain_command")


def test_the_public_definitions_are_those_of_the_snapshots() -> None:
    wanted = tool_snapshots()
    assert set(TOOLS.glob("*.json")) == set(wanted), "run tests/snapshots/update.py"
    for path, text in wanted.items():
        assert path.read_text() == text, "run tests/snapshots/update.py"


EVERY = listed_tools(Settings(access=Access.FULL, toolsets=(ALL,)))


@pytest.mark.parametrize("tool", EVERY, ids=lambda tool: tool.name)
def test_a_definition_is_complete(tool: ToolSpec) -> None:
    public = tool.public(Access.FULL)
    jsonschema.Draft202012Validator.check_schema(public["inputSchema"])
    jsonschema.Draft202012Validator.check_schema(public["outputSchema"])
    assert public["title"]
    assert 1 <= public["description"].count(". ") + 1 <= 3
    assert tool.input_schema["additionalProperties"] is False
    assert set(tool.input_schema.get("required", ())) <= set(tool.input_schema["properties"])


def test_every_argument_of_a_command_line_is_described() -> None:
    assert all(entry["description"] for name in NAMES for entry in spec(name).input_schema["properties"].values())


@pytest.mark.parametrize("tool", EVERY, ids=lambda tool: tool.name)
def test_what_is_not_listed_of_a_schema_only_narrows_it(tool: ToolSpec) -> None:
    listed, checked = tool.public(Access.FULL)["inputSchema"], tool.input_schema
    assert without(checked, *UNLISTED) == {**listed, "properties": without(checked, *UNLISTED)["properties"]}
    assert listed["properties"].keys() == checked["properties"].keys()
    for name, shown in listed["properties"].items():
        whole = checked["properties"][name]
        assert shown.items() <= whole.items() or shown == without(whole, *UNLISTED)
        left_out = whole.keys() - shown.keys() - UNLISTED
        assert "description" not in left_out or whole["description"] == SHARED[name]
        assert "default" not in left_out or whole["default"] is False
        assert left_out <= {"description", "default"}


def without(schema: Any, *words: str) -> Any:
    return {word: value for word, value in schema.items() if word not in words}


HINTS: list[tuple[str, Access, dict[str, bool]]] = [
    # tool, the server's level, its hints; those that are not there have the protocol's defaults
    ("obi_kubectl", Access.READ_ONLY, {"readOnlyHint": True, "destructiveHint": False}),
    ("obi_kubectl", Access.NON_DESTRUCTIVE, {"readOnlyHint": False, "destructiveHint": False}),
    ("obi_kubectl", Access.FULL, {"readOnlyHint": False, "destructiveHint": True}),
    ("obi_helm", Access.FULL, {"readOnlyHint": False, "destructiveHint": True}),
    ("obi_command", Access.FULL, {"readOnlyHint": True, "destructiveHint": False, "openWorldHint": False}),
    ("obi_explain_command", Access.FULL, {"readOnlyHint": True, "destructiveHint": False, "openWorldHint": False}),
]


@pytest.mark.parametrize(("name", "level", "hints"), HINTS)
def test_hints_follow_from_the_access_level(name: str, level: Access, hints: dict[str, bool]) -> None:
    assert spec(name).public(level)["annotations"] == hints


def test_schemas_show_the_limits_and_levels_of_the_settings() -> None:
    limits = Limits(timeout_s=5, max_timeout_s=10, max_bytes=2000, max_max_bytes=4000, max_stdin_bytes=77)
    properties = spec("obi_kubectl", Settings(access=Access.NON_DESTRUCTIVE, limits=limits)).input_schema["properties"]
    assert properties["access"]["enum"] == ["read-only", "non-destructive"]
    assert (properties["timeout_s"]["default"], properties["timeout_s"]["maximum"]) == (5, 10)
    assert (properties["max_bytes"]["default"], properties["max_bytes"]["maximum"]) == (2000, 4000)
    assert properties["stdin"]["maxLength"] == 77


def test_a_toolset_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="there is no toolset comand"):
        listed_tools(Settings(toolsets=("comand",)))


def test_a_toolset_that_cannot_be_offered_is_left_out_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "obi_get_status" not in {tool.name for tool in listed_tools(FULL)}
    assert left_out(FULL) == {"local": "OBI runs on Linux, and this host does not"}
    found = {finding.subject: finding for finding in toolset_findings(FULL)}
    assert found["toolsets"].evidence == "command, kubernetes"
    assert found["toolset local"].severity == "note"
    monkeypatch.undo()
    assert left_out(FULL) == {}


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_the_list_of_the_default_toolsets_stays_small(mode: str) -> None:
    """As a client gets it at the level that lists most: docs/decisions and the README promise 20 kB."""

    async def run() -> None:
        server = ObiServer(services(RecordedRoad(), FULL))
        async with asyncio.timeout(120), Client(server, mode=mode) as client:
            listed = await client.list_tools()
        names = {tool.name for tool in listed.tools}
        assert {"obi_kubectl", "obi_get_status", "obi_k8s_deploy", "obi_k8s_undeploy"} <= names
        assert len(listed.model_dump_json(by_alias=True, exclude_none=True)) <= 20_000

    asyncio.run(run())


def test_the_command_toolset_is_always_on() -> None:
    assert [tool.name for tool in listed_tools(Settings(toolsets=()))] == list(NAMES)
    assert [tool.name for tool in listed_tools(Settings(toolsets=("all",)))][: len(NAMES)] == list(NAMES)
    assert [toolset.name for toolset in all_toolsets()] == list(TOOLSETS)
