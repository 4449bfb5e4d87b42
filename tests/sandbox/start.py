"""The order in which an instance comes up, and in which it goes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.sandbox import cgroup, contents, controlplane, daemon, network, node, simulated, traffic
from tests.sandbox.api import Api, pod_ready, wait_until
from tests.sandbox.controlplane import REAL_NODE
from tests.sandbox.instance import (
    Instance,
    Ports,
    SandboxError,
    free_ports,
    load,
    machine_lock,
    recorded,
    state_of,
)
from tests.sandbox.programs import Programs
from tests.sandbox.timeline import Timeline

RUNNING_WITHIN_S = 300.0
EACH_NODE_S = 1.0
"""How much longer it may take for each simulated node: all of them want their pods at once."""


@dataclass(frozen=True, slots=True)
class Started:
    """What came up. ``left_out`` says, one sentence each, what did not, and why."""

    api: Api
    simulated_nodes: tuple[str, ...]
    real_node: str | None
    canaries: tuple[contents.Canary, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Cluster:
    """A control plane that answers, and what is on its way into it."""

    instance: Instance
    programs: Programs
    api: Api
    filled: dict[str, str]
    within_s: float = RUNNING_WITHIN_S

    def apply(self, *names: str) -> None:
        contents.apply(self.instance, self.programs, self.filled, *names)

    def wait_until(self, what: str, reached: Callable[[], bool]) -> None:
        """Raises: SandboxError when it takes too long, or a process ends meanwhile."""

        def alive() -> None:
            daemon.require_alive(self.instance, daemon.recorded(self.instance))

        wait_until(what, reached, within_s=self.within_s, check=alive)

    def captures_flows(self) -> bool:
        answer = self.api.get(metrics_path(real_pod(self.api) or ""))
        return answer.status == 200 and bool(traffic.read_flows(answer.body))

    def wait_for_node(self, name: str) -> None:
        self.wait_until(f"node {name} is ready", lambda: self.api.node_ready(name))

    def wait_for_pods(self, namespace: str, selector: str = "", *, least: int = 1) -> None:
        def run() -> bool:
            pods = self.api.pods(namespace, selector)
            return len(pods) >= least and all(map(pod_ready, pods))

        self.wait_until(f"at least {least} pods {selector} run in {namespace}, and no others", run)


def metrics_path(pod: str) -> str:
    """Where the API server proxies to the metrics of one of OBI's pods."""
    return f"/api/v1/namespaces/{contents.OBI_NAMESPACE}/pods/{pod}:9090/proxy/metrics"


def real_pod(api: Api) -> str | None:
    """The name of OBI's pod on the real node, None where there is none."""
    pods = [
        pod["metadata"]
        for pod in api.pods(contents.OBI_NAMESPACE, contents.OBI_SELECTOR)
        if pod["spec"].get("nodeName") == REAL_NODE and "deletionTimestamp" not in pod["metadata"]
    ]
    return str(pods[0]["name"]) if pods else None


def claim(name: str) -> Instance:
    """Give the instance its directory and its names, and record them before anything by these names is made.

    Raises: SandboxError when it is up already, or its names are taken.
    """
    state = state_of(name)
    with machine_lock("claim"):
        if load(name) is not None:
            raise SandboxError(f"sandbox {name} is up, or was not stopped: `sandbox.py down --instance {name}` first")
        instance = _identify(name, state)
        for netns in instance.namespaces:
            if network.exists(netns):
                raise SandboxError(f"the network namespace {netns} is there, but not of a sandbox in {state.parent}")
        # Without a record there is nothing but a directory: all else is made later.
        shutil.rmtree(state, ignore_errors=True)
        (state / "daemons").mkdir(parents=True)
        (state / "log").mkdir()
        instance.save()
    return instance


