"""``obi_helm_install``, ``obi_helm_upgrade``, ``obi_helm_rollback`` and ``obi_helm_uninstall``: releases, by a plan."""

from __future__ import annotations

import json
import re
from dataclasses import replace

from obi_mcp.errors import Conflict, NotFound
from obi_mcp.policy.model import Access
from obi_mcp.toolsets.base import Schema, Services, ToolCall, ToolResult, ToolSpec
from obi_mcp.toolsets.helm.carry_out import carry_out_release
from obi_mcp.toolsets.helm.plan import ReleasePlan, Verb, release_plan
from obi_mcp.toolsets.helm.release import (
    RELEASE,
    Stored,
    chart_words,
    place_of,
    release_of,
    run,
    state_named,
    stored,
    viewed,
)
from obi_mcp.toolsets.helm.values import VALUES, Wanted, requested_values
from obi_mcp.toolsets.kubernetes.place import Place
from obi_mcp.toolsets.kubernetes.plan import Plans, Step, judged
from obi_mcp.toolsets.kubernetes.planned import SECOND_CALL, Make, plan_or_carry_out
from obi_mcp.toolsets.kubernetes.schema import arguments, result

INSTALL = "obi_helm_install"
UPGRADE = "obi_helm_upgrade"
ROLLBACK = "obi_helm_rollback"
UNINSTALL = "obi_helm_uninstall"
_CHART: dict[str, Schema] = {
    "chart": {"type": "string", "maxLength": 128, "description": "Of the chart store, or REPO/NAME with version."},
    "version": {"type": "string", "maxLength": 128},
    "preset": VALUES["preset"],
    "values": VALUES["values"],
}
_PLAN = result("plan_id", "string", changes={"type": "array"}, applied={"type": "boolean"})
_ALIASES = {INSTALL: ("obi_k8s_helm_install",), UPGRADE: ("obi_k8s_helm_upgrade",)}
_GONE_BACK_TO = ("deployed", "superseded")
# helm calls a failed revision superseded as soon as there is another.
_FAILED = re.compile(r'(Release|Upgrade|Rollback) ".*" failed')
_BACK = re.compile(r"Rollback to (\d+)")


def install_spec(plans: Plans) -> ToolSpec:
    """The tool for a new release."""
    own: dict[str, Schema] = {**RELEASE, **_CHART, "create_namespace": {"type": "boolean", "default": False}}
    return _spec(
        plans,
        INSTALL,
        _plan_install,
        title="Install OBI's chart",
        description=(
            "First call: a plan of what helm would make, with an id; nothing is written. Second call with plan_id: does"
            " exactly that and waits for the pods. Values for a platform come from obi_helm_generate_values."
        ),
        own=own,
        level=Access.NON_DESTRUCTIVE,
    )


def upgrade_spec(plans: Plans) -> ToolSpec:
    """The tool for another chart version or other values."""
    own: dict[str, Schema] = {
        **RELEASE,
        **_CHART,
        "reuse_values": {"type": "boolean", "default": True, "description": "Keep the release's own under these."},
    }
    return _spec(
        plans,
        UPGRADE,
        _plan_upgrade,
        title="Upgrade OBI's release",
        description=(
            "Plans other values or another chart version of a release, as a diff; called again with plan_id it does "
            "that, waits for the pods, and rolls back if they do not become ready."
        ),
        own=own,
        level=Access.NON_DESTRUCTIVE,
    )


def rollback_spec(plans: Plans) -> ToolSpec:
    """The tool for an earlier revision."""
    own: dict[str, Schema] = {
        **RELEASE,
        "revision": {"type": "integer", "minimum": 1, "description": "Default: the last good one before."},
    }
    return _spec(
        plans,
        ROLLBACK,
        _plan_rollback,
        title="Roll OBI's release back",
        description=(
            "Plans the way back to an earlier revision (obi_helm_history lists them); with plan_id it goes there. Also "
            "the way out of a pending upgrade."
        ),
        own=own,
        level=Access.FULL,
    )


def uninstall_spec(plans: Plans) -> ToolSpec:
    """The tool that removes a release."""
    return _spec(
        plans,
        UNINSTALL,
        _plan_uninstall,
        title="Uninstall OBI's release",
        description=(
            "Plans the removal of a release with all that it made; with plan_id alone it removes it. For what "
            "obi_k8s_deploy made use obi_k8s_undeploy."
        ),
        own=dict(RELEASE),
        level=Access.FULL,
    )


def _spec(
    plans: Plans, tool: str, make: Make, *, title: str, description: str, own: dict[str, Schema], level: Access
) -> ToolSpec:
    async def run_tool(services: Services, call: ToolCall) -> ToolResult:
        return await plan_or_carry_out(plans, tool, services, call, make, carry=carry_out_release)

    return ToolSpec(
        name=tool,
        title=title,
        description=description,
        input_schema=arguments({**own, **SECOND_CALL}),
        output_schema=_PLAN,
        run=run_tool,
        needs=level,
        reaches=level,
        aliases=_ALIASES.get(tool, ()),
    )


