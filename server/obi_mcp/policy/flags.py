"""A rule's flags: the allow list, what values may be, durations clamped to the call's deadline, and dry runs."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from obi_mcp.policy.hard import ROOT_FLAGS
from obi_mcp.policy.model import Access

if TYPE_CHECKING:
    from obi_mcp.command.model import Command, Flag
    from obi_mcp.policy.draft import Draft

# Flags that every command of the program may have; the namespace is a matter of the command and named by its rule.
EVERYWHERE = {program: names - {"namespace"} for program, names in ROOT_FLAGS.items()}
_NOWHERE: frozenset[str] = frozenset()
# A flag that makes a question of a change: without it the command would be another, so the rule's hint stands.
_ASKING = frozenset({("kubectl.set.env", "list")})
_DRY = {"kubectl": frozenset({"client", "server"}), "helm": frozenset({"client"})}
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|ms|s|m|h)")
# The program gives up this long before the call's deadline ends it, so that its own message can be read.
_MARGIN_S = 1.0


def check_flags(draft: Draft) -> None:
    """Hold the flags to the rule's lists and set the limits. Raises: Denied at the flag."""
    flags, program = draft.rule.flags, draft.command.program
    everywhere = EVERYWHERE.get(program, _NOWHERE)
    for flag in draft.command.flags:
        if flag.name not in flags.allow and flag.name not in everywhere:
            raise _not_allowed(draft, flag)
        if flags.values and flag.name in flags.values:
            _check_value(draft, flag, flags.values[flag.name])
        if flags.at_most and flag.name in flags.at_most:
            _check_number(draft, flag, flags.at_most[flag.name])
        if flags.patterns and flag.name in flags.patterns:
            _check_pattern(draft, flag, flags.patterns[flag.name])
    for name in flags.require:
        if draft.flag(name) is None:
            raise draft.deny(f"{draft.rule.line} needs --{name}", depth=1, hint=draft.rule.hint)
    if program in ROOT_FLAGS:
        set_limits(draft)


def set_limits(draft: Draft) -> None:
    """Clamp durations to the call's deadline, and add the ones that are missing (zero and less mean for ever)."""
    limit_s = max(1.0, draft.call.deadline_s - _MARGIN_S)
    names = draft.rule.flags.deadline
    if draft.command.program == "kubectl":
        names = ("request-timeout", *names)
    for name in names:
        given = draft.flag(name)
        if given is None or not 0 < seconds(given.value) <= limit_s:
            draft.put(name, f"{limit_s:g}s")


def seconds(duration: str) -> float:
    """A Go duration, or kubectl's bare number of seconds, in seconds; -1 for what is neither."""
    if duration.isascii() and duration.isdigit():
        return float(duration)
    parts = _PART.findall(duration)
    if not parts or "".join(number + unit for number, unit in parts) != duration.lstrip("+"):
        return -1.0
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def is_dry_run(command: Command) -> bool:
    """Whether the command is a dry run that counts as a read: exactly ``--dry-run=client|server`` (helm: client)."""
    flag = command.flag("dry-run")
    return flag is not None and flag.value in _DRY.get(command.program, _NOWHERE)


def needed_access(draft: Draft) -> Access:
    """The level that the text needs: a dry run of a rule that knows one is a read."""
    if draft.rule.dry_run and is_dry_run(draft.command):
        return Access.READ_ONLY
    return draft.rule.access


def _not_allowed(draft: Draft, flag: Flag) -> Exception:
    allowed = ", ".join(sorted(draft.rule.flags.allow)) or "none"
    asking = (draft.rule.id, flag.name) in _ASKING
    return draft.deny(
        f"{flag.spelled or flag.name} is not among the flags that {draft.rule.id} allows ({allowed})",
        at=flag,
        hint=draft.rule.hint,
        repair=None if asking else draft.without(flag.name),
        depth=1,
    )


def _check_value(draft: Draft, flag: Flag, allowed: tuple[str, ...]) -> None:
    for value in flag.values:
        if value not in allowed:
            raise draft.deny(
                f"{flag.spelled}={value!r}: {draft.rule.id} allows {', '.join(allowed)}",
                at=flag,
                repair=draft.with_flag(flag.name, allowed[0]),
                depth=1,
            )


def _check_number(draft: Draft, flag: Flag, most: int) -> None:
    number = flag.value.lstrip("+")
    if (number.isascii() and number.isdigit() and int(number) <= most) or flag.value == "-1":
        return
    raise draft.deny(
        f"{flag.spelled}={flag.value}: {draft.rule.id} allows at most {most}",
        at=flag,
        repair=draft.with_flag(flag.name, str(most)),
        depth=1,
    )


def _check_pattern(draft: Draft, flag: Flag, pattern: str) -> None:
    for value in flag.values:
        if not pattern_of(pattern).fullmatch(value):
            raise draft.deny(
                f"{flag.spelled}={value!r} is not a form that {draft.rule.id} allows",
                at=flag,
                repair=draft.without(flag.name),
                depth=1,
            )


@lru_cache(maxsize=128)
def pattern_of(pattern: str) -> re.Pattern[str]:
    """The compiled pattern; rule files hold few, and one line needs one or two."""
    return re.compile(pattern)
