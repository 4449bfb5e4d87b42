"""helm: releases of OBI's by name, charts of the store or of a configured repository, and the values that are merged.

Whose a stored release is shows only its chart and every object of its manifest, and what a chart makes shows only the
verb's own rendering: both are checks. The text decides names, namespaces, charts and values.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from obi_mcp.command.model import Operand
from obi_mcp.policy.confine import namespace_in_scope, namespace_of
from obi_mcp.policy.documents_form import refused_in
from obi_mcp.policy.draft import without_flag
from obi_mcp.policy.model import Access, Check, Document, ReleaseSpec, RenderSpec
from obi_mcp.policy.output import check_output

if TYPE_CHECKING:
    from obi_mcp.policy.draft import Draft

_CHART_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_VERSION = re.compile(r"v?[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]{1,64})?(\+[0-9A-Za-z.-]{1,64})?")
_REVISION = re.compile(r"[1-9][0-9]{0,8}")
_VALUE_FLAGS = frozenset({"set", "set-string", "set-json", "set-literal"})
_WHY_RELEASE = "the release has to be of OBI's chart, and every object and hook of its manifest OBI's"
_WHY_RENDER = "every object and hook that helm's own rendering makes has to pass the manifest check"
_STORE_HINT = "helm show chart obi"


def judge_releases(draft: Draft) -> None:
    """``helm list``: narrowed to the names in scope by ``--filter``. Raises: Denied for any other filter."""
    if draft.command.operands:
        raise draft.deny("helm list takes no operands", at=draft.command.operands[0], repair=draft.with_operands())
    check_output(draft)
    namespace_of(draft)
    names = tuple(draft.grounds.scope.releases)
    given = draft.command.flag("filter")
    if given is None or not given.value:
        wanted = f"^({'|'.join(map(re.escape, names))})$"
        draft.put("filter", wanted)
        draft.added += ["--filter", wanted]
        draft.reason = f"the list is narrowed to the releases in scope: {', '.join(names)}"
    elif given.value not in {f"^{re.escape(name)}$" for name in names}:
        raise draft.deny(
            f"--filter={given.value!r} is not one literal ^NAME$ of {', '.join(names)}",
            at=given,
            repair=draft.without("filter"),
        )


def judge_release(draft: Draft) -> None:
    """``RELEASE``: status, history, get, uninstall. Raises: Denied for a release or namespace out of scope."""
    if len(draft.command.operands) != 1:
        raise draft.deny(f"{draft.rule.line} takes one release", at=_extra(draft, 1), hint=draft.rule.hint)
    check_output(draft)
    release, namespace = _release(draft), namespace_in_scope(draft)
    revision = int(draft.command.value("revision", "0"))
    _check_release(draft, release, namespace, max(revision, 0))


def judge_revision(draft: Draft) -> None:
    """``rollback RELEASE REVISION``: both what is there and what comes back are OBI's. Raises: Denied."""
    operands = draft.command.operands
    if len(operands) != 2 or not _REVISION.fullmatch(operands[1].text):
        raise draft.deny(
            f"{draft.rule.line} takes a release and the number of a revision", at=_extra(draft, 1), hint=draft.rule.hint
        )
    release, namespace = _release(draft), namespace_in_scope(draft)
    _check_release(draft, release, namespace, 0)
    _check_release(draft, release, namespace, int(operands[1].text))


def judge_chart(draft: Draft) -> None:
    """``CHART``: show, lint. Raises: Denied for a chart that is not in the store or a configured repository."""
    operands = draft.command.operands
    if len(operands) != 1:
        raise draft.deny(f"{draft.rule.line} takes one chart", at=_extra(draft, 1), hint=draft.rule.hint)
    charts = frozenset(chart for names in draft.grounds.scope.releases.values() for chart in names)
    chart = _check_chart(draft, operands[0], charts)
    _check_values(draft)
    render = RenderSpec(draft.command.path[0], "", "", chart)
    draft.checks.append(Check("render", chart, None, "the chart has to be the store's own, by its digest", render))


def judge_install(draft: Draft) -> None:
    """``RELEASE CHART``: template, install, upgrade. Raises: Denied."""
    operands = draft.command.operands
    if len(operands) != 2:
        raise draft.deny(f"{draft.rule.line} takes a release and a chart", at=_extra(draft, 2), hint=draft.rule.hint)
    check_output(draft)
    release, namespace = _release(draft), namespace_in_scope(draft)
    chart = _check_chart(draft, operands[1], frozenset(draft.grounds.scope.releases[release]))
    _check_values(draft)
    verb = draft.command.path[0]
    full = Access.FULL if verb == "upgrade" else None
    if verb != "template":
        absent = verb == "install" or draft.command.value("install") == "true"
        spec = ReleaseSpec(release, namespace, may_be_absent=absent)
        draft.checks.append(Check("release", release, namespace, _WHY_RELEASE, spec))
    render = RenderSpec(verb, release, namespace, chart)
    draft.checks.append(Check("render", f"{release} ({chart})", namespace, _WHY_RENDER, render, raises_to=full))


