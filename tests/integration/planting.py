"""Puts the hundred credentials of ``tests/unit/planted.py`` into a real cluster, with the real programs."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.sandbox.sandbox import Sandbox
from tests.unit import planted
from tests.unit.planted import NAME, NAMESPACE

CHART = planted.FILE.parent / "chart" / "obi"
REFUSED = "obi-refused"
_ADMISSION = {"apiVersion": "admissionregistration.k8s.io/v1"}
_WITHIN_S = 180


@dataclass(frozen=True)
class Planter:
    """A cluster administrator with the real programs."""

    programs: Path
    kubeconfig: Path

    def run(self, program: str, *arguments: str, stdin: Any = None, check: bool = True) -> str:
        """What the program prints, its errors included where they are not checked."""
        text = json.dumps(stdin) if stdin is not None else None
        command = [str(self.programs / program), f"--kubeconfig={self.kubeconfig}", *arguments]
        done = subprocess.run(command, input=text, check=False, capture_output=True, text=True)
        if check and done.returncode != 0:
            raise AssertionError(f"{program} {' '.join(arguments)}: {done.stderr}")
        return done.stdout if check else done.stdout + done.stderr

    def kubectl(self, *arguments: str, stdin: Any = None, check: bool = True) -> str:
        return self.run("kubectl", *arguments, stdin=stdin, check=check)


@contextmanager
def plant(sandbox: Sandbox, programs: Path, folder: Path) -> Iterator[str]:
    """All of them, until the block is left; the name of the pod."""
    planter = Planter(programs, sandbox.kubeconfig)
    planter.kubectl("create", "namespace", NAMESPACE)
    try:
        pod = _plant_objects(planter, folder)
        _plant_release(planter, folder)
        _plant_refusal(planter)
        yield pod
    finally:
        for kind in ("validatingadmissionpolicybinding", "validatingadmissionpolicy"):
            planter.kubectl("delete", kind, "planted", "--ignore-not-found")
        planter.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def _plant_objects(planter: Planter, folder: Path) -> str:
    log = folder / "planted.log"
    log.write_text("".join(f"2026-11-21T08:00:00.000000000Z stdout F {line}\n" for line in planted.log().splitlines()))
    for document in planted.objects():
        planter.kubectl("apply", "-f", "-", stdin=document)
    # A second revision, so that there is a history to look at.
    planter.kubectl("rollout", "status", f"ds/{NAME}", "-n", NAMESPACE, f"--timeout={_WITHIN_S}s")
    planter.kubectl("set", "env", f"ds/{NAME}", "-n", NAMESPACE, "REVISION=2")
    planter.kubectl("rollout", "status", f"ds/{NAME}", "-n", NAMESPACE, f"--timeout={_WITHIN_S}s")
    selector = "app.kubernetes.io/component=planted"
    pod = planter.kubectl("get", "pods", "-n", NAMESPACE, "-l", selector, "-o", "name").split()[-1].removeprefix("pod/")
    source = {"containers": ["ebpf-instrument"], "logsFile": str(log)}
    logs = {"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "Logs", "metadata": {"name": pod, "namespace": NAMESPACE}}
    planter.kubectl("create", "-f", "-", stdin=logs | {"spec": {"logs": [source]}})
    _plant_status(planter, pod)
    return pod


def _plant_status(planter: Planter, pod: str) -> None:
    messages = [f"{plant.anchor} {plant.text}" for plant in planted.at("status")]
    conditions = [
        {"type": f"Planted{number}", "status": "False", "reason": "Planted", "message": message}
        for number, message in enumerate(messages)
    ]
    patch = json.dumps({"status": {"conditions": conditions}})
    planter.kubectl("patch", "pod", pod, "-n", NAMESPACE, "--subresource=status", "-p", patch)
    uid = planter.kubectl("get", "pod", pod, "-n", NAMESPACE, "-o", "jsonpath={.metadata.uid}")
    for number, one in enumerate(planted.at("event")):
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"planted-{number}", "namespace": NAMESPACE},
            "involvedObject": {"kind": "Pod", "name": pod, "namespace": NAMESPACE, "uid": uid, "apiVersion": "v1"},
            "type": "Warning",
            "reason": "Planted",
            "message": f"{one.anchor} {one.text} {planted.DECEIVING}",
            "firstTimestamp": "2026-11-21T08:00:00Z",
            "lastTimestamp": "2026-11-21T08:00:00Z",
            "count": 1,
        }
        planter.kubectl("create", "-f", "-", stdin=event)


def _plant_release(planter: Planter, folder: Path) -> None:
    values = folder / "values.json"
    values.write_text(json.dumps({"planted": planted.values()}))
    common = ("obi", str(CHART), "-n", NAMESPACE, "-f", str(values))
    planter.run("helm", "install", *common)
    for one in planted.at("description"):
        planter.run("helm", "upgrade", *common, "--description", f"{one.anchor} {one.text}")


def _plant_refusal(planter: Planter) -> None:
    """The API server's own words when it refuses an object."""
    (one,) = planted.at("refusal")
    operation = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
    policy = {
        **_ADMISSION,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "planted"},
        "spec": {
            "matchConstraints": {"resourceRules": [operation]},
            "validations": [
                {"expression": f"object.metadata.name != '{REFUSED}'", "message": f"{one.anchor} {one.text}"}
            ],
        },
    }
    binding = {
        **_ADMISSION,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "planted"},
        "spec": {"policyName": "planted", "validationActions": ["Deny"]},
    }
    for document in (policy, binding):
        planter.kubectl("create", "-f", "-", stdin=document)
    attempt = ("create", "configmap", REFUSED, "-n", NAMESPACE, "--dry-run=server")
    deadline = time.monotonic() + _WITHIN_S
    while one.anchor not in planter.kubectl(*attempt, check=False):
        if time.monotonic() > deadline:
            raise AssertionError("the admission policy does not take effect")
