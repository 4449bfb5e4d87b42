"""``obi_k8s_deploy`` and ``obi_k8s_undeploy``: OBI into a cluster, and out of it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from obi_mcp.config import Settings
from obi_mcp.errors import Denied, InvalidArgument
from obi_mcp.obi.bodies import Object
from obi_mcp.obi.manifests.labels import MANAGED_BY
from obi_mcp.policy.model import Access
from obi_mcp.toolsets.base import Schema, Services, ToolCall, ToolResult, ToolSpec
from obi_mcp.toolsets.kubernetes.generate import INSTALL, judged, refuse_harm, requested_install, requested_sidecar
from obi_mcp.toolsets.kubernetes.objects import Target, holds_a_secret, list_of, look_up
from obi_mcp.toolsets.kubernetes.place import PLACE, Place, name
from obi_mcp.toolsets.kubernetes.plan import Plan, Plans, Step, Undo, make_plan
from obi_mcp.toolsets.kubernetes.planned import SECOND_CALL, plan_or_carry_out
from obi_mcp.toolsets.kubernetes.schema import arguments, result

if TYPE_CHECKING:
    from obi_mcp.obi.manifests.sidecar import Sidecar

DEPLOY = "obi_k8s_deploy"
UNDEPLOY = "obi_k8s_undeploy"
_REMOVED = (
    ("daemonsets", "DaemonSet"),
    ("deployments", "Deployment"),
    ("services", "Service"),
    ("configmaps", "ConfigMap"),
    ("poddisruptionbudgets", "PodDisruptionBudget"),
    ("networkpolicies", "NetworkPolicy"),
    ("serviceaccounts", "ServiceAccount"),
)
_REMOVED_FROM_CLUSTER = (("clusterrolebindings", "ClusterRoleBinding"), ("clusterroles", "ClusterRole"))


def deploy_spec(settings: Settings, plans: Plans) -> ToolSpec:
    """The tool that installs."""

    async def run(services: Services, call: ToolCall) -> ToolResult:
        return await plan_or_carry_out(plans, DEPLOY, services, call, _plan_deployment)

    mode: Schema = {"type": "string", "enum": ["daemonset", "sidecar"], "default": "daemonset"}
    own: dict[str, Schema] = {
        "context": PLACE["context"],
        "mode": mode,
        **INSTALL,
        "deployment": {"type": "string", "maxLength": 253, "description": "For a sidecar."},
        "open_port": {"type": "string", "maxLength": 512, "description": "For a sidecar."},
    }
    return ToolSpec(
        name=DEPLOY,
        title="Deploy OBI to a cluster",
        description=(
            "First call: a plan with the server-side diff and an id; nothing is written. Called again with plan_id: "
            "applies exactly that, waits, and takes it back if it fails. Use obi_k8s_preflight before."
        ),
        input_schema=arguments({**own, **SECOND_CALL}),
        output_schema=result("plan_id", "string", changes={"type": "array"}, applied={"type": "boolean"}),
        run=run,
        needs=Access.NON_DESTRUCTIVE,
        reaches=Access.NON_DESTRUCTIVE,
    )


def undeploy_spec(plans: Plans) -> ToolSpec:
    """The tool that removes."""

    async def run(services: Services, call: ToolCall) -> ToolResult:
        return await plan_or_carry_out(plans, UNDEPLOY, services, call, _plan_removal)

    own: dict[str, Schema] = {
        **PLACE,
        "name": {"type": "string", "maxLength": 63, "default": "obi"},
        "deployment": {"type": "string", "maxLength": 253, "description": "For a sidecar."},
    }
    return ToolSpec(
        name=UNDEPLOY,
        title="Remove an OBI deployment",
        description=(
            "Removes what obi_k8s_deploy made under that name, and nothing else, by a plan as there. "
            "For a Helm release use obi_helm."
        ),
        input_schema=arguments({**own, **SECOND_CALL}),
        output_schema=result("plan_id", "string", changes={"type": "array"}, applied={"type": "boolean"}),
        run=run,
        needs=Access.FULL,
        reaches=Access.FULL,
    )


async def _plan_deployment(services: Services, call: ToolCall) -> Plan | ToolResult:
    from obi_mcp.obi.manifests.json_form import body_of
    from obi_mcp.obi.manifests.objects import installed_objects

    if call.arguments.get("mode", "daemonset") == "sidecar":
        return await _plan_sidecar(services, call)
    place = Place.of(DEPLOY, call)
    install = requested_install(services, call.arguments)
    warnings = judged(install)
    bodies = [body_of(thing) for thing in installed_objects(install)]
    refuse_harm(services, place.call("kubectl apply -f -", stdin=list_of(bodies)))  # before anything is read
    space = Target("Namespace", install.namespace, None)
    live = await look_up(services, place, space)
    if live is not None:
        bodies = [body for body in bodies if body["kind"] != "Namespace"]  # it may be somebody else's, and it is there
    befores = {Target.of(body): await look_up(services, place, Target.of(body)) for body in bodies}
    kept = _kept(services, befores)
    if install.cache:
        look = f"kubectl rollout status deployment/{install.cache_name} -n {install.namespace} --timeout=60s"
        kept.append(f"only the agents are waited for, not the k8s-cache that they ask: {look}")
    step = Step("kubectl apply -f -", tuple(befores), list_of(bodies), dry=live is not None)
    watched = Target("DaemonSet", install.name, install.namespace)
    return await make_plan(services, place, [step], warnings=[*warnings, *kept], watched=watched)


async def _plan_sidecar(services: Services, call: ToolCall) -> Plan:
    from obi_mcp.obi.manifests.sidecar import removal_command, sidecar_command

    place = Place.of(DEPLOY, call)
    given = call.arguments
    for needed in ("deployment", "open_port"):
        if needed not in given:
            raise InvalidArgument(
                f"mode sidecar needs {needed}", "name the Deployment and the ports of its application"
            )
    sidecar = requested_sidecar(given)
    target = Target("Deployment", sidecar.deployment, sidecar.namespace)
    live = await _application(services, place, target)
    refuse_harm(services, place.call(sidecar_command(sidecar)))
    pod = live["spec"]["template"]["spec"] if live is not None else {}
    generations = {target: int(live["metadata"].get("generation", 0)) if live is not None else 0}
    shared = bool(pod.get("shareProcessNamespace"))
    undo = (Undo(removal_command(sidecar.deployment, sidecar.namespace, shared=shared)),)
    step = Step(sidecar_command(sidecar), (target,), undo=undo, generations=generations)
    return await make_plan(services, place, [step], warnings=_given(sidecar), watched=target)


def _given(sidecar: Sidecar) -> list[str]:
    """What the diff does not show: of what is somebody else's it is projected."""
    from obi_mcp.obi.manifests.sidecar import sidecar_patch

    (container,) = sidecar_patch(sidecar)["spec"]["template"]["spec"]["containers"]
    security = container["securityContext"]
    may = "is privileged" if security.get("privileged") else f"has {', '.join(security['capabilities']['add'])}"
    to = f", and sends to {sidecar.otlp_endpoint}" if sidecar.otlp_endpoint else ""
    return [f"the container {container['name']} {may}{to}; it sees the processes of the others in its pod"]


