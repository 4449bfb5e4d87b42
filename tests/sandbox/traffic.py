"""Traffic whose size is known, and what the agent saw of it."""

from __future__ import annotations

import json
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.sandbox import daemon, network
from tests.sandbox.instance import Instance, SandboxError

METRIC = "beyla_network_flow_bytes_total"
_SAMPLE = re.compile(rf"^{METRIC}\{{(?P<labels>[^}}]*)\}} (?P<value>\S+)$", re.MULTILINE)
_QUIET_S = 0.1
_LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests that were made to the peer. The link's bytes are those of whole Ethernet frames, as the agent counts.

    ``body_bytes`` is what the answers' bodies hold, the least that ``received_bytes`` can be.
    """

    client: str
    server: str
    requests: int
    body_bytes: int
    sent_bytes: int
    received_bytes: int


@dataclass(frozen=True, slots=True)
class Flow:
    """Bytes in one direction, as the agent's metric gives them."""

    source: str
    destination: str
    bytes: int


def request_peer(instance: Instance, companion: Path, *, requests: int, body_bytes: int) -> Traffic:
    """Ask the peer ``requests`` times for so many bytes, over the link that the agent watches.

    Raises: SandboxError when a request fails.
    """
    netns = instance.netns
    if netns is None:
        raise SandboxError("no network namespace, so no measured traffic: that needs root")
    sent, received = network.peer_link_bytes(instance)
    server = str(network.PEER_LINK[2])
    argv = [daemon.NSENTER, f"--net={daemon.NETNS_DIRECTORY / netns}", "--", str(companion), "fetch"]
    argv += [f"http://{server}:{network.PEER_PORT}", str(requests), str(body_bytes)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SandboxError(f"requests to the peer: {done.stderr.strip()}")
    sent_after, received_after = _settled(instance)
    counted = json.loads(done.stdout)
    return Traffic(
        client=str(network.PEER_LINK[1]),
        server=server,
        requests=counted["requests"],
        body_bytes=counted["body_bytes"],
        sent_bytes=sent_after - sent,
        received_bytes=received_after - received,
    )


def read_flows(metrics: str) -> tuple[Flow, ...]:
    """The flows in the text of a Prometheus endpoint."""
    flows = []
    for sample in _SAMPLE.finditer(metrics):
        labels = dict(_LABEL.findall(sample["labels"]))
        flows.append(Flow(labels["src_address"], labels["dst_address"], int(float(sample["value"]))))
    return tuple(flows)


def _settled(instance: Instance) -> tuple[int, int]:
    """The link's counters once the connection's last packets are over: unchanged for _QUIET_S."""
    before = network.peer_link_bytes(instance)
    while True:
        time.sleep(_QUIET_S)
        now = network.peer_link_bytes(instance)
        if now == before:
            return now
        before = now


def start_peer(instance: Instance, companion: Path) -> daemon.Daemon:
    """Start the HTTP server at the other end of the watched link."""
    address = f"{network.PEER_LINK[2]}:{network.PEER_PORT}"
    argv = (companion, "serve", address)
    return daemon.start(instance, "peer", argv, netns=instance.peer_netns)
