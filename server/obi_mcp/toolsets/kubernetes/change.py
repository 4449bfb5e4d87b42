"""``obi_k8s_config`` and ``obi_k8s_upgrade``: another configuration, another version, by a plan."""

from __future__ import annotations

import json
import re

from obi_mcp.errors import InvalidArgument, InvalidDocument, NotFound
from obi_mcp.obi.bodies import Object
from obi_mcp.policy.model import Access
from obi_mcp.toolsets.base import Schema, Services, ToolCall, ToolResult, ToolSpec
from obi_mcp.toolsets.kubernetes.objects import Target, holds_a_secret, look_up
from obi_mcp.toolsets.kubernetes.own_config import config_of
from obi_mcp.toolsets.kubernetes.place import PLACE, Place, name
from obi_mcp.toolsets.kubernetes.plan import Plan, Plans, Step, make_plan
from obi_mcp.toolsets.kubernetes.planned import SECOND_CALL, plan_or_carry_out
from obi_mcp.toolsets.kubernetes.schema import arguments, either, result
from obi_mcp.toolsets.kubernetes.survey import image_of, version_of

CONFIG = "obi_k8s_config"
UPGRADE = "obi_k8s_upgrade"
MAX_CONFIG = 262_144
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_NAMED: dict[str, Schema] = {**PLACE, "name": {"type": "string", "maxLength": 253, "default": "obi"}}


def config_spec(plans: Plans) -> ToolSpec:
    """The tool for OBI's configuration."""

    async def run(services: Services, call: ToolCall) -> ToolResult:
        if not {"config", "patch", "plan_id"} & set(call.arguments):
            return await _read(services, call)
        return await plan_or_carry_out(plans, CONFIG, services, call, _plan_config)

    own: dict[str, Schema] = {
        **_NAMED,
        "config": {"type": "string", "maxLength": MAX_CONFIG, "description": "Whole new YAML."},
        "patch": {"type": "object", "description": "JSON merge patch."},
    }
    return ToolSpec(
        name=CONFIG,
        title="OBI's configuration in a cluster",
        description=(
            "Without config and patch: reads it. With one: a validated plan; called again with plan_id it writes, "
            "restarts the pods, and takes it back if they do not become ready."
        ),
        input_schema=arguments({**own, **SECOND_CALL}),
        output_schema=either("config_map", "plan_id"),
        run=run,
        reaches=Access.NON_DESTRUCTIVE,
    )


def upgrade_spec(plans: Plans) -> ToolSpec:
    """The tool for another version."""

    async def run(services: Services, call: ToolCall) -> ToolResult:
        return await plan_or_carry_out(plans, UPGRADE, services, call, _plan_upgrade)

    own: dict[str, Schema] = {**_NAMED, "version": {"type": "string", "maxLength": 128, "description": "Image tag."}}
    return ToolSpec(
        name=UPGRADE,
        title="Upgrade OBI in a cluster",
        description=(
            "Plans another version of OBI's DaemonSet; called again with plan_id it rolls out, and back if the pods "
            "do not become ready. For a Helm release use obi_helm."
        ),
        input_schema=arguments({**own, **SECOND_CALL}),
        output_schema=result("plan_id", "string", changes={"type": "array"}, applied={"type": "boolean"}),
        run=run,
        needs=Access.NON_DESTRUCTIVE,
        reaches=Access.NON_DESTRUCTIVE,
    )


async def _read(services: Services, call: ToolCall) -> ToolResult:
    place = Place.of(CONFIG, call)
    workload = await _workload(services, place, call)
    own = await config_of(services, place, workload)
    findings = [str(finding) for finding in own.findings(workload)]
    structured = {"config_map": str(own.target), "key": own.key, "config": own.text, "findings": findings}
    return ToolResult(structured, "\n".join([f"{own.target}, {own.key}:", own.text, *findings]))


