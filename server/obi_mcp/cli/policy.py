"""``obi-mcp policy check|test|list|explain``: what an agent may do, for CI and for anyone who wants to know.

INVARIANT: ``check`` imports neither the MCP library nor pydantic, jsonschema or yaml (save for a document or a
configuration file): the whole process has a quarter of a second.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from obi_mcp.cli.arguments import VerbParser, add_settings_flags, read_input, settings_from
from obi_mcp.errors import InvalidArgument
from obi_mcp.policy.model import Access, Decision

if TYPE_CHECKING:
    from obi_mcp.config import Settings
    from obi_mcp.policy.engine import Policy

DENIED = 3
USAGE = 2
_LEVELS = tuple(level.label for level in Access)


def main(argv: Sequence[str]) -> int:
    """Runs one of the four actions; gives the exit code. Raises: ConfigError, PolicyError, InvalidArgument."""
    actions = {"check": check, "test": test, "list": list_rules, "explain": explain}
    if not argv or argv[0] in {"-h", "--help"}:
        print("usage: obi-mcp policy check|test|list|explain [arguments]", file=sys.stdout if argv else sys.stderr)
        return 0 if argv else USAGE
    action = actions.get(argv[0])
    if action is None:
        raise InvalidArgument(f"there is no action {argv[0]!r}", f"use one of {', '.join(actions)}")
    return action(argv[1:])


# --- check ---


def check_parser() -> VerbParser:
    """The arguments of ``policy check``."""
    made = VerbParser("obi-mcp policy check", "Says whether a command line may run, without running it.")
    made.add_argument("command", nargs="?", metavar="COMMAND LINE", help="the whole pipeline as one argument")
    made.add_argument("--access", choices=_LEVELS, default=Access.READ_ONLY.label, help="the caller's access level")
    made.add_argument("--stdin", metavar="FILE", help="the document that -f - reads; - for standard input")
    made.add_argument("--json", action="store_true", help="the decision as JSON")
    made.add_argument("--batch", action="store_true", help="NDJSON in, NDJSON out: command, stdin and access a line")
    add_settings_flags(made, "policy")
    return made


def check(argv: Sequence[str]) -> int:
    """One decision, or a batch of them."""
    parser = check_parser()
    args = parser.parse_args(argv)
    if args.batch == (args.command is not None):
        parser.error("give either one command line or --batch")
    if args.batch and args.stdin is not None:
        parser.error("--stdin belongs to one command line; in a batch every line has its own")
    settings = settings_from(args).settings
    access = Access.parse(args.access)
    policy = _policy(settings)
    if args.batch:
        return _batch(policy, access)
    stdin = _document(args.stdin) if args.stdin is not None else None
    decision = policy.decide(args.command, stdin=stdin, access=access)
    print(json.dumps(decision.as_json()) if args.json else "\n".join(_lines(decision)))
    return 0 if decision.allowed else DENIED


def _document(path: str) -> str:
    try:
        return read_input(path)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"--stdin {path} cannot be read: {error}", "name a file of UTF-8 text, or -") from None


def _lines(decision: Decision) -> Iterator[str]:
    """Effect and rule in one line, then reason and hint, then what a run would check."""
    yield f"{decision.effect} {decision.rule or '(no rule)'}"
    yield decision.reason
    if decision.hint:
        yield f"hint: {decision.hint}"
    for found in decision.checks:
        where = f" in {found.namespace}" if found.namespace else ""
        yield f"check: {found.kind} of {found.target}{where}: {found.why}"


def _batch(policy: Policy, access: Access) -> int:
    """One decision for every line of standard input that is not blank, in order; 2 if any line was an error."""
    code = 0
    for line in sys.stdin.buffer:
        if not line.strip():
            continue
        try:
            call = _call(line, access)
        except ValueError as error:
            code = USAGE
            answer = _error(str(error))
        else:
            answer = policy.decide(call[0], stdin=call[1], access=call[2]).as_json()
        # A reader may wait for this answer before it sends the next line.
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    return code


def _call(line: bytes, access: Access) -> tuple[str, str | None, Access]:
    """Command, document and level of one line. Raises: ValueError."""
    try:
        data: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the line is not JSON: {error}") from None
    if not isinstance(data, dict) or not isinstance(data.get("command"), str):
        raise ValueError('the line is not an object with a "command"')
    stdin, level = data.get("stdin"), data.get("access")
    if stdin is not None and not isinstance(stdin, str):
        raise ValueError('"stdin" is not a text')
    if level is not None and not isinstance(level, str):
        raise ValueError('"access" is not a text')
    return data["command"], stdin, access if level is None else Access.parse(level)


def _error(reason: str) -> Mapping[str, Any]:
    return {
        "effect": "error",
        "access": None,
        "rule": None,
        "reason": reason,
        "hint": 'send one {"command": "…", "stdin": "…"?, "access": "…"?} a line',
        "at": None,
        "pipeline": [],
        "added": [],
        "checks": [],
    }


def _policy(settings: Settings) -> Policy:
    from obi_mcp.policy.engine import Policy

    return Policy.load_compiled(settings)


# --- test, list, explain ---


def test(argv: Sequence[str]) -> int:
    """Every rule's examples, of the built-in rules and of a directory's; 1 if any of them fails."""
    parser = VerbParser("obi-mcp policy test", "Runs the examples of every rule.")
    parser.add_argument("directory", nargs="?", metavar="DIR", help="a policy directory, layered over the built-in one")
    add_settings_flags(parser, "policy")
    args = parser.parse_args(argv)
    settings = settings_from(args).settings
    from dataclasses import replace

    from obi_mcp.policy.assembly import assemble, failing

    if args.directory is not None:
        settings = replace(settings, policy_directory=args.directory)
    policy, data = assemble(settings)
    failures = failing(policy, data)
    for failure in failures:
        print(failure)
    count = sum(len(rule.allow) + len(rule.deny) for rule in policy.index.rules)
    print(f"{len(policy.index.rules)} rules, {count} examples, {len(failures)} failures")
    return 1 if failures else 0


def list_rules(argv: Sequence[str]) -> int:
    """The rules that a level can use, and what is denied at every level."""
    parser = VerbParser(
        "obi-mcp policy list", "Lists the rules that an access level can use, and what is always denied."
    )
    parser.add_argument("--access", choices=_LEVELS, default=Access.FULL.label, help="the caller's access level")
    parser.add_argument("--json", action="store_true", help="as JSON, with kinds and flags")
    add_settings_flags(parser, "policy")
    args = parser.parse_args(argv)
    from obi_mcp.policy.explain import as_json, hard_as_json, rules_at
    from obi_mcp.policy.hard_names import HARD

    policy = _policy(settings_from(args).settings)
    rules = rules_at(policy, Access.parse(args.access))
    if args.json:
        denials = [hard_as_json(policy, denial) for denial in HARD.values()]
        print(json.dumps([*(as_json(policy, rule) for rule in rules), *denials], indent=2))
        return 0
    width = max(len(rule.id) for rule in rules)
    for rule in rules:
        level = f"{rule.access.label}{' (dry run: read-only)' if rule.dry_run else ''}"
        print(f"{rule.id:<{width}}  {level:<37}  {rule.because}")
    for denial in HARD.values():
        print(f"{denial.id:<{width}}  {'always denied':<37}  {denial.because}")
    return 0


def explain(argv: Sequence[str]) -> int:
    """What one rule allows, or why something is always denied."""
    parser = VerbParser("obi-mcp policy explain", "Says what a rule allows, or why something is always denied.")
    parser.add_argument("rule", metavar="RULE", help="an id such as kubectl.logs, hard.credentials or syntax")
    add_settings_flags(parser, "policy")
    args = parser.parse_args(argv)
    from obi_mcp.policy.explain import explained, names

    policy = _policy(settings_from(args).settings)
    text = explained(policy, args.rule)
    if text is None:
        raise InvalidArgument(f"there is no rule {args.rule!r}", _nearest(args.rule, names(policy)))
    print(text)
    return 0


def _nearest(word: str, known: Sequence[str]) -> str:
    import difflib

    below = [name for name in known if name.startswith(f"{word}.")]
    near = below or difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    return f"did you mean {', '.join(near)}?" if near else "see obi-mcp policy list"
