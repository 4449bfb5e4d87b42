"""The whole session of the demo through ``docker run -i``, and how the container ends."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.daemon import DockerDaemon
from tests.demo.__main__ import play
from tests.demo.place import Place
from tests.demo.server import ServerFiles, write_config
from tests.demo.session import STEPS
from tests.demo.transcript import Transcript
from tests.image.container import HARDENED, Built
from tests.sandbox.sandbox import Sandbox

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}
INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}
ENDLESS = {
    "jsonrpc": "2.0",
    "id": 2,
    "method": "tools/call",
    "params": {
        "name": "obi_kubectl",
        "arguments": {"command": "kubectl version --client -o json | jq 'until(false; .)'"},
    },
}
KUBECONFIG = {
    "current-context": "nowhere",
    "contexts": [{"name": "nowhere", "context": {"cluster": "nowhere", "user": "nobody"}}],
    "clusters": [{"name": "nowhere", "cluster": {"server": "https://192.0.2.1"}}],
    "users": [{"name": "nobody", "user": {"token": "none"}}],
}
PROCESSES = "import pathlib; print(*(p.read_text().strip() for p in pathlib.Path('/proc').glob('[0-9]*/comm')))"
WITHIN_S = 180.0

pytestmark = pytest.mark.image


def wait_until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def flattened(kubeconfig: Path) -> str:
    """As ``kubectl config view --raw --flatten`` gives it: certificates are in it, not beside it."""
    content = json.loads(kubeconfig.read_text(encoding="utf-8"))
    for cluster in content["clusters"]:
        authority = Path(cluster["cluster"].pop("certificate-authority"))
        cluster["cluster"]["certificate-authority-data"] = base64.b64encode(authority.read_bytes()).decode()
    return json.dumps(content)


def test_the_demo_plays_in_a_container(daemon: DockerDaemon, built: Built, sandbox: Sandbox, shared: Path) -> None:
    kubeconfig = shared / "kubeconfig"
    kubeconfig.write_text(flattened(sandbox.kubeconfig), encoding="utf-8")
    serve = (
        *(str(daemon.bin / "docker"), f"--host={daemon.host}", "run", "-i", "--rm", "--network=host", *HARDENED),
        *(f"--volume={kubeconfig}:/kube/config:ro", f"--volume={shared}:{shared}"),
        *(f"--env=OBI_MCP_CONFIG={shared}/config.yaml", built.reference),
    )
    files = ServerFiles(shared, serve)
    place = Place(
        kubeconfig="/kube/config",
        sandbox=sandbox,
        changes=True,
        canaries=tuple(canary["text"] for canary in sandbox.facts["canaries"]),
    )
    write_config(files, place, None)
    for file in (kubeconfig, files.config):
        os.chown(file, 65532, 65532)
    printed = io.StringIO()
    play(files, place, Transcript(printed))
    titles = [line for line in printed.getvalue().splitlines() if line[:2].strip().isdigit()]
    assert len(titles) == len(STEPS) + 1  # the audit log is the last
    assert "LEFT OUT" not in printed.getvalue()
    assert daemon.docker("ps", "-aq").stdout == ""


@pytest.mark.parametrize("init", [(), ("--init",)], ids=["as process 1", "below tini"])
def test_docker_stop_ends_it_and_what_runs_before_they_would_be_killed(
    daemon: DockerDaemon, built: Built, tmp_path: Path, init: tuple[str, ...]
) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps(KUBECONFIG), encoding="utf-8")
    flags = ("--name=stopped", "--network=none", *init, *HARDENED, f"--volume={kubeconfig}:/kube/config:ro")
    client = subprocess.Popen(
        [str(daemon.bin / "docker"), "run", "-i", *flags, built.reference],
        env=daemon.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert client.stdin is not None and client.stdout is not None
    client.stdin.write("".join(f"{json.dumps(message)}\n" for message in (INITIALIZE, INITIALIZED, ENDLESS)))
    client.stdin.flush()
    assert json.loads(client.stdout.readline())["result"]["serverInfo"]["name"] == "obi-mcp"
    look = ("exec", "stopped", "/usr/bin/python3.11", "-I", "-c", PROCESSES)
    wait_until(lambda: "jq" in daemon.docker(*look).stdout.split())
    daemon.docker("stop", "--time=60", "stopped")
    state = json.loads(daemon.docker("inspect", "--format={{json .State}}", "stopped").stdout)
    client.communicate()
    daemon.docker("rm", "stopped")
    assert (state["Status"], state["ExitCode"]) == ("exited", 0)  # killed after that time it would be 137
    assert client.returncode == 0


def test_the_end_of_standard_input_ends_it(daemon: DockerDaemon, built: Built) -> None:
    done = daemon.docker(
        "run", "-i", "--rm", "--network=none", *HARDENED, built.reference, input=json.dumps(INITIALIZE) + "\n"
    )
    assert json.loads(done.stdout)["id"] == 1
    assert "the client left" in done.stderr


def test_a_terminal_gets_a_hint(daemon: DockerDaemon, built: Built) -> None:
    container = daemon.docker("run", "-d", "-t", "--network=none", *HARDENED, built.reference).stdout.strip()
    wait_until(lambda: "this is a terminal" in daemon.docker("logs", container).stdout)
    daemon.docker("rm", "--force", container)


@pytest.mark.parametrize(
    ("words", "code", "shown"),
    [
        (("--version",), 0, "obi-mcp "),
        (("policy", "check", "kubectl get pods -A"), 0, "narrow kubectl.get"),
        (("policy", "check", "kubectl get secrets"), 3, "deny hard.credentials"),
        (("tools",), 0, "obi_kubectl"),
        (("config", "show"), 0, 'access: "read-only"'),
        (("completion", "bash"), 0, "complete"),
        (("doctor",), 1, "ok       filters"),
        (("serve", "--no-such-flag"), 2, ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_the_entry_point_takes_every_verb(
    daemon: DockerDaemon, built: Built, words: tuple[str, ...], code: int, shown: str
) -> None:
    done = daemon.docker("run", "--rm", "--network=none", *HARDENED, built.reference, *words, check=False)
    assert done.returncode == code, done.stderr
    assert shown in done.stdout
