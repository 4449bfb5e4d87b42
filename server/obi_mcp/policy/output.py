"""Output formats: which a rule allows, what the head is asked for, and which paths a template may name.

kubectl renders templates before anything can be redacted, so they are parsed and every path has to be on the kind's
list of harmless ones. Where YAML is asked for, the head prints JSON and the server writes the YAML.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from obi_mcp.policy.model import Output

if TYPE_CHECKING:
    from obi_mcp.command.model import Command, Flag
    from obi_mcp.policy.draft import Draft
    from obi_mcp.policy.model import Resource

# kubectl splits jsonpath conditions at single equals signs, so a path here has none.
_CONDITION = re.compile(
    r"condition=[A-Za-z]{1,63}(=[A-Za-z]{1,63})?|delete"
    r"|jsonpath=(?P<path>\{[^{}=]+\}|\.[A-Za-z0-9_.\[\]*]+)(=[A-Za-z0-9._:/-]+)?"
)
_TEMPLATES = frozenset({"jsonpath", "custom-columns", "go-template"})


def check_output(
    draft: Draft,
    resources: Sequence[Resource] = (),
    *,
    confine: bool = False,
    project: Literal["fact", "status"] | None = None,
) -> None:
    """Hold ``-o`` and ``--sort-by`` to the rule's formats and the kinds' harmless paths.

    ``confine``: the objects are a list found by labels, so JSON is filtered. ``project``: only the harmless fields.
    Raises: Denied at the flag.
    """
    if draft.rule.flags.values and "output" in draft.rule.flags.values:
        return  # formats of the command's own, held to its list with the other flags
    given = draft.command.flag("output")
    text = given.value if given else ""
    name, equals, expression = text.partition("=")
    known = (name or "table") if not equals or name in _TEMPLATES else ""
    if known not in draft.rule.output or (name in _TEMPLATES and not expression):
        raise draft.deny(
            f"the output format {text!r} is not one of {', '.join(sorted(draft.rule.output))}",
            at=given,
            repair=_as_json(draft),
            depth=1,
        )
    if name in {"json", "yaml"}:
        if name == "yaml":
            draft.put("output", "json")
        draft.output = Output("json", "yaml" if name == "yaml" else "json", confine=confine, project=project)
    elif expression and given:
        _check_expression(draft, name, expression, resources, given)
    sort = draft.command.flag("sort-by")
    if sort is not None and resources:
        _check_expression(draft, "sort-by", sort.value, resources, sort)


def _check_expression(draft: Draft, form: str, text: str, resources: Sequence[Resource], at: Flag) -> None:
    from obi_mcp.policy.expressions import ExpressionDenied, columns, gotemplate, jsonpath, sortby
    from obi_mcp.policy.expressions.paths import paths_for

    check = {
        "jsonpath": jsonpath.check,
        "custom-columns": columns.check,
        "go-template": gotemplate.check,
        "sort-by": sortby.check,
        "for": jsonpath.check_relaxed,
    }[form]
    found = (draft.grounds.resources.find(resource.argument) for resource in resources)
    try:
        check(text, paths_for(entry for entry in found if entry is not None))
    except ExpressionDenied as error:
        repair = _as_json(draft) if form != "sort-by" else draft.without("sort-by")
        raise draft.deny(f"{form}: {error}", at=at, hint=error.hint, repair=repair) from None


def check_conditions(draft: Draft, resources: Sequence[Resource]) -> None:
    """``wait --for``: a condition, ``delete``, or a path that could be printed as well. Raises: Denied at the flag."""
    for flag in draft.command.flags:
        if flag.name != "for":
            continue
        match = _CONDITION.fullmatch(flag.value)
        if match is None:
            raise draft.deny(
                f"--for={flag.value!r} is not condition=NAME, delete or jsonpath={{PATH}}=VALUE",
                at=flag,
                repair=draft.with_flag("for", "condition=Ready"),
            )
        if match["path"]:
            _check_expression(draft, "for", match["path"], resources, flag)


def _as_json(draft: Draft) -> Command:
    return draft.with_flag("output", "json") if "json" in draft.rule.output else draft.without("output")
