"""What runs in the sandbox: OBI, foreign workloads beside it, and canaries that must stay where they are."""

from __future__ import annotations

import re
import secrets
import string
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.sandbox import network
from tests.sandbox.api import Api, wait_until
from tests.sandbox.archive import OBI_IMAGE
from tests.sandbox.instance import Instance, SandboxError
from tests.sandbox.programs import Programs

OBI_NAMESPACE = "observability"
OBI_LABEL = ("app.kubernetes.io/instance", "obi")
OBI_SELECTOR = "=".join(OBI_LABEL)
_DATA = Path(__file__).resolve().parent / "workloads"
_CANARY = re.compile(r"\$\{(canary_(?P<kind>[a-z]+)_(?P<place>[a-z_]+))\}")
_METRICS = "/apis/metrics.k8s.io/v1beta1"
NAMESPACES = ("observability", "shop", "billing", "kube-system")
# Foreign objects by what a test may try on them; names of pods are fixed where a pod is named.
FOREIGN = {
    "pod": {"namespace": "observability", "name": "grafana-0", "container": "grafana"},
    "impostor": {"namespace": "observability", "name": "obi-helper", "container": "helper"},
    "secret": {"namespace": "observability", "name": "grafana-admin"},
    "configmap": {"namespace": "observability", "name": "grafana-settings"},
    "real_deployment": {"namespace": "shop", "name": "storefront"},
    "deployment": {"namespace": "shop", "name": "cart"},
    "namespaces": ["shop", "billing", "kube-system"],
}


@dataclass(frozen=True, slots=True)
class Canary:
    """A text that lies in one place of the cluster. ``kind`` is secret, configmap, env or log."""

    kind: str
    place: str
    text: str


def canaries() -> tuple[Canary, ...]:
    """New canaries for every place that the data files name."""
    found = {
        match[1]: (match["kind"], match["place"])
        for path in sorted(_DATA.rglob("*.*"))
        for match in _CANARY.finditer(path.read_text(encoding="utf-8"))
    }
    return tuple(Canary(kind, place, f"CANARY-{kind}-{secrets.token_hex(8)}") for kind, place in found.values())


def values(instance: Instance, planted: tuple[Canary, ...]) -> dict[str, str]:
    """What is filled into the data files."""
    return {
        "interface": network.PEER_INTERFACE,
        "agent_address": str(network.PEER_LINK[1]),
        "obi_image": OBI_IMAGE,
        "logs": str(instance.state / "logs"),
    } | {f"canary_{canary.kind}_{canary.place}": canary.text for canary in planted}


def write_logs(instance: Instance, filled: Mapping[str, str]) -> None:
    """Write the simulated pods' logs as a container runtime would."""
    directory = instance.state / "logs"
    directory.mkdir(exist_ok=True)
    for path in sorted((_DATA / "logs").glob("*.log")):
        lines = string.Template(path.read_text(encoding="utf-8")).substitute(filled).splitlines()
        stamped = (
            f"2026-11-21T07:25:{number + 16:02d}.000000000Z stdout F {line}\n" for number, line in enumerate(lines)
        )
        (directory / path.name).write_text("".join(stamped), encoding="utf-8")


def apply(instance: Instance, programs: Programs, filled: Mapping[str, str], *names: str) -> None:
    """Apply data files with kubectl. Raises: SandboxError with what kubectl said."""
    texts = (string.Template((_DATA / f"{name}.yaml").read_text(encoding="utf-8")).substitute(filled) for name in names)
    argv = [str(programs.kubectl), f"--kubeconfig={instance.kubeconfig}", "create", "-f", "-"]
    environment = {"HOME": str(instance.state), "KUBECTL_KUBERC": "false"}
    done = subprocess.run(
        argv, input="\n---\n".join(texts), env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SandboxError(f"create {' '.join(names)}: {done.stderr.strip()}")


def wait_until_defined(api: Api) -> None:
    """Wait until the API server serves what definitions.yaml defines."""

    def served() -> bool:
        return api.serves("metrics.k8s.io", "v1beta1", "nodes", "pods") and api.serves(
            "kwok.x-k8s.io", "v1alpha1", "logs", "clusterlogs"
        )

    wait_until("the definitions are served", served, within_s=180)


def publish_usage(api: Api) -> None:
    """Store usage of every node and pod, as metrics-server would report it; the values follow from their order."""
    for number, (path, name, document) in enumerate(_usage(api)):
        usage = {"cpu": f"{5 + number}m", "memory": f"{20 + number}Mi"}
        document |= {"apiVersion": "metrics.k8s.io/v1beta1", "timestamp": "2026-11-21T07:25:16Z", "window": "15s"}
        if "containers" in document:
            document["containers"] = [{"name": one, "usage": usage} for one in document["containers"]]
        else:
            document["usage"] = usage
        api.post(f"{_METRICS}{path}", document).require(f"usage of {name}")


def _usage(api: Api) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for node in api.get("/api/v1/nodes").require("list nodes")["items"]:
        name = node["metadata"]["name"]
        yield "/nodes", name, {"kind": "NodeMetrics", "metadata": {"name": name}}
    for namespace in NAMESPACES:
        for pod in api.pods(namespace):
            name = pod["metadata"]["name"]
            metadata = {"name": name, "namespace": namespace, "labels": pod["metadata"].get("labels", {})}
            containers = [one["name"] for one in pod["spec"]["containers"]]
            yield (
                f"/namespaces/{namespace}/pods",
                name,
                {"kind": "PodMetrics", "metadata": metadata, "containers": containers},
            )