def bring_up(
    instance: Instance, programs: Programs, timeline: Timeline, *, kwok_nodes: int, real_node: bool
) -> Started:
    """Start everything and wait until it runs. Raises: SandboxError; the caller takes down what was made."""
    obstacle = node.obstacle(programs) if real_node else "not asked for"
    if instance.index is not None:
        daemon.make_room_for_watchers()
        network.make(instance)
        traffic.start_peer(instance, programs.companion)
        timeline.done("network")
    canaries = contents.canaries()
    filled = contents.values(instance, canaries)
    with ThreadPoolExecutor(max_workers=1) as pool:
        # The runtime needs nothing of the control plane, so both start at once.
        runtime = pool.submit(node.start_runtime, instance, programs) if obstacle is None else None
        within_s = RUNNING_WITHIN_S + EACH_NODE_S * kwok_nodes
        cluster = _Cluster(instance, programs, controlplane.start(instance, programs), filled, within_s)
        timeline.done("API server ready")
        simulated_nodes = _start_controllers(cluster, kwok_nodes)
        timeline.done("definitions, simulated nodes")
        if runtime is not None:
            containerd = runtime.result()
            with node.kept_sysctls(instance):
                node.start_kubelet(instance, programs, containerd)
                cluster.wait_for_node(REAL_NODE)
            timeline.done("real node ready")
    nodes = (*simulated_nodes, REAL_NODE) if obstacle is None else simulated_nodes
    _populate(cluster, nodes, timeline)
    left_out = _left_out(instance, obstacle if real_node else None)
    return Started(cluster.api, simulated_nodes, REAL_NODE if obstacle is None else None, canaries, left_out)


def take_down(instance: Instance) -> None:
    """Stop and remove all that the instance has made, finished or not. Raises: SandboxError naming what stays."""
    daemons = daemon.recorded(instance)
    # The kubelet first: it would start containers again.
    daemon.stop(one for one in daemons if one.name == "kubelet")
    daemon.stop(daemons)
    if instance.index is not None:
        daemon.kill_inhabitants(instance.namespaces, cgroup.paths(instance))
        node.restore_sysctls(instance)
        network.remove(instance)
        cgroup.remove(instance)
    shutil.rmtree(instance.state)


def take_down_by_name(name: str) -> bool:
    """Take down an instance that another process has made, however far it came; whether there was one.

    Raises: SandboxError.
    """
    found = load(name)
    if found is not None:
        take_down(found)
        return True
    with machine_lock("claim"):
        if load(name) is None:
            # What a start leaves that was cut off before its record.
            shutil.rmtree(state_of(name), ignore_errors=True)
    return False


def _identify(name: str, state: Path) -> Instance:
    if os.geteuid() != 0:
        return Instance(name, state, "127.0.0.1", free_ports(), None)
    others = (load(other) for other in recorded())
    uplink = network.choose_uplink([other.index for other in others if other and other.index is not None])
    return Instance(name, state, uplink.inside, Ports(), uplink.index, uplink.host)


def _left_out(instance: Instance, obstacle: str | None) -> tuple[str, ...]:
    said = []
    if obstacle is not None:
        said.append(f"no real node ({obstacle}): OBI's pods are simulated, and no flow is captured")
    if instance.index is None:
        said.append("no network namespace (not root): all listens on loopback, and the pod proxy reaches nothing")
    return tuple(said)


def _start_controllers(cluster: _Cluster, kwok_nodes: int) -> tuple[str, ...]:
    """Start what drives the cluster, and what it needs to be there first; the simulated nodes' names."""
    controlplane.start_controllers(cluster.instance, cluster.programs)
    contents.write_logs(cluster.instance, cluster.filled)
    cluster.apply("namespaces", "definitions")
    contents.wait_until_defined(cluster.api)
    version = cluster.programs.versions["cluster"]
    names = simulated.create_nodes(cluster.instance, cluster.api, kwok_nodes, version)
    simulated.start_kwok(cluster.instance, cluster.programs)
    return names


def _populate(cluster: _Cluster, nodes: tuple[str, ...], timeline: Timeline) -> None:
    """Create the workloads and wait until they run on ready nodes."""
    account = f"/api/v1/namespaces/{contents.OBI_NAMESPACE}/serviceaccounts/default"
    cluster.wait_until("service accounts are there", lambda: cluster.api.get(account).status == 200)
    real = REAL_NODE in nodes
    cluster.apply("obi", "foreign", "logs", *(("foreign-real",) if real else ()))
    timeline.done("workloads created")
    for name in nodes:
        cluster.wait_for_node(name)
    cluster.wait_for_pods(contents.OBI_NAMESPACE, contents.OBI_SELECTOR, least=len(nodes))
    timeline.done("OBI runs on every node")
    for namespace in contents.NAMESPACES:
        cluster.wait_for_pods(namespace)
    timeline.done("foreign workloads run")
    contents.publish_usage(cluster.api)
    timeline.done("usage metrics")
    if real:
        # A container that runs has not loaded its eBPF programs yet; the API's own traffic shows when it has.
        cluster.wait_until("OBI captures flows", cluster.captures_flows)
        timeline.done("OBI captures flows")
