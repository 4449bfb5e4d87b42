"""``obi-mcp call TOOL``: one tool call by the road that an MCP client takes; the exit code says how it ended."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any

from obi_mcp.cli.arguments import VerbParser, add_settings_flags, read_input, settings_from
from obi_mcp.cli.call_report import call_report, exit_code
from obi_mcp.cli.reports import FORMATS, print_report
from obi_mcp.config import Settings
from obi_mcp.errors import InvalidArgument
from obi_mcp.log import StderrWriter, start_logging
from obi_mcp.toolsets.base import Person, Reply, Services, ToolCall, ToolResult, ToolSpec
from obi_mcp.toolsets.registry import callable_tools, listed_tools, switched_off
from obi_mcp.toolsets.run import run_tool

CALLER = "obi-mcp call"
_EXAMPLES = {"integer": "3", "number": "0.5", "boolean": "true", "array": "'[\"a\"]'", "object": '\'{"a": "b"}\''}


def parser() -> VerbParser:
    """The arguments of ``call``."""
    made = VerbParser("obi-mcp call", "Calls one tool as an MCP client would, and exits with how it ended.")
    made.add_argument("tool", metavar="TOOL", help="its name, as `obi-mcp tools` lists it")
    made.add_argument("--arg", metavar="NAME=VALUE", action="append", default=[], help="one argument; may be repeated")
    made.add_argument(
        "--json", metavar="OBJECT", help="all arguments as a JSON object; `-` reads it from standard input"
    )
    made.add_argument("--stdin", metavar="FILE", help="the argument stdin from a file; `-`: from standard input")
    made.add_argument(
        "--output",
        choices=FORMATS,
        default="text",
        help="text: what the command printed (default); json: the structured result; junit: XML; github: annotations",
    )
    made.add_argument("--source", metavar="FILE", help="the file that a report names; default: that of --stdin")
    add_settings_flags(made)
    return made


def main(argv: Sequence[str]) -> int:
    """Calls the tool; prints its answer, and what went wrong on standard error."""
    args = parser().parse_args(argv)
    settings = settings_from(args).settings
    spec = _find(args.tool, settings)
    arguments = _arguments(args, spec)
    stderr = StderrWriter()
    start_logging("warning" if settings.log_level == "info" else settings.log_level, stderr)
    from obi_mcp.cli.services import build_services

    services = build_services(settings, stderr)
    try:
        result = asyncio.run(_call(services, spec, args.tool, arguments))
    finally:
        services.audit.close()
        stderr.flush()
    if args.output in {"junit", "github"}:
        source = args.source or (args.stdin if args.stdin != "-" else None)
        print_report(call_report(spec.name, arguments, result, source), args.output)
    else:
        _print(result, args.output)
    return exit_code(result)


async def _call(services: Services, spec: ToolSpec, called: str, arguments: Mapping[str, Any]) -> ToolResult:
    task = asyncio.ensure_future(run_tool(services, spec, ToolCall(arguments, CALLER, person=_person(), called=called)))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        services.agents.close()
        await services.enforcer.close()


def _person() -> Person | None:
    """Whoever sits at this terminal; None where it is none."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None

    async def ask(question: str) -> Reply:
        print(f"{question}\nType yes to go on: ", end="", file=sys.stderr, flush=True)
        loop = asyncio.get_running_loop()
        typed = asyncio.Event()
        loop.add_reader(sys.stdin, typed.set)
        try:
            await typed.wait()
        finally:
            loop.remove_reader(sys.stdin)
        return "accept" if sys.stdin.readline().strip().lower() == "yes" else "decline"

    return Person("terminal", ask)


def _find(name: str, settings: Settings) -> ToolSpec:
    if (spec := callable_tools(settings).get(name)) is not None:
        return spec
    if (error := switched_off(name, settings)) is not None:
        raise error
    listed = ", ".join(spec.name for spec in listed_tools(settings))
    raise InvalidArgument(f"there is no tool {name!r}", f"use one of {listed}")


def _arguments(args: Namespace, spec: ToolSpec) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    if args.json is not None:
        arguments.update(_object(read_input("-") if args.json == "-" else args.json))
    properties: Mapping[str, Mapping[str, Any]] = spec.input_schema["properties"]
    for pair in args.arg:
        name, mark, text = pair.partition("=")
        if not mark:
            raise InvalidArgument(
                f"--arg {pair!r} is not NAME=VALUE", "for example --arg command='kubectl get pods -A'"
            )
        arguments[name] = _typed(text, properties.get(name, {}).get("type", "string"), name)
    if args.stdin is not None:
        try:
            arguments["stdin"] = read_input(args.stdin)
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidArgument(
                f"--stdin {args.stdin} cannot be read: {error}", "name a file of UTF-8 text"
            ) from error
    return arguments


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InvalidArgument(
            f"--json is not JSON: {error}", 'for example --json \'{"command": "kubectl get pods"}\''
        ) from None
    if not isinstance(value, dict):
        raise InvalidArgument("--json is not an object", 'for example --json \'{"command": "kubectl get pods"}\'')
    return value


def _typed(text: str, kind: str, name: str) -> Any:
    """A value of the schema's type; text stays text."""
    if kind == "string":
        return text
    try:
        return json.loads(text)
    except ValueError:
        raise InvalidArgument(
            f"--arg {name}={text} is not of type {kind}", f"give it as JSON, for example --arg {name}={_EXAMPLES[kind]}"
        ) from None


def _print(result: ToolResult, output: str) -> None:
    if output == "json":
        print(json.dumps(result.structured, indent=2, ensure_ascii=False))
    elif result.payload is None:
        print(result.text, file=sys.stderr if result.is_error else sys.stdout)
    else:
        sys.stdout.write(result.payload)
        sys.stdout.flush()
        for note in result.notes:
            print(note, file=sys.stderr)
