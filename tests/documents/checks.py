"""What can be said of a snippet without running it: a tool call, a command line of obi-mcp, a client's configuration.

Each check gives what is wrong, as a sentence, or nothing.
"""

from __future__ import annotations

import json
import re
import shlex
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from functools import cache
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

import jsonschema
from tests.documents.blocks import ROOT
from tests.unit.policy.policies import built_in

from obi_mcp.cli.arguments import VerbParser
from obi_mcp.cli.call import _arguments
from obi_mcp.command.grammar import Grammars
from obi_mcp.command.parser import parse
from obi_mcp.config import Settings
from obi_mcp.errors import ObiMcpError
from obi_mcp.policy.model import Access
from obi_mcp.toolsets.arguments import check_arguments
from obi_mcp.toolsets.base import ToolSpec
from obi_mcp.toolsets.registry import ALL, callable_tools

COMMAND_TOOLS = frozenset({"obi_kubectl", "obi_helm", "obi_command"})
_OURS = re.compile(r"(?:.*/)?obi-mcp")
_ENDS_A_COMMAND = frozenset({"|", ">", ">>", "<", "&&", "||", ";"})
_BEFORE_A_COMMAND = frozenset({"sudo", "do", "then", "exec", "if", "!"})
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)
# A second call has the id that the first one gave; a document shows a word in its place.
PLAN_ID = "PLAN_ID"

