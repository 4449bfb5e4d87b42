"""The predicates of the closed schema by name: each takes (value, argument, path, inspection) and reports.

Predicates on leaves look at the type themselves; checks on whole objects run only after everything below has passed.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from obi_mcp.policy.image import is_obi_image
from obi_mcp.policy.manifest.findings import Inspection, Mode, shown

if TYPE_CHECKING:
    from obi_mcp.policy.manifest.walk import Check

_DNS_NAME = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*"
_DNS_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_LABEL_KEY = rf"({_DNS_NAME}/)?[A-Za-z0-9]([A-Za-z0-9._-]{{0,61}}[A-Za-z0-9])?"
_LABEL_VALUE = r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?"
_QUANTITY = r"[0-9]{1,15}(\.[0-9]{1,9})?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?"
_PERCENT = r"([0-9]|[1-9][0-9]|100)%"
_PORT_NAME = r"[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?"
_METRICS_PATH = r"/[A-Za-z0-9._/-]{0,127}"
_CONFIG_KEY = r"[A-Za-z0-9._-]{1,248}\.ya?ml"
_ADDRESS = r"[0-9a-fA-F:.]{2,45}"


def _matches(pattern: str, value: Any, length: int = 4096) -> bool:
    return isinstance(value, str) and len(value) <= length and re.fullmatch(pattern, value) is not None


def _whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _refuse(inspection: Inspection, value: Any, path: str, wanted: str, rule: str = "value") -> None:
    inspection.violate(rule, f"{path} is {shown(value)}, not {wanted}", path, f"write {wanted}")


# --- plain values ---


def boolean(value: Any, _of: Any, path: str, inspection: Inspection) -> None:
    """true or false."""
    if not isinstance(value, bool):
        _refuse(inspection, value, path, "true or false")


def must_be_false(value: Any, _of: Any, path: str, inspection: Inspection) -> None:
    """false, for what OBI's objects never switch on."""
    if value is not False:
        _refuse(inspection, value, path, "false")


def integer(value: Any, of: Any, path: str, inspection: Inspection) -> None:
    """A whole number between the two of ``of``."""
    if not _whole(value, of[0], of[1]):
        _refuse(inspection, value, path, f"a whole number from {of[0]} to {of[1]}")


def text(value: Any, of: Any, path: str, inspection: Inspection) -> None:
    """A string of at most ``of`` characters."""
    if not isinstance(value, str) or len(value) > of:
        _refuse(inspection, value, path, f"a string of at most {of} characters")


def enum(value: Any, of: Any, path: str, inspection: Inspection) -> None:
    """One of the strings of ``of``."""
    if not isinstance(value, str) or value not in of:
        _refuse(inspection, value, path, " or ".join(shown(allowed) for allowed in of))


def matches(value: Any, of: Any, path: str, inspection: Inspection) -> None:
    """A string that the pattern ``of`` matches as a whole."""
    if not _matches(of, value):
        _refuse(inspection, value, path, f"a string like {of}")


def quantity(value: Any, _of: Any, path: str, inspection: Inspection) -> None:
    """An amount: ``100m``, ``512Mi``, 2."""
    number = (
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and 0 <= value < 1e15
    )
    if not number and not _matches(_QUANTITY, value, 32):
        _refuse(inspection, value, path, "an amount like 100m or 512Mi")


def int_or_percent(value: Any, _of: Any, path: str, inspection: Inspection) -> None:
    """A count of pods, or a share of them."""
    if not _whole(value, 0, 10_000) and not _matches(_PERCENT, value, 4):
        _refuse(inspection, value, path, "a count or a percentage")


def port(value: Any, _of: Any, path: str, inspection: Inspection) -> None:
    """A port number."""
    if not _whole(value, 1, 65535):
        _refuse(inspection, value, path, "a port number")


def port_or_name(value: Any, _of: Any, path: str, inspection: Inspection) -> None:
    """A port number, or the name of a container's port."""
    if not _whole(value, 1, 65535) and not _matches(_PORT_NAME, value, 15):
        _refuse(inspection, value, path, "a port number or a port's name")