async def _plan_removal(services: Services, call: ToolCall) -> Plan | ToolResult:
    place = Place.of(UNDEPLOY, call)
    namespace = place.namespace or services.settings.scope.default_namespace
    if "deployment" in call.arguments:
        target = Target("Deployment", name(call.arguments["deployment"], "deployment"), namespace)
        return await _plan_sidecar_removal(services, place, target)
    label = name(call.arguments.get("name", "obi"), "name")
    mark = f"app.kubernetes.io/part-of=obi,app.kubernetes.io/managed-by={MANAGED_BY},app.kubernetes.io/instance={label}"
    targets: list[Target] = []
    for plural, kind in (*_REMOVED, *_REMOVED_FROM_CLUSTER):
        where = f" -n {namespace}" if (plural, kind) in _REMOVED else ""
        reading = await services.enforcer.read(place.call(f"kubectl get {plural}{where} -l '{mark}' -o json"))
        targets += [Target.of(body) for body in reading.objects]
    if not targets:
        text = f"nothing in {namespace} carries the mark of a deployment {label} by obi_k8s_deploy"
        return ToolResult({"plan_id": "", "changes": [], "applied": False}, text)
    steps = [Step(f"kubectl delete {target.words}", (target,)) for target in targets]
    stays = f"the namespace {namespace} stays, and whatever is in it that obi_k8s_deploy did not make"
    return await make_plan(services, place, steps, warnings=[stays])


async def _application(services: Services, place: Place, target: Target) -> Object | None:
    """The Deployment of an application. Raises: Denied, which names the setting where nobody said that OBI instruments
    the namespace: the policy's own words are about OBI's namespaces, which a sidecar is not about."""
    try:
        return await look_up(services, place, target)
    except Denied as refusal:
        if target.namespace in services.settings.scope.instrumented_namespaces:
            raise
        reason = f"the namespace {target.namespace} is not in scope.instrumented_namespaces"
        hint = "whoever runs the server can list it there: then OBI's container can be added to its Deployments"
        raise Denied(replace(refusal.decision, reason=reason, hint=hint)) from refusal


async def _plan_sidecar_removal(services: Services, place: Place, target: Target) -> Plan | ToolResult:
    """Takes OBI's container away from the others."""
    from obi_mcp.obi.manifests.sidecar import CONTAINER, removal_command

    live = await _application(services, place, target)
    pod = live["spec"]["template"]["spec"] if live is not None else {}
    if not any(container.get("name") == CONTAINER for container in pod.get("containers") or ()):
        text = f"{target} has no container {CONTAINER}"
        return ToolResult({"plan_id": "", "changes": [], "applied": False}, text)
    command = removal_command(target.name, str(target.namespace))
    stays = "the Deployment stays, with its own containers; their pods restart"
    back = f"kubectl rollout undo {target.words}"
    # Of what is somebody else's this server sees no environment, so it cannot write the container again.
    alone = f"if its pods do not become ready without OBI, its owner puts it back: {back}"
    generations = {target: int(live["metadata"].get("generation", 0)) if live is not None else 0}
    step = Step(command, (target,), generations=generations, by_hand=back)
    return await make_plan(services, place, [step], warnings=[stays, alone], watched=target)


def _kept(services: Services, befores: Mapping[Target, Object | None]) -> list[str]:
    """What could not be taken back if the rest fails."""
    hidden = [str(target) for target, before in befores.items() if before is not None and holds_a_secret(before)]
    kept = [f"{target} holds a credential: if it is changed it cannot be put back" for target in hidden]
    made = [target for target, before in befores.items() if before is None and target.kind != "Namespace"]
    if made and services.settings.access < Access.FULL:
        kept.append(
            f"what is new ({len(made)} objects) could not be removed again if it fails: deleting needs --access full"
        )
    return kept
