"""Where a tool looks: the arguments that all of them share, and the command lines that they become."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from obi_mcp.enforcer.model import Call
from obi_mcp.errors import InvalidArgument
from obi_mcp.toolsets.base import SHARED, Schema, ToolCall

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_CONTEXT = re.compile(r"[^\s'\"\\|&;<>$`(){}\[\]*?!#~]{1,253}")

PLACE: dict[str, Schema] = {
    "context": {"type": "string", "description": SHARED["context"], "minLength": 1, "maxLength": 253},
    "namespace": {"type": "string", "description": SHARED["namespace"], "minLength": 1, "maxLength": 63},
}


@dataclass(frozen=True, slots=True)
class Place:
    """A context (None: the current one) and a namespace (None: all of them). ``confirmed_by`` goes to the audit."""

    tool: str
    caller: str
    context: str | None = None
    namespace: str | None = None
    confirmed_by: str | None = None

    @classmethod
    def of(cls, tool: str, call: ToolCall) -> Place:
        """From a tool's arguments. Raises: InvalidArgument for what could not be a name."""
        given = call.arguments
        namespace, context = given.get("namespace"), given.get("context")
        if context is not None and not _CONTEXT.fullmatch(context):
            raise InvalidArgument(
                f"{context[:80]!r} is no name of a context", "obi_kubectl config get-contexts lists them"
            )
        return cls(tool, call.caller, context, name(namespace, "namespace") if namespace else None)

    @property
    def where(self) -> str:
        """The namespace as kubectl's flag."""
        return f"-n {self.namespace}" if self.namespace else "-A"

    def call(self, command: str, **more: Any) -> Call:
        """A call of this tool with that command line."""
        who = self.confirmed_by
        return Call(command, self.tool, context=self.context, caller=self.caller, confirmed_by=who, **more)


def name(text: str, what: str) -> str:
    """The text, when it could be the name of an object: it becomes one word of a command line.

    Raises: InvalidArgument.
    """
    if not (_NAMESPACE if what == "namespace" else _NAME).fullmatch(text):
        taken = (
            "lower-case letters, digits and '-'" if what == "namespace" else "lower-case letters, digits, '-' and '.'"
        )
        raise InvalidArgument(f"{text[:80]!r} is no {what}", f"use {taken}")
    return text
