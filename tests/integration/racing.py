"""Somebody who writes between check and run: objects of OBI's and of others, and a runner that lets them strike."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from tests.sandbox.api import Api, wait_until
from tests.sandbox.sandbox import Sandbox

from obi_mcp.audit import AuditLog
from obi_mcp.config import Settings
from obi_mcp.enforcer.enforcer import Enforcer
from obi_mcp.enforcer.model import Call
from obi_mcp.errors import ObiMcpError
from obi_mcp.policy.engine import Policy
from obi_mcp.policy.model import Access, Approved
from obi_mcp.process.runner import Completed, Runner
from obi_mcp.redact import Redactor

NAMESPACE = "observability"
NAME = "obi-raced"
OBI = "otel/ebpf-instrument:v0.11.0"
OURS = {"app.kubernetes.io/part-of": "obi", "app.kubernetes.io/component": "raced"}
THEIRS = {"app.kubernetes.io/part-of": "shop"}
CANARY = "CANARY-raced"
PATHS = {
    "DaemonSet": f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets",
    "Deployment": f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments",
    "ConfigMap": f"/api/v1/namespaces/{NAMESPACE}/configmaps",
    "Pod": f"/api/v1/namespaces/{NAMESPACE}/pods",
}
WRITES = frozenset(
    {"patch", "set", "label", "annotate", "scale", "rollout", "delete", "apply", "create", "replace"}
    | {"install", "upgrade", "rollback", "uninstall"}
)


def metadata(labels: dict[str, str]) -> dict[str, Any]:
    return {"name": NAME, "namespace": NAMESPACE, "labels": labels}


def workload(kind: str, image: str = OBI, labels: dict[str, str] = OURS) -> dict[str, Any]:
    container = {"name": "obi", "image": image}
    pod = {"nodeSelector": {"no": "node"}, "containers": [container]}
    spec: dict[str, Any] = {
        "selector": {"matchLabels": OURS},
        "template": {"metadata": {"labels": OURS}, "spec": pod},
    }
    if kind == "Deployment":
        spec["replicas"] = 1
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": metadata(labels), "spec": spec}


def config(text: str = "log_level: INFO", labels: dict[str, str] = OURS) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(labels), "data": {"obi.yml": text}}


def pod(image: str = OBI, labels: dict[str, str] = OURS) -> dict[str, Any]:
    spec = {"nodeSelector": {"no": "node"}, "containers": [{"name": "obi", "image": image}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata(labels), "spec": spec}


OURS_NOW: dict[str, dict[str, Any]] = {
    "DaemonSet": workload("DaemonSet"),
    "Deployment": workload("Deployment"),
    "ConfigMap": config(),
    "Pod": pod(),
}
# Another's object of the same name: with OBI's labels too, so that only its uid tells the two apart.
FOREIGN: dict[str, dict[str, Any]] = {
    "DaemonSet": workload("DaemonSet", "registry.test/shop:1"),
    "Deployment": workload("Deployment", "registry.test/shop:1"),
    "ConfigMap": config(f"text: {CANARY}"),
    "Pod": pod("registry.test/shop:1"),
}
APPLIED = {
    "DaemonSet": workload("DaemonSet", OBI.replace("v0.11.0", "v0.10.0")),
    "Deployment": workload("Deployment", OBI.replace("v0.11.0", "v0.10.0")),
    "ConfigMap": config("log_level: DEBUG"),
}


@dataclass(frozen=True)
class Writer:
    """Somebody else, who may do everything in the cluster."""

    api: Api

    def path(self, kind: str) -> str:
        return f"{PATHS[kind]}/{NAME}"

    def live(self, kind: str) -> dict[str, Any] | None:
        answer = self.api.get(self.path(kind))
        return dict(answer.body) if answer.status == 200 else None

    def make(self, document: dict[str, Any]) -> None:
        self.api.post(PATHS[document["kind"]], document).require(f"make {document['kind']}")

    def fresh(self, kind: str) -> None:
        """OBI's own object, as it is before every race."""
        self.remove(kind)
        self.make(OURS_NOW[kind])

    def remove(self, kind: str) -> None:
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
        self.api.request("DELETE", self.path(kind), json.dumps(options).encode())
        wait_until(f"{kind} is gone", lambda: self.live(kind) is None, within_s=120)

    def relabel(self, kind: str) -> None:
        """Take OBI's labels from the object: it is somebody else's now."""
        patch = {"metadata": {"labels": {**dict.fromkeys(OURS), **THEIRS}}}
        self.api.request("PATCH", self.path(kind), json.dumps(patch).encode(), "application/merge-patch+json").require(
            "relabel"
        )

    def swap(self, kind: str) -> None:
        """Put an object of somebody else's into its place."""
        self.remove(kind)
        self.make(FOREIGN[kind])


class RacedRunner(Runner):
    """Calls ``strike`` once, when the first program that writes is about to start."""

    strike: Callable[[], None] | None = None
    verbs = WRITES

    async def run(self, approved: Approved, **limits: Any) -> Completed:
        head = approved.heads[0]
        if self.strike and head[1] in self.verbs and not any(word.startswith("--dry-run") for word in head):
            strike, self.strike = self.strike, None
            await asyncio.to_thread(strike)
        return await super().run(approved, **limits)


@dataclass
class Raced:
    """The road, and the writer beside it."""

    enforcer: Enforcer
    runner: RacedRunner
    writer: Writer

    async def run(self, command: str, stdin: Any, strike: Callable[[], None] | None) -> tuple[str, str]:
        """The code (or exit code) and everything that the caller is told."""
        self.runner.strike = strike
        try:
            answer = await self.enforcer.run(
                Call(command, "test", stdin=json.dumps(stdin) if stdin is not None else None)
            )
        except ObiMcpError as error:
            return error.code, f"{error.message} {error.hint}"
        return str(answer.exit_code), answer.stdout + answer.stderr


@cache
def loaded(kubeconfig: Path, programs: Path, store: Path | None = None) -> tuple[Settings, Policy]:
    given = Settings()
    settings = replace(
        given,
        access=Access.FULL,
        programs=replace(
            given.programs,
            kubeconfig=str(kubeconfig),
            path=(str(programs),),
            chart_store=str(store) if store else None,
        ),
    )
    return settings, Policy.load_compiled(settings)


Start = Callable[..., AbstractAsyncContextManager[Raced]]


def starting(sandbox: Sandbox, programs: Path, folder: Path) -> Start:
    """Starts the road with such a runner, its audit log in that folder; ``store``: where its charts are."""

    @asynccontextmanager
    async def started(store: Path | None = None) -> AsyncIterator[Raced]:
        settings, policy = loaded(sandbox.kubeconfig, programs, store)
        runner = RacedRunner(settings, Redactor.load())
        audit = AuditLog(replace(settings, audit=replace(settings.audit, file=str(folder / "audit.ndjson"))))
        enforcer = Enforcer(settings, policy, audit, runner)
        try:
            yield Raced(enforcer, runner, Writer(sandbox.api))
        finally:
            await enforcer.close()
            audit.close()

    return started
