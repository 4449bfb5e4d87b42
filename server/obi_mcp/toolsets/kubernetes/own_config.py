"""The configuration that a workload of OBI's mounts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from obi_mcp.errors import NotFound
from obi_mcp.obi.bodies import Object, at
from obi_mcp.toolsets.base import Services
from obi_mcp.toolsets.kubernetes.objects import Target, look_up
from obi_mcp.toolsets.kubernetes.place import Place
from obi_mcp.toolsets.kubernetes.survey import image_of, version_of

if TYPE_CHECKING:
    from obi_mcp.obi.finding import ConfigFinding


@dataclass(frozen=True, slots=True)
class OwnConfig:
    """``text`` is what stands in the ``key`` of the config map ``target``."""

    target: Target
    key: str
    text: str

    def findings(self, workload: Object) -> tuple[ConfigFinding, ...]:
        """What is wrong with it for the version of the workload and the variables that its container sets."""
        from obi_mcp.obi.config import validate

        version = version_of(image_of(workload["spec"]["template"]["spec"])).removeprefix("v")
        return validate(self.text, version=version, environment=_variables(workload))


async def config_of(services: Services, place: Place, workload: Object) -> OwnConfig:
    """The configuration in the config map that the workload mounts. Raises: NotFound, also where it mounts none."""
    own = await mounted_config(services, place, workload)
    if own is None:
        reason = "it mounts none: its configuration is in its variables"
        raise NotFound("OBI's config map", str(workload["metadata"]["namespace"]), reason)
    return own


async def mounted_config(services: Services, place: Place, workload: Object) -> OwnConfig | None:
    """The same; None where it mounts none. Raises: NotFound where it mounts one that is gone."""
    namespace = str(workload["metadata"]["namespace"])
    gone: str | None = None
    for volume in at(workload, "spec", "template", "spec", "volumes") or ():
        mounted = (volume.get("configMap") or {}).get("name")
        if not mounted:
            continue
        target = Target("ConfigMap", str(mounted), namespace)
        body = await look_up(services, place, target)
        if body is None:
            gone = f"it mounts {mounted}, which is not there, or is not OBI's"
            continue
        for key, text in (body.get("data") or {}).items():
            if key.endswith((".yml", ".yaml")):
                return OwnConfig(target, key, str(text))
    if gone is not None:
        raise NotFound("OBI's config map", namespace, gone)
    return None


def _variables(workload: Object) -> Mapping[str, str] | None:
    """Those of the first container; where the cluster gives a value, the name stands for it."""
    containers: Sequence[Object] = at(workload, "spec", "template", "spec", "containers") or ({},)
    given = {str(one.get("name")): str(one.get("value") or one.get("name")) for one in containers[0].get("env") or ()}
    return given or None
