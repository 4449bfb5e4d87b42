"""Which right an account lacks, read from what the API server says where it refuses, and which of our roles has it.

The sentences are Kubernetes' own (``apiserver/pkg/endpoints/handlers/responsewriters`` and RBAC's escalation check).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from obi_mcp.obi.manifests import kinds as k
from obi_mcp.obi.server_rights import ServerRights, server_rights
from obi_mcp.policy.model import Access
from obi_mcp.policy.resource import ResourceTable

_REFUSED = re.compile(
    r'cannot (?P<verb>[a-z]+) resource "(?P<resource>[a-z0-9./-]+)" in API group "(?P<group>[a-z0-9.-]*)"'
    r'(?: in the namespace "(?P<namespace>[a-z0-9-]+)")?'
)
_ESCALATES = re.compile(r"attempting to grant RBAC permissions not currently held")


@dataclass(frozen=True, slots=True)
class MissingRight:
    """What the account may not do. ``namespace`` None: it was asked for in all of them, or the kind has none."""

    verb: str
    resource: str
    group: str = ""
    namespace: str | None = None

    def __str__(self) -> str:
        kind = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{self.verb} {kind}" + (f" in {self.namespace}" if self.namespace else " in the whole cluster")


def missing_right(said: str) -> MissingRight | None:
    """The right that this refusal is about, None where it is about something else."""
    if match := _REFUSED.search(said):
        return MissingRight(match["verb"], match["resource"], match["group"], match["namespace"])
    if _ESCALATES.search(said):
        return MissingRight("create", "clusterroles", "rbac.authorization.k8s.io")  # and hold what it grants
    return None


def who_gives_it(right: MissingRight, resources: ResourceTable, cluster_objects: tuple[str, ...]) -> str:
    """What an administrator does about it: the command that writes the right, or that none of ours has it."""
    where = right.namespace or "NAMESPACE"
    for access in Access:  # the least level first, and all namespaces before the next
        for everywhere in (False, True):
            asked = ServerRights(
                access=access,
                namespaces=(where,),
                account_namespace=where,
                cluster_objects=cluster_objects,
                everywhere=everywhere,
            )
            if any(_gives(given.thing, right) for given in server_rights(asked, resources)):
                flags = f"--access {access.label} --namespace {where}{' --everywhere' if everywhere else ''}"
                besides = " (without --no-helm)" if right.resource == "secrets" else ""
                return f"`obi-mcp rbac {flags}`{besides} writes the role that gives it, for an administrator to apply"
    return "no role that `obi-mcp rbac` writes gives it: this server does not do that"


def _gives(thing: k.KubernetesObject, right: MissingRight) -> bool:
    if not isinstance(thing, k.ClusterRole | k.Role) or thing.metadata.namespace not in {"", right.namespace}:
        return False
    return any(
        right.verb in rule.verbs and right.resource in rule.resources and right.group in rule.api_groups
        for rule in thing.rules
    )
