"""What the TypeScript obi-mcp (raibid-labs/obi-mcp) called its tools' arguments, and what they are here.

Source of fact: its source (``src/toolsets/*/tools/*.ts``). Sixteen of its nineteen tools have the same name here; the
others are aliases of today's. docs/migration.md has the table for people, and a test holds it against this one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from obi_mcp.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class Rule:
    """What becomes of one argument. The first rule of an argument whose ``when`` holds counts.

    ``to``: its name today, the value made by ``made``; several at once where ``spread`` makes them. Neither: it is left
    out. ``says``: what the notice adds. ``refused``: the way out, where there is no counterpart.
    """

    old: str
    to: str = ""
    when: Callable[[Any], bool] = lambda value: True
    made: Callable[[Any], Any] = lambda value: value
    spread: Callable[[Any], Mapping[str, Any]] | None = None
    says: str = ""
    refused: str = ""
    tool: str = ""
    """Another tool that does it."""


def _is(*values: object) -> Callable[[Any], bool]:
    return lambda value: any(value is one or (isinstance(one, str) and value == one) for one in values)


def _object(value: Any) -> bool:
    return isinstance(value, dict)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _config_text(value: Mapping[str, Any]) -> str:
    """A configuration as text in OBI's own form, whichever it was in."""
    from obi_mcp.obi.migration import detect, migrate

    text = json.dumps(value)
    if detect(text) != "ts-obi-mcp":
        return text
    moved = migrate(text, source="ts-obi-mcp")
    if moved.unmoved:
        left = "; ".join(f"{one.key}: {one.reason}" for one in moved.unmoved)
        raise InvalidArgument(f"a part of config has no counterpart in OBI ({left})", "leave it out")
    return moved.text


def _patch(value: Mapping[str, Any]) -> Mapping[str, Any]:
    from obi_mcp.obi.config_text import read_config

    return read_config(_config_text(value)).data or {}


def _endpoint(value: str) -> Mapping[str, Any]:
    return {"patch": {name: {"endpoint": value} for name in ("otel_metrics_export", "otel_traces_export")}}


_MEMORY = re.compile(r"(\d{1,6})([mg])i?b?", re.IGNORECASE)


def _memory(value: Mapping[str, Any]) -> int:
    match = _MEMORY.fullmatch(str(value.get("memory", "")))
    if match is None:
        raise InvalidArgument(f"resources is {value!r}"[:120], "give memory_mib, like 512; there is no limit of CPUs")
    return int(match[1]) * (1024 if match[2].lower() == "g" else 1)


_VERBOSE = Rule("verbose", says="the answer always has everything")
_KUBECONFIG = Rule("kubeconfig", refused="the operator names it, by --kubeconfig; a call chooses by context")
_DRY_RUN = (
    Rule("dryRun", when=_is(True), says="a call without plan_id never writes"),
    Rule("dryRun", when=_is(False), says="this call gives a plan; call again with its plan_id"),
)
_WAITS = (
    Rule("wait", says="the second call waits, as long as its wait_s says"),
    Rule("timeout", when=_text, says="wait_s of the second call is it, in seconds"),
)
_CONFIG = Rule("config", "config", when=_object, made=_config_text, says="it is text now, and in OBI's own form")
_ENDPOINT = Rule("otlpEndpoint", "otlp_endpoint")
_RESOURCES = tuple(
    Rule(name, refused="environment has its own; change them in what obi_k8s_generate_daemonset writes")
    for name in ("resourcesLimitMemory", "resourcesLimitCpu", "resourcesRequestMemory", "resourcesRequestCpu")
)
_CHART = Rule(
    "chart",
    when=lambda value: isinstance(value, str) and value.startswith("oci://"),
    refused="the operator names repositories, by scope.repositories: give REPO/NAME, or leave it out for the own chart",
)
_VALUES = Rule(
    "values", "values", when=_object, made=json.dumps, says="it is text now, for the chart that is used here"
)
_CONTAINER = (
    Rule("targetPort", "open_port", made=str),
    Rule("network", when=_is("host"), says="the container gets what it needs to see the host"),
    Rule("network", when=_text, refused="OBI cannot see the host from there; leave it out"),
    _ENDPOINT,
    Rule(
        "resources",
        "memory_mib",
        when=lambda value: _object(value) and "cpus" not in value,
        made=_memory,
    ),
    Rule("resources", refused="give memory_mib, like 512; there is no limit of CPUs"),
)

