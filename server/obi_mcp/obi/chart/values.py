"""The values with which the chart makes what ``obi.manifests`` makes of the same installation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from obi_mcp.errors import InvalidDocument
from obi_mcp.obi.config_text import read_config
from obi_mcp.obi.manifests.install import Install
from obi_mcp.obi.manifests.json_form import body_of
from obi_mcp.obi.manifests.objects import daemon_set
from obi_mcp.obi.manifests.own_config import own_config
from obi_mcp.policy.shipped import shipped_charts
from obi_mcp.policy.values import read_values

CHART = "obi"
_SAID = ("config", "privileged", "capabilities", "hostNetwork", "resources")
_WHOLE = frozenset({"affinity", "config", "env", "nodeSelector", "resources", "updateStrategy"})
"""Values that are one thing: what the chart has in them by default, and the caller's do not, is taken out."""


@cache
def shipped_text(path: str) -> str:
    """The text of a file of the chart that ships with the server."""
    return (shipped_charts() / CHART / path).read_text("utf-8")


def defaults() -> dict[str, Any]:
    """The chart's own values."""
    return read_values(shipped_text("values.yaml"))


def app_version() -> str:
    """The version of OBI that the chart installs when its values name none."""
    return str(read_values(shipped_text("Chart.yaml"))["appVersion"])


def chart_version() -> str:
    """The version of the chart itself."""
    return str(read_values(shipped_text("Chart.yaml"))["version"])


def values_of(install: Install) -> dict[str, Any]:
    """Every value that the installation decides. The release is to be called ``install.name``.

    Raises: InvalidDocument for a configuration that is no mapping.
    """
    body = body_of(daemon_set(install))["spec"]
    pod = body["template"]["spec"]
    container = pod["containers"][0]
    config = _config(install)
    return {
        "image": {
            "repository": install.repository,
            "tag": "" if install.version == app_version() else install.version,
            "digest": install.digest,
        },
        "imagePullSecrets": pod.get("imagePullSecrets", []),
        "fullnameOverride": "" if CHART in install.name else install.name,
        "config": config,
        "env": install.variables,
        **_security(container["securityContext"]),
        "hostNetwork": pod.get("hostNetwork", False),
        **_exposed(install, config),
        "k8sCache": _cache(install),
        "resources": container["resources"],
        "updateStrategy": body["updateStrategy"],
        "terminationGracePeriodSeconds": pod["terminationGracePeriodSeconds"],
        "nodeSelector": pod["nodeSelector"],
        "tolerations": pod.get("tolerations", []),
    }


def overrides(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What is to be said beside the chart's defaults to get these values; null takes a default away, as helm has it.

    What a reader looks for is said even where it is the default.
    """
    before = defaults()
    return {**_difference(before, wanted), **{key: _stated(before[key], wanted[key]) for key in _SAID if key in wanted}}


def _difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in after.items():
        old = before.get(key)
        if old == value and key in before:
            continue
        if not (isinstance(value, Mapping) and isinstance(old, Mapping)):
            found[key] = value
        elif key in _WHOLE:
            found[key] = _stated(old, value)
        elif below := _difference(old, value):
            found[key] = below
    return found


def _stated(before: Any, after: Any) -> Any:
    """The whole value, and null for what the default has and it has not."""
    if not (isinstance(before, Mapping) and isinstance(after, Mapping)):
        return after
    said = {key: _stated(before.get(key), value) for key, value in after.items()}
    return {**said, **{key: None for key in before if key not in after}}


def _config(install: Install) -> dict[str, Any]:
    """Without the address of the k8s-cache: the chart puts in the one of its own namespace."""
    if install.config is None:
        return own_config(replace(install, cache=False))
    data = read_config(install.config).data
    if not isinstance(data, dict):
        raise InvalidDocument("OBI's configuration is no mapping", "give the text of a configuration, v1 or v2")
    return data


def _security(context: Mapping[str, Any]) -> dict[str, Any]:
    if context.get("privileged"):
        return {"privileged": True}
    return {"privileged": False, "capabilities": context["capabilities"]["add"]}


def metrics_port(config: Mapping[str, Any]) -> int | None:
    """The port on which the chart takes OBI to serve its metrics, by a configuration of v1."""
    exporter = config.get("prometheus_export")
    port = exporter.get("port") if isinstance(exporter, Mapping) else None
    return port if isinstance(port, int) and not isinstance(port, bool) and port > 0 else None


def _exposed(install: Install, config: Mapping[str, Any]) -> dict[str, Any]:
    port = metrics_port(config)
    served = install.service and port is not None
    service: dict[str, Any] = {"enabled": served, **({} if port is None else {"port": port})}
    return {"service": service, "serviceMonitor": {"enabled": served and install.service_monitor}}


def _cache(install: Install) -> dict[str, Any]:
    if not install.cache:
        return {"enabled": False}
    return {
        "enabled": True,
        "replicas": 2 if install.production else 1,
        "image": {"repository": install.cache_repository},
    }
