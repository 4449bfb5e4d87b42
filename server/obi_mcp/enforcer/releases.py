"""Proofs of helm: stored releases are OBI's by chart and by every object; what a chart would make passes the check."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from obi_mcp.command.model import Command, Flag, Operand
from obi_mcp.enforcer.adoption import adopted
from obi_mcp.enforcer.afterwards import still_there
from obi_mcp.enforcer.case import Case, Difference, Proved, absent, failed, passed
from obi_mcp.enforcer.charts import private_chart
from obi_mcp.enforcer.failures import raise_for_failure
from obi_mcp.enforcer.written import unmet
from obi_mcp.errors import ProgramFailed
from obi_mcp.policy.chart import Chart
from obi_mcp.policy.chart_guard import SAID
from obi_mcp.policy.chart_scan import WAY_OUT
from obi_mcp.policy.documents import canonical
from obi_mcp.policy.manifest.change import leaves_nothing
from obi_mcp.policy.model import Access, Check, Document, Output, Place, ReleaseSpec, RenderSpec, Resource
from obi_mcp.policy.release import (
    Release,
    differences,
    dropped,
    foreign_in,
    judge_release,
    read_dry_run,
    read_objects,
    read_release,
)
from obi_mcp.policy.values import judge_values
from obi_mcp.process.runner import Completed

NOT_FOUND = b"release: not found"
_RENDERING = frozenset({"template", "install", "upgrade"})
_RENDER_DROPS = frozenset(
    {"dry-run", "output", "wait", "wait-for-jobs", "timeout", "rollback-on-failure", "hide-notes"}
)


async def prove_release(case: Case, check: Check, spec: ReleaseSpec) -> Proved:
    """The stored release is of OBI's chart and holds nothing that is not OBI's. Raises: ProgramFailed."""
    release = await stored(case, spec.release, spec.namespace, spec.revision)
    if release is None:
        return Proved(passed(check, "there is no such release yet") if spec.may_be_absent else absent(check))
    if foreign_in(release, scope=case.scope, resources=case.resources):
        # A foreign release under OBI's name gets the same answer as none.
        return Proved(absent(check))
    if case.decision.access is not Access.READ_ONLY and (reason := await _not_its_own(case, spec, release)):
        return Proved(failed(check, reason, "look at the release's history: somebody wrote into what helm stored"))
    if spec.revision and case.decision.access is not Access.READ_ONLY:
        # What a roll-back brings back is written again, so it has to pass as if it were new.
        judgement = judge_release(release, scope=case.scope, manifests=case.policy.grounds.manifest)
        if judgement.violations:
            first = judgement.violations[0]
            return Proved(failed(check, f"{first.path}: {first.reason}", first.hint))
    if spec.revision:
        case.release.after = release
    else:
        case.release.before = release
    proved = Proved(passed(check, f"revision {release.revision} of chart {release.chart} holds only what is OBI's"))
    if spec.revision and case.decision.access is not Access.READ_ONLY:
        return replace(proved, afterwards=lambda: _compare(case, spec, release))
    return proved


async def _not_its_own(case: Case, spec: ReleaseSpec, release: Release) -> str | None:
    """Why the release may not be written: its stored manifest names an object that is there and not its own.

    ``helm upgrade`` deletes what the stored manifest has and the new one has not, and ``rollback`` patches what both
    have, without a look at whose it is.
    """
    for document in release.documents:
        entry = case.resources.for_object(document.api_version, document.kind)
        if entry is None:
            return f"the kind {document.kind} is not one that may be written"
        namespace = (document.namespace or spec.namespace) if entry.resource.namespaced else None
        live = await case.cluster.get(entry.resource, namespace, document.name)
        if live is not None and not _is_of(live, spec):
            return f"the stored manifest of {spec.release} names {document.kind} {document.name}, which is not its own"
    return None


async def prove_render(case: Case, check: Check, spec: RenderSpec) -> Proved:
    """What the verb itself would make, rendered by helm with the merged values, passes; and so does what it replaces.

    Raises: ProgramFailed, ClusterUnreachable.
    """
    chart = await _chart(case, check, spec)
    if isinstance(chart, Proved):
        return chart
    case.release.chart = chart
    head = case.head
    command = replace(head, operands=(*head.operands[:-1], Operand(str(chart.path))))
    heads = (command.argv(),)
    if spec.verb not in _RENDERING:
        return Proved(passed(check, f"chart {chart.name} {chart.version} of the chart store"), heads=heads)
    refused = await _refuse_stored_values(case, check, spec) if spec.verb == "upgrade" else None
    rendered = refused or await _rendered(case, check, command, spec, chart)
    if isinstance(rendered, Proved):
        return rendered
    release, text = rendered
    case.release.after = release
    proved = await _judge(case, check, spec, release)
    if not proved.result.passed:
        return proved
    if not case.charts.unchanged(chart):
        return Proved(failed(check, f"the chart {chart.name} changed while it was judged", "try again"))
    if spec.verb == "template":
        # What was judged is what is given: the rendering is not made twice.
        return replace(proved, heads=heads, source=text)
    if case.decision.access is Access.READ_ONLY:
        # A dry run of the caller's: what the server rendered and judged is what is given, where it is the same form.
        given = text if case.decision.output == Output("json") else None
        return replace(proved, heads=heads, afterwards=None, source=given)
    objects = proved.afterwards

    async def afterwards() -> Difference | None:
        return await _compare(case, spec, release) or (await objects() if objects else None)

    return replace(proved, heads=heads, afterwards=afterwards)


async def _chart(case: Case, check: Check, spec: RenderSpec) -> Chart | Proved:
    """A private copy of the chart that the operand names, its templates scanned; else the refusal."""
    try:
        chart = await private_chart(case, spec)
    except ValueError as error:
        return Proved(failed(check, str(error)))
    for violation in await asyncio.to_thread(case.charts.scan, chart):
        return Proved(failed(check, f"{violation.path}: {violation.reason}", violation.hint))
    return chart


async def stored(case: Case, name: str, namespace: str, revision: int = 0) -> Release | None:
    """A release as helm stored it, or None. Raises: ProgramFailed."""
    at = (f"--namespace={namespace}", *((f"--revision={revision}",) if revision else ()), *_context(case))
    metadata, manifest, hooks = await asyncio.gather(
        _read(case, ("helm", "get", "metadata", *at, "--output=json", name)),
        _read(case, ("helm", "get", "manifest", *at, name)),
        _read(case, ("helm", "get", "hooks", *at, name)),
    )
    if metadata is None or manifest is None or hooks is None:
        return None
    try:
        return read_release(json.loads(metadata), manifest.decode(), hooks.decode())
    except ValueError as error:
        raise ProgramFailed(f"the stored release {name} cannot be read: {error}") from error


async def _refuse_stored_values(case: Case, check: Check, spec: RenderSpec) -> Proved | None:
    """helm merges the values that a release was stored with, unless it is told --reset-values, and the chart may run
    them as templates: with ``lookup``, and the server's rights. So they are judged like the caller's own."""
    if case.head.value("reset-values") == "true":
        return None
    at = (f"--namespace={spec.namespace}", *_context(case))
    printed = await _read(case, ("helm", "get", "values", *at, "--output=json", spec.release))
    values = json.loads(printed) if printed else None
    for violation in judge_values(values if isinstance(values, dict) else {}):
        return Proved(
            failed(
                check,
                f"{violation.path} of the values that the release is stored with could be run as a template",
                "give all values anew, with --reset-values",
            )
        )
    return None


async def _read(case: Case, argv: tuple[str, ...]) -> bytes | None:
    completed = await case.run_own(case.policy.derive(case.decision, argv, output=Output(head="raw")))
    if completed.exit_code == 0:
        return completed.stdout
    if NOT_FOUND in completed.stderr or b"not found" in completed.stderr:
        return None
    raise_for_failure(completed, case.head)
    raise _failure(argv, completed)


async def _rendered(
    case: Case, check: Check, command: Command, spec: RenderSpec, chart: Chart
) -> tuple[Release, bytes] | Proved:
    """helm's own rendering as the release it would be: of ``helm template``, or of the verb's server-side dry run;
    the refusal where the chart's guard has ended it. Raises: ProgramFailed."""
    derived = command
    if spec.verb != "template":
        flags = tuple(flag for flag in command.flags if flag.name not in _RENDER_DROPS)
        derived = replace(command, flags=(*flags, Flag("dry-run", ("server",)), Flag("output", ("json",))))
    stdin = canonical(case.decision.documents) if case.decision.documents else None
    approved = case.policy.derive(case.decision, derived.argv(), stdin=stdin, output=Output(head="raw"))
    completed = await case.run_own(approved)
    if completed.exit_code != 0:
        if SAID.encode() in completed.stderr:
            reason = f"chart {chart.name} runs a text as a template that calls what no template may, such as lookup"
            return Proved(failed(check, reason, WAY_OUT))
        raise_for_failure(completed, case.head)
        raise _failure(derived.argv(), completed)
    try:
        if spec.verb != "template":
            return read_dry_run(json.loads(completed.stdout)), completed.stdout
        objects = read_objects(completed.stdout.decode())
    except ValueError as error:
        raise ProgramFailed(f"helm's rendering cannot be read: {error}") from error
    release = Release(spec.release, spec.namespace, chart.name, chart.version, 0, "", objects)
    return release, completed.stdout