def file_mode(value: Any, _of: Any, path: str, inspection: Inspection) -> None:
    """Permission bits."""
    if not _whole(value, 0, 0o777):
        _refuse(inspection, value, path, "permissions like 0644")


def dns_name(value: Any, _of: Any, path: str, inspection: Inspection) -> None:
    """A name of an object."""
    if not _matches(_DNS_NAME, value, 253):
        _refuse(inspection, value, path, "a name of lower-case letters, digits, '-' and '.'")


def dns_label(value: Any, _of: Any, path: str, inspection: Inspection) -> None:
    """A name without dots."""
    if not _matches(_DNS_LABEL, value, 63):
        _refuse(inspection, value, path, "a name of lower-case letters, digits and '-'")


def metrics_path(value: Any, _of: Any, path: str, inspection: Inspection) -> None:
    """The path of a URL: no query, no host."""
    if not _matches(_METRICS_PATH, value) or "//" in value or ".." in value:
        _refuse(inspection, value, path, "a path like /metrics")


def cluster_ip(value: Any, _of: Any, path: str, inspection: Inspection) -> None:
    """None or nothing; the API server chooses the address."""
    stored = inspection.mode is Mode.STORED and _matches(_ADDRESS, value)
    if value not in ("", "None") and not stored:
        _refuse(inspection, value, path, "None; leave the address to the API server")


# --- labels ---


def label_key(value: Any, of: Any, path: str, inspection: Inspection) -> None:
    """A key of ``of``, or one that the scope's selectors name."""
    if value not in of and value not in inspection.label_keys:
        from difflib import get_close_matches

        near = get_close_matches(str(value)[:80], of, n=1)
        hint = (
            f"did you mean {near[0]}? otherwise remove it" if near else "remove it, or use app.kubernetes.io/component"
        )
        inspection.violate(
            "label", f"the label {shown(value)} is not on the list: admission webhooks act on labels", path, hint
        )


def label_syntax(value: Any, _of: Any, path: str, inspection: Inspection) -> None:
    """Any well-formed key."""
    if not _matches(_LABEL_KEY, value, 317):
        _refuse(inspection, value, path, "a label key")


def label_value(value: Any, _of: Any, path: str, inspection: Inspection) -> None:
    """A well-formed value; numbers and bools must be quoted."""
    if not _matches(_LABEL_VALUE, value, 63):
        _refuse(inspection, value, path, "a label value: a string of at most 63 letters, digits, '-', '_' and '.'")


# --- what is OBI's ---


def obi_image(value: Any, _of: Any, path: str, inspection: Inspection) -> None:
    """An image of the scope."""
    if not is_obi_image(value, inspection.scope):
        digests = " by one of the configured digests" if inspection.scope.image_digests else ""
        inspection.violate(
            "image",
            f"the image {shown(value, 120)} is not OBI's",
            path,
            f"use {inspection.scope.images[0]}{digests}, or have it added to scope.images"
            if inspection.scope.images
            else "no images are configured: scope.images is empty",
        )


def allowed_secret(value: Any, _of: Any, path: str, inspection: Inspection) -> None:
    """A secret that the configuration lists, as NAME or NAMESPACE/NAME."""
    allowed = inspection.scope.allowed_secrets
    if not isinstance(value, str) or (value not in allowed and f"{inspection.namespace}/{value}" not in allowed):
        inspection.violate(
            "secret", f"the secret {shown(value)} is not listed in allowed_secrets", path, "leave it out"
        )


def scope_namespace(value: Any, _of: Any, path: str, inspection: Inspection) -> None:
    """A namespace of the scope."""
    if value not in inspection.scope.namespaces:
        hint = f"use one of {', '.join(inspection.scope.namespaces)}, or have it added to scope.namespaces"
        inspection.violate("namespace", f"the namespace {shown(value)} is not in scope", path, hint)


def own_config_map(value: Any, _of: Any, path: str, inspection: Inspection) -> None:
    """A config map of OBI's: in the batch, or shown to be."""
    if not _matches(_DNS_NAME, value, 253) or value == "kube-root-ca.crt":
        _refuse(inspection, value, path, "the name of OBI's config map")
    else:
        inspection.need("v1", "ConfigMap", value, inspection.namespace, path)


