"""The sandbox is what it says: real where it says so, apart from the machine, and gone without a trace."""

from __future__ import annotations

import os
import re
import signal
import string
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.sandbox import archive, cgroup, contents, node, programs
from tests.sandbox.instance import SandboxError, load, state_of
from tests.sandbox.sandbox import Sandbox
from tests.unit.policy.manifest_cases import manifest_policy
from tests.unit.process.processes import wait_until

from obi_mcp.policy.documents import read_documents
from obi_mcp.policy.scope import Scope

ROOT = Path(__file__).resolve().parents[2]
SANDBOX = ROOT / "tests/sandbox/sandbox.py"
BUILD = ROOT / "tests/sandbox/build.py"
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="a sandbox with network namespaces and a real node needs root"),
]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """One for the tests that only look; made under a name of this process, as another run may be under way."""
    with Sandbox.up(f"test-{os.getpid()}") as up:
        yield up


@pytest.fixture
def name() -> Iterator[str]:
    """A name for an instance that the test makes itself; whatever happens, it is taken down."""
    chosen = f"crash-{os.getpid()}"
    yield chosen
    subprocess.run([sys.executable, str(SANDBOX), "down", "--instance", chosen], check=True, capture_output=True)


def traces(instance: str) -> list[str]:
    """All that is left of an instance on this machine: its files, network, cgroups, mounts and processes."""
    own = f"obi-mcp-{instance}"
    state = str(state_of(instance))
    found = [state] if Path(state).exists() else []
    found += [f"netns {path.name}" for path in Path("/run/netns").glob("*") if path.name.startswith(own)]
    found += [f"cgroup {path}" for path in cgroup.below(Path("/sys/fs/cgroup")) if path.name == own]
    found += [f"mount {line}" for line in Path("/proc/mounts").read_text().splitlines() if state in line or own in line]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words, groups = (process / "cmdline").read_text(), (process / "cgroup").read_text()
        except OSError:  # it has ended meanwhile
            continue
        # Without words it has ended too, and init has yet to collect it.
        if words and (f"{state}/" in words or f"/{own}/" in groups) and int(process.name) != os.getpid():
            found.append(f"process {process.name} {words[:120]!r}")
    return found


def kubectl(sandbox: Sandbox, *words: str) -> str:
    argv = [sandbox.facts["programs"]["kubectl"], f"--kubeconfig={sandbox.kubeconfig}", *words]
    return subprocess.run(argv, check=True, capture_output=True, text=True, env={"HOME": "/nonexistent"}).stdout


def test_a_real_node_stands_beside_simulated_ones(sandbox: Sandbox) -> None:
    names = kubectl(sandbox, "get", "nodes", "-o", "jsonpath={.items[*].metadata.name}").split()
    assert names == ["kwok-0", "kwok-1", "kwok-2", "real-0"]
    assert sandbox.facts["left_out"] == []
    assert sorted(sandbox.pods_by_node()) == names


def test_the_agent_counts_exactly_the_bytes_that_were_sent(sandbox: Sandbox) -> None:
    def counted(source: str, destination: str) -> int:
        return sum(flow.bytes for flow in sandbox.flows() if (flow.source, flow.destination) == (source, destination))

    client, server = sandbox.facts["peer"]["client"], sandbox.facts["peer"]["server"]
    before = counted(client, server), counted(server, client)
    made = sandbox.traffic(requests=25, body_bytes=3000)
    assert made.requests == 25 and made.body_bytes == 75_000
    assert made.received_bytes > made.body_bytes
    wanted = before[0] + made.sent_bytes, before[1] + made.received_bytes
    wait_until(
        lambda: counted(client, server) >= wanted[0] and counted(server, client) >= wanted[1], "all of it is counted"
    )
    assert (counted(client, server), counted(server, client)) == wanted


def test_logs_of_real_and_of_simulated_pods_are_read(sandbox: Sandbox) -> None:
    real = kubectl(sandbox, "logs", "-n", "observability", sandbox.real_pod())
    assert "Grafana Beyla" in real and "network_flow: " in real
    simulated = sandbox.pods_by_node()["kwok-0"]
    assert "this agent is simulated" in kubectl(sandbox, "logs", "-n", "observability", simulated)
    assert "network_flow" not in kubectl(sandbox, "logs", "-n", "observability", simulated)
    assert kubectl(sandbox, "logs", "-n", "observability", "obi-helper", "--tail=1").startswith("level=ERROR")


def test_usage_of_pods_and_nodes_is_served(sandbox: Sandbox) -> None:
    pods = kubectl(sandbox, "top", "pods", "-n", "observability", "-l", contents.OBI_SELECTOR, "--no-headers")
    assert [line.split()[0] for line in pods.splitlines()] == sorted(sandbox.pods_by_node().values())
    assert len(kubectl(sandbox, "top", "nodes", "--no-headers").splitlines()) == 4