async def _plan_install(services: Services, call: ToolCall) -> ReleasePlan:
    given, place, release = call.arguments, place_of(INSTALL, services, call), release_of(call)
    wanted = requested_values(services, {**given, "namespace": place.namespace})
    command = f"helm install {release} {chart_words(given, 'obi')} -n {place.namespace}"
    if given.get("create_namespace"):
        command += " --create-namespace"
    step = await _judged_step(services, place, command, wanted)
    if (there := await stored(services, place, release)) is not None:
        raise Conflict(
            f"the release {release} is there already: revision {there.release.revision}, {there.release.status}",
            f"use {UPGRADE}" if there.release.status == "deployed" else state_named(there.release.status).way_out,
        )
    return await _rendered_plan(services, place, "install", release=release, step=step, wanted=wanted)


async def _plan_upgrade(services: Services, call: ToolCall) -> ReleasePlan:
    given, place, release = call.arguments, place_of(UPGRADE, services, call), release_of(call)
    wanted = requested_values(services, {**given, "namespace": place.namespace})
    now = await _existing(services, place, release)
    _refuse_pending(now)
    command = f"helm upgrade {release} {chart_words(given, now.release.chart)} -n {place.namespace}"
    command += " --reset-then-reuse-values" if given.get("reuse_values", True) else " --reset-values"
    step = await _judged_step(services, place, command, wanted)
    return await _rendered_plan(services, place, "upgrade", release=release, step=step, wanted=wanted)


async def _judged_step(services: Services, place: Place, command: str, wanted: Wanted) -> Step:
    """The command with its values, as the policy takes it by its text. Raises: Denied."""
    stdin = wanted.document or None
    step = Step(f"{command} --values -" if stdin else command, (), stdin)
    await judged(services, place, step.command, step.stdin)
    return step


async def _rendered_plan(
    services: Services, place: Place, verb: Verb, *, release: str, step: Step, wanted: Wanted
) -> ReleasePlan:
    """The plan from what helm renders. Raises: as ``run`` and ``release_plan``."""
    answer = await run(services, place, f"{step.command} --dry-run=client -o json", step.stdin)
    warnings = [f"{caution.text} ({caution.source})" for caution in wanted.warnings]
    return await release_plan(services, place, verb, release=release, step=step, view=viewed(answer), warnings=warnings)


async def _plan_rollback(services: Services, call: ToolCall) -> ReleasePlan:
    place, release = place_of(ROLLBACK, services, call), release_of(call)
    now = await _existing(services, place, release)
    revision = call.arguments.get("revision") or await _last_good(services, place, now)
    command = f"helm rollback {release} {revision} -n {place.namespace}"
    await judged(services, place, command)
    answer = await run(services, place, f"{command} --dry-run=client")
    step = Step(command, ())
    plan = await release_plan(services, place, "rollback", release=release, step=step, view=viewed(answer))
    return replace(plan, more={"back_to": revision, **plan.more})


async def _plan_uninstall(services: Services, call: ToolCall) -> ReleasePlan:
    place, release = place_of(UNINSTALL, services, call), release_of(call)
    command = f"helm uninstall {release} -n {place.namespace}"
    await judged(services, place, command)
    await _existing(services, place, release)
    answer = await run(services, place, f"helm get metadata {release} -n {place.namespace} -o json")
    stays = f"the namespace {place.namespace} stays, and the release's history goes: nothing can roll this back"
    step = Step(command, ())
    return await release_plan(
        services, place, "uninstall", release=release, step=step, view=viewed(answer), warnings=[stays]
    )


async def _existing(services: Services, place: Place, release: str) -> Stored:
    """Raises: NotFound."""
    now = await stored(services, place, release)
    if now is None:
        raise NotFound(f"release {release}", place.namespace, "helm list -A lists OBI's releases")
    return now


def _refuse_pending(now: Stored) -> None:
    """Raises: Conflict where helm would take no upgrade."""
    if now.pending:
        state = state_named(now.release.status)
        raise Conflict(f"the release {now.release.name} is {now.release.status}: {state.means}", state.way_out)


async def _last_good(services: Services, place: Place, now: Stored) -> int:
    """The last revision before this one that was deployed, and was not gone back from. Raises: NotFound."""
    answer = await run(services, place, f"helm history {now.release.name} -n {place.namespace} --max 1000 -o json")
    rows = {int(row["revision"]): row for row in json.loads(answer.stdout)}
    before = now.release.revision
    while (back := _BACK.match(str(rows.get(before, {}).get("description", "")))) and int(back[1]) < before:
        before = int(back[1])  # it is that revision again
    good = [
        number
        for number, row in rows.items()
        if number < before and row["status"] in _GONE_BACK_TO and not _FAILED.match(str(row["description"]))
    ]
    if not good:
        raise NotFound(
            f"an earlier good revision of {now.release.name}",
            place.namespace,
            f"{UNINSTALL} removes a release that never was deployed",
        )
    return max(good)
