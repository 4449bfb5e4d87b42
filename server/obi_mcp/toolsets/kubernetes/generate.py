"""``obi_k8s_generate_daemonset`` and ``obi_k8s_generate_sidecar``: manifests as text; nothing is written anywhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

from obi_mcp.config import Settings
from obi_mcp.enforcer.model import Call
from obi_mcp.errors import Denied, InvalidArgument, InvalidDocument
from obi_mcp.obi.capabilities import Feature, needed
from obi_mcp.obi.manifests.install import REPOSITORY, VERSION, Environment, Format, Install
from obi_mcp.policy.yaml_writer import to_yaml
from obi_mcp.toolsets.base import SHARED, Schema, Services, ToolCall, ToolResult, ToolSpec
from obi_mcp.toolsets.kubernetes.objects import list_of
from obi_mcp.toolsets.kubernetes.place import name
from obi_mcp.toolsets.kubernetes.schema import arguments, result

if TYPE_CHECKING:
    from obi_mcp.obi.manifests.sidecar import Sidecar

# What makes the objects is imported by what needs it: a server that lists its tools does not.

DAEMONSET = "obi_k8s_generate_daemonset"
SIDECAR = "obi_k8s_generate_sidecar"
MAX_CONFIG = 262_144
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_PORTS = re.compile(r"[0-9]{1,5}(-[0-9]{1,5})?(,[0-9]{1,5}(-[0-9]{1,5})?)*")
_TEXT: Schema = {"type": "string", "maxLength": 512}
_PORT: Schema = {"type": "integer", "minimum": 1, "maximum": 65535}

FEATURES: Schema = {
    "type": "array",
    "items": {"type": "string"},
    "description": "As in obi_k8s_generate_daemonset.",
}
INSTALL: dict[str, Schema] = {
    "environment": {"type": "string", "enum": [str(entry) for entry in Environment], "default": "production"},
    "features": FEATURES,
    "name": {"type": "string", "maxLength": 63, "default": "obi"},
    "namespace": {"type": "string", "maxLength": 63, "description": SHARED["namespace"]},
    "image": {**_TEXT, "description": "Default: upstream's."},
    "version": {**_TEXT, "default": VERSION},
    "otlp_endpoint": {**_TEXT, "description": "URL; ${HOST_IP}: the node."},
    "prometheus_port": {**_PORT, "default": 9090},
    "privileged": {"type": "boolean", "default": False},
    "config": {"type": "string", "maxLength": MAX_CONFIG, "description": "OBI's YAML; default: made for the features."},
    "k8s_cache": {"type": "boolean", "default": False},
    "service_monitor": {"type": "boolean", "default": False},
}
"""What an installation may be told: the arguments of ``requested_install``."""


def daemonset_spec(settings: Settings) -> ToolSpec:
    """The tool for OBI on every node."""
    properties: dict[str, Schema] = {
        **INSTALL,
        "features": {
            "type": "array",
            "items": {"type": "string", "enum": [str(feature) for feature in Feature]},
            "default": ["application"],
        },
        "format": {"type": "string", "enum": [str(form) for form in Format], "default": "yaml"},
    }
    return ToolSpec(
        name=DAEMONSET,
        title="Manifests for OBI on every node",
        description=(
            "Writes the manifests of an OBI DaemonSet with the least capabilities for the features; applies nothing. "
            "To install use obi_k8s_deploy."
        ),
        input_schema=arguments(properties),
        output_schema=result("files", "object"),
        run=_run_daemonset,
        open_world=False,
    )


def sidecar_spec(settings: Settings) -> ToolSpec:
    """The tool for OBI beside one container."""
    properties: dict[str, Schema] = {
        "deployment": {"type": "string", "maxLength": 253, "minLength": 1},
        "namespace": {"type": "string", "maxLength": 63, "minLength": 1},
        "open_port": {**_TEXT, "description": "Like 80,8000-8999."},
        "image": {**_TEXT, "description": "Default: upstream's."},
        "version": {**_TEXT, "default": VERSION},
        "otlp_endpoint": _TEXT,
        "prometheus_port": _PORT,
        "privileged": {"type": "boolean", "default": False},
    }
    return ToolSpec(
        name=SIDECAR,
        title="Patch for OBI as a sidecar",
        description=(
            "Writes the patch that puts OBI beside the containers of one Deployment, and the command for it; applies "
            "nothing. For whole nodes use obi_k8s_generate_daemonset."
        ),
        input_schema=arguments(properties, ("deployment", "namespace", "open_port")),
        output_schema=result("files", "object", command={"type": "string"}),
        run=_run_sidecar,
        open_world=False,
    )


async def _run_daemonset(services: Services, call: ToolCall) -> ToolResult:
    from obi_mcp.obi.manifests.json_form import body_of
    from obi_mcp.obi.manifests.objects import installed_objects
    from obi_mcp.obi.manifests.render import PLACEHOLDER, render

    given = call.arguments
    install = requested_install(services, given)
    notes = judged(install)
    form = Format(given.get("format", "yaml"))
    objects = installed_objects(install)
    names = frozenset(thing.metadata.name for thing in objects)
    document = list_of([body_of(thing) for thing in objects])
    applied = Call("kubectl apply -f - --dry-run=server", DAEMONSET, stdin=document, caller=call.caller)
    refuse_harm(services, applied, (install.namespace, names))
    files = render(install, form)
    if form in {Format.ARGOCD, Format.FLUX, Format.HELMRELEASE}:
        notes.append(f"replace {PLACEHOLDER.url} by the repository that holds the folder {PLACEHOLDER.path}/")
    if install.namespace not in services.settings.scope.namespaces:
        notes.append(f"{install.namespace} is not in scope.namespaces: this server would refuse to apply it")
    return _files(files, notes, [thing.kind for thing in objects])


async def _run_sidecar(services: Services, call: ToolCall) -> ToolResult:
    from obi_mcp.obi.manifests.sidecar import sidecar_command, sidecar_patch

    given = call.arguments
    sidecar = requested_sidecar(given)
    notes = []
    if sidecar.namespace not in services.settings.scope.instrumented_namespaces:
        notes.append(f"{sidecar.namespace} is not in scope.instrumented_namespaces: this server would refuse the patch")
    command = sidecar_command(sidecar)
    refuse_harm(
        services, Call(f"{command} --dry-run=server", SIDECAR, caller=call.caller), (sidecar.namespace, frozenset())
    )
    made = _files({"sidecar-patch.yaml": to_yaml(sidecar_patch(sidecar))}, notes, ["Deployment (patch)"])
    return ToolResult({**made.structured, "command": command}, made.text)


def refuse_harm(services: Services, call: Call, elsewhere: tuple[str, AbstractSet[str]] | None = None) -> None:
    """Holds what is to be written to the policy, by its text. Raises: Denied.

    ``elsewhere``: a namespace and names of cluster-wide objects that are taken to be in scope, for what is written down
    for somebody else.
    """
    road = services.enforcer
    decision = road.explain_elsewhere(call, *elsewhere) if elsewhere is not None else road.explain(call)
    if not decision.allowed:
        raise Denied(decision)


def requested_install(services: Services, given: Mapping[str, Any]) -> Install:
    """The installation that these arguments ask for. Raises: InvalidArgument."""
    return Install(
        name=name(given.get("name", "obi"), "name"),
        namespace=name(given.get("namespace", services.settings.scope.default_namespace), "namespace"),
        environment=Environment(given.get("environment", "production")),
        features=requested_features(given),
        repository=given.get("image", REPOSITORY),
        version=_version(given),
        otlp_endpoint=_endpoint(given),
        prometheus_port=given.get("prometheus_port", 9090),
        privileged=given.get("privileged", False),
        config=given.get("config"),
        cache=given.get("k8s_cache", False),
        service_monitor=given.get("service_monitor", False),
    )


def requested_features(given: Mapping[str, Any]) -> tuple[Feature, ...]:
    """The features that these arguments name. Raises: InvalidArgument."""
    named = list(dict.fromkeys(given.get("features", ["application"])))
    known = ", ".join(Feature)
    if not named:
        raise InvalidArgument("features is empty", f"name at least one of {known}")
    for text in named:
        if text not in set(Feature):
            raise InvalidArgument(f"{str(text)[:80]!r} is no feature", f"name some of {known}")
    return tuple(Feature(text) for text in named)


def requested_sidecar(given: Mapping[str, Any]) -> Sidecar:
    """The sidecar that these arguments ask for. Raises: InvalidArgument."""
    from obi_mcp.obi.manifests.sidecar import Sidecar

    if not _PORTS.fullmatch(given["open_port"]):
        raise InvalidArgument(f"{given['open_port'][:80]!r} is no list of ports", "write 8080, or 80,443,8000-8999")
    return Sidecar(
        deployment=name(given["deployment"], "deployment"),
        namespace=name(given.get("namespace", ""), "namespace"),
        open_port=given["open_port"],
        image=f"{given.get('image', REPOSITORY)}:{_version(given)}",
        otlp_endpoint=_endpoint(given),
        prometheus_port=given.get("prometheus_port"),
        privileged=given.get("privileged", False),
    )


def _endpoint(given: Mapping[str, Any]) -> str | None:
    endpoint: str | None = given.get("otlp_endpoint")
    if endpoint is not None and not endpoint.strip():
        raise InvalidArgument("otlp_endpoint is empty", "give a URL such as http://${HOST_IP}:4318, or leave it out")
    return endpoint


def _version(given: Mapping[str, Any]) -> str:
    version = str(given.get("version", VERSION))
    if not _TAG.fullmatch(version):
        raise InvalidArgument(f"{version[:80]!r} is no version", "an image tag such as v0.11.0")
    return version


def judged(install: Install) -> list[str]:
    """Notes about the configuration. Raises: InvalidDocument where OBI would not do what is asked."""
    from obi_mcp.obi.config import validate
    from obi_mcp.obi.manifests.objects import config_text

    findings = validate(
        config_text(install),
        # None: what else the cluster gives nobody knows; a variable of ours is known.
        environment=install.variables or None,
        version=None if install.beyla else install.version.removeprefix("v"),
        program="beyla" if install.beyla else "obi",
    )
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        raise InvalidDocument(f"OBI's configuration: {errors[0]}", "mend it, or leave config out", line=errors[0].line)
    notes = [str(finding) for finding in findings]
    wanted = needed(install.features)
    if install.privileged:
        notes.append(f"privileged: {', '.join(wanted.capabilities)} would be enough for {', '.join(install.features)}")
    else:
        notes += [f"{fact.cause}: {', '.join(fact.capabilities)} ({fact.source}: {fact.why})" for fact in wanted.facts]
    return notes


def _files(files: Mapping[str, str], notes: list[str], kinds: list[str]) -> ToolResult:
    text = "\n".join([f"made, not applied: {', '.join(files)}: {', '.join(kinds)}", *notes, *files.values()])
    return ToolResult({"files": dict(files), "notes": notes}, text)
