"""kubectl's reads, and the writes that only name their object: one function per way of reading the operands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from obi_mcp.command.model import Command, Operand
from obi_mcp.errors import Denied
from obi_mcp.policy.confine import add_members, by_name, by_selector, namespace_in_scope, namespace_of
from obi_mcp.policy.draft import NAME
from obi_mcp.policy.events import judge_events
from obi_mcp.policy.model import Access, Check, UndoSpec
from obi_mcp.policy.output import check_conditions, check_output
from obi_mcp.policy.targets import Target, Targets, read_targets

if TYPE_CHECKING:
    from obi_mcp.policy.draft import Draft
    from obi_mcp.policy.model import Resource
    from obi_mcp.policy.rule import Rule


def about_resources(draft: Draft) -> bool:
    """Whether the rule is about these targets at all: their kinds, their number, their namespace.

    Raises: Denied for targets that cannot be read.
    """
    targets = draft.targets
    if targets is None:
        targets = draft.targets = read_targets(draft, draft.command.operands)
    allowed = draft.grounds.kinds_of(draft.rule)
    if not all(kind in allowed for kind in targets.kinds):
        return False
    if draft.rule.targets.one and not (targets.named and len(targets.targets) == 1):
        return False
    if "limit" in draft.rule.targets.confine:
        return _in_own_namespace(draft)
    return "status" not in draft.rule.targets.confine or _about_status(draft, targets)


def refuse_unrelated(draft: Draft, rules: Sequence[Rule]) -> Denied:
    """The refusal of targets that no rule of the command is about; the draft's rule is the broadest of ``rules``."""
    allowed = draft.grounds.kinds_of(draft.rule)
    for target in draft.targets.targets if draft.targets else ():
        if target.resource.argument not in allowed:
            return draft.deny(
                _unrelated(draft, target, [draft.grounds.kinds_of(rule) for rule in rules]),
                at=target.word,
                hint=draft.rule.hint,
                repair=_only(draft, allowed),
                depth=0,
            )
    if draft.rule.targets.one:
        said = f"{draft.rule.id} is about exactly one object, by name"
    else:
        said = f"{draft.rule.id} is about namespaces whose workloads OBI instruments"
    return draft.deny(said, hint=draft.rule.hint, depth=0)


def _unrelated(draft: Draft, target: Target, known: Sequence[Mapping[str, Resource]]) -> str:
    """Why this kind is refused: no rule of the command takes it, or none takes it together with the others."""
    found, line = target.resource, draft.rule.line
    if any(found.argument in kinds for kinds in known):
        if len(targets_of(draft).kinds) == 1:
            return f"{line} takes {found.plural} only in a namespace that is OBI's: one where it is installed"
        return f"{line} takes {found.plural} only without the other kinds: one call for each"
    entry = draft.grounds.resources.find(found.argument)
    because = f": {entry.because}" if entry and entry.because else ""
    takes = "lists only" if draft.command.path == ("get",) else "is only for"
    every = sorted({kind.plural for kinds in known for kind in kinds.values()})
    name = found.argument if found.plural in every else found.plural
    return f"{line} {takes} {', '.join(every)}; not {name}{because}"


def _only(draft: Draft, allowed: Mapping[str, Resource]) -> Command | None:
    """The command for those of its kinds that the rule is about, where it lists kinds and some of them remain."""
    targets = draft.targets
    if targets is None or targets.named:
        return None
    kept = [kind.plural for name, kind in targets.kinds.items() if name in allowed]
    return draft.with_operands(",".join(kept)) if kept else None


def targets_of(draft: Draft) -> Targets:
    """The targets that were read before the flags."""
    if draft.targets is None:  # INVARIANT: forms.ABOUT has a function for every form that names kinds
        raise ValueError(f"{draft.rule.id}: the targets have not been read")
    return draft.targets


def judge_resources(draft: Draft) -> None:
    """``TYPE[,TYPE] [NAME…]`` or ``TYPE/NAME…``: get, describe, wait, delete, rollout."""
    targets = targets_of(draft)
    draft.operands = targets.operands
    confine = draft.rule.targets.confine
    if "fact" in confine:
        _fact(draft, targets)
    elif confine & {"status", "limit"}:
        _status(draft, targets)
    else:
        _obi(draft, targets)


def _obi(draft: Draft, targets: Targets) -> None:
    """Targets that have to be OBI's, by any of the rule's ways."""
    # Events are OBI's by the one object that they are about, which is checked by name: there is nothing to drop.
    of_one = "event" in draft.rule.targets.confine
    listed = not targets.named and not of_one and draft.rule.targets.matches == "drop"
    check_output(draft, targets.resources, confine=listed)
    check_conditions(draft, targets.resources)
    if of_one:
        judge_events(draft, targets)
    elif draft.rule.targets.one:
        _one(draft, targets)
    elif targets.named:
        by_name(draft, targets)
    else:
        by_selector(draft, targets.resources, write=draft.rule.access > Access.READ_ONLY)


def judge_names(draft: Draft) -> None:
    """``[NAME…]`` of the rule's one kind: ``top pod``, ``top node``."""
    kinds = draft.grounds.kinds_of(draft.rule)
    resource = next(iter(kinds.values()))
    targets = Targets(tuple(_named(draft, resource, operand) for operand in draft.operands), draft.operands, kinds)
    if len(targets.targets) > 1:
        extra = draft.operands[1]
        raise draft.deny(
            f"{draft.rule.line} takes one name at most", at=extra, repair=draft.with_operands(draft.operands[0].text)
        )
    if "fact" in draft.rule.targets.confine:
        return
    if targets.targets:
        by_name(draft, targets)
    else:
        by_selector(draft, (resource,), write=False)


