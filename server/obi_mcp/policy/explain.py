"""Rules as text: what ``obi-mcp policy explain`` and ``policy list`` print, and the same as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from obi_mcp.policy.effect_hard import EFFECT_HARD
from obi_mcp.policy.flags import EVERYWHERE
from obi_mcp.policy.hard_names import HARD, HardDenial
from obi_mcp.policy.hints import filled
from obi_mcp.policy.model import Access

if TYPE_CHECKING:
    from obi_mcp.policy.effect_rule import EffectRule
    from obi_mcp.policy.engine import Policy
    from obi_mcp.policy.rule import Example, Rule

SYNTAX = HardDenial(
    "syntax",
    "the line is not a command line that is read here: one command, its filters after |, POSIX quoting, no shell; "
    "flags and commands that the program does not know are never guessed",
    "the decision's place says which word is meant",
)


def explained(policy: Policy, name: str) -> str | None:
    """What ``policy explain NAME`` prints for a rule, a hard denial or ``syntax``; None for an unknown name."""
    denial = SYNTAX if name == SYNTAX.id else HARD.get(name) or EFFECT_HARD.get(name)
    if denial is not None:
        return _denial_text(policy, denial)
    effect = policy.effects.find(name)
    if effect is not None:
        return "\n".join(_effect_lines(effect))
    rule = policy.index.find(name)
    return "\n".join(_rule_lines(policy, rule)) if rule else None


def names(policy: Policy) -> tuple[str, ...]:
    """Every name that ``explained`` knows."""
    effects = (rule.id for rule in policy.effects.rules)
    return (*(rule.id for rule in policy.index.rules), *effects, *HARD, *EFFECT_HARD, SYNTAX.id)


def as_json(policy: Policy, rule: Rule) -> dict[str, Any]:
    """One rule for ``--json`` and the resource ``obi://policy/rules``."""
    return {
        "id": rule.id,
        "hard": False,
        "command": rule.line,
        "access": rule.access.label,
        "dry_run": rule.dry_run,
        "because": rule.because,
        "kinds": list(rule.targets.kinds),
        "confine": sorted(rule.targets.confine),
        "flags": sorted(rule.flags.allow | EVERYWHERE.get(rule.program, frozenset())),
        "output": sorted(rule.output),
        "hint": filled(rule.hint, policy.scope),
    }


def effect_as_json(rule: EffectRule) -> dict[str, Any]:
    """One rule about effects, for the resource ``obi://policy/rules``."""
    return {
        "id": rule.id,
        "hard": False,
        "effect": rule.effect,
        "access": rule.access.label,
        "because": rule.because,
        "fields": sorted(rule.fields),
        "hint": rule.hint,
    }


def hard_as_json(policy: Policy, denial: HardDenial) -> dict[str, Any]:
    """What is always denied, in the form of a rule."""
    return {
        "id": denial.id,
        "hard": True,
        "command": None,
        "access": None,
        "dry_run": False,
        "because": denial.because,
        "kinds": [],
        "confine": [],
        "flags": [],
        "output": [],
        "hint": filled(denial.hint, policy.scope),
    }


def rules_at(policy: Policy, access: Access) -> tuple[Rule, ...]:
    """The rules that a caller of this level can use; a rule that knows dry runs is of use to everybody."""
    return tuple(rule for rule in policy.index.rules if rule.access <= access or rule.dry_run)


def _denial_text(policy: Policy, denial: HardDenial) -> str:
    lines = [f"{denial.id}: always denied, whatever the level and the configuration", denial.because]
    hint = filled(denial.hint, policy.scope)
    return "\n".join((*lines, f"hint: {hint}") if hint else lines)


def _effect_lines(rule: EffectRule) -> Iterator[str]:
    yield f"{rule.id}: {rule.effect} ({rule.access.label})"
    yield rule.because
    yield f"may be set: {', '.join(sorted(rule.fields)) or 'nothing'}"
    if rule.hint:
        yield f"hint: {rule.hint}"


def _rule_lines(policy: Policy, rule: Rule) -> Iterator[str]:
    dry = ", a dry run needs only read-only" if rule.dry_run else ""
    yield f"{rule.id}: {rule.line} ({rule.access.label}{dry})"
    yield rule.because
    if rule.when:
        yield f"for calls with --{rule.when}"
    if rule.targets.kinds:
        yield f"kinds: {', '.join(rule.targets.kinds)}"
    if rule.targets.confine:
        yield f"shown to be OBI's by: {', '.join(sorted(rule.targets.confine))}"
    flags = rule.flags.allow | EVERYWHERE.get(rule.program, frozenset())
    yield f"flags: {', '.join(sorted(flags)) or 'none'}"
    for name, values in (rule.flags.values or {}).items():
        yield f"  --{name}: {', '.join(values)}"
    for name, most in (rule.flags.at_most or {}).items():
        yield f"  --{name}: at most {most}"
    if rule.flags.deadline:
        yield f"clamped to the call's deadline: {', '.join(rule.flags.deadline)}"
    if rule.output != {"table"}:
        yield f"output: {', '.join(sorted(rule.output))}"
    yield from (f"allowed: {_line(example)}" for example in rule.allow)
    yield from (f"denied:  {_line(example)}" for example in rule.deny)


def _line(example: Example) -> str:
    parts = [example.command]
    if example.stdin is not None:
        parts.append("  (with stdin)")
    if example.access is not None:
        parts.append(f"  (at {example.access.label})")
    if example.scope:
        parts.append(f"  (scope: {', '.join(f'{name}: {value}' for name, value in example.scope.items())})")
    return "".join(parts)
