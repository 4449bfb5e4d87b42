"""Which processes a v1 configuration instruments, as the ordered rules of v2.

Without a selector v1 instruments nothing and v2 everything, so the default action is always written. Exclusions come
first: with ``first_match_wins`` any of them wins, as it does in v1. The last matching selector wins in v1, so
inclusions are written in reverse. Rules replace v2's built-in exclusions, so v1's are written out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from obi_mcp.obi.source import Source

_POLICY = "~.capture.policy"
_PROCESS = {"exe_path": "exe_path_glob", "languages": "language_glob", "cmd_args": "cmd_args_glob"}
_MAPS = {"k8s_pod_labels": "pod_labels", "k8s_pod_annotations": "pod_annotations"}
# OBI's own exclusions, as its documented migration writes them.
_OWN = "{*/obi,obi,*otelcol,*otelcol-contrib,*otelcol-contrib[!/]*}"
_SYSTEM = (
    "kube-system",
    "kube-node-lease",
    "local-path-storage",
    "cert-manager",
    "monitoring",
    "gke-connect",
    "gke-gmp-system",
    "gke-managed-cim",
    "gke-managed-filestorecsi",
    "gke-managed-metrics-server",
    "gke-managed-system",
    "gke-system",
    "gke-managed-volumepopulator",
    "gatekeeper-system",
)
_EXCLUSIONS = (
    "discovery.exclude_instrument",
    "discovery.default_exclude_instrument",
    "discovery.exclude_otel_instrumented_services",
    "discovery.default_otlp_grpc_port",
)
_REGULAR = ("discovery.services", "discovery.exclude_services", "executable_path", "executable_name")


def move_selectors(source: Source) -> bool:
    """Writes the policy and its rules. Gives whether the document selects any process."""
    regular = [key for key in _REGULAR if source.peek(key)]
    included = _globs(source, "discovery.instrument")
    fallback = _fallback(source)
    selected = bool(included or fallback or regular)
    source.put(f"{_POLICY}.default_action", "exclude")
    if regular:
        source.note(f"{', '.join(regular)} could not be moved: the rules select less than the document did")
    if not included and not fallback:
        taken = [source.take(key) for key in _EXCLUSIONS]
        if any(value is not None for value in taken):
            source.note("exclusions were left out: nothing is included that they could exclude")
        return selected
    source.put(f"{_POLICY}.match_order", "first_match_wins")
    rules = [_rule("exclude", match) for match in _excluded(source)]
    rules += _otlp(source)
    mixed = {name for name in ("exports", "routes") if 0 < sum(name in each for each in included) < len(included)}
    rules += [_refined(source, selector, mixed) for selector in reversed(included)]
    if included and not any(included):
        source.take("discovery.instrument")
    if fallback:
        # The lowest precedence: behind everything that discovery.instrument says.
        rules.append(_rule("include", {"process": fallback}))
    source.put("~.capture.rules", rules)
    return selected


def _fallback(source: Source) -> dict[str, Any]:
    """``open_port`` and ``target_pids``: one selector of their own."""
    process: dict[str, Any] = {}
    port = source.take("open_port")
    if port is not None:
        process["open_ports"] = str(port)
    pids = _pids(source.peek("target_pids"))
    if pids:
        process["target_pids"] = pids
        source.take("target_pids")
    return process


def _pids(value: Any) -> list[int] | None:
    """Process ids as numbers; None for ranges and variables, which v2 does not take."""
    items = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else [value]
    numbers = [str(item).strip() for item in items]
    return (
        [int(number) for number in numbers]
        if all(number.isascii() and number.isdigit() for number in numbers)
        else None
    )


def _excluded(source: Source) -> list[dict[str, Any]]:
    matches = [_match(source, selector) for selector in _globs(source, "discovery.exclude_instrument")]
    defaults = source.peek("discovery.default_exclude_instrument")
    if defaults is None:
        matches += [{"process": {"exe_path_glob": [_OWN]}}, {"kubernetes": {"namespace_glob": list(_SYSTEM)}}]
    else:
        matches += [_match(source, selector) for selector in _globs(source, "discovery.default_exclude_instrument")]
        if not any(defaults):
            source.take("discovery.default_exclude_instrument")
    return [match for match in matches if match]


def _otlp(source: Source) -> list[dict[str, Any]]:
    """Services that export OTLP themselves are left alone, unless the document says otherwise."""
    port = source.take("discovery.default_otlp_grpc_port")
    if source.take("discovery.exclude_otel_instrumented_services") is False:
        return []
    return [_rule("exclude", {"process": {"exports_otlp": {"port": port or 4317, "protocol": "protobuf"}}})]


def _refined(source: Source, selector: dict[str, Any], mixed: set[str]) -> dict[str, Any]:
    """An include rule with what the selector says besides whom it selects.

    ``mixed``: what some selectors say and others do not. v1 lets them add to each other, v2 lets one rule win.
    """
    rule = _rule("include", _match(source, selector))
    refine: dict[str, Any] = {}
    exports = selector.get("exports")
    if isinstance(exports, list) and "logs" not in exports and "exports" not in mixed:
        refine["exports"] = {signal: signal in exports for signal in ("traces", "metrics")}
        del selector["exports"]
    routes = selector.get("routes")
    if isinstance(routes, dict) and "routes" not in mixed and not source.peek("routes.patterns"):
        refine["http"] = {"routes": {direction: {"patterns": patterns} for direction, patterns in routes.items()}}
        del selector["routes"]
    if refine:
        rule["refine"] = refine
    source.keep("discovery.instrument", "rules of v2 cannot say this of a single selector")
    return rule


def _match(source: Source, selector: dict[str, Any]) -> dict[str, Any]:
    """What a selector matches, taken from it: what stays in it was not moved."""
    process: dict[str, Any] = {}
    kubernetes: dict[str, Any] = {}
    if "open_ports" in selector:
        process["open_ports"] = str(selector.pop("open_ports"))
    if "target_pids" in selector:
        process["target_pids"] = selector.pop("target_pids")
    if selector.pop("containers_only", False):
        process["containers_only"] = True
    for key, name in _PROCESS.items():
        if key in selector:
            process[name] = [selector.pop(key)]
    if "k8s_namespace" in selector:
        kubernetes["namespace_glob"] = [selector.pop("k8s_namespace")]
    for key, name in _MAPS.items():
        if key in selector:
            kubernetes[name] = {label: [glob] for label, glob in selector.pop(key).items()}
    metadata = {key: [selector.pop(key)] for key in list(selector) if key.startswith("k8s_")}
    if metadata:
        kubernetes["metadata_glob"] = metadata
    return {name: part for name, part in (("process", process), ("kubernetes", kubernetes)) if part}


def _rule(action: str, match: dict[str, Any]) -> dict[str, Any]:
    return {"action": action, "match": match}


def _globs(source: Source, key: str) -> list[dict[str, Any]]:
    """The selectors of a list, still in the document: what is taken out of them is moved."""
    selectors = source.peek(key)
    if not isinstance(selectors, list):
        return []
    return [selector for selector in selectors if isinstance(selector, dict)]
