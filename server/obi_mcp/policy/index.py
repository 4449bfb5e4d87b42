"""Rules by command, and what of them must fit the grammars and the table of kinds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from obi_mcp.errors import PolicyError
from obi_mcp.policy.rule import Rule

if TYPE_CHECKING:
    from obi_mcp.command.grammar import CommandSpec, Grammars
    from obi_mcp.command.model import Command
    from obi_mcp.policy.resource import ResourceTable

Key = tuple[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Candidates:
    """Rules of one command, those of the lower access level first; ``broadest`` is about the most kinds."""

    rules: tuple[Rule, ...]
    broadest: Rule

    @classmethod
    def of(cls, rules: Sequence[Rule]) -> Candidates | None:
        """Of no rules: None."""
        return cls(tuple(rules), max(rules, key=lambda rule: len(rule.targets.kinds))) if rules else None


class RuleIndex:
    """Rules by program and command path."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        found: dict[Key, list[Rule]] = {}
        for rule in sorted(self.rules, key=lambda rule: rule.access):
            found.setdefault((rule.program, rule.command), []).append(rule)
        self._plain = {key: Candidates.of([rule for rule in all_ if not rule.when]) for key, all_ in found.items()}
        self._flagged = {
            key: tuple(
                (flag, made)
                for flag in dict.fromkeys(rule.when for rule in all_ if rule.when)
                if (made := Candidates.of([rule for rule in all_ if rule.when == flag]))
            )
            for key, all_ in found.items()
        }

    def candidates(self, command: Command) -> Candidates | None:
        """The rules that are about this command: those for a flag that it has, else those for no flag."""
        key = (command.program, command.path)
        for flag, candidates in self._flagged.get(key, ()):
            if command.flag(flag) is not None:
                return candidates
        return self._plain.get(key)

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
