"""Settings to a ready ``Policy``: from the files with everything checked, or from the compiled form."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obi_mcp import __version__
from obi_mcp.command.grammar import Grammars
from obi_mcp.errors import PolicyError
from obi_mcp.policy.compiled import cache_directory, policy_key, read_compiled, write_compiled
from obi_mcp.policy.engine import Policy
from obi_mcp.policy.grounds import Grounds
from obi_mcp.policy.index import RuleIndex, check_fit
from obi_mcp.policy.resource import ResourceTable
from obi_mcp.policy.rule import Rule
from obi_mcp.policy.scope import Scope

if TYPE_CHECKING:
    from collections.abc import Mapping

    from obi_mcp.config import Settings
    from obi_mcp.policy.effect_judge import EffectFailure
    from obi_mcp.policy.examples import Failure
    from obi_mcp.policy.loader import PolicyData


def load_policy(settings: Settings) -> Policy:
    """From the files: every one validated, every example run. Raises: PolicyError."""
    policy, _ = _load(settings)
    return policy


def load_compiled_policy(settings: Settings) -> Policy:
    """From the compiled form; where there is none, from the files, and the compiled form is written.

    Raises: PolicyError.
    """
    directory = cache_directory(os.environ)
    if directory is None:
        return load_policy(settings)
    key = policy_key(operator_directory(settings), settings.scope, __version__)
    data = read_compiled(directory, key)
    if data is not None:
        return build(data, settings)
    policy, data = _load(settings)
    write_compiled(directory, key, data)
    return policy


def operator_directory(settings: Settings) -> Path | None:
    """The operator's own policy directory, layered over the built-in one."""
    return Path(settings.policy_directory) if settings.policy_directory else None


def build(data: PolicyData, settings: Settings) -> Policy:
    """The policy of data that has been checked."""
    rules = (Rule.from_data(rule) for rule in data.rules)
    grounds = Grounds(extended(settings.scope, data.scope), ResourceTable.from_data(data.resources), data.manifest)
    grammars = Grammars.from_data(dict(data.grammars))
    return Policy(RuleIndex(rules), grammars, grounds, settings.limits.timeout_s, data.effects)


def extended(scope: Scope, added: Mapping[str, Any]) -> Scope:
    """The configured scope and what an operator's ``scope.yaml`` adds to it."""
    changed: dict[str, Any] = {}
    for name, value in added.items():
        old: Any = scope.known_cluster_objects() if name == "cluster_objects" else getattr(scope, name)
        if isinstance(value, dict):
            changed[name] = {**old, **{key: tuple(v) if isinstance(v, list) else v for key, v in value.items()}}
        else:
            changed[name] = tuple(dict.fromkeys((*old, *value)))
    return replace(scope, **changed)


def assemble(settings: Settings) -> tuple[Policy, PolicyData]:
    """The policy from its files, validated, its examples not run. Raises: PolicyError."""
    from obi_mcp.policy.loader import read_policy

    data = read_policy(operator_directory(settings))
    policy = build(data, settings)
    check_fit(policy.index.rules, policy.grammars, policy.resources)
    _ = policy.grounds.manifest
    return policy, data


def failing(policy: Policy, data: PolicyData) -> tuple[Failure | EffectFailure, ...]:
    """The examples that fail: the built-in ones over the default scope, the operator's over the one in force."""
    from obi_mcp.policy.effect_judge import failing_examples
    from obi_mcp.policy.examples import run_examples, run_hints

    at = len(data.rules) - data.extended
    built_in, own = policy.index.rules[:at], policy.index.rules[at:]
    return (
        *run_examples(policy, built_in, Scope()),
        *run_hints(policy, built_in, Scope()),
        *run_examples(policy, own, policy.scope),
        *run_hints(policy, own, policy.scope),
        *failing_examples(policy.effects, Scope()),
    )


def _load(settings: Settings) -> tuple[Policy, PolicyData]:
    policy, data = assemble(settings)
    failures = failing(policy, data)
    if failures:
        raise PolicyError(
            f"{len(failures)} examples of rules fail: {'; '.join(map(str, failures[:5]))}",
            "an example that fails is a rule that does not say what it means: mend the rule or the example",
        )
    return policy, data
