"""Simulated nodes: kwok plays their kubelets; pods on them run nothing, but have status, addresses and logs."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.sandbox import daemon, network
from tests.sandbox.api import Api, wait_until
from tests.sandbox.daemon import Daemon
from tests.sandbox.instance import Instance
from tests.sandbox.programs import Programs

LABEL = "type=kwok"
_STAGES = Path(__file__).resolve().parent / "config" / "stages.yaml"
_REPLAY = Path(__file__).resolve().parent / "replay.py"
METRICS_PORT = 9090
"""What the sandbox's OBI declares."""
_LEASE_S = 40


def start_kwok(instance: Instance, programs: Programs) -> Daemon:
    """Start kwok, with log sources from the cluster and without exec, which would run commands on the host."""
    pki = instance.certificates
    argv = (
        programs.kwok,
        f"--kubeconfig={instance.kubeconfig}",
        f"--config={_STAGES}",
        f"--manage-nodes-with-label-selector={LABEL}",
        f"--node-lease-duration-seconds={_LEASE_S}",
        f"--node-ip={node_address(instance, 0)}",
        f"--node-port={instance.ports.kwok}",
        f"--server-address={'0.0.0.0' if instance.index is not None else '127.0.0.1'}:{instance.ports.kwok}",
        f"--tls-cert-file={pki / 'kubelet.crt'}",
        f"--tls-private-key-file={pki / 'kubelet.key'}",
        f"--cidr={network.SIMULATED_PODS}",
        "--enable-crds=Logs,ClusterLogs",
    )
    netns = instance.pods_netns if instance.index is not None else None
    # kwok keeps a directory of its own in the home directory; the instance's state is the better place.
    return daemon.start(instance, "kwok", argv, netns=netns, environment={"HOME": str(instance.state)})


def start_replay(instance: Instance, default: Path, others: Mapping[str, str] | None = None) -> Daemon:
    """Let every simulated pod on the host network answer with recorded metrics, and wait until it does. ``others``: by
    address another file, or ``silence``. See replay.py."""
    words = [f"{address}={text}" for address, text in (others or {}).items()]
    argv: tuple[str | Path, ...] = (sys.executable, _REPLAY, str(METRICS_PORT), default, *words)
    started = daemon.start(instance, "replay", argv, netns=instance.pods_netns)

    def listening() -> bool:
        return "listening" in instance.log("replay").read_text(encoding="utf-8")

    wait_until(
        "recorded metrics are replayed",
        listening,
        within_s=180,
        check=lambda: daemon.require_alive(instance, [started]),
    )
    return started


def node_address(instance: Instance, number: int) -> str:
    """The address of a simulated node: one each, where addresses can be had."""
    return str(network.SIMULATED_NODES[number + 1]) if instance.index is not None else instance.address


def create_nodes(instance: Instance, api: Api, count: int, kubernetes: str) -> tuple[str, ...]:
    """Create the nodes, with all that a kubelet would report but that they are ready; their names.

    Raises: SandboxError.
    """
    names = tuple(f"kwok-{number}" for number in range(count))
    for number, name in enumerate(names):
        document = _node(name, node_address(instance, number), instance.ports.kwok, kubernetes)
        api.post("/api/v1/nodes", document).require(f"create node {name}")
    return names


def _node(name: str, address: str, port: int, kubernetes: str) -> dict[str, Any]:
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    room = {"cpu": "8", "memory": "32Gi", "pods": "110", "ephemeral-storage": "100Gi"}
    label, value = LABEL.split("=")
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                label: value,
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": architecture,
            },
            "annotations": {"kwok.x-k8s.io/node": "fake"},
        },
        "status": {
            "capacity": room,
            "allocatable": room,
            "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
            "nodeInfo": {
                "architecture": architecture,
                "operatingSystem": "linux",
                "osImage": "simulated",
                "kernelVersion": "6.1.0",
                "kubeletVersion": kubernetes,
                "kubeProxyVersion": "",
                "containerRuntimeVersion": "kwok://simulated",
                "machineID": name,
                "systemUUID": name,
                "bootID": name,
            },
        },
    }
