"""OBI beside somebody else's container: the strategic merge patch that adds it and nothing more."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from obi_mcp.obi.capabilities import Feature, needed
from obi_mcp.obi.manifests import kinds as k
from obi_mcp.obi.manifests.install import ENDPOINT_VARIABLE, REPOSITORY, VERSION, expanded_by_kubernetes
from obi_mcp.obi.manifests.json_form import plain
from obi_mcp.policy.manifest.environment import is_beyla

CONTAINER = "obi"
_SEEN = (Feature.APPLICATION,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sidecar:
    """What the sidecar instruments and where it sends to. ``open_port`` as OBI takes it: ``8080``, ``80,8000-8999``.

    It is configured by environment alone: a config map of OBI's would have to stand in the other's namespace.
    """

    deployment: str
    namespace: str
    open_port: str
    image: str = f"{REPOSITORY}:{VERSION}"
    otlp_endpoint: str | None = None
    prometheus_port: int | None = None
    privileged: bool = False
    env: Mapping[str, str] = field(default_factory=dict)


def sidecar_patch(sidecar: Sidecar) -> dict[str, Any]:
    """The body of ``kubectl patch deployment … --type strategic``."""
    spec = {"shareProcessNamespace": True, "containers": [plain(_container(sidecar))]}
    return {"spec": {"template": {"spec": spec}}}


def sidecar_command(sidecar: Sidecar) -> str:
    """The command line that adds it."""
    return patch_command(sidecar.deployment, sidecar.namespace, sidecar_patch(sidecar))


def removal_command(deployment: str, namespace: str, *, shared: bool = False) -> str:
    """The command line that takes it away again. ``shared``: the pods shared their processes before, too."""
    spec: dict[str, Any] = {"containers": [{"name": CONTAINER, "$patch": "delete"}]}
    if not shared:
        spec["shareProcessNamespace"] = None
    return patch_command(deployment, namespace, {"spec": {"template": {"spec": spec}}})


def patch_command(deployment: str, namespace: str, patch: Mapping[str, Any]) -> str:
    """The command line of a strategic merge patch; whatever stands in the patch is one word of it."""
    text = json.dumps(patch).replace("'", "\\u0027")
    return f"kubectl patch deployment {deployment} -n {namespace} --type strategic -p '{text}'"


def with_sidecar(deployment: Mapping[str, Any], sidecar: Sidecar) -> dict[str, Any]:
    """The whole Deployment as it would be, the patch merged into a copy of ``deployment`` (JSON data)."""
    template = deployment["spec"]["template"]
    kept = [entry for entry in template["spec"]["containers"] if entry.get("name") != CONTAINER]
    patched = sidecar_patch(sidecar)["spec"]["template"]["spec"]
    pod = {**template["spec"], **patched, "containers": [*kept, *patched["containers"]]}
    return {**deployment, "spec": {**deployment["spec"], "template": {**template, "spec": pod}}}


def _prefix(image: str) -> str:
    """How the variables of the program in that image begin: Beyla's have its own name."""
    return "BEYLA" if is_beyla(image) else "OTEL_EBPF"


def _container(sidecar: Sidecar) -> k.Container:
    prefix = _prefix(sidecar.image)
    env = {f"{prefix}_OPEN_PORT": sidecar.open_port}
    ports: tuple[k.ContainerPort, ...] = ()
    if sidecar.otlp_endpoint is not None:
        env[ENDPOINT_VARIABLE] = expanded_by_kubernetes(sidecar.otlp_endpoint)
    if sidecar.prometheus_port is not None:
        env[f"{prefix}_PROMETHEUS_PORT"] = str(sidecar.prometheus_port)
        ports = (k.ContainerPort(name="obi-metrics", container_port=sidecar.prometheus_port),)
    if not ports and sidecar.otlp_endpoint is None:
        env[f"{prefix}_TRACE_PRINTER"] = "text"
    host_ip = k.EnvVar(name="HOST_IP", value_from=k.ValueFrom(field_ref=k.FieldRef(field_path="status.hostIP")))
    security = k.SecurityContext(
        run_as_user=0,
        read_only_root_filesystem=True,
        capabilities=k.Capabilities(add=needed(_SEEN).capabilities, drop=("ALL",)),
    )
    return k.Container(
        name=CONTAINER,
        image=sidecar.image,
        env=(host_ip, *(k.EnvVar(name=name, value=value) for name, value in {**env, **sidecar.env}.items())),
        ports=ports,
        resources=k.Resources(requests={"cpu": "50m", "memory": "512Mi"}, limits={"memory": "1Gi"}),
        security_context=k.SecurityContext(privileged=True) if sidecar.privileged else security,
    )