_STDIO = {
    "type": "object",
    "properties": {
        "type": {"const": "stdio"},
        "command": {"type": "string", "minLength": 1},
        "args": {"type": "array", "items": {"type": "string"}},
        "env": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "required": ["command", "args"],
    "additionalProperties": False,
}
_CLIENTS: Mapping[str, Mapping[str, Any]] = {
    # Claude Desktop, Claude Code and Cursor; VS Code names the key differently and wants the type.
    "mcpServers": _STDIO,
    "servers": {**_STDIO, "required": ["type", "command", "args"]},
}


@cache
def tools() -> Mapping[str, ToolSpec]:
    """Every tool there is, by every name."""
    return callable_tools(Settings(access=Access.FULL, toolsets=(ALL,)))


def tool_call_problem(call: Mapping[str, Any], *, access: Access = Access.FULL) -> str | None:
    """A tool call as a document shows it: ``{"name": …, "arguments": {…}}``."""
    if call.keys() != {"name", "arguments"}:
        return f"a tool call has name and arguments, not {', '.join(call)}"
    spec = tools().get(call["name"])
    if spec is None:
        return f"there is no tool {call['name']}"
    try:
        check_arguments(spec, call["arguments"])
    except ObiMcpError as error:
        return f"{error.message}; {error.hint}"
    if call["name"] in COMMAND_TOOLS:
        return command_problem(call["name"], call["arguments"], access=access)
    return None


def command_problem(tool: str, arguments: Mapping[str, Any], *, access: Access) -> str | None:
    """Whether the policy refuses the command of a call at that level."""
    level = Access.parse(arguments["access"]) if "access" in arguments else access
    decision = built_in().decide(arguments["command"], stdin=arguments.get("stdin"), access=level)
    return None if decision.allowed else f"{arguments['command']}: {decision.rule}: {decision.reason}"


def command_lines(text: str) -> Iterator[list[str]]:
    """The words of each command of a shell block that can be checked: obi-mcp's, kubectl's, helm's, make's; without
    what a shell takes for itself."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word in _ENDS_A_COMMAND:
                yield from _known(words)
                words = []
            else:
                words.append(word)


def _known(words: list[str]) -> Iterator[list[str]]:
    while words and (_ASSIGNMENT.fullmatch(words[0]) or words[0] in _BEFORE_A_COMMAND):
        words = words[1:]
    if words and _OURS.fullmatch(words[0]):
        yield ["obi-mcp", *words[1:]]
    elif words and words[0] in {"kubectl", "helm", "make"}:
        yield words


def line_problem(words: Sequence[str]) -> str | None:
    """What is wrong with one of these commands."""
    program, *rest = words
    if program == "obi-mcp":
        return verb_problem(rest)
    if program == "make":
        targets = [word for word in rest if "=" not in word and not word.startswith("-")]
        return next((f"there is no target {target}" for target in targets if target not in make_targets()), None)
    try:
        parse(shlex.join(words), _grammars())
    except ObiMcpError as error:
        return error.message
    return None


@cache
def _grammars() -> Grammars:
    return Grammars.load(ROOT / "policy" / "grammar")


def verb_problem(words: Sequence[str]) -> str | None:
    """Whether obi-mcp would take these arguments; of ``call`` also the tool, its arguments and its command."""
    if not words or words[0].startswith("-"):
        return None
    verb, *rest = words
    if "--help" in rest:
        return None
    heard = StringIO()
    try:
        with redirect_stderr(heard):
            args = _parser(verb, rest).parse_args(rest[1:] if verb == "policy" else rest)
    except SystemExit:
        return heard.getvalue().strip()
    except ModuleNotFoundError:
        return f"there is no verb {verb}"
    return _call_problem(args) if verb == "call" else None


def _parser(verb: str, rest: Sequence[str]) -> VerbParser:
    if verb == "policy":
        return _policy_parser(rest[0] if rest else "")
    made: VerbParser = import_module(f"obi_mcp.cli.{verb}").parser()
    return made


def _policy_parser(action: str) -> VerbParser:
    if action == "check":
        from obi_mcp.cli.policy_check import check_parser

        return check_parser()
    made = VerbParser(f"obi-mcp policy {action}", "")
    if action not in {"test", "list", "explain"}:
        made.error(f"there is no action {action!r}")
    made.add_argument("what", nargs="?")
    made.add_argument("--access")
    made.add_argument("--json", action="store_true")
    return made


def _call_problem(args: Namespace) -> str | None:
    spec = tools().get(args.tool)
    if spec is None:
        return f"there is no tool {args.tool}"
    access = Access.parse(args.setting_access or "read-only")
    if spec.needs > access:
        return f"{args.tool} needs --access {spec.needs.label}"
    given_by_file, args.stdin = args.stdin, None
    if args.json == "-":
        return None
    try:
        arguments = _arguments(args, spec)
        if given_by_file is not None:
            arguments["stdin"] = ""
        check_arguments(spec, arguments)
    except ObiMcpError as error:
        return f"{error.message}; {error.hint}"
    if args.tool not in COMMAND_TOOLS or given_by_file is not None:
        return None
    return command_problem(args.tool, arguments, access=access)


def client_problem(text: str, key: str) -> str | None:
    """Whether a client takes the configuration; ``key``: under which it wants servers."""
    configuration = json.loads(text)
    schema = {
        "type": "object",
        "properties": {key: {"type": "object", "minProperties": 1, "additionalProperties": _CLIENTS[key]}},
        "required": [key],
        "additionalProperties": False,
    }
    try:
        jsonschema.validate(configuration, schema)
    except jsonschema.ValidationError as error:
        return f"{'.'.join(map(str, error.absolute_path))}: {error.message}"
    for name, server in configuration[key].items():
        if (words := our_arguments(server)) is not None and (problem := verb_problem(words)) is not None:
            return f"{name}: {problem}"
    return None


def our_arguments(server: Mapping[str, Any]) -> list[str] | None:
    """The arguments that obi-mcp gets from a client's entry; None where the entry is another server's."""
    if _OURS.fullmatch(server["command"]):
        return list(server["args"])
    if server["command"] == "docker":
        images = [number for number, word in enumerate(server["args"]) if re.fullmatch(r"obi-mcp:[\w.]+", word)]
        if images:
            return server["args"][images[0] + 1 :] or ["serve"]
    return None


def other_servers() -> Mapping[str, Any]:
    """What was seen of other servers when they were run: ``other-servers.json``."""
    path = Path(__file__).with_name("other-servers.json")
    seen: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return seen


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][\w-]*):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