def test_every_canary_lies_in_the_cluster_and_nowhere_in_obi(sandbox: Sandbox) -> None:
    everything = kubectl(sandbox, "get", "configmaps,pods", "-A", "-o", "yaml")
    secrets = kubectl(
        sandbox,
        "get",
        "secrets",
        "-A",
        "-o",
        "go-template={{range .items}}{{range .data}}{{base64decode .}}\n{{end}}{{end}}",
    )
    logs = "".join(
        kubectl(sandbox, "logs", "-n", namespace, name)
        for namespace, name in (
            ("observability", "grafana-0"),
            ("observability", "obi-helper"),
            ("shop", "deploy/cart"),
            ("shop", "deploy/storefront"),
        )
    )
    places = {"secret": secrets, "configmap": everything, "env": everything, "log": everything + logs}
    for canary in sandbox.facts["canaries"]:
        assert canary["text"] in places[canary["kind"]], canary
    obis = kubectl(
        sandbox, "get", "configmaps,pods,daemonsets", "-n", "observability", "-l", contents.OBI_SELECTOR, "-o", "yaml"
    )
    assert "name: obi" in obis and "CANARY" not in obis


def test_foreign_objects_are_compared_by_what_somebody_could_change(sandbox: Sandbox) -> None:
    before = sandbox.foreign()
    assert sandbox.foreign() == before
    kubectl(sandbox, "label", "pod", "-n", "observability", "obi-helper", "touched=yes")
    changed = {path for path, digest in sandbox.foreign().items() if before.get(path) != digest}
    assert changed == {"/api/v1/namespaces/observability/pods/obi-helper"}
    kubectl(sandbox, "label", "pod", "-n", "observability", "obi-helper", "touched-")
    assert sandbox.foreign() == before


def test_nothing_inside_has_a_way_out(sandbox: Sandbox) -> None:
    assert sandbox.netns is not None
    for netns in sandbox.instance.namespaces:
        argv = ["ip", "-n", netns, "route", "get", "192.0.2.77"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        # The namespace of simulated addresses knows one router, which knows no other.
        assert done.returncode != 0 or "via 10.99.0.5" in done.stdout, done.stdout


def test_a_second_instance_stands_beside_the_first_and_goes_alone(sandbox: Sandbox, name: str) -> None:
    values = node.sysctls()
    with Sandbox.up(name) as second:
        assert second.api_server != sandbox.api_server
        assert {second.netns, *second.instance.namespaces}.isdisjoint(sandbox.instance.namespaces)
        assert len(traces(name)) > 10
        link = Path("/sys/class/net") / second.instance.host_link
        assert link.exists()
        with pytest.raises(SandboxError, match="is up, or was not stopped"):
            Sandbox.up(name)
        made = second.traffic(requests=3)
        wait_until(
            lambda: any(flow.bytes >= made.sent_bytes for flow in second.flows() if flow.source == made.client),
            "its own agent counts",
        )
    assert traces(name) == []
    assert not link.exists()
    assert node.sysctls() == values
    assert sandbox.api.ready()
    assert kubectl(sandbox, "logs", "-n", "observability", sandbox.real_pod(), "--tail=1")


def cut_off(name: str, moment: str, how: signal.Signals) -> tuple[int, list[str]]:
    """Sends the signal to a start that tells of that moment: its exit code, and what it told."""
    argv = [sys.executable, str(SANDBOX), "up", "--instance", name, "--nodes", "1"]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as started:
        assert started.stderr is not None
        told = []
        for line in started.stderr:
            told.append(line)
            if moment in line:
                started.send_signal(how)
        return started.wait(), told


@pytest.mark.parametrize("moment", ["network", "API server ready", "real node ready", "OBI runs on every node"])
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_start_that_is_cut_off_leaves_nothing(name: str, moment: str, how: signal.Signals) -> None:
    values = node.sysctls()
    code, told = cut_off(name, moment, how)
    while code == 0:  # it had come up before the signal did: once more
        subprocess.run([sys.executable, str(SANDBOX), "down", "--instance", name], check=True)
        code, told = cut_off(name, moment, how)
    if how is signal.SIGKILL:
        # Nothing could be cleaned up then; all that is there is found by the instance's name.
        assert code == -signal.SIGKILL, told
        assert load(name) is not None
        subprocess.run([sys.executable, str(SANDBOX), "down", "--instance", name], check=True)
    else:
        assert code == 143, told
    assert traces(name) == []
    assert node.sysctls() == values


def test_without_a_real_node_the_simulated_ones_come_up(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "obstacle", lambda: "no cgroups here")
    with Sandbox.up(name, kwok_nodes=2) as up:
        assert up.facts["nodes"] == {"real": None, "simulated": ["kwok-0", "kwok-1"]}
        assert [sentence.split(":")[0] for sentence in up.facts["left_out"]] == ["no real node (no cgroups here)"]
        assert up.facts["obi"]["real_pod"] is None
        with pytest.raises(SandboxError, match="no pod on a real node"):
            up.flows()
    assert traces(name) == []


def test_obstacles_to_a_real_node_are_named() -> None:
    found = programs.find()
    assert node.obstacle(found) is None


def test_nothing_is_built_twice() -> None:
    done = subprocess.run([sys.executable, str(BUILD)], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert re.fullmatch(r"sandbox: \S+\n", done.stdout)


def test_obi_is_deployed_as_the_policy_would_let_it_be() -> None:
    text = (ROOT / "tests/sandbox/workloads/obi.yaml").read_text()
    filled = string.Template(text).substitute(interface="peer0", agent_address="10.99.0.1", obi_image=archive.OBI_IMAGE)
    documents = read_documents(filled)
    assert len(documents) == 5
    for document in documents:
        judgement = manifest_policy().judge(document, scope=Scope(), batch=documents)
        assert (judgement.violations, judgement.needs) == ((), ()), document.kind
