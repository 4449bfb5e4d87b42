"""Effects held to the hard denials and to the rules of their kind: a ``Decision`` of the same shape as a command's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from obi_mcp.policy.effect_hard import EFFECT_HARD, hard_refusal
from obi_mcp.policy.effects import Host, effect_from_data
from obi_mcp.policy.model import Access, Decision

if TYPE_CHECKING:
    from obi_mcp.policy.effect_rule import EffectExample, EffectRule
    from obi_mcp.policy.effects import Effect
    from obi_mcp.policy.scope import Scope

EXAMPLE_HOST = Host(("/usr/local/bin/obi",), "/var/lib/obi-mcp", ("/etc/obi",), ("/etc/otel",))
"""The host that the examples of the shipped rules are written for."""


class EffectJudge:
    """The rules about effects, by kind."""

    def __init__(self, rules: Iterable[EffectRule]) -> None:
        self.rules: tuple[EffectRule, ...] = tuple(rules)
        self._by_kind: Mapping[str, Sequence[EffectRule]] = {
            kind: sorted((rule for rule in self.rules if rule.effect == kind), key=lambda rule: rule.access)
            for kind in {rule.effect for rule in self.rules}
        }

    def decide(self, effect: Effect, *, access: Access, scope: Scope, host: Host) -> Decision:
        """What the policy says of the effect at a caller's level. Never raises for what a caller sends."""
        refusal = hard_refusal(effect, scope, host)
        if refusal is not None:
            hint = refusal.hint or EFFECT_HARD[refusal.id].hint
            return Decision("deny", refusal.id, refusal.reason, hint=hint)
        rules = self._by_kind.get(effect.kind, ())
        problems: list[tuple[EffectRule, str]] = []
        for rule in rules:
            problem = rule.problem(effect)
            if problem is not None:
                problems.append((rule, problem))
            elif rule.access > access:
                return _too_high(rule, access)
            else:
                return Decision("allow", rule.id, rule.because, rule.access)
        if not problems:
            return Decision("deny", None, f"no rule is about {effect.kind}", hint="use another tool")
        nearest, problem = problems[0]
        return Decision("deny", nearest.id, problem, nearest.access, nearest.hint)

    def find(self, rule_id: str) -> EffectRule | None:
        """The rule of that name."""
        return next((rule for rule in self.rules if rule.id == rule_id), None)


def _too_high(rule: EffectRule, access: Access) -> Decision:
    return Decision(
        "deny",
        rule.id,
        f"{rule.id} needs the access level {rule.access.label}, and this call has {access.label}",
        rule.access,
        f"whoever starts the server may give --access {rule.access.label}",
    )


@dataclass(frozen=True, slots=True)
class EffectFailure:
    """An example whose outcome is not the one that its rule claims."""

    rule: str
    example: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.rule}: expected {self.expected}: {self.example}\n    found {self.found}"


def failing_examples(judge: EffectJudge, scope: Scope) -> Iterable[EffectFailure]:
    """The examples of effect rules that fail, over the default scope and the example host."""
    for rule in judge.rules:
        for example in rule.allow:
            decision = _judge_example(judge, rule, example, scope, rule.access)
            if not decision.allowed or decision.rule != rule.id:
                yield _failure(rule, example, f"allowed by {rule.id}", decision)
        for example in rule.deny:
            decision = _judge_example(judge, rule, example, scope, Access.FULL)
            if decision.allowed or example.by not in (None, decision.rule):
                yield _failure(rule, example, f"denied by {example.by or 'some rule'}", decision)


def _judge_example(
    judge: EffectJudge, rule: EffectRule, example: EffectExample, scope: Scope, access: Access
) -> Decision:
    effect = effect_from_data(rule.effect, example.fields)
    level = access if example.access is None else example.access
    return judge.decide(effect, access=level, scope=scope, host=EXAMPLE_HOST)


def _failure(rule: EffectRule, example: EffectExample, expected: str, decision: Decision) -> EffectFailure:
    found = f"{decision.effect} by {decision.rule}: {decision.reason}"
    return EffectFailure(rule.id, str(dict(example.fields))[:200], expected, found)
