"""Calls in the form of the TypeScript obi-mcp become calls of today's tools, and the answer says what was changed.

Only a call that does not fit today's schema is looked at, so that the old form costs nothing and changes the meaning of
no call that is right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from obi_mcp.errors import InvalidArgument
from obi_mcp.toolsets.predecessor_table import DEFAULTS, RULES, Rule

WHOSE = "the TypeScript obi-mcp"


@dataclass(frozen=True, slots=True)
class Translated:
    """Arguments as they are today. ``tool``: its name today. ``notices``: one sentence for each that was another."""

    tool: str
    arguments: Mapping[str, Any]
    notices: tuple[str, ...]


def translate(tool: str, arguments: Mapping[str, Any]) -> Translated | None:
    """The call of today; None where nothing in it is in the old form.

    Raises: InvalidArgument for what has no counterpart, with the way out.
    """
    if "plan_id" in arguments:
        return None  # the old tools had no plans: what stands beside one (dryRun) must not be left out of it
    made: dict[str, Any] = {}
    notices: list[str] = []
    name = tool
    for old, value in arguments.items():
        rule = _rule(tool, old, value)
        if rule is None:
            made.setdefault(old, value)
            continue
        if rule.refused:
            raise InvalidArgument(f"{old} of {WHOSE} has no counterpart in {tool}", rule.refused)
        name = rule.tool or name
        new = _made(rule, value)
        for key, part in new.items():
            made[key] = _merged(made[key], part) if key in made and isinstance(part, Mapping) else part
        notices.append(_notice(rule, new))
    if not notices:
        return None
    for key, (value, why) in DEFAULTS.get(tool, {}).items():
        if key not in made:
            made[key] = value
            notices.append(f"{key} is {value}: {why}")
    if name != tool:
        notices.insert(0, f"{name} is the tool for it")
    return Translated(name, made, tuple(notices))


def _rule(tool: str, old: str, value: Any) -> Rule | None:
    return next((rule for rule in RULES.get(tool, ()) if rule.old == old and rule.when(value)), None)


def _made(rule: Rule, value: Any) -> Mapping[str, Any]:
    if rule.spread is not None:
        return rule.spread(value)
    return {rule.to: rule.made(value)} if rule.to else {}


def _notice(rule: Rule, new: Mapping[str, Any]) -> str:
    became = ", ".join(new)
    head = f"{rule.old} is {became} here" if new else f"{rule.old} is not needed"
    if rule.old == became:
        head = f"{rule.old} has another form here"
    return f"{head}: {rule.says}" if rule.says else head


def _merged(one: Any, other: Mapping[str, Any]) -> dict[str, Any]:
    """Both, the second winning, down to the leaves."""
    base: Mapping[str, Any] = one if isinstance(one, Mapping) else {}
    both = {**base, **other}
    for key in base.keys() & other.keys():
        if isinstance(base[key], Mapping) and isinstance(other[key], Mapping):
            both[key] = _merged(base[key], other[key])
    return both