def own_deployment(value: Any, _of: Any, path: str, inspection: Inspection) -> None:
    """A deployment of OBI's: in the batch, or shown to be."""
    if not _matches(_DNS_NAME, value, 253):
        _refuse(inspection, value, path, "the name of a deployment")
    else:
        inspection.need("apps/v1", "Deployment", value, inspection.namespace, path)


def service_account(value: Any, _of: Any, path: str, inspection: Inspection) -> None:
    """An account of OBI's; ``default`` with a warning."""
    if value == "default":
        inspection.warn("service-account", "the account default is shared", path, "give OBI an account of its own")
    elif not _matches(_DNS_NAME, value, 253):
        _refuse(inspection, value, path, "the name of a service account")
    else:
        inspection.need("v1", "ServiceAccount", value, inspection.namespace, path)


def priority_class(value: Any, _of: Any, path: str, inspection: Inspection) -> None:
    """Not one of the system's: such pods push others off a full node."""
    if not _matches(_DNS_NAME, value, 253) or value.startswith("system-"):
        hint = "leave it out, or let the operator make a class for OBI"
        inspection.violate(
            "priority", f"the priority class {shown(value)} pushes other pods off their nodes", path, hint
        )
    else:
        inspection.warn("priority", f"pods of the class {value} may push others off a full node", path)


def telemetry_config(value: Any, _of: Any, path: str, inspection: Inspection) -> None:
    """OBI's own configuration, judged by its own rules."""
    from obi_mcp.policy.telemetry_config import judge_config

    if not isinstance(value, str):
        _refuse(inspection, value, path, "a string")
        return
    for violation in judge_config(value, scope=inspection.scope, path=path):
        inspection.adopt(violation)


def config_key(value: Any, _of: Any, path: str, inspection: Inspection) -> None:
    """A name that ends in .yml or .yaml: then it is judged as OBI's configuration."""
    if not _matches(_CONFIG_KEY, value, 253):
        inspection.violate(
            "config-key",
            f"the key {shown(value)} is no file of OBI's configuration",
            path,
            "end it in .yml, or remove it",
        )


def one_of(value: Any, of: Any, path: str, inspection: Inspection) -> None:
    """Exactly one of the fields of ``of`` is set."""
    present = [name for name in of if value.get(name) is not None]
    if len(present) != 1:
        inspection.violate("one-of", f"{path} has {len(present)} of {', '.join(of)}", path, "set exactly one of them")


def predicates() -> dict[str, Check]:
    """Every predicate that the schema may name."""
    from obi_mcp.policy.manifest import environment, pods, relations

    return {
        "bool": boolean,
        "must-be-false": must_be_false,
        "int": integer,
        "text": text,
        "enum": enum,
        "matches": matches,
        "quantity": quantity,
        "int-or-percent": int_or_percent,
        "port": port,
        "port-or-name": port_or_name,
        "file-mode": file_mode,
        "dns-name": dns_name,
        "dns-label": dns_label,
        "metrics-path": metrics_path,
        "cluster-ip": cluster_ip,
        "label-key": label_key,
        "label-syntax": label_syntax,
        "label-value": label_value,
        "obi-image": obi_image,
        "allowed-secret": allowed_secret,
        "scope-namespace": scope_namespace,
        "own-config-map": own_config_map,
        "own-deployment": own_deployment,
        "service-account": service_account,
        "priority-class": priority_class,
        "telemetry-config": telemetry_config,
        "config-key": config_key,
        "one-of": one_of,
        "environment": environment.environment,
        "arguments": pods.arguments,
        "privileged": pods.privileged,
        "capability": pods.capability,
        "seccomp-type": pods.seccomp_type,
        "apparmor-type": pods.apparmor_type,
        "host-path": pods.host_path,
        "pod": pods.pod,
        "scope-labels": relations.scope_labels,
        "labels-in-scope": relations.labels_in_scope,
        "selector-in-scope": relations.selector_in_scope,
        "pod-security": relations.pod_security,
        "not-default": relations.not_default,
        "readable": relations.readable,
        "own-role": relations.own_role,
        "own-service-account": relations.own_service_account,
    }
