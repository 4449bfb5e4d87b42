#!/usr/bin/env python3
"""Starts and stops sandbox clusters: a real Kubernetes on this machine, with OBI and foreign workloads in it."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from tests.sandbox import contents, daemon, network, node, programs, requests, start
from tests.sandbox.api import Api, pod_ready
from tests.sandbox.foreign import fingerprints
from tests.sandbox.instance import Instance, SandboxError, load, recorded
from tests.sandbox.requests import Request
from tests.sandbox.timeline import Timeline
from tests.sandbox.traffic import METRIC, Flow, Traffic, read_flows, request_peer

_FACTS = "facts.json"


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A cluster that is up. As a context manager it is taken down at the end of the block.

    ``facts`` can be written as JSON; its keys are listed in README.md.
    """

    instance: Instance
    facts: dict[str, Any]

    @classmethod
    def up(
        cls,
        instance: str,
        *,
        kwok_nodes: int = 3,
        real_node: bool = True,
        tell: Callable[[str], None] = lambda _: None,
    ) -> Sandbox:
        """Start an instance and wait until OBI and the foreign workloads run; ``tell`` gets lines of progress.

        Raises: SandboxError when it is up already or does not come up; then nothing of it is left.
        """
        found = programs.find()
        timeline = Timeline(tell)
        made = start.claim(instance)
        try:
            started = start.bring_up(made, found, timeline, kwok_nodes=kwok_nodes, real_node=real_node)
            facts = _describe(made, found, started, timeline)
            (made.state / _FACTS).write_text(json.dumps(facts, indent=2), encoding="utf-8")
        except BaseException:
            start.take_down(made)
            raise
        return cls(made, facts)

    @classmethod
    def attach(cls, instance: str) -> Sandbox:
        """A sandbox that another process has started. Raises: SandboxError when it is not up."""
        found = load(instance)
        if found is None or not (found.state / _FACTS).exists():
            raise SandboxError(f"sandbox {instance} is not up")
        return cls(found, json.loads((found.state / _FACTS).read_text(encoding="utf-8")))

    @property
    def kubeconfig(self) -> Path:
        """Of a cluster administrator."""
        return self.instance.kubeconfig

    @property
    def api_server(self) -> str:
        return self.instance.api_server

    @property
    def netns(self) -> str | None:
        """The network namespace of control plane and real node, None without root."""
        return self.instance.netns

    @property
    def api(self) -> Api:
        """The API server, as a cluster administrator."""
        user = json.loads(self.kubeconfig.read_text(encoding="utf-8"))["users"][0]["user"]
        return Api(self.api_server, user["token"], self.instance.certificates / "ca.crt")

    def traffic(self, requests: int = 40, body_bytes: int = 2000) -> Traffic:
        """Make requests over the link that OBI watches; what went over it. Raises: SandboxError."""
        companion = Path(self.facts["programs"]["companion"])
        return request_peer(self.instance, companion, requests=requests, body_bytes=body_bytes)

    def flows(self) -> tuple[Flow, ...]:
        """What OBI on the real node has counted so far, read through the API server's pod proxy."""
        return read_flows(self.api.get(start.metrics_path(self.real_pod())).require("read OBI's metrics"))

    def real_pod(self) -> str:
        """OBI's pod on the real node, as it is called now. Raises: SandboxError where there is none."""
        name = start.real_pod(self.api)
        if name is None:
            raise SandboxError("OBI has no pod on a real node")
        return name

    def pods_by_node(self) -> dict[str, str]:
        """OBI's pods as they are called now (a test may have had one replaced since the start), by their node."""
        pods = self.api.pods(contents.OBI_NAMESPACE, contents.OBI_SELECTOR)
        return {
            pod["spec"]["nodeName"]: pod["metadata"]["name"]
            for pod in pods
            if "deletionTimestamp" not in pod["metadata"] and "nodeName" in pod["spec"]
        }

    def whole(self) -> bool:
        """Whether OBI has one pod on each of its nodes, and its pods and all others run and are ready."""
        if set(self.pods_by_node()) != set(self.facts["obi"]["pods_by_node"]):
            return False
        pods = [pod for namespace in contents.NAMESPACES for pod in self.api.pods(namespace)]
        return all("deletionTimestamp" not in pod["metadata"] and pod_ready(pod) for pod in pods)

    def name_image(self, reference: str, other: str) -> None:
        """Give an image of the real node another name, too. Raises: SandboxError."""
        node.name_image(self.instance, programs.find(), reference, other)

    def requests(self, begin: int = 0) -> tuple[tuple[Request, ...], int]:
        """What was asked of the API server since that place in its log, and the place after it."""
        return requests.requests(self.instance, begin)

    def foreign(self) -> dict[str, str]:
        """A digest of every object that is not OBI's, by its path: what must be the same before and after."""
        return fingerprints(self.api)

    def down(self) -> None:
        """Stop it and leave nothing behind. Raises: SandboxError naming what stays."""
        start.take_down(self.instance)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()