def _release(draft: Draft) -> str:
    operand = draft.command.operands[0]
    if operand.text not in draft.grounds.scope.releases:
        names = tuple(draft.grounds.scope.releases)
        # A release that is to be changed is not another one.
        reads = names and draft.rule.access is Access.READ_ONLY
        others = (other.text for other in draft.command.operands[1:])
        repair = draft.with_operands(names[0], *others) if reads else None
        raise draft.deny(
            f"the release {operand.text!r} is not one in scope ({', '.join(names)})", at=operand, repair=repair
        )
    return operand.text


def _check_release(draft: Draft, release: str, namespace: str, revision: int) -> None:
    target = f"{release} revision {revision}" if revision else release
    draft.checks.append(
        Check("release", target, namespace, _WHY_RELEASE, ReleaseSpec(release, namespace, revision=revision))
    )


def _check_chart(draft: Draft, operand: Operand, charts: frozenset[str]) -> str:
    """The chart as it was written: a bare name of the store, or REPO/NAME with a version."""
    repository, slash, name = operand.text.rpartition("/")
    version = draft.command.flag("version")
    if version is not None and not _VERSION.fullmatch(version.value):
        raise draft.deny(
            f"--version={version.value!r} is not one exact version", at=version, repair=draft.without("version")
        )
    if not _CHART_NAME.fullmatch(name) or (slash and repository not in draft.grounds.scope.repositories):
        raise draft.deny(
            f"{operand.text!r} is not a chart of the chart store by its bare name, nor REPO/NAME of a configured "
            "repository: paths, URLs and archives are not charts here",
            at=operand,
            hint=_STORE_HINT,
        )
    if slash and version is None:
        raise draft.deny(f"{operand.text} needs --version with one exact version", at=operand, hint=_STORE_HINT)
    if name not in charts:
        releases = draft.grounds.scope.releases
        fitting = next((release for release, own in releases.items() if name in own), None)
        repair = draft.with_operands(fitting, operand.text) if fitting and len(draft.command.operands) == 2 else None
        raise draft.deny(
            f"the chart {name!r} is not one of OBI's here ({', '.join(sorted(charts))}): "
            "scope.releases says which release may be of which chart",
            at=operand,
            repair=repair,
            hint=None if repair else _STORE_HINT,
        )
    return operand.text


def _check_values(draft: Draft) -> None:
    """Values as helm will merge them hold no template; the document of ``--values -`` becomes the server's own JSON."""
    command, stdin = draft.command, draft.call.stdin
    document = command.flag("values")
    if document is None and not any(flag.name in _VALUE_FLAGS for flag in command.flags):
        return
    from obi_mcp.policy.values import command_values, judge_values, read_values

    for flag in command.flags:
        if flag.name in _VALUE_FLAGS:
            _check_set(draft, flag.name, flag.value, flag.word)
    if document is not None:
        if stdin is None:
            raise draft.deny("--values - reads standard input, and none was given", at=document, hint=draft.rule.hint)
        try:
            draft.documents = (Document(0, read_values(stdin)),)
        except ValueError as error:
            raise refused_in(draft, str(error), "send one YAML mapping as stdin", 0, None) from None
    try:
        merged = command_values(command, stdin)
    except ValueError as error:
        raise draft.deny(str(error), at=document, hint=draft.rule.hint) from None
    for violation in judge_values(merged):
        if document is None:
            raise draft.deny(f"{violation.path}: {violation.reason}", hint=violation.hint)
        raise refused_in(draft, violation.reason, violation.hint, 0, violation.path)


def _check_set(draft: Draft, name: str, text: str, word: int) -> None:
    """One ``--set…`` alone, so that a refusal points at its word."""
    from obi_mcp.policy.values import command_values, judge_values

    if "{{" in text:
        raise draft.deny(
            f"--{name} holds the start of a template, which the chart would run",
            at=word,
            hint="write the finished text",
        )
    alone = without_flag(draft.command, "values")
    kept = tuple(flag for flag in alone.flags if flag.word == word and flag.name == name and flag.value == text)
    alone = type(alone)(alone.program, alone.path, kept, alone.operands, alone.dash, alone.style, alone.short)
    try:
        violations = judge_values(command_values(alone, None))
    except ValueError as error:
        raise draft.deny(f"--{name}: {error}", at=word, hint=draft.rule.hint) from None
    for violation in violations:
        raise draft.deny(f"--{name} {violation.path}: {violation.reason}", at=word, hint=violation.hint)


def _extra(draft: Draft, number: int) -> Operand | None:
    operands = draft.command.operands
    return operands[number] if len(operands) > number else None
