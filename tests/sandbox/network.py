"""The network of an instance: namespaces of its own, joined to the host by one veth pair and by nothing else.

Nothing inside has a default route out, so no fake pod or service address can leave the machine::

    host ── up0  NODE: control plane, kubelet, real pods (cni0)
                 peer0 ── eth0  PEER: the HTTP server of the measured traffic
                 pods0 ── eth0  PODS: kwok; every address of simulated nodes and pods is local here
"""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import subprocess
from collections.abc import Collection
from dataclasses import dataclass

from tests.sandbox.instance import LINK_PREFIX, Instance, SandboxError, host_link

SERVICES = ipaddress.IPv4Network("10.95.0.0/16")
KUBERNETES_SERVICE = SERVICES[1]
SIMULATED_NODES = ipaddress.IPv4Network("10.96.0.0/16")
REAL_PODS = ipaddress.IPv4Network("10.97.0.0/24")
SIMULATED_PODS = ipaddress.IPv4Network("10.98.0.0/16")
PEER_LINK = ipaddress.IPv4Network("10.99.0.0/30")
PODS_LINK = ipaddress.IPv4Network("10.99.0.4/30")
PEER_PORT = 8080
PEER_INTERFACE = "peer0"
_PEER_MACS = ("02:00:00:63:00:01", "02:00:00:63:00:02")
# Taken for the host's ends of the veth pairs, a /30 each: the first that the host has no route into.
_UPLINKS = ("10.213.0.0/24", "172.29.213.0/24", "192.168.213.0/24")
_MOST_INSTANCES = 64


@dataclass(frozen=True, slots=True)
class Uplink:
    """The pair that joins an instance to the host."""

    index: int
    host: str
    inside: str


def ip(*words: str, netns: str | None = None, lines: str | None = None) -> str:
    """Run iproute2's ``ip``, with ``lines`` in batch mode. Raises: SandboxError with what it said."""
    program = shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") or "ip"
    argv = [program, *(("-n", netns) if netns else ()), *words, *(("-batch", "-") if lines is not None else ())]
    done = subprocess.run(argv, input=lines, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SandboxError(f"{' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout


def exists(netns: str) -> bool:
    """Whether a network namespace of that name is there."""
    return os.path.exists(f"/run/netns/{netns}")


def choose_uplink(taken: Collection[int]) -> Uplink:
    """An uplink with an index that neither the machine nor ``taken`` has. Raises: SandboxError where there is none."""
    network = ipaddress.IPv4Network(_free_uplinks())
    for index in range(_MOST_INSTANCES):
        if index not in taken and not os.path.exists(f"/sys/class/net/{host_link(index)}"):
            return Uplink(index, str(network[index * 4 + 1]), str(network[index * 4 + 2]))
    raise SandboxError(f"{_MOST_INSTANCES} sandboxes are up already")


def make(instance: Instance) -> None:
    """Make the instance's network. Raises: SandboxError; what was made until then is removed by remove()."""
    node, peer, pods = instance.netns, instance.peer_netns, instance.pods_netns
    assert node is not None
    link = instance.host_link
    ip(
        lines=f"""
netns add {node}
netns add {peer}
netns add {pods}
link add {link} type veth peer name up0 netns {node}
addr add {instance.host_address}/30 dev {link}
link set {link} up
"""
    )
    _set_up_node(instance, node, peer, pods)
    _set_up_peer(peer)
    _set_up_pods(pods)


def _set_up_node(instance: Instance, node: str, peer: str, pods: str) -> None:
    """The namespace of the API server and of OBI, with a link to each of the other two."""
    ip(
        netns=node,
        lines=f"""
link set lo up
addr add {instance.address}/30 dev up0
link set up0 up
addr add {KUBERNETES_SERVICE}/32 dev lo
route add unreachable {SERVICES}
link add {PEER_INTERFACE} address {_PEER_MACS[0]} type veth peer name eth0 address {_PEER_MACS[1]} netns {peer}
link set {PEER_INTERFACE} addrgenmode none
addr add {PEER_LINK[1]}/30 dev {PEER_INTERFACE}
link set {PEER_INTERFACE} up
neigh replace {PEER_LINK[2]} lladdr {_PEER_MACS[1]} dev {PEER_INTERFACE} nud permanent
link add pods0 type veth peer name eth0 netns {pods}
addr add {PODS_LINK[1]}/30 dev pods0
link set pods0 up
route add {SIMULATED_NODES} via {PODS_LINK[2]}
route add {SIMULATED_PODS} via {PODS_LINK[2]}
""",
    )


def _set_up_peer(peer: str) -> None:
    """The other end of the measured traffic."""
    # Neighbours are written down on both sides, and no IPv6 is spoken: the link carries the measured traffic alone.
    ip(
        netns=peer,
        lines=f"""
link set lo up
link set eth0 addrgenmode none
addr add {PEER_LINK[2]}/30 dev eth0
link set eth0 up
neigh replace {PEER_LINK[1]} lladdr {_PEER_MACS[0]} dev eth0 nud permanent
""",
    )


def _set_up_pods(pods: str) -> None:
    """Where the simulated nodes and pods have their addresses."""
    # "local": a server in this namespace may listen on any of the addresses, and the others refuse at once.
    ip(
        netns=pods,
        lines=f"""
link set lo up
addr add {PODS_LINK[2]}/30 dev eth0
link set eth0 up
route add local {SIMULATED_NODES} dev lo
route add local {SIMULATED_PODS} dev lo
route add default via {PODS_LINK[1]}
""",
    )


def remove(instance: Instance) -> None:
    """Remove whatever of the network is there; the processes in it must be gone."""
    if instance.netns is None:
        return
    if os.path.exists(f"/sys/class/net/{instance.host_link}"):
        # With its namespace it would go too, but only some time later.
        ip("link", "del", instance.host_link)
    for netns in instance.namespaces:
        if exists(netns):
            ip("netns", "del", netns)


def peer_link_bytes(instance: Instance) -> tuple[int, int]:
    """Bytes of Ethernet frames sent to and received from the peer since the link was made."""
    links = json.loads(ip("-j", "-s", "link", "show", "dev", PEER_INTERFACE, netns=instance.netns))
    statistics = links[0]["stats64"]
    return statistics["tx"]["bytes"], statistics["rx"]["bytes"]


def _free_uplinks() -> str:
    """The network to take /30s from: not one that the host reaches by any route but the default and our own."""
    routes = json.loads(ip("-j", "-4", "route", "show", "table", "all"))
    taken = []
    for route in routes:
        if route["dst"] != "default" and not route.get("dev", "").startswith(LINK_PREFIX):
            taken.append(ipaddress.IPv4Network(route["dst"], strict=False))
    for network in _UPLINKS:
        if not any(ipaddress.IPv4Network(network).overlaps(one) for one in taken):
            return network
    raise SandboxError(f"the host has routes into all of {', '.join(_UPLINKS)}")
