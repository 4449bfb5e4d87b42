"""What ties an object to OBI: labels, selectors, roles, accounts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from obi_mcp.policy.manifest.findings import Inspection, shown
from obi_mcp.policy.selector import implies_scope, matches_scope

if TYPE_CHECKING:
    from collections.abc import Mapping

_OPERATORS = {"In": "in", "NotIn": "notin"}
_LEVELS = ("privileged", "baseline", "restricted")
_RBAC = "rbac.authorization.k8s.io/v1"
# Objects that every namespace has, made by the cluster itself.
_CLUSTERS_OWN = {"ServiceAccount": ("default",), "ConfigMap": ("kube-root-ca.crt",), "Service": ("kubernetes",)}


def selector_text(selector: Mapping[str, Any]) -> str:
    """A ``LabelSelector`` that passed the schema, in the grammar of ``-l``."""
    parts = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for expression in selector.get("matchExpressions") or []:
        key, operator = expression["key"], expression["operator"]
        if operator in _OPERATORS:
            parts.append(f"{key} {_OPERATORS[operator]} ({','.join(expression.get('values') or [])})")
        else:
            parts.append(key if operator == "Exists" else f"!{key}")
    return ",".join(parts)


def scope_labels(value: Any, _of: Any, path: str, inspection: Inspection) -> None:
    """Check: these labels satisfy one of the scope's selectors."""
    if not matches_scope(value or {}, inspection.scope):
        wanted = inspection.scope.selectors[0] if inspection.scope.selectors else "none is configured"
        inspection.violate("scope-label", f"{path} satisfies no scope selector", path, f"add a label so that: {wanted}")


def labels_in_scope(value: Any, _of: Any, path: str, inspection: Inspection) -> None:
    """Check: a selector that is a plain map selects nothing but what the scope selects."""
    _in_scope(selector_text({"matchLabels": value}), path, inspection)


def selector_in_scope(value: Any, _of: Any, path: str, inspection: Inspection) -> None:
    """Check: a ``LabelSelector`` selects nothing but what the scope selects."""
    _in_scope(selector_text(value), path, inspection)


def _in_scope(text: str, path: str, inspection: Inspection) -> None:
    try:
        implied = implies_scope(text, inspection.scope)
    except ValueError:
        # The schema lets well-formed keys and values through only; what is no selector selects nothing we know of.
        implied = False
    if not implied:
        wanted = inspection.scope.selectors[0] if inspection.scope.selectors else "none is configured"
        inspection.violate(
            "selector", f"{path} ({shown(text)}) selects more than OBI's", path, f"make it imply: {wanted}"
        )


def pod_security(value: Any, _of: Any, path: str, inspection: Inspection) -> None:
    """Check: Pod Security labels have the values that Kubernetes knows, and the name label is the name."""
    for key, given in value.items():
        name = key.removeprefix("pod-security.kubernetes.io/")
        at = f"{path}[{key}]"
        if name == key:
            if key == "kubernetes.io/metadata.name" and given != inspection.document.name:
                inspection.violate("label", f"{key} is {shown(given)}, not the namespace's name", at, "remove it")
        elif name.endswith("-version"):
            if not re.fullmatch(r"latest|v1\.[0-9]{1,3}", given):
                inspection.violate("label", f"{key} is {shown(given)}", at, "write latest or v1.N")
        elif given not in _LEVELS:
            inspection.violate("label", f"{key} is {shown(given)}", at, f"use {', '.join(_LEVELS)}")


def not_default(_value: Any, _of: Any, path: str, inspection: Inspection) -> None:
    """Check: not an object that the cluster made for everybody in the namespace."""
    document = inspection.document
    if document.name in _CLUSTERS_OWN.get(document.kind, ()):
        where = f"{path}.metadata.name" if path else "metadata.name"
        reason = f"the {document.kind} {document.name} belongs to everybody in the namespace"
        inspection.violate("taken-name", reason, where, "give OBI one of its own, like obi")


def readable(value: Any, of: Any, path: str, inspection: Inspection) -> None:
    """Check: every group and resource of a role's rule is one that OBI reads."""
    known = {resource for resources in of.values() for resource in resources}
    for position, group in enumerate(value["apiGroups"]):
        if group not in of:
            at = f"{path}.apiGroups[{position}]"
            inspection.violate("role", f"OBI reads nothing of the API group {shown(group)}", at, "use '', apps, batch")
    allowed = {resource for group in value["apiGroups"] for resource in of.get(group, ())}
    for position, resource in enumerate(value["resources"]):
        if resource not in allowed:
            hint = f"use some of {', '.join(sorted(known))}"
            inspection.violate("role", f"OBI does not read {shown(resource)}", f"{path}.resources[{position}]", hint)


def own_role(value: Any, _of: Any, path: str, inspection: Inspection) -> None:
    """Check: the bound role is in the batch, or has a name of OBI's and is then shown to be harmless."""
    kind, name = value["kind"], value["name"]
    namespace = inspection.namespace if kind == "Role" else None
    if inspection.in_batch(kind, name, namespace):
        return
    if name not in inspection.scope.known_cluster_objects():
        reason = f"the {kind} {name} is neither sent along nor known as OBI's"
        inspection.violate(
            "binding", reason, f"{path}.name", "send the role along, or have it listed in cluster_objects"
        )
    else:
        inspection.need(_RBAC, kind, name, namespace, f"{path}.name")


def own_service_account(value: Any, _of: Any, path: str, inspection: Inspection) -> None:
    """Check: the subject is an account of OBI's, in the batch or shown to be, never ``default``."""
    if value["name"] == "default":
        reason = "the account default is everybody's in its namespace"
        inspection.violate("binding", reason, f"{path}.name", "give OBI an account of its own")
    else:
        inspection.need("v1", "ServiceAccount", value["name"], value["namespace"], f"{path}.name")
