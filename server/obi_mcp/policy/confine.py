"""How targets are shown to be OBI's by name or by a selector, and in which namespaces they may live.

Each function takes a draft whose targets have been read, adds what the argv needs and the checks that a run has to
make, and raises ``Denied`` where the text already shows that a target is not OBI's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from obi_mcp.command.model import Command
from obi_mcp.policy.draft import NAMESPACE, with_flag, without_flag
from obi_mcp.policy.model import Access, Check, MembersSpec, Resource

if TYPE_CHECKING:
    from obi_mcp.policy.draft import Draft
    from obi_mcp.policy.targets import Targets

_WHY_NAMED = "the object has to be OBI's, which its name does not show"
_WHY_DROPPED = "labels select candidates: objects that are not OBI's leave the list before anything sees them"
_WHY_EVERY = "labels select candidates: every object that the selector finds has to be OBI's"


def namespace_of(draft: Draft, *, namespaced: bool = True) -> str | None:
    """The namespace that is meant, added to the argv where none was given; None: all of them.

    Raises: Denied for a name that no namespace can have.
    """
    every = draft.command.flag("all-namespaces")
    if every is not None and every.value == "true":
        draft.drop("namespace")
        return None
    given = draft.command.flag("namespace")
    if given is None:
        if namespaced:
            draft.put("namespace", draft.grounds.scope.default_namespace)
        return draft.grounds.scope.default_namespace
    if not NAMESPACE.match(given.value):
        raise draft.deny(f"{given.value!r} cannot be the name of a namespace", at=given, repair=in_default(draft))
    return given.value


def namespace_in_scope(draft: Draft, *, besides: frozenset[str] = frozenset()) -> str:
    """The namespace that is meant, which has to be one in scope or in ``besides``. Raises: Denied."""
    namespace = namespace_of(draft)
    if namespace is None:
        raise draft.deny(
            "names and changes are looked up in one namespace, not in all",
            at=draft.command.flag("all-namespaces"),
            repair=in_default(draft),
        )
    if namespace not in draft.grounds.namespaces and namespace not in besides:
        raise draft.deny(
            f"the namespace {namespace} is not one where OBI is installed "
            f"({', '.join(draft.grounds.scope.namespaces)})",
            at=draft.command.flag("namespace"),
            hint=draft.rule.hint,
        )
    return namespace


def in_default(draft: Draft) -> Command:
    """The command as written, in the configured default namespace."""
    kept = without_flag(draft.command, "all-namespaces")
    return with_flag(kept, "namespace", draft.grounds.scope.default_namespace)


def by_name(draft: Draft, targets: Targets) -> None:
    """Every named object is looked up. Raises: Denied for a selector beside names, or a namespace out of scope."""
    _no_selector(draft)
    namespace = namespace_in_scope(draft) if targets.namespaced else None
    for resource in targets.resources:
        names = tuple(target.name for target in targets.targets if target.resource == resource and target.name)
        where = namespace if resource.namespaced else None
        add_members(draft, "named", resource, where, names=names, why=_WHY_NAMED)


def by_selector(draft: Draft, resources: Sequence[Resource], *, write: bool) -> None:
    """A list: the selector has to imply the scope; a read without one gets the scope's first selector.

    Raises: Denied for a selector that does not imply the scope, a write without one or out of scope.
    """
    if write:
        namespace: str | None = namespace_in_scope(draft)
    else:
        namespace = namespace_of(draft, namespaced=any(resource.namespaced for resource in resources))
    selector = implied_selector(draft, write=write)
    mode = draft.rule.targets.matches
    if mode == "drop" and draft.output.head != "json":
        return
    for resource in resources:
        where = namespace if resource.namespaced else None
        if mode == "drop":
            add_members(draft, "drop", resource, where, selector=selector, why=_WHY_DROPPED)
        else:
            add_members(draft, "every", resource, where, selector=selector, why=_WHY_EVERY)


def implied_selector(draft: Draft, *, write: bool) -> str:
    """The selector of the command, shown to imply the scope; added where a read has none. Raises: Denied."""
    given = draft.command.flag("selector")
    first = draft.grounds.selector
    if given is None or not given.value.strip():
        if write or "narrowing" not in draft.rule.targets.confine:
            raise draft.deny(
                f"{draft.rule.line} needs the name of an object or a selector", at=given, hint=draft.rule.hint
            )
        draft.put("selector", first)
        draft.added += ["-l", first]
        others = draft.grounds.scope.selectors[1:]
        missed = f"; not searched: {', '.join(map(repr, others))}" if others else ""
        draft.reason = f"only objects labelled {first!r} are listed{missed}"
        return first
    try:
        implied = draft.grounds.implies(given.value)
    except ValueError as error:
        repair = None if write else _narrowed(draft)
        raise draft.deny(f"the selector cannot be read: {error}", at=given, repair=repair) from None
    if not implied:
        raise draft.deny(
            f"the selector {given.value!r} also finds objects that are not OBI's: it implies none of "
            f"{', '.join(map(repr, draft.grounds.scope.selectors))}",
            at=given,
            # A write that was meant for something else is not turned against what is OBI's.
            repair=None if write else _narrowed(draft),
        )
    return given.value


def add_members(
    draft: Draft,
    mode: Literal["named", "every", "each", "drop"],
    resource: Resource,
    namespace: str | None,
    *,
    why: str,
    names: tuple[str, ...] = (),
    selector: str = "",
    container: str | None = None,
    all_containers: bool = False,
    reappears: bool = False,
    raises_to: Access | None = None,
) -> None:
    """List a membership check."""
    spec = MembersSpec(mode, resource, namespace, names, selector, container, all_containers, reappears)
    target = f"{resource.plural}/{','.join(names)}" if names else f"{resource.plural} -l {selector}"
    draft.checks.append(Check("membership", target, namespace, why, spec, raises_to=raises_to))


def _no_selector(draft: Draft) -> None:
    for name in ("selector", "field-selector"):
        given = draft.command.flag(name)
        if given is not None:
            raise draft.deny("a name and a selector exclude each other", at=given, repair=draft.without(name))


def _narrowed(draft: Draft) -> Command:
    return draft.with_flag("selector", draft.grounds.selector)
