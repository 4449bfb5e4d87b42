"""What a resource is, and a template of resources; nothing here knows of MCP."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from obi_mcp.toolsets.base import Services

JSON = "application/json"
YAML = "application/yaml"
READ = "resources/read"
"""The tool of a read's line in the audit log, where no tool of the toolsets does the reading."""
SUBSCRIBE = "resources/subscribe"
COMPLETE = "completion/complete"

Stream = Callable[[], AsyncGenerator[bool, None]]
"""Opens a stream that gives True whenever what it watches has changed."""


@dataclass(frozen=True, slots=True)
class ResourceSpec:
    """One resource. ``read`` gives its text for a caller; ``stamp`` changes when the text would (None: never)."""

    uri: str
    title: str
    description: str
    read: Callable[[Services, str], Awaitable[str]]
    stamp: Callable[[Services], object] | None = None
    mime_type: str = JSON

    @property
    def name(self) -> str:
        return self.uri.removeprefix("obi://")


@dataclass(frozen=True, slots=True)
class TemplateSpec:
    """Resources whose addresses differ in the ``{words}`` of ``uri`` (RFC 6570, level 1)."""

    uri: str
    name: str
    title: str
    description: str
    mime_type: str = JSON


@dataclass(frozen=True, slots=True)
class Source:
    """What is watched for the subscribers of an address. Addresses with equal ``key`` share it."""

    key: Hashable
    streams: tuple[Stream, ...] = ()


class ReadRefused(Exception):
    """A tool that reads a resource refused or failed. ``answer`` is the tool's: code, message, hint and more."""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        super().__init__(answer.get("message"))
        self.answer = answer
