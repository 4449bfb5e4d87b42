"""``obi-mcp policy check``: decisions for one command line, for a file of them, or for a batch of NDJSON.

INVARIANT: imports neither the MCP library nor pydantic, jsonschema or yaml (save for a document or a configuration
file): the whole process has a quarter of a second.
"""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, cast

from obi_mcp.cli.arguments import VerbParser, add_settings_flags, read_input, settings_from
from obi_mcp.cli.copies import Copies
from obi_mcp.cli.policy_batch import Judged, judged_lines, read_pieces
from obi_mcp.cli.reports import FORMATS, Case, Outcome, Report, print_report
from obi_mcp.errors import InvalidArgument
from obi_mcp.policy.model import Access

if TYPE_CHECKING:
    from io import BufferedIOBase

    from obi_mcp.policy.engine import Policy

DENIED = 3
USAGE = 2
LEVELS = tuple(level.label for level in Access)
TITLE = "obi-mcp policy check"


def check_parser() -> VerbParser:
    """The arguments of ``policy check``."""
    made = VerbParser(TITLE, "Says whether a command line may run, without running it.")
    made.add_argument("command", nargs="?", metavar="COMMAND LINE", help="the whole pipeline as one argument")
    made.add_argument("--access", choices=LEVELS, default=Access.READ_ONLY.label, help="the caller's access level")
    made.add_argument("--stdin", metavar="FILE", help="the document that -f - reads; - for standard input")
    made.add_argument("--output", choices=FORMATS, help="text (default); json; junit: XML; github: annotations")
    made.add_argument("--json", action="store_true", help="the same as --output json")
    made.add_argument("--batch", action="store_true", help="NDJSON in, NDJSON out: command, stdin and access a line")
    made.add_argument("--lines", metavar="FILE", help="one command line a line, # for comments; - for standard input")
    made.add_argument(
        "--source", metavar="FILE", help="the file that a report names; default: that of --lines, --stdin"
    )
    add_settings_flags(made, "policy")
    return made


def check(argv: Sequence[str]) -> int:
    """One decision, or many. Raises: ConfigError, PolicyError, InvalidArgument."""
    args = _arguments(argv)
    from obi_mcp.policy.engine import Policy

    policy = Policy.load_compiled(settings_from(args).settings)
    access = Access.parse(args.access)
    if args.output in {"junit", "github"}:
        found = tuple(_judged(args, policy, access))
        print_report(Report(TITLE, tuple(map(_case, found)), _source(args)), args.output)
        return _exit_code(found)
    if args.batch:
        seen = _write_batch(args, policy, access)
        return _code(seen) if args.output == "text" else USAGE if "error" in seen else 0
    seen = set()
    for one in _judged(args, policy, access):
        seen.add(one.effect)
        sys.stdout.write(_printed(one, args.output, many=args.lines is not None))
    return _code(seen)


def _arguments(argv: Sequence[str]) -> Namespace:
    parser = check_parser()
    args = parser.parse_args(argv)
    if (args.command is not None) + args.batch + (args.lines is not None) != 1:
        parser.error("give one of a command line, --lines or --batch")
    if args.command is None and args.stdin is not None:
        parser.error("--stdin belongs to one command line; in a batch every line has its own")
    if args.json and args.output not in {None, "json"}:
        parser.error(f"--json and --output {args.output} contradict each other")
    if args.output is None:
        args.output = "json" if args.json or args.batch else "text"
    return args


def _judged(args: Namespace, policy: Policy, access: Access) -> Iterator[Judged]:
    if args.batch:
        for piece in read_pieces(cast("BufferedIOBase", sys.stdin.buffer)):
            yield from judged_lines(piece.lines, piece.first, policy, access)
    elif args.lines is not None:
        yield from _plain(args.lines, policy, access)
    else:
        stdin = _text("--stdin", args.stdin) if args.stdin is not None else None
        yield Judged(args.command, policy.decide(args.command, stdin=stdin, access=access).as_json())