def judge_words(draft: Draft) -> None:
    """Plain words: explain, auth can-i. The namespace only says what is asked about."""
    check_words(draft)
    check_output(draft)
    if "namespace" in draft.rule.flags.allow:
        namespace_of(draft)


def judge_none(draft: Draft) -> None:
    """No operands at all: version, api-resources, config current-context."""
    if draft.command.operands:
        raise draft.deny(
            f"{draft.rule.line} takes no operands", at=draft.command.operands[0], repair=draft.with_operands(), depth=1
        )
    check_output(draft)


def judge_contexts(draft: Draft) -> None:
    """``config get-contexts``: only the contexts that the caller may name; the argv gets their names."""
    check_output(draft)
    known = draft.grounds.scope.contexts
    for operand in draft.command.operands:
        if operand.text not in known:
            raise draft.deny(
                f"the context {operand.text!r} is not one that the operator configured",
                at=operand,
                hint="kubectl config current-context",
            )
    if not known:
        raise draft.deny(
            "no contexts are configured, so only the current one is shown", hint="kubectl config current-context"
        )
    if not draft.command.operands:
        draft.operands = tuple(Operand(name) for name in known)


def check_words(draft: Draft) -> None:
    """Hold operands to the rule's number and pattern. Raises: Denied."""
    from obi_mcp.policy.flags import pattern_of

    words, operands = draft.rule.words, draft.command.operands
    most = 0 if words.unless and draft.command.flag(words.unless) else words.max
    least = min(words.min, most)
    if len(operands) > most:
        kept = tuple(operand.text for operand in operands[:most])
        raise draft.deny(
            f"{draft.rule.line} takes at most {most} operand{'s' * (most != 1)} here",
            at=operands[most],
            repair=draft.with_operands(*kept),
            depth=1,
        )
    if len(operands) < least:
        raise draft.deny(f"{draft.rule.line} needs an operand", hint=draft.rule.hint, depth=1)
    for operand in operands:
        if words.pattern and not pattern_of(words.pattern).fullmatch(operand.text):
            raise draft.deny(
                f"{operand.text!r} is not a form that {draft.rule.id} allows",
                at=operand,
                hint=draft.rule.hint,
            )


def _fact(draft: Draft, targets: Targets) -> None:
    check_output(draft, targets.resources, project="fact")
    if targets.named and draft.command.flag("selector"):
        raise draft.deny("a name and a selector exclude each other", at=draft.command.flag("selector"))


def _status(draft: Draft, targets: Targets) -> None:
    namespace_of(draft)
    selector = draft.command.flag("selector")
    if targets.named and selector is not None:
        raise draft.deny("a name and a selector exclude each other", at=selector, repair=draft.without("selector"))
    check_output(draft, targets.resources, project="status")


def _about_status(draft: Draft, targets: Targets) -> bool:
    """Workload status in an instrumented namespace; what is OBI's own there is for the fuller rule of ``get``."""
    if not draft.grounds.instrumented or draft.command.value("all-namespaces") == "true":
        return False
    namespace = draft.command.value("namespace", draft.grounds.scope.default_namespace)
    return namespace in draft.grounds.instrumented and not _is_candidate(draft, targets, namespace)


def _in_own_namespace(draft: Draft) -> bool:
    if draft.command.value("all-namespaces") == "true":
        return False
    return draft.command.value("namespace", draft.grounds.scope.default_namespace) in draft.grounds.namespaces


def _is_candidate(draft: Draft, targets: Targets, namespace: str) -> bool:
    """Whether the target may be OBI's own: a name where OBI is installed, or a selector that implies the scope."""
    if targets.named:
        return namespace in draft.grounds.namespaces
    try:
        return draft.grounds.implies(draft.command.value("selector"))
    except ValueError:
        return False


def _one(draft: Draft, targets: Targets) -> None:
    """Rules about exactly one object by name: delete of a pod, rollout undo."""
    target = targets.targets[0]
    for name in ("selector", "field-selector"):
        given = draft.command.flag(name)
        if given is not None:
            raise draft.deny("a name and a selector exclude each other", at=given, repair=draft.without(name))
    namespace = namespace_in_scope(draft)
    if "undo" in draft.rule.targets.confine:
        _undo(draft, target, namespace)
        return
    add_members(
        draft,
        "named",
        target.resource,
        namespace,
        names=(target.name or "",),
        reappears=True,
        why="the pod has to be OBI's, and its controller has to make it again",
        raises_to=Access.FULL,
    )


def _undo(draft: Draft, target: Target, namespace: str) -> None:
    revision = int(draft.command.value("to-revision", "0"))
    draft.checks.append(
        Check(
            "dry-run",
            target.label,
            namespace,
            "the template of that revision has to pass the manifest check before it comes back",
            UndoSpec(target.resource, target.name or "", namespace, revision),
        )
    )


def _named(draft: Draft, resource: Resource, operand: Operand) -> Target:
    if not NAME.match(operand.text):
        raise draft.deny(f"{operand.text!r} cannot be the name of an object", at=operand, hint=draft.rule.hint)
    return Target(resource, operand.text, operand.word)