def _describe(
    instance: Instance, found: programs.Programs, started: start.Started, timeline: Timeline
) -> dict[str, Any]:
    pods = started.api.pods(contents.OBI_NAMESPACE, contents.OBI_SELECTOR)
    by_node = {pod["spec"]["nodeName"]: pod["metadata"]["name"] for pod in pods}
    real = by_node.get(started.real_node or "")
    return {
        "instance": instance.name,
        "state": str(instance.state),
        "kubeconfig": str(instance.kubeconfig),
        "context": f"obi-mcp-{instance.name}",
        "api_server": instance.api_server,
        "netns": instance.netns,
        "versions": found.versions,
        "programs": {"companion": str(found.companion), "kubectl": str(found.kubectl)},
        "nodes": {"real": started.real_node, "simulated": list(started.simulated_nodes)},
        "obi": {
            "namespace": contents.OBI_NAMESPACE,
            "daemonset": "obi",
            "configmap": "obi",
            "container": "ebpf-instrument",
            "selector": contents.OBI_SELECTOR,
            "pods_by_node": by_node,
            "real_pod": real,
            "metrics_path": start.metrics_path(real) if real else None,
            "flow_metric": METRIC,
        },
        "peer": {"client": str(network.PEER_LINK[1]), "server": str(network.PEER_LINK[2]), "port": network.PEER_PORT},
        "foreign": contents.FOREIGN,
        "canaries": [asdict(canary) for canary in started.canaries],
        "left_out": list(started.left_out),
        "steps": [{"step": step, "done_s": seconds} for step, seconds in timeline.steps],
    }


def main() -> int:
    """Exit code 0; 1 when it did not come up, is not up, or could not be stopped; 2 for usage."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a start that is stopped cleans up
    try:
        return {"up": _up, "down": _down, "status": _status}[arguments.verb](arguments)
    except SandboxError as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _up(arguments: argparse.Namespace) -> int:
    def tell(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    sandbox = Sandbox.up(
        arguments.instance, kwok_nodes=arguments.nodes, real_node=not arguments.no_real_node, tell=tell
    )
    for sentence in sandbox.facts["left_out"]:
        tell(f"left out: {sentence}")
    print(json.dumps(sandbox.facts, indent=2) if arguments.json else f"export KUBECONFIG={sandbox.kubeconfig}")
    return 0


def _down(arguments: argparse.Namespace) -> int:
    if start.take_down_by_name(arguments.instance):
        return 0
    print(f"sandbox {arguments.instance} is not up", file=sys.stderr)
    return 0


def _status(arguments: argparse.Namespace) -> int:
    found = load(arguments.instance)
    if found is None:
        others = recorded()
        print(json.dumps({"up": False, "others": others}) if arguments.json else f"not up; others: {' '.join(others)}")
        return 1
    state = {one.name: one.alive() for one in daemon.recorded(found)}
    up = all(state.values()) and (found.state / _FACTS).exists()
    if arguments.json:
        print(json.dumps({"up": up, "daemons": state, "state": str(found.state)}))
    else:
        print("\n".join(f"{'runs ' if alive else 'ended'}  {name}" for name, alive in state.items()))
    return 0 if up else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("verb", choices=("up", "down", "status"))
    parser.add_argument("--instance", default="dev", help="several may stand side by side (dev)")
    parser.add_argument("--nodes", type=int, default=3, help="simulated nodes (3)")
    parser.add_argument("--no-real-node", action="store_true", help="simulated nodes alone")
    parser.add_argument("--json", action="store_true", help="print the facts as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
