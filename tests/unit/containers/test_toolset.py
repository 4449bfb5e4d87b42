"""The toolset as it is listed: off by default, by level, with what its annotations promise."""

from __future__ import annotations

from typing import Any

import pytest

from obi_mcp.config import Docker, Settings
from obi_mcp.policy.model import Access
from obi_mcp.toolsets.docker import DockerToolset
from obi_mcp.toolsets.registry import listed_tools, switched_off

READS = {"status", "logs", "generate_compose"}
LEVELS = [
    (Access.READ_ONLY, READS),
    (Access.NON_DESTRUCTIVE, {*READS, "deploy"}),
    (Access.FULL, {*READS, "deploy", "stop"}),
]


def names(settings: Settings) -> set[str]:
    return {spec.name.removeprefix("obi_docker_") for spec in listed_tools(settings) if "docker" in spec.name}


@pytest.mark.parametrize(("access", "expected"), LEVELS)
def test_a_level_lists_what_it_may_do(access: Access, expected: set[str]) -> None:
    assert names(Settings(access=access, toolsets=("docker",))) == expected


def test_it_is_off_unless_it_is_named() -> None:
    assert names(Settings(access=Access.FULL)) == set()


def test_annotations_say_what_a_tool_can_do() -> None:
    hints: dict[str, Any] = {
        spec.name.removeprefix("obi_docker_"): spec.public(Access.FULL)["annotations"]
        for spec in DockerToolset().tools(Settings())
    }
    assert {name: (hint["readOnlyHint"], hint["destructiveHint"]) for name, hint in hints.items()} == {
        "deploy": (False, False),
        "status": (True, False),
        "logs": (True, False),
        "stop": (False, True),
        "generate_compose": (True, False),
    }


def test_an_engine_that_cannot_be_spoken_to_is_the_reason_why_it_is_unavailable() -> None:
    assert DockerToolset().unavailable(Settings()) is None
    reason = DockerToolset().unavailable(Settings(docker=Docker(host="ssh://me@host")))
    assert reason is not None and "ssh:// is not spoken here" in reason and "ssh -nNT -L" in reason
    asked = switched_off("obi_docker_status", Settings(toolsets=("docker",), docker=Docker(host="ssh://me@host")))
    assert asked is not None and reason in asked.message
