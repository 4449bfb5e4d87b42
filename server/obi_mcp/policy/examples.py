"""Examples of rules: run whenever the policy is loaded from its files; one that fails stops the start."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from obi_mcp.policy.hard_names import HARD
from obi_mcp.policy.hints import filled, is_command
from obi_mcp.policy.model import Access, Decision

if TYPE_CHECKING:
    from obi_mcp.policy.engine import Policy
    from obi_mcp.policy.rule import Example, Rule
    from obi_mcp.policy.scope import Scope


@dataclass(frozen=True, slots=True)
class Failure:
    """An example whose outcome is not the one that its rule claims."""

    rule: str
    command: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.rule}: expected {self.expected}: {self.command}\n    found {self.found}"


def run_examples(policy: Policy, rules: tuple[Rule, ...], scope: Scope) -> Iterator[Failure]:
    """The examples of these rules that fail. ``scope``: the one that they are written for."""
    for rule in rules:
        for example in rule.allow:
            decision = _decide(policy, scope, example, rule.access)
            if not (decision.allowed and _by(decision, rule)):
                yield Failure(rule.id, example.command, f"allowed by {rule.id}", _found(decision))
        for example in rule.deny:
            decision = _decide(policy, scope, example, Access.FULL)
            if decision.allowed:
                yield Failure(rule.id, example.command, "denied", _found(decision))


def run_hints(policy: Policy, rules: tuple[Rule, ...], scope: Scope) -> Iterator[Failure]:
    """The hints of these rules (and of the hard denials) that are command lines and not allowed to everybody."""
    over = policy.over(scope)
    hints = {rule.id: rule.hint for rule in rules} | {name: denial.hint for name, denial in HARD.items()}
    for rule_id, hint in hints.items():
        line = filled(hint, scope)
        if line is not None and is_command(line):
            decision = over.decide(line, access=Access.READ_ONLY)
            if not decision.allowed:
                yield Failure(rule_id, line, "a hint that is allowed", _found(decision))


def _decide(policy: Policy, scope: Scope, example: Example, access: Access) -> Decision:
    changed: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else dict(value) for name, value in (example.scope or {}).items()
    }
    over = policy.over(replace(scope, **changed))
    return over.decide(
        example.command, stdin=example.stdin, access=access if example.access is None else example.access
    )


def _by(decision: Decision, rule: Rule) -> bool:
    """Whether the rule is the one that allowed; a filter's has to have its program in the pipe."""
    if rule.operands != "filter":
        return decision.rule == rule.id
    return decision.pipeline is not None and any(stage.program == rule.program for stage in decision.pipeline.filters)


def _found(decision: Decision) -> str:
    return f"{decision.effect} by {decision.rule}: {decision.reason}"
