"""A kubeconfig that cannot work: one error, which names the way out; told by the tools and by ``doctor``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from obi_mcp.cli.findings import kubeconfig_findings
from obi_mcp.config import Settings
from obi_mcp.process import obstacle
from obi_mcp.process.container import HOST_NETWORK, names_loopback, unreachable_step
from obi_mcp.process.kubeconfig import Kubeconfig, file_error
from obi_mcp.process.obstacle import no_kubeconfig

ROOT = Path(__file__).parents[3]
PROGRAMS = f"{ROOT}/.venv/bin:/usr/bin:/bin"
LIST = "kubectl get pods -n observability -l app=obi"
DEAD = "https://127.0.0.1:1"
CERTIFICATE = {"certificate-authority": "/nowhere/ca.crt"}
EXEC = {"apiVersion": "client.authentication.k8s.io/v1", "command": "aws", "interactiveMode": "Never"}
NOBODY = 65532


def kubeconfig(file: Path, server: str = DEAD, *, user: Any = None, cluster: Any = None) -> None:
    body = {
        "current-context": "prod",
        "clusters": [{"name": "prod", "cluster": {"server": server, **(cluster or {})}}],
        "users": [{"name": "prod", "user": user or {"token": "t"}}],
        "contexts": [{"name": "prod", "context": {"cluster": "prod", "user": "prod"}}],
    }
    file.write_text(json.dumps(body))
    file.chmod(0o600)


CASES: list[tuple[str, Callable[[Path], object], int, str, str, str]] = [
    # what, how the file is made, the exit code of a call, what is said, the way out in a container, and elsewhere
    ("not there", lambda file: None, 2, "the kubeconfig {file} is not there", "mount it: -v ", "name one that is"),
    ("a directory", lambda file: file.mkdir(), 2, "{file} is a directory", "docker makes a directory", "name the file"),
    ("not YAML", lambda file: file.write_text("a: ["), 2, "the kubeconfig {file} is not YAML", "", ""),
    ("empty", lambda file: file.write_text(""), 2, "{file} has no current context", "use-context", "use-context"),
    (
        "loopback",
        kubeconfig,
        4,
        "127.0.0.1:1",
        "start it with --network=host",
        "start the cluster, or name another context",
    ),
    (
        "a certificate that is not mounted",
        lambda file: kubeconfig(file, cluster=CERTIFICATE),
        2,
        "the file /nowhere/ca.crt, which the context prod names, is not there",
        "kubectl config view --minify --flatten",
        "correct the path in the kubeconfig",
    ),
    (
        "a key that is not mounted",
        lambda file: kubeconfig(file, user={"client-certificate": "/etc/passwd", "client-key": "/nowhere/k.pem"}),
        2,
        "/nowhere/k.pem, which the context prod names, is not there",
        "-v /nowhere:/nowhere:ro",
        "correct the path in the kubeconfig",
    ),
    (
        "a token that is not mounted",
        lambda file: kubeconfig(file, user={"tokenFile": "/nowhere/token"}),
        2,
        "/nowhere/token, which the context prod names, is not there",
        "mount their folder",
        "correct the path in the kubeconfig",
    ),
    (
        "credentials without TLS",
        lambda file: kubeconfig(file, "http://127.0.0.1:1"),
        4,
        "127.0.0.1:1",
        "--network=host",
        "start the cluster",
    ),
    (
        "a plugin",
        lambda file: kubeconfig(file, user={"exec": EXEC}),
        2,
        "aws",
        "kubectl create token ACCOUNT",
        "programs.path",
    ),
]


def run(verb: list[str], file: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "obi_mcp", *verb],
        env={"PATH": PROGRAMS, "PYTHONPATH": f"{ROOT}/server", "HOME": "/nonexistent", "TMPDIR": str(file.parent),
             "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", f"{Path.home()}/.cache"),
             "KUBECONFIG": str(file), "OBI_MCP_CONTAINER": "1"} | environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip


@pytest.mark.parametrize(("what", "make", "code", "said", "inside", "outside"), CASES, ids=[row[0] for row in CASES])
def test_a_call_gives_one_error_with_the_way_out(
    what: str,
    make: Callable[[Path], object],
    code: int,
    said: str,
    inside: str,
    outside: str,
    tmp_path: Path,
) -> None:
    file = tmp_path / "config"
    make(file)
    done = run(["call", "obi_kubectl", "--arg", f"command={LIST}", "--output", "json"], file)
    answer = json.loads(done.stdout)
    assert done.returncode == code
    assert said.format(file=file) in answer["message"]
    assert inside in (answer["hint"] or "")


@pytest.mark.parametrize("contained", [True, False], ids=["in a container", "on a host"])
@pytest.mark.parametrize(("what", "make", "code", "said", "inside", "outside"), CASES, ids=[row[0] for row in CASES])
def test_doctor_says_the_same(
    what: str,
    make: Callable[[Path], object],
    code: int,
    said: str,
    inside: str,
    outside: str,
    contained: bool,
    tmp_path: Path,
) -> None:
    file = tmp_path / "config"
    make(file)
    from obi_mcp.cli import findings, findings_programs
    from obi_mcp.config import Programs, Settings

    settings = Settings(programs=Programs(kubeconfig=str(file)))
    environ = {"OBI_MCP_CONTAINER": "1" if contained else "0", "PATH": PROGRAMS}
    found = [
        *findings.kubeconfig_findings(settings, environ),
        *findings_programs.program_findings(settings, environ),
    ]
    problems = [finding for finding in found if finding.severity == "problem" and "kubeconfig file" in finding.subject]
    problems += [finding for finding in found if finding.severity == "problem" and "credentials" in finding.subject]
    if what == "credentials without TLS":
        said = "the context prod has credentials (token) for http://127.0.0.1:1"
        inside = outside = "correct the server's address to https://"
    if what in {"loopback", "empty"}:  # doctor's questions to the cluster have the same hint: findings_cluster
        assert not problems
        return
    assert len(problems) == 1, found
    assert said.format(file=file) in problems[0].evidence
    assert (inside if contained else outside) in (problems[0].next_step or "")


def test_a_file_of_another_owner_names_both_users(tmp_path: Path) -> None:
    file = tmp_path / "config"
    kubeconfig(file)
    user = os.geteuid()
    reader, mode = (NOBODY, 0o600) if user == 0 else (user, 0o000)
    file.chmod(mode)
    # pytest's own folders, one more of them where several workers run; not the one that holds everybody's.
    for folder in (tmp_path, *(parent for parent in tmp_path.parents if parent.name.startswith(("pytest-", "popen-")))):
        folder.chmod(0o755)
    try:
        os.setresuid(reader, reader, -1)
        error = file_error(str(file), {"OBI_MCP_CONTAINER": "1"})
    finally:
        os.setresuid(user, user, -1)
    assert error is not None
    assert (error.message, error.hint) == (
        f"the kubeconfig {file} belongs to user {user} with mode {mode:04o}, and user {reader} may not read it",
        f"run the container as the file's owner: --user {user}:{os.getegid()}",
    )


def test_nothing_named_is_said_once_and_only_where_a_cluster_is_needed(tmp_path: Path) -> None:
    none = tmp_path / "config"
    asked = ["call", "obi_kubectl", "--output", "json", "--arg"]
    done = run([*asked, f"command={LIST}"], none, KUBECONFIG="")
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["message"]) == (2, "no kubeconfig is named, and ~/.kube/config is not there")
    assert "-v $HOME/.kube/config:/kube/config:ro" in answer["hint"]
    for named in ("", str(none)):
        done = run([*asked, "command=kubectl version --client"], none, KUBECONFIG=named)
        assert (done.returncode, "Client Version" in done.stdout) == (0, True)


@pytest.mark.parametrize("named", [True, False], ids=["a file that is not there", "no file"])
def test_in_a_pod_its_account_stands_in_for_a_kubeconfig(
    named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = (str(tmp_path / "config"),) if named else ()
    environ = {"OBI_MCP_CONTAINER": "1", "HOME": "/nonexistent", "KUBECONFIG": ":".join(paths)}
    empty = Kubeconfig(paths, missing=paths)
    assert no_kubeconfig(empty, environ) is not None
    assert [found.severity for found in kubeconfig_findings(Settings(), environ)] == ["problem"]
    (tmp_path / "token").touch()
    monkeypatch.setattr(obstacle, "SERVICE_ACCOUNT", str(tmp_path))
    assert no_kubeconfig(empty, environ) is None
    assert [found.severity for found in kubeconfig_findings(Settings(), environ)] == ["ok"]


class Refusing(BaseHTTPRequestHandler):
    """An API server that wants credentials, and never gets any."""

    def do_GET(self) -> None:
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "code": 403}
        body = json.dumps({**status, "message": "system:anonymous may not"}).encode()
        self.server.seen.append(self.headers.get("Authorization"))  # type: ignore[attr-defined]
        self.send_response(403)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def refusing() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    server.seen = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("command", "user"),
    [
        (LIST, {"exec": {**EXEC, "command": "true"}}),
        ("kubectl describe ds/obi -n observability", {"token": "t"}),
    ],
    ids=["a plugin, of a list", "a token, of a membership check"],
)
def test_credentials_that_are_never_sent_are_named(
    command: str, user: Any, refusing: ThreadingHTTPServer, tmp_path: Path
) -> None:
    file = tmp_path / "config"
    server = f"http://127.0.0.1:{refusing.server_address[1]}"
    kubeconfig(file, server, user=user)
    done = run(["call", "obi_kubectl", "--output", "json", "--arg", f"command={command}"], file)
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["code"]) == (2, "config_error")
    assert f"for {server}, and kubectl sends none to a server without TLS" in answer["message"]
    seen = refusing.seen  # type: ignore[attr-defined]
    assert set(seen) == {None}


ADDRESSES: list[tuple[str, bool]] = [
    ("dial tcp 127.0.0.1:6443: connect: connection refused", True),
    ('Get "https://localhost:6443/api"', True),
    ("dial tcp [::1]:8080: connect", True),
    ("https://127.1.2.3/", True),
    ("dial tcp 10.127.0.0:1: i/o timeout", False),
    ("https://localhost.example.com", False),
    ("https://my-localhost:1", False),
    ("https://k8s.example.com", False),
]


@pytest.mark.parametrize(("text", "loopback"), ADDRESSES)
def test_only_this_hosts_own_addresses_need_its_network(text: str, loopback: bool) -> None:
    assert names_loopback(text) == loopback
    assert (unreachable_step(text, {"OBI_MCP_CONTAINER": "1"}) == HOST_NETWORK) == loopback