async def _judge(case: Case, check: Check, spec: RenderSpec, release: Release) -> Proved:
    judgement = judge_release(release, scope=case.scope, manifests=case.policy.grounds.manifest)
    case.release.warnings = tuple(f"{warning.path}: {warning.reason}" for warning in judgement.warnings)
    if judgement.violations:
        first = judgement.violations[0]
        at = Place(document=first.document, path=first.path)
        return Proved(failed(check, f"{first.path}: {first.reason}", first.hint, at))
    if spec.verb == "template":
        return Proved(passed(check, f"{len(release.everything)} objects rendered and judged"))
    for need in judgement.needs:
        if reason := await unmet(case, need):
            return Proved(failed(check, reason, "let the chart make it"))
    return await _against_cluster(case, check, spec, release)


async def _against_cluster(case: Case, check: Check, spec: RenderSpec, release: Release) -> Proved:
    """What is installed must be absent or already this release's; an upgrade that drops objects needs ``full``."""
    standing: list[tuple[Resource, Mapping[str, Any]]] = []
    emptied: list[Document] = []
    for document in release.documents:
        entry = case.resources.for_object(document.api_version, document.kind)
        if entry is None:
            return Proved(failed(check, f"the kind {document.kind} is not one that may be written"))
        namespace = (document.namespace or spec.namespace) if entry.resource.namespaced else None
        before = await case.cluster.get(entry.resource, namespace, document.name)
        if before is None and (reason := await adopted(case, document, namespace)):
            return Proved(failed(check, reason, "give the release's pods a label of their own"))
        if before is not None and not _is_of(before, spec):
            return Proved(
                failed(
                    check,
                    f"{document.kind} {document.name} exists and is not the release {spec.release}'s",
                    "give the release's objects another name: --set fullnameOverride=NAME, NAME one of "
                    f"{', '.join(sorted(case.scope.known_cluster_objects()))}",
                )
            )
        if before is not None:
            standing.append((entry.resource, before))
            emptied += [document] if leaves_nothing(before, document.body) else []
    current = case.release.before if spec.verb == "upgrade" else None
    lost = dropped(current, release.documents) if current is not None else ()
    result = passed(check, f"{len(release.everything)} objects rendered and judged")
    if lost:
        names = ", ".join(f"{document.kind} {document.name}" for document in lost)
        result = passed(check, f"the upgrade drops {names}", Access.FULL)
    elif emptied:
        names = ", ".join(f"{document.kind} {document.name}" for document in emptied)
        result = passed(check, f"the upgrade can leave no pods of {names}", Access.FULL)
    return Proved(result, afterwards=lambda: still_there(case, standing))