RULES: Mapping[str, tuple[Rule, ...]] = {
    "obi_get_status": (_VERBOSE,),
    "obi_deploy_local": (
        _CONFIG,
        Rule("configPath", "config_path"),
        Rule("binaryPath", refused="the operator names the program, by local.binary"),
    ),
    "obi_update_config": (
        Rule("config", "patch", when=_object, made=_patch, says="in OBI's own form"),
        Rule("merge", when=_is(True), says="a change is always merged"),
        Rule("merge", refused="give null in patch for what has to go, or obi_deploy_local the whole configuration"),
        Rule("restart", "restart", when=_is(True), made=lambda value: "auto"),
        Rule("restart", "restart", when=_is(False), made=lambda value: "never"),
    ),
    "obi_get_logs": (
        Rule(
            "lines", "tail", made=lambda value: min(value, 500) if isinstance(value, int) else value, says="up to 500"
        ),
        Rule("level", when=_is("all"), says="without it there is no filter"),
        Rule("level", "level", when=_is("debug", "info", "warn", "error"), made=str.upper),
    ),
    "obi_stop": (
        Rule(
            "force", "timeout_s", when=_is(True), made=lambda value: 0, says="KILL comes that many seconds after TERM"
        ),
        Rule("force", says="TERM comes first, and KILL after timeout_s"),
    ),
    "obi_k8s_deploy": (
        Rule("imageTag", "version"),
        _ENDPOINT,
        *_DRY_RUN,
        *_RESOURCES,
        _KUBECONFIG,
    ),
    "obi_k8s_status": (_VERBOSE, _KUBECONFIG),
    "obi_k8s_logs": (
        Rule("podName", "pod", tool="obi_k8s_get_pod_logs"),
        Rule("timestamps", says="every record has its time"),
        _KUBECONFIG,
    ),
    "obi_k8s_config": (
        Rule("config", "patch", when=_object, made=_patch, says="merged in depth; in OBI's own form"),
        Rule("otlpEndpoint", when=_text, spread=_endpoint),
        Rule("merge", when=_is(True), says="patch is merged"),
        Rule("merge", refused="give the whole configuration as config, a text"),
        Rule("restart", says="the pods restart when the plan is carried out, and the change is undone if they fail"),
        _KUBECONFIG,
    ),
    "obi_k8s_upgrade": (
        Rule("imageTag", "version"),
        Rule("image", refused="the repository stays; for another one use obi_k8s_deploy"),
        Rule("waitForRollout", says="the second call waits, as long as its wait_s says"),
        _KUBECONFIG,
    ),
    "obi_k8s_undeploy": (
        Rule("keepConfig", when=_is(False), says="it goes, too"),
        Rule("keepConfig", refused="read it with obi_k8s_config first, and give it to obi_k8s_deploy again"),
        Rule("deleteRbac", when=_is(True), says="it goes, too"),
        Rule("deleteRbac", refused="what obi_k8s_deploy made goes as a whole"),
        Rule("deleteNamespace", when=_is(False), says="it always stays"),
        Rule("deleteNamespace", refused="the namespace stays: who runs the cluster removes it"),
        _KUBECONFIG,
    ),
    "obi_docker_deploy": (
        _CONFIG,
        Rule("configPath", refused="give the text of the file as config"),
        *_CONTAINER,
        Rule("mode", when=_is("standalone"), says="it always is"),
        Rule("mode", refused="obi_docker_generate_compose writes the file"),
    ),
    "obi_docker_status": (_VERBOSE,),
    "obi_docker_logs": (
        Rule("lines", "tail"),
        Rule("level", "level", when=_is("info", "warn", "error"), made=str.upper),
        Rule("follow", when=_is(False), says="it never does"),
        Rule("follow", refused="call again with since"),
    ),
    "obi_docker_stop": (
        Rule("force", says="TERM comes first, and KILL after the engine's grace"),
        Rule("removeVolumes", says="OBI's container has none"),
    ),
    "obi_docker_generate_compose": (
        *_CONTAINER,
        Rule("includeCollector", when=_is(False), says="there is none"),
        Rule(
            "includeCollector", refused="add the collector's service to the file by hand, and name it by otlp_endpoint"
        ),
        Rule("exportEndpoint", refused="it belongs into the collector's own configuration"),
        Rule("volumes", refused="give the host's paths as mounts, a list; they are read-only"),
    ),
    "obi_helm_install": (
        _VALUES,
        _CHART,
        Rule("createNamespace", "create_namespace"),
        *_WAITS,
    ),
    "obi_helm_upgrade": (
        _VALUES,
        _CHART,
        Rule("reuseValues", "reuse_values"),
        Rule("install", when=_is(False), says="it never does"),
        Rule("install", says="a release that is not there yet is obi_helm_install's"),
        *_WAITS,
    ),
}
"""By today's name of the tool."""

ALIASES: Mapping[str, str] = {
    "obi_docker_compose": "obi_docker_generate_compose",
    "obi_k8s_helm_install": "obi_helm_install",
    "obi_k8s_helm_upgrade": "obi_helm_upgrade",
}
"""Its names that are others today."""

DEFAULTS: Mapping[str, Mapping[str, tuple[Any, str]]] = {
    "obi_update_config": {"restart": ("never", "it did not restart OBI by itself; give restart: auto")},
}
"""What an argument that was not given meant, where it means something else today: in calls in the old form only."""
