"""What ``doctor`` finds by asking: programs, contexts, whether a cluster answers, what the account may do.

Every question is a command line on the guarded road, so that what works here works for a caller.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from obi_mcp.cli.findings import CALLER, Finding, of_error
from obi_mcp.cli.findings_endpoints import endpoint_finding
from obi_mcp.config import Settings
from obi_mcp.enforcer.model import Answer, Call
from obi_mcp.errors import ClusterUnreachable, ObiMcpError
from obi_mcp.policy.model import Access
from obi_mcp.process.container import unreachable_step
from obi_mcp.toolsets.base import Road

QUESTION_TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 1_000_000


async def cluster_findings(road: Road, settings: Settings) -> AsyncIterator[Finding]:
    """The current context, then every context of the scope, each with what its account may do."""
    try:
        current = (await _ask(road, "kubectl config current-context")).stdout.strip()
    except ObiMcpError as error:
        yield of_error("kubeconfig", error)
        return
    if not current:
        yield Finding(
            "kubeconfig",
            "problem",
            "no current context is set",
            "kubectl config use-context NAME, or name the file: --kubeconfig, programs.kubeconfig, KUBECONFIG",
        )
    else:
        yield Finding("kubeconfig", "ok", f"current context {current}")
    names = settings.scope.contexts or ((current,) if current else ())
    groups = await asyncio.gather(*(_context_findings(road, settings, name) for name in names))
    for group in groups:
        for finding in group:
            yield finding


async def _context_findings(road: Road, settings: Settings, context: str) -> list[Finding]:
    subject = f"cluster {context}"
    named = context if settings.scope.contexts else None
    try:
        version = _json(await _ask(road, "kubectl version -o json", named))
    except ClusterUnreachable as error:
        return [Finding(subject, "problem", error.message, unreachable_step(error.message))]
    except ObiMcpError as error:
        return [of_error(subject, error)]
    server = version.get("serverVersion")
    if not isinstance(server, dict):
        return [Finding(subject, "problem", "no API server answered", unreachable_step(""))]
    client = version.get("clientVersion") or {}
    found = [_skew(subject, str(client.get("gitVersion", "?")), str(server.get("gitVersion", "?")))]
    found.extend(await _rights(road, settings, context, named))
    found.extend(await _endpoints(road, settings, context, named))
    return found


def _skew(subject: str, client: str, server: str) -> Finding:
    evidence = f"answers; API server {server}, kubectl {client}"
    minors = [_minor(client), _minor(server)]
    if None not in minors and abs((minors[0] or 0) - (minors[1] or 0)) > 1:
        return Finding(
            subject, "note", evidence, "kubectl promises to work one minor version up and down: use one nearer"
        )
    return Finding(subject, "ok", evidence)


def _minor(version: str) -> int | None:
    parts = version.lstrip("v").split(".")
    return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else None


async def _rights(road: Road, settings: Settings, context: str, named: str | None) -> list[Finding]:
    """What the server needs to prove membership, and whether the account is stronger than anything here needs."""
    namespace = settings.scope.default_namespace
    subject = f"rights in {context}"
    missing = []
    for resource in ("pods", "daemonsets.apps", "configmaps"):
        answer = await _may(road, f"kubectl auth can-i list {resource} -n {namespace}", named)
        if answer is False:
            missing.append(resource)
    if missing:
        return [
            Finding(
                subject,
                "problem",
                f"may not list {', '.join(missing)} in {namespace}, so nothing can be shown to be OBI's",
                f"give the account get, list and watch of {', '.join(missing)} in {namespace}",
            )
        ]
    if await _may(road, "kubectl auth can-i '*' '*'", named):
        return [
            Finding(
                subject,
                "note",
                "the account may do everything in the cluster; the policy holds, but nothing stands behind it",
                "give the server an account that may do no more than OBI's own namespaces need",
            )
        ]
    return [Finding(subject, "ok", f"may read OBI's objects in {namespace}, and is no administrator")]


async def _endpoints(road: Road, settings: Settings, context: str, named: str | None) -> list[Finding]:
    """Where OBI sends its telemetry; nothing when OBI's objects cannot be read, which another finding says."""
    try:
        listed = _json(await _ask(road, "kubectl get daemonsets,deployments,configmaps -A -o json", named))
    except ObiMcpError:
        return []
    return [endpoint_finding(f"telemetry from {context}", listed.get("items") or (), settings.scope)]


async def _may(road: Road, command: str, context: str | None) -> bool | None:
    """What ``auth can-i`` says; None where it says nothing."""
    try:
        said = (await _ask(road, command, context)).stdout.strip()
    except ObiMcpError:
        return None
    return {"yes": True, "no": False}.get(said.splitlines()[-1] if said else "")


async def _ask(road: Road, command: str, context: str | None = None) -> Answer:
    return await road.run(
        Call(
            command,
            "doctor",
            context=context,
            access=Access.READ_ONLY,
            timeout_s=QUESTION_TIMEOUT_S,
            max_bytes=MAX_ANSWER_BYTES,
            caller=CALLER,
        )
    )


def _json(answer: Answer) -> dict[str, Any]:
    try:
        value = json.loads(answer.stdout)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