def _is_of(body: Mapping[str, Any], spec: RenderSpec | ReleaseSpec) -> bool:
    annotations = (body.get("metadata") or {}).get("annotations") or {}
    return (
        annotations.get("meta.helm.sh/release-name") == spec.release
        and annotations.get("meta.helm.sh/release-namespace") == spec.namespace
    )


async def _compare(case: Case, spec: RenderSpec | ReleaseSpec, judged: Release) -> Difference | None:
    """What helm stored that was not judged, and how to take it back: the revision before, or nothing installed."""
    release = await stored(case, spec.release, spec.namespace)
    if release is None or release.revision <= case.revision:
        return None  # the command failed before it stored anything
    found = differences(judged.documents, release.documents)
    if not found:
        return None
    if isinstance(spec, ReleaseSpec):
        # A revision that somebody wrote into in between: going back would delete what they named in it.
        return Difference("; ".join(found))
    back = f"rollback {spec.release} {release.revision - 1}" if release.revision > 1 else f"uninstall {spec.release}"
    return Difference("; ".join(found), f"helm {back} --namespace={spec.namespace}")


def _context(case: Case) -> tuple[str, ...]:
    context = case.head.value("kube-context")
    return (f"--kube-context={context}",) if context else ()


def _failure(argv: Sequence[str], completed: Completed) -> ProgramFailed:
    said = completed.stderr.decode("utf-8", "replace").strip()[:600]
    return ProgramFailed(f"{' '.join(argv[:3])} failed: {said}", "mend what helm names; nothing was written")
