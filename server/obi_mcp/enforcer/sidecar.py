"""Proof of the one write into somebody else's Deployment: OBI's container comes beside theirs, or goes again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from obi_mcp.enforcer.case import Case, Proved, SidecarKey, absent, failed, passed
from obi_mcp.enforcer.pinning import pin_change
from obi_mcp.enforcer.written import dry_run, refusal_of, replace_verb, unmet
from obi_mcp.policy.image import is_obi_image
from obi_mcp.policy.manifest import judge_sidecar
from obi_mcp.policy.model import Access, Check, Document, Place, SidecarSpec


def _without_ours(case: Case, before: Mapping[str, Any], after: Mapping[str, Any]) -> Mapping[str, Any]:
    """The Deployment without the container of OBI's that the change replaces."""
    was, becomes = (_containers(body) for body in (before, after))
    changed = {str(one.get("name")) for one in becomes if is_obi_image(one.get("image"), case.scope)}
    kept = [one for one in was if str(one.get("name")) not in changed or not is_obi_image(one.get("image"), case.scope)]
    template = before["spec"]["template"]
    pod = {**template["spec"], "containers": kept}
    return {**before, "spec": {**before["spec"], "template": {**template, "spec": pod}}}


def _containers(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = body["spec"]["template"]["spec"].get("containers") or []
    return found


def _key(case: Case, spec: SidecarSpec) -> SidecarKey:
    """The container that the patch names, and where."""
    (container,) = _containers(json.loads(case.head.value("patch")))  # INVARIANT: judged to be one
    return case.head.value("context"), spec.namespace, spec.name, str(container["name"])


async def prove_sidecar(case: Case, check: Check, spec: SidecarSpec) -> Proved:
    """The live Deployment and what the dry run makes of it differ by OBI's container and what goes with it.

    Raises: ClusterUnreachable, ProgramFailed.
    """
    before = await case.cluster.get(spec.resource, spec.namespace, spec.name)
    if before is None:
        return Proved(absent(check))
    afters = await dry_run(case, replace_verb(case, ""), None)
    if len(afters) != 1 or afters[0].name != spec.name or afters[0].kind != spec.resource.kind:
        return Proved(failed(check, "the dry run gave another object than the one named", "name one object"))
    live, after = Document(0, before), afters[0]
    if spec.removes and before == after.body:
        return Proved(failed(check, f"{spec.name} has no container of that name", "kubectl get deployments shows them"))
    # Taken away is what would pass if it were added; another one of OBI's is put in the place of the one there is.
    without, beside = (after.body, live) if spec.removes else (_without_ours(case, before, after.body), after)
    judgement = judge_sidecar(case.policy.grounds.manifest, without, beside, scope=case.scope, stays=not spec.removes)
    if refusal := refusal_of(check, judgement, after):
        return refusal
    if not spec.removes:
        for need in judgement.needs:
            if reason := await unmet(case, need):
                return Proved(failed(check, reason, f"make the {need.kind} first", Place(path=need.path)))
    changed = _key(case, spec)
    said, raised = "judged as the API server would store it", None
    if spec.removes and changed not in case.sidecars:
        # Taking away is for a caller with ``full``; below it this server takes back what it began itself.
        said, raised = f"the container {changed[-1]} was not added by this server", Access.FULL
    elif not spec.removes and changed[-1] not in {one.get("name") for one in _containers(before)}:
        case.sidecar = changed if case.decision.access is not Access.READ_ONLY else None
    proved = Proved(passed(check, said, raised))
    return pin_change(case, proved, spec.resource, before, after.body)
