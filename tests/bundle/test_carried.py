"""The bundle of the real image on the other side: no network, an empty daemon, a registry of its own.

The tests stand in the order of a visit: the daemon has what the first one loaded.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.bundle.ci_steps import IMAGE, github_steps, gitlab_jobs
from tests.bundle.conftest import Carried
from tests.bundle.programs import carrying_programs, inside, registry
from tests.bundle.small import ROOT, write_bundle
from tests.daemon import DockerDaemon
from tests.demo.__main__ import play
from tests.demo.place import Place
from tests.demo.server import ServerFiles, write_config
from tests.demo.session import STEPS
from tests.demo.transcript import Transcript
from tests.image.container import HARDENED
from tests.image.test_session import flattened
from tests.sandbox.sandbox import Sandbox

pytestmark = pytest.mark.image

NO_NETWORK = ("unshare", "--net", "--")


def load(
    carried: Carried, *words: str, before: tuple[str, ...], environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """``load.sh`` with the key that came by another way."""
    return subprocess.run(
        [*before, "/bin/sh", str(carried.folder / "load.sh"), *words, "--key", str(carried.key)],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def digests(carried: Carried) -> dict[str, str]:
    return dict(line.split() for line in (carried.folder / "digests.txt").read_text().splitlines())


# --- what it is made of ---


def test_the_same_image_gives_the_same_bundle(carried: Carried, tmp_path: Path) -> None:
    again = write_bundle([carried.built.layout], tmp_path, key=str(carried.key.with_suffix("")))
    assert (again.folder / "SHA256SUMS").read_text() == (carried.folder / "SHA256SUMS").read_text()
    assert (again.folder / "SHA256SUMS.sig").read_text() == (carried.folder / "SHA256SUMS.sig").read_text()
    assert again.archive.read_bytes() == carried.made.archive.read_bytes()


def test_the_bill_of_materials_has_what_was_pinned(carried: Carried) -> None:
    (file,) = (carried.folder / "sbom").glob("*.cdx.json")
    components = json.loads(file.read_text())["components"]
    purls = {one["purl"].partition("?")[0] for one in components}
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if (pinned := re.match(r"([\w.-]+)==([^\s;]+) (?:\\|;)(?!.*(?:win32|emscripten|<))", line)) is not None:
            name = re.sub(r"[-_.]+", "-", pinned[1]).lower()
            assert any(purl.startswith(f"pkg:pypi/{name}@") for purl in purls), line
    for package in ("libc6", "libpython3.11-stdlib", "libssl3", "coreutils", "grep", "tzdata", "ca-certificates"):
        assert any(purl.startswith(f"pkg:deb/debian/{package}@") for purl in purls), package
    places = {one["evidence"]["occurrences"][0]["location"] for one in components if "pkg:golang/" in one["purl"]}
    assert places == {"usr/local/bin/kubectl", "usr/local/bin/helm"}
    assert {"pkg:generic/jq", "pkg:golang/helm.sh/helm/v4"} <= {purl.partition("@")[0] for purl in purls}


# --- the empty daemon ---


def test_an_empty_daemon_gets_the_image_without_a_network(carried: Carried, daemon: DockerDaemon) -> None:
    assert daemon.docker("images", "-q").stdout == ""
    done = load(carried, "--docker", before=NO_NETWORK, environment=daemon.environment)
    assert (done.returncode, done.stdout) == (0, f"{carried.reference}\n"), done.stderr
    assert 'Good "obi-mcp-bundle" signature' in done.stderr
    shown = daemon.docker("image", "inspect", "--format={{.Id}}", carried.reference).stdout.strip()
    assert shown in digests(carried).values()


def test_the_demo_plays_from_it(carried: Carried, daemon: DockerDaemon, sandbox: Sandbox, shared: Path) -> None:
    kubeconfig = shared / "kubeconfig"
    kubeconfig.write_text(flattened(sandbox.kubeconfig), encoding="utf-8")
    serve = (
        *(str(daemon.bin / "docker"), f"--host={daemon.host}", "run", "-i", "--rm", "--network=host", *HARDENED),
        *(f"--volume={kubeconfig}:/kube/config:ro", f"--volume={shared}:{shared}"),
        *(f"--env=OBI_MCP_CONFIG={shared}/config.yaml", carried.reference),
    )
    files = ServerFiles(shared, serve)
    canaries = tuple(canary["text"] for canary in sandbox.facts["canaries"])
    place = Place(kubeconfig="/kube/config", sandbox=sandbox, changes=True, canaries=canaries)
    write_config(files, place, None)
    for file in (kubeconfig, files.config):
        os.chown(file, 65532, 65532)
    printed = io.StringIO()
    play(files, place, Transcript(printed))
    titles = [line for line in printed.getvalue().splitlines() if line[:2].strip().isdigit()]
    assert len(titles) == len(STEPS) + 1  # the audit log is the last
    assert "LEFT OUT" not in printed.getvalue()


# --- CI through the image ---


@pytest.fixture
def runner(carried: Carried, daemon: DockerDaemon, tmp_path: Path) -> dict[str, str]:
    """What a CI runner's shell has: a docker that reaches the sandbox as one on a cluster's network would."""
    place = tmp_path / "bin"
    place.mkdir()
    docker = place / "docker"
    docker.write_text(f'#!/bin/sh\nshift\nexec {daemon.bin}/docker run --network=host "$@"\n')
    docker.chmod(0o755)
    (tmp_path / "summary.md").touch()
    return {
        **daemon.environment,
        "PATH": f"{place}:{os.environ['PATH']}",
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
        "RUNNER_TEMP": str(tmp_path),
        IMAGE: carried.reference,
    }


def test_the_github_steps_run_through_the_image(sandbox: Sandbox, runner: dict[str, str], tmp_path: Path) -> None:
    runbook, kubeconfig, verify = github_steps().values()
    # The example shuts the runbook's check off from every network; docker takes the flag once.
    script = runbook.script.replace(" --network=none", "")
    good = type(runbook)(runbook.name, script, runbook.environment).run(tmp_path, runner)
    assert (good.returncode, "::error" in good.stdout) == (0, False), good.stderr
    runner["OBI_KUBECONFIG"] = flattened(sandbox.kubeconfig)
    assert kubeconfig.run(tmp_path, runner).returncode == 0
    done = verify.run(tmp_path, runner)
    assert re.search(r"(\d+)/\1 nodes covered", done.stdout), done.stdout + done.stderr
    # Pods of simulated nodes serve no metrics: that is what the step is there to find.
    assert done.returncode == 1
    assert re.search(r"^::error title=error metrics.*does not serve its metrics", done.stdout, re.MULTILINE)
    summary = (tmp_path / "summary.md").read_text()
    assert "obi&#45;mcp policy check" in summary and "obi&#95;k8s&#95;verify&#95;deployment" in summary


def test_the_gitlab_jobs_run_through_the_image(sandbox: Sandbox, runner: dict[str, str], tmp_path: Path) -> None:
    runbook, deployment = gitlab_jobs().values()
    script = runbook.script.replace(" --network=none", "")
    assert type(runbook)(runbook.name, script, runbook.environment).run(tmp_path, runner).returncode == 0
    (tmp_path / "kubeconfig").write_text(flattened(sandbox.kubeconfig))
    runner["OBI_KUBECONFIG"] = str(tmp_path / "kubeconfig")
    done = deployment.run(tmp_path, runner)
    assert done.returncode == 1, done.stderr
    checked = ET.parse(tmp_path / "obi-runbook.xml").findall(".//testcase")
    assert len(checked) == 4 and not any(case.findall("failure") for case in checked)
    failures = ET.parse(tmp_path / "obi-deployment.xml").findall(".//failure")
    assert [failure.get("type") for failure in failures] == ["exit 1", "error metrics"]


# --- a kubeconfig that cannot work, as a user meets it ---


def _config(**more: object) -> str:
    user = more.pop("user", {"token": "t"})
    cluster = {"server": "https://127.0.0.1:1", **more}
    named = {"cluster": "prod", "user": "prod"}
    return json.dumps(
        {
            "current-context": "prod",
            "clusters": [{"name": "prod", "cluster": cluster}],
            "users": [{"name": "prod", "user": user}],
            "contexts": [{"name": "prod", "context": named}],
        }
    )


def _write(text: str, owner: int) -> Callable[[Path], None]:
    def writing(file: Path) -> None:
        file.write_text(text)
        file.chmod(0o600)
        os.chown(file, owner, owner)

    return writing


PLUGIN = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "aws", "interactiveMode": "Never"}}
BAD: list[tuple[str, Callable[[Path], object], int, str, str]] = [
    # what, how the file is made, the exit code, what is said, the way out
    ("another's", _write(_config(), 0), 2, "belongs to user 0 with mode 0600, and user 65532", "--user 0:0"),
    ("not there, so docker makes a directory", lambda file: None, 2, "/kube/config is a directory", "docker makes a"),
    ("the host's loopback", _write(_config(), 65532), 4, "127.0.0.1:1", "--network=host"),
    ("a plugin", _write(_config(user=PLUGIN), 65532), 2, "the program aws, which is not there", "kubectl create token"),
    (
        "a certificate by its path",
        _write(_config(**{"certificate-authority": "/home/me/.minikube/ca.crt"}), 65532),
        2,
        "the file /home/me/.minikube/ca.crt, which the context prod names, is not there",
        "--flatten",
    ),
]


@pytest.mark.parametrize(("what", "make", "code", "said", "way_out"), BAD, ids=[row[0] for row in BAD])
def test_a_kubeconfig_that_cannot_work_gives_one_error(
    what: str,
    make: Callable[[Path], object],
    code: int,
    said: str,
    way_out: str,
    carried: Carried,
    daemon: DockerDaemon,
    tmp_path: Path,
) -> None:
    file = tmp_path / "config"
    make(file)
    docker = ("run", "--rm", "--network=none", *HARDENED, f"--volume={file}:/kube/config:ro", carried.reference)
    call = daemon.docker(*docker, "call", "obi_kubectl", "--arg", "command=kubectl get pods -A", check=False)
    shown = [line for line in call.stderr.splitlines() if not line.startswith("{")]
    assert call.returncode == code, call.stderr
    assert said in shown[0] and shown[-1].startswith("hint: ") and way_out in shown[-1]
    doctor = daemon.docker(*docker, "doctor", check=False)
    assert doctor.returncode == 1
    assert said in doctor.stdout and way_out in doctor.stdout


# --- a registry ---


def test_a_registry_shows_the_digests_and_a_pull_gives_the_image_back(
    carried: Carried, daemon: DockerDaemon, sandbox: Sandbox, tmp_path: Path
) -> None:
    environment = {**carrying_programs(), "HOME": str(tmp_path)}
    assert sandbox.netns is not None
    with registry(tmp_path / "registry", netns=sandbox.netns) as address:
        target = f"{address}/tools"
        words = ("--registry", target, "--plain-http")
        done = load(carried, *words, before=inside(sandbox.netns), environment=environment)
        assert done.returncode == 0, done.stderr
        digest = digests(carried)["index"]
        name = f"{target}/obi-mcp@{digest}"
        assert done.stdout.splitlines() == [f"{target}/{carried.reference}", name]
        daemon.docker("image", "rm", "--force", carried.reference)
        assert daemon.docker("images", "-q").stdout == ""
        daemon.docker("pull", name)
        shown = daemon.docker("image", "inspect", "--format={{.Id}} {{index .RepoDigests 0}}", name).stdout.split()
        assert shown == [digests(carried)[f"{carried.built.layout.name.removeprefix('linux-')}.config"], name]
        ran = daemon.docker("run", "--rm", "--network=none", *HARDENED, name, "--version")
        assert ran.stdout.startswith("obi-mcp ")


def test_podman_takes_the_same_archive(carried: Carried, tmp_path: Path) -> None:
    environment = {**carrying_programs(), "HOME": str(tmp_path)}
    folder = tmp_path / "bin"
    folder.mkdir()
    policy = tmp_path / ".config" / "containers" / "policy.json"
    policy.parent.mkdir(parents=True)
    policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    podman = folder / "podman"
    with tempfile.TemporaryDirectory(prefix="podman-", dir="/tmp") as place:  # podman wants a short path
        options = f"--root={place}/root --runroot={place}/run --storage-driver=overlay --cgroup-manager=cgroupfs"
        podman.write_text(f'#!/bin/sh\nPATH={environment["PATH"]}\nexec podman {options} "$@"\n')
        podman.chmod(0o755)
        environment["PATH"] = f"{folder}:{environment['PATH']}"
        # A mount namespace of its own takes podman's mounts along when it ends.
        done = load(carried, "--podman", before=("unshare", "--net", "--mount", "--"), environment=environment)
    assert (done.returncode, done.stdout) == (0, f"{carried.reference}\n"), done.stderr
