"""``kubectl logs``: one pod by name, or every OBI pod that a selector or a workload leads to, one run for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from obi_mcp.command.model import Operand
from obi_mcp.policy.confine import add_members, implied_selector, namespace_in_scope, namespace_of
from obi_mcp.policy.draft import NAME
from obi_mcp.policy.targets import find

if TYPE_CHECKING:
    from obi_mcp.policy.draft import Draft

_WHY_EACH = "the command runs once for every pod that is shown to be OBI's; others are counted as skipped"
_WHY_NAMED = "the container that is meant has to run an OBI image"


def judge_log(draft: Draft) -> None:
    """``POD [CONTAINER]``, ``TYPE/NAME [CONTAINER]`` or ``-l SELECTOR``. Raises: Denied."""
    operands = draft.command.operands
    if len(operands) > 2:
        raise draft.deny("kubectl logs takes one pod or workload", at=operands[2], hint=draft.rule.hint)
    container = _container(draft)
    if not operands:
        _by_selector(draft, container)
        return
    for name in ("selector", "field-selector"):
        given = draft.command.flag(name)
        if given is not None:
            raise draft.deny("a name and a selector exclude each other", at=given, repair=draft.without(name))
    kind, slash, name = operands[0].text.partition("/")
    if not slash:
        kind, name = "pods", kind
    if not NAME.match(name):
        raise draft.deny(f"{name!r} cannot be the name of an object", at=operands[0], hint=draft.rule.hint)
    resource = find(draft, kind, operands[0].word)
    kinds = draft.grounds.kinds_of(draft.rule)
    if resource.argument not in kinds:
        raise draft.deny(
            f"kubectl logs is only for {', '.join(sorted(kind.plural for kind in kinds.values()))}; "
            f"not {resource.plural}",
            at=operands[0],
            hint=draft.rule.hint,
            depth=0,
        )
    draft.operands = (Operand(f"{resource.argument}/{name}", operands[0].word),)
    single = resource.kind == "Pod"
    # A sidecar of ours lives in somebody else's pod: the container's own image decides, so it has to be named.
    besides = draft.grounds.instrumented if single and container else frozenset[str]()
    add_members(
        draft,
        "named" if single else "each",
        resource,
        namespace_in_scope(draft, besides=besides),
        names=(name,),
        container=container,
        all_containers=draft.command.value("all-containers") == "true",
        why=_WHY_NAMED if single else _WHY_EACH,
    )


def _by_selector(draft: Draft, container: str | None) -> None:
    pods = find(draft, "pods", 0)
    namespace = namespace_of(draft)
    selector = implied_selector(draft, write=False)
    add_members(
        draft,
        "each",
        pods,
        namespace,
        selector=selector,
        container=container,
        all_containers=draft.command.value("all-containers") == "true",
        why=_WHY_EACH,
    )


def _container(draft: Draft) -> str | None:
    """The container that is meant; kubectl's second operand becomes ``--container``."""
    given, operands = draft.command.flag("container"), draft.command.operands
    if len(operands) == 2:
        if given is not None:
            raise draft.deny(
                "the container is named twice", at=operands[1], repair=draft.with_operands(operands[0].text)
            )
        draft.put("container", operands[1].text)
        name, at = operands[1].text, operands[1].word
    elif given is not None:
        name, at = given.value, given.word
    else:
        return None
    if not NAME.match(name):
        raise draft.deny(f"{name!r} cannot be the name of a container", at=at, repair=draft.without("container"))
    if draft.command.value("all-containers") == "true":
        raise draft.deny("--all-containers and a container exclude each other", at=at, hint=draft.rule.hint)
    return name
