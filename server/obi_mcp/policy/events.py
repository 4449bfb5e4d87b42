"""Events carry no labels: they are OBI's by the object that they are about."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from obi_mcp.policy.confine import add_members, namespace_in_scope
from obi_mcp.policy.draft import NAME
from obi_mcp.policy.output import check_output
from obi_mcp.policy.targets import find

if TYPE_CHECKING:
    from obi_mcp.command.model import Flag
    from obi_mcp.policy.draft import Draft
    from obi_mcp.policy.model import Resource
    from obi_mcp.policy.targets import Targets

_TERM = re.compile(r"(?P<field>[A-Za-z][A-Za-z.]*)(?P<operator>==|!=|=)(?P<value>[A-Za-z0-9._:/-]*)")
_OBJECT_KIND = "involvedObject.kind"
_OBJECT_NAME = "involvedObject.name"
_FREE = frozenset({"type", "reason", "reportingComponent", "source", "involvedObject.uid", "involvedObject.namespace"})
_WHY = "events carry no labels: the object that they are about has to be OBI's"


def judge_events(draft: Draft, targets: Targets) -> None:
    """``get events`` with a field selector that names one object. Raises: Denied."""
    if targets.named:
        raise draft.deny("events are asked for by the object that they are about", hint=draft.rule.hint)
    labels = draft.command.flag("selector")
    if labels is not None:
        raise draft.deny("events carry no labels", at=labels, hint=draft.rule.hint)
    given = draft.command.flag("field-selector")
    kind, name = _involved(draft, given)
    resource = find(draft, kind.lower(), given.word if given else 0)
    if resource.kind != kind:
        raise draft.deny(f"{_OBJECT_KIND}={kind} is not a kind; write {resource.kind}", at=given, hint=draft.rule.hint)
    _about(draft, resource, name, given)


def judge_events_for(draft: Draft) -> None:
    """``kubectl events --for TYPE/NAME``. Raises: Denied."""
    check_output(draft)
    given = draft.command.flag("for")
    if draft.command.operands:
        raise draft.deny("kubectl events takes no operands", at=draft.command.operands[0], repair=draft.with_operands())
    if given is None:
        raise draft.deny(
            "events carry no labels: they are asked for by the object that they are about", hint=draft.rule.hint
        )
    kind, slash, name = given.value.partition("/")
    if not slash or not NAME.match(name):
        raise draft.deny(f"--for={given.value!r} is not TYPE/NAME", at=given, hint=draft.rule.hint)
    resource = find(draft, kind, given.word)
    draft.put("for", f"{resource.argument}/{name}")
    _about(draft, resource, name, given)


def _about(draft: Draft, resource: Resource, name: str, given: Flag | None) -> None:
    entry = draft.grounds.resources.find(resource.argument)
    if entry is None or not entry.read_as_obi or not resource.namespaced or resource.kind == "Event":
        raise draft.deny(f"events of a {resource.kind} are not OBI's", at=given, hint=draft.rule.hint)
    add_members(draft, "named", resource, namespace_in_scope(draft), names=(name,), why=_WHY)


def _involved(draft: Draft, given: Flag | None) -> tuple[str, str]:
    """Kind and name that the field selector asks for, each exactly once and by equality."""
    if given is None or not given.value:
        raise draft.deny(
            f"events carry no labels: name their object by {_OBJECT_KIND} and {_OBJECT_NAME}", hint=draft.rule.hint
        )
    found: dict[str, str] = {}
    for term in given.value.split(","):
        match = _TERM.fullmatch(term)
        if match is None:
            raise draft.deny(f"{term!r} is not FIELD=VALUE", at=given, hint=draft.rule.hint)
        field, operator, value = match["field"], match["operator"], match["value"]
        if field in {_OBJECT_KIND, _OBJECT_NAME}:
            if operator == "!=" or field in found or not value:
                raise draft.deny(f"{field} has to be asked for once, by =", at=given, hint=draft.rule.hint)
            found[field] = value
        elif field not in _FREE:
            raise draft.deny(f"{field} is not a field that events may be selected by", at=given, hint=draft.rule.hint)
    if len(found) != 2 or not NAME.match(found[_OBJECT_NAME]):
        raise draft.deny(f"the selector has to name {_OBJECT_KIND} and {_OBJECT_NAME}", at=given, hint=draft.rule.hint)
    return found[_OBJECT_KIND], found[_OBJECT_NAME]
