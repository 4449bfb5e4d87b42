"""``obi-mcp policy check|test|list|explain``: what an agent may do, for CI and for anyone who wants to know."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from obi_mcp.cli.arguments import VerbParser, add_settings_flags, settings_from
from obi_mcp.cli.policy_check import LEVELS, USAGE, check
from obi_mcp.errors import InvalidArgument
from obi_mcp.policy.model import Access

if TYPE_CHECKING:
    from obi_mcp.config import Settings
    from obi_mcp.policy.engine import Policy


@dataclass(frozen=True, slots=True)
class Action:
    """What stands behind ``obi-mcp policy``: its code, and one line of help."""

    run: Callable[[Sequence[str]], int]
    summary: str


def main(argv: Sequence[str]) -> int:
    """Runs one of the four actions; gives the exit code. Raises: ConfigError, PolicyError, InvalidArgument."""
    if not argv or argv[0] in {"-h", "--help"}:
        print(help_text(), end="", file=sys.stdout if argv else sys.stderr)
        return 0 if argv else USAGE
    action = ACTIONS.get(argv[0])
    if action is None:
        raise InvalidArgument(f"there is no action {argv[0]!r}", f"use one of {', '.join(ACTIONS)}")
    return action.run(argv[1:])


def help_text() -> str:
    """What ``obi-mcp policy --help`` prints."""
    width = max(map(len, ACTIONS))
    actions = "\n".join(f"  {name:<{width}}  {action.summary}" for name, action in ACTIONS.items())
    return (
        f"usage: obi-mcp policy {'|'.join(ACTIONS)} [arguments]\n\nactions:\n{actions}\n\n"
        "`obi-mcp policy ACTION --help` says more.\n"
    )


def _policy(settings: Settings) -> Policy:
    from obi_mcp.policy.engine import Policy

    return Policy.load_compiled(settings)


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
    count += sum(len(rule.allow) + len(rule.deny) for rule in policy.effects.rules)
    print(f"{len(policy.index.rules) + len(policy.effects.rules)} rules, {count} examples, {len(failures)} failures")
    return 1 if failures else 0


def list_rules(argv: Sequence[str]) -> int:
    """The rules that a level can use, and what is denied at every level."""
    parser = VerbParser(
        "obi-mcp policy list", "Lists the rules that an access level can use, and what is always denied."
    )
    parser.add_argument("--access", choices=LEVELS, default=Access.FULL.label, help="the caller's access level")
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


ACTIONS: Mapping[str, Action] = {
    "check": Action(check, "say whether command lines may run, without running them"),
    "test": Action(test, "run the examples of every rule"),
    "list": Action(list_rules, "list the rules that an access level can use, and what is always denied"),
    "explain": Action(explain, "say what a rule allows, or why something is always denied"),
}
"""By name, in the order of the help."""


def _nearest(word: str, known: Sequence[str]) -> str:
    import difflib

    below = [name for name in known if name.startswith(f"{word}.")]
    near = below or difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    return f"did you mean {', '.join(near)}?" if near else "see obi-mcp policy list"