async def _plan_config(services: Services, call: ToolCall) -> Plan:
    from obi_mcp.obi.config import validate
    from obi_mcp.obi.edit import merge_patch

    given, place = call.arguments, Place.of(CONFIG, call)
    if "config" in given and "patch" in given:
        raise InvalidArgument("config and patch are both given", "give the whole new configuration, or a patch of it")
    workload = await _workload(services, place, call)
    own = await config_of(services, place, workload)
    target, key, old = own.target, own.key, own.text
    new = given["config"] if "config" in given else merge_patch(old, given["patch"]).text
    findings = validate(new, version=_version_of(workload))
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        raise InvalidDocument(
            f"OBI's configuration: {errors[0]}", "the one that runs was not touched", line=errors[0].line
        )
    daemons = Target.of({**workload, "kind": "DaemonSet"})
    restart = f"kubectl rollout restart {daemons.words}"
    steps = [Step(_patch(target, key, new), (target,)), Step(restart, (daemons,), dry=False)]
    warnings = [str(finding) for finding in findings]
    if holds_a_secret({"old": old}):
        raise InvalidDocument(
            "the configuration holds a credential, which this server neither shows nor writes",
            "move it into a secret that scope.allowed_secrets names, and refer to it by a variable",
        )
    if _by_helm(workload):
        warnings.append("Helm installed this: helm refuses to write over what another has set: upgrade the release")
    return await make_plan(services, place, steps, warnings=warnings, watched=daemons)


async def _plan_upgrade(services: Services, call: ToolCall) -> Plan:
    from obi_mcp.obi.config import validate

    given, place = call.arguments, Place.of(UPGRADE, call)
    version = given.get("version")
    if version is None:
        raise InvalidArgument(f"{UPGRADE} needs the version", "give version, an image tag such as v0.12.2")
    if not _TAG.fullmatch(version):
        raise InvalidArgument(f"{version[:80]!r} is no version", "give version, an image tag such as v0.12.2")
    workload = await _workload(services, place, call)
    target = Target.of({**workload, "kind": "DaemonSet"})
    container = workload["spec"]["template"]["spec"]["containers"][0]
    repository = str(container["image"]).partition("@")[0]
    if ":" in repository.rpartition("/")[2]:
        repository = repository.rpartition(":")[0]
    image = f"{repository}:{version}"
    command = f"kubectl set image {target.kind.lower()}/{target.name} {container['name']}={image} -n {target.namespace}"
    warnings = []
    try:
        own = await config_of(services, place, workload)
        found = validate(own.text, version=version.removeprefix("v"))
        warnings = [f"{own.key} on {version}: {finding}" for finding in found]
    except NotFound:
        pass  # configured by variables alone
    if _by_helm(workload):
        warnings.append("Helm installed this: upgrade the release instead, or the next helm upgrade undoes it")
    return await make_plan(services, place, [Step(command, (target,))], warnings=warnings, watched=target)


async def _workload(services: Services, place: Place, call: ToolCall) -> Object:
    namespace = place.namespace or services.settings.scope.default_namespace
    target = Target("DaemonSet", name(call.arguments.get("name", "obi"), "name"), namespace)
    body = await look_up(services, place, target)
    if body is None:
        raise NotFound(f"daemonsets/{target.name}", namespace, "obi_k8s_status lists what there is")
    return body


def _patch(target: Target, key: str, text: str) -> str:
    """The command line that writes that key and nothing else."""
    document = json.dumps({"data": {key: text}}).replace("'", "\\u0027")
    return f"kubectl patch {target.words} --type merge -p '{document}'"


def _version_of(workload: Object) -> str:
    return version_of(image_of(workload["spec"]["template"]["spec"])).removeprefix("v")


def _by_helm(workload: Object) -> bool:
    labels = workload["metadata"].get("labels") or {}
    return bool(labels.get("app.kubernetes.io/managed-by") == "Helm")