def _plain(path: str, policy: Policy, access: Access) -> Iterator[Judged]:
    """One decision for every line that is neither blank nor a comment. Raises: InvalidArgument where there is none."""
    stripped = [line.removesuffix("\r").strip(" \t") for line in _text("--lines", path).split("\n")]
    commands = [(number, one) for number, one in enumerate(stripped, 1) if one and not one.startswith("#")]
    if not commands:  # a step of CI that forgot its input must not pass
        raise InvalidArgument(
            f"--lines {path} has no command line, and nothing was checked",
            "write one command line in each line; `docker run` hands standard input on with -i alone",
        )
    for number, command in commands:
        yield Judged(command, policy.decide(command, access=access).as_json(), number)


def _write_batch(args: Namespace, policy: Policy, access: Access) -> set[str]:
    """Prints the decisions of a batch, on several processors where there is much of it; gives their effects."""

    def work(first: int, piece: bytes) -> bytes:
        found = tuple(judged_lines(piece.split(b"\n"), first, policy, access))
        effects = " ".join({one.effect for one in found})
        return "".join([effects, "\n", *(_printed(one, args.output, many=True) for one in found)]).encode(
            "utf-8", "surrogatepass"
        )

    seen = set[str]()
    copies = Copies(work)
    try:
        for piece in read_pieces(cast("BufferedIOBase", sys.stdin.buffer)):
            body = b"\n".join(piece.lines)
            if piece.awaited and copies.idle:
                answers = iter((work(piece.first, body),))
            else:
                answers = chain(copies.put(piece.first, body), copies.settle() if piece.awaited else ())
            for answer in answers:
                effects, _, text = answer.decode("utf-8", "surrogatepass").partition("\n")
                seen.update(effects.split())
                sys.stdout.write(text)
            if piece.awaited:
                sys.stdout.flush()  # before it waits for more, what was answered is out
    finally:
        copies.close()
    return seen


def _text(flag: str, path: str) -> str:
    try:
        return read_input(path)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{flag} {path} cannot be read: {error}", "name a file of UTF-8 text, or -") from None


# --- what is printed, and the exit code ---


def _printed(one: Judged, output: str, *, many: bool) -> str:
    lines = [json.dumps(one.decision)] if output == "json" else _lines(one, many=many)
    return "\n".join(lines) + "\n"


def _lines(one: Judged, *, many: bool) -> Iterator[str]:
    """Effect and rule in one line, then reason and hint, then what a run would check."""
    decision = one.decision
    place = f"{one.line}: " if many else ""
    yield f"{place}{one.effect} {decision['rule'] or '(no rule)'}" + (f": {one.command}" if many else "")
    indent = "   " if many else ""
    yield indent + decision["reason"]
    if decision["hint"]:
        yield f"{indent}hint: {decision['hint']}"
    for found in decision["checks"]:
        where = f" in {found['namespace']}" if found["namespace"] else ""
        yield f"{indent}check: {found['kind']} of {found['target']}{where}: {found['why']}"


def _case(one: Judged) -> Case:
    decision = one.decision
    outcomes: dict[str, Outcome] = {"deny": "failed", "error": "error"}
    return Case(
        name=one.command,
        outcome=outcomes.get(one.effect, "passed"),
        kind=f"{one.effect} {decision['rule']}" if decision["rule"] else one.effect,
        message=decision["reason"],
        hint=decision["hint"],
        line=one.line,
    )


def _source(args: Namespace) -> str | None:
    named = args.source or args.lines or args.stdin
    return None if named in {None, "-"} else str(named)


def _exit_code(found: Iterable[Judged]) -> int:
    return _code({one.effect for one in found})


def _code(effects: set[str]) -> int:
    """A line that could not be read comes before one that is denied: what it asked for is not known."""
    return USAGE if "error" in effects else DENIED if "deny" in effects else 0
