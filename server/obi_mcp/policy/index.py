"""Rules by command, and what of them must fit the grammars and the table of kinds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from obi_mcp.errors import PolicyError
from obi_mcp.policy.rule import Rule

if TYPE_CHECKING:
    from obi_mcp.command.grammar import CommandSpec, Grammars
    from obi_mcp.command.model import Command
    from obi_mcp.policy.resource import ResourceTable

Key = tuple[str, tuple[str, ...]]


class RuleIndex:
    """Rules by program and command path, those of the lower access level first."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        found: dict[Key, list[Rule]] = {}
        for rule in sorted(self.rules, key=lambda rule: rule.access):
            found.setdefault((rule.program, rule.command), []).append(rule)
        self._by_command = {key: tuple(rules) for key, rules in found.items()}

    def candidates(self, command: Command) -> tuple[Rule, ...]:
        """The rules that are about this command: those for a flag that it has, else those for no flag."""
        rules = self._by_command.get((command.program, command.path), ())
        if len(rules) < 2:
            return rules
        flagged = tuple(rule for rule in rules if rule.when and command.flag(rule.when))
        return flagged or tuple(rule for rule in rules if not rule.when)

    def find(self, rule_id: str) -> Rule | None:
        """The rule of that id."""
        return next((rule for rule in self.rules if rule.id == rule_id), None)

    def of_program(self, program: str) -> tuple[Rule, ...]:
        """All rules of one program."""
        return tuple(rule for rule in self.rules if rule.program == program)


def check_fit(rules: Iterable[Rule], grammars: Grammars, resources: ResourceTable) -> None:
    """Every command, flag and kind that a rule names exists. Raises: PolicyError that names the rule."""
    for rule in rules:
        spec = _spec(rule, grammars)
        named = {*rule.flags.allow, *filter(None, (rule.when, rule.words.unless))}
        for name in sorted(named):
            if name not in spec.flags:
                raise PolicyError(f"rule {rule.id}: {rule.line} has no flag --{name}", "see policy/grammar")
        for kind in rule.targets.kinds:
            entry = resources.find(kind)
            if entry is None:
                raise PolicyError(f"rule {rule.id}: there is no kind {kind}", "see policy/resources.yaml")
            if entry.reading == "never":
                raise PolicyError(f"rule {rule.id}: {kind} are never read: {entry.because}", "choose other kinds")


def _spec(rule: Rule, grammars: Grammars) -> CommandSpec:
    grammar = grammars.heads.get(rule.program) or grammars.filters.get(rule.program)
    if grammar is None:
        raise PolicyError(f"rule {rule.id}: there is no program {rule.program}", "see policy/grammar")
    spec = grammar.root
    for word in rule.command:
        child = spec.child(word)
        if child is None or child.name != word:
            raise PolicyError(
                f"rule {rule.id}: {rule.program} has no command {' '.join(rule.command)}", "see policy/grammar"
            )
        spec = child
    return spec
