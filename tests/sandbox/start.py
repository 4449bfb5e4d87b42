"""The order in which an instance comes up, and in which it goes."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tests.sandbox import cgroup, controlplane, daemon, network, node, simulated, traffic, workloads
from tests.sandbox.api import Api, pod_ready, wait_until
from tests.sandbox.daemon import Daemon
from tests.sandbox.instance import (
    Instance,
    SandboxError,
    free_ports,
    machine_lock,
    state_of,
    state_root,
)
from tests.sandbox.programs import Programs
from tests.sandbox.timeline import Timeline

RUNNING_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Started:
    """What came up. ``left_out`` says, one sentence each, what did not, and why."""

    api: Api
    simulated_nodes: tuple[str, ...]
    real_node: str | None
    canaries: tuple[workloads.Canary, ...]
    left_out: tuple[str, ...]


def claim(name: str) -> Instance:
    """Make the instance's directory and, for root, its namespace; from here on its names are its own.

    Raises: SandboxError when it is up already, or its names are taken.
    """
    state = state_of(name)
    with machine_lock("claim"):
        if state.exists():
            raise SandboxError(f"{state} is there: sandbox {name} is up, or was not stopped; `sandbox.py down` it first")
        (state / "daemons").mkdir(parents=True)
        (state / "log").mkdir()
        try:
            instance = _identify(name)
        except SandboxError:
            shutil.rmtree(state)
            raise
        instance.save()
    return instance


def bring_up(
    instance: Instance, programs: Programs, timeline: Timeline, *, kwok_nodes: int, real_node: bool
) -> Started:
    """Start everything and wait until it runs. Raises: SandboxError; the caller takes down what was made."""
    left_out = _left_out(instance, programs, real_node=real_node)
    obstacle = node.obstacle(programs) if real_node else "not asked for"
    if instance.index is not None:
        network.make(instance)
        traffic.start_peer(instance, programs)
    timeline.done("network")
    with ThreadPoolExecutor(max_workers=1) as pool:
        # The runtime needs nothing of the control plane, so both start at once.
        runtime = pool.submit(node.start_runtime, instance, programs) if obstacle is None else None
        plane = controlplane.start_store_and_api(instance, programs)
        timeline.done("API server ready")
        planted = _populate(instance, programs, plane.api)
        names = simulated.create_nodes(instance, plane.api, kwok_nodes, programs.versions["cluster"])
        controlplane.start_controllers(instance, programs)
        simulated.start_kwok(instance, programs)
        timeline.done("namespaces, definitions, simulated nodes")
        if runtime is None:
            _settle(instance, programs, plane.api, planted, names, timeline, real=False)
        else:
            started = runtime.result()
            timeline.done("containerd, images")
            with node.kept_sysctls(instance):
                kubelet = node.start_kubelet(instance, programs, started)
                wait_until(
                    "the real node is ready",
                    lambda: plane.api.node_ready(controlplane.REAL_NODE),
                    within_s=RUNNING_WITHIN_S,
                    check=lambda: daemon.require_alive(instance, (kubelet,)),
                )
            timeline.done("real node ready")
            _settle(instance, programs, plane.api, planted, names, timeline, real=True)
    workloads.publish_usage(plane.api)
    timeline.done("usage metrics")
    return Started(plane.api, names, controlplane.REAL_NODE if obstacle is None else None, planted, left_out)


def take_down(instance: Instance) -> None:
    """Stop and remove all that the instance has made, finished or not. Raises: SandboxError naming what stays."""
    # First the kubelet, which would start containers again.
    daemons = sorted(daemon.recorded(instance), key=lambda one: one.name != "kubelet")
    for one in daemons[:1]:
        daemon.stop((one,))
    daemon.stop(daemons[1:])
    if instance.netns is not None:
        spaces = (instance.netns, instance.peer_netns, instance.pods_netns)
        daemon.kill_inhabitants(spaces, cgroup.paths(instance))
        node.restore_sysctls(instance)
        network.remove(instance)
        cgroup.remove(instance)
    shutil.rmtree(instance.state)


def _identify(name: str) -> Instance:
    state = state_of(name)
    if os.geteuid() != 0:
        return Instance(name, state, "127.0.0.1", free_ports(), None)
    from tests.sandbox.instance import Ports

    uplink = network.claim_uplink(f"obi-mcp-{name}")
    return Instance(name, state, uplink.inside, Ports(), uplink.index, uplink.host)


def _left_out(instance: Instance, programs: Programs, *, real_node: bool) -> tuple[str, ...]:
    said = []
    obstacle = node.obstacle(programs)
    if real_node and obstacle is not None:
        said.append(f"no real node ({obstacle}): OBI's pods are simulated, no flow is captured")
    if instance.index is None:
        said.append("no network namespace (not root): everything listens on loopback, the pod proxy answers nothing")
    return tuple(said)


def _populate(instance: Instance, programs: Programs, api: Api) -> tuple[workloads.Canary, ...]:
    """Create what kwok and the workloads need to be there first; the canaries that will be planted."""
    planted = workloads.canaries()
    filled = workloads.values(instance, planted)
    workloads.write_logs(instance, filled)
    workloads.apply(instance, programs, filled, "namespaces", "definitions")
    workloads.wait_until_defined(api)
    return planted


def _settle(
    instance: Instance,
    programs: Programs,
    api: Api,
    planted: tuple[workloads.Canary, ...],
    nodes: tuple[str, ...],
    timeline: Timeline,
    *,
    real: bool,
) -> None:
    """Apply the workloads and wait until nodes are ready and pods run."""

    def alive() -> None:
        daemon.require_alive(instance, daemon.recorded(instance))

    filled = workloads.values(instance, planted)
    wait_until(
        "service accounts are there",
        lambda: api.get("/api/v1/namespaces/observability/serviceaccounts/default").status == 200,
        within_s=RUNNING_WITHIN_S,
        check=alive,
    )
    workloads.apply(instance, programs, filled, "obi", "foreign", "logs", *(("foreign-real",) if real else ()))
    timeline.done("workloads created")
    expected = (*nodes, *((controlplane.REAL_NODE,) if real else ()))
    for name in expected:
        wait_until(f"node {name} is ready", lambda name=name: api.node_ready(name), within_s=RUNNING_WITHIN_S, check=alive)  # type: ignore[misc]
    timeline.done("nodes ready")
    wait_until(
        "OBI runs on every node",
        lambda: sum(map(pod_ready, api.pods(workloads.OBI_NAMESPACE, workloads.OBI_SELECTOR))) == len(expected),
        within_s=RUNNING_WITHIN_S,
        check=alive,
    )
    timeline.done("OBI runs on every node")
    for namespace in ("observability", "shop", "billing"):
        wait_until(
            f"the pods of {namespace} run",
            lambda namespace=namespace: all(map(pod_ready, api.pods(namespace))),  # type: ignore[misc]
            within_s=RUNNING_WITHIN_S,
            check=alive,
        )
    timeline.done("foreign workloads run")
