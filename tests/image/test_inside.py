"""What the container can do, seen from inside: nothing is written but /tmp, nothing runs but the listed programs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from tests.daemon import DockerDaemon
from tests.image.container import HARDENED, PYTHON, Built, run_python
from tests.sandbox.sandbox import Sandbox

FOLDER = Path(__file__).parent
LOADERS = {"/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", "/usr/lib/aarch64-linux-gnu/ld-linux-aarch64.so.1"}
FILTERS = ("cut", "diff", "grep", "head", "jq", "sort", "tail", "tr", "uniq", "wc")
STARTED_BY_SERVER = {f"/usr/local/bin/{name}" for name in ("kubectl", "helm", *FILTERS)} | {"/usr/bin/python3.11"}
NEVER = {
    *(
        "sh",
        "bash",
        "dash",
        "ash",
        "zsh",
        "csh",
        "tcsh",
        "ksh",
        "fish",
        "busybox",
        "toybox",
        "rbash",
        "env",
        "su",
        "sudo",
    ),
    *(
        "apt",
        "apt-get",
        "dpkg",
        "apk",
        "rpm",
        "yum",
        "dnf",
        "pip",
        "pip3",
        "uv",
        "easy_install",
        "perl",
        "curl",
        "wget",
    ),
    *("gcc", "cc", "ld", "as", "make", "strace", "gdb", "mount", "nsenter", "unshare", "chroot", "nc", "ssh"),
}

QUEUES = "/dev/mqueue"
"""Docker gives every container one: POSIX message queues in memory, no files."""
MADE_BY_DOCKER = {"/.dockerenv"}
"""An empty file."""

pytestmark = pytest.mark.image


@pytest.fixture(scope="module")
def seen(daemon: DockerDaemon, built: Built) -> dict[str, Any]:
    """What probe.py prints in a container that is started as users are told to."""
    found = run_python(daemon, built.reference, (FOLDER / "probe.py").read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def test_nothing_outside_tmp_can_be_written(seen: dict[str, Any]) -> None:
    assert set(seen["writable"]) == {"/tmp", QUEUES}
    mounts = seen["mounts"]
    assert "ro" in mounts["/"]
    assert {"noexec", "nosuid", "nodev"} <= set(mounts["/tmp"])
    assert "ro" in mounts["/sys"] and "ro" in mounts["/proc/sys"]


def test_with_the_flags_of_the_issue_alone_docker_adds_shared_memory_and_nothing_else(
    daemon: DockerDaemon, built: Built
) -> None:
    flags = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--user=65532:65532", "--tmpfs=/tmp")
    code = (FOLDER / "probe.py").read_text(encoding="utf-8")
    done = daemon.docker("run", "--rm", "--network=none", *flags, PYTHON, built.reference, "-I", "-c", code)
    assert set(json.loads(done.stdout)["writable"]) == {"/tmp", "/dev/shm", QUEUES}


def test_without_a_place_to_write_the_flag_that_gives_one_is_named(daemon: DockerDaemon, built: Built) -> None:
    flags = [flag for flag in HARDENED if not flag.startswith("--tmpfs=")]
    words = ("call", "obi_kubectl", "--arg", "command=kubectl version --client")
    done = daemon.docker("run", "--rm", "--network=none", *flags, built.reference, *words, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "/tmp: Read-only file system" in done.stderr and "--tmpfs=/tmp" in done.stderr


def test_only_the_listed_programs_can_be_run(seen: dict[str, Any]) -> None:
    expected = STARTED_BY_SERVER | {"/usr/local/bin/obi-mcp"}
    assert set(seen["runnable"]) - LOADERS - MADE_BY_DOCKER == expected
    assert len(set(seen["runnable"]) & LOADERS) == 1


def test_no_shell_and_no_package_manager_under_any_mode(seen: dict[str, Any]) -> None:
    assert [path for path in seen["names"] if PurePosixPath(path).name in NEVER] == []


def test_nothing_is_privileged(seen: dict[str, Any]) -> None:
    assert seen["privileged"] == []
    process = seen["process"]
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(process[name][0], 16) == 0, name
    assert process["Uid"] == process["Gid"] == ["65532"] * 4
    assert process["NoNewPrivs"] == ["1"] and process["Seccomp"] == ["2"]


def test_the_confined_server_can_start_nothing_else(daemon: DockerDaemon, built: Built, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    shutil.copy2("/bin/true", foreign)
    found = run_python(
        daemon,
        built.reference,
        (FOLDER / "starts.py").read_text(encoding="utf-8").replace("sys.argv[1:]", "['/opt/foreign']"),
        f"--volume={foreign}:/opt/foreign:ro",
    )
    assert found["tried"] >= len(STARTED_BY_SERVER) + 3  # the loader, obi-mcp and the foreign program, too
    assert set(found["started"]) - LOADERS == STARTED_BY_SERVER


def test_the_compiled_policy_of_the_image_is_used(daemon: DockerDaemon, built: Built) -> None:
    code = (
        "import json, sys; from obi_mcp.cli.verbs import run; code = run(['policy', 'check', 'kubectl get pods -A']); "
        "heavy = sorted({'yaml', 'jsonschema', 'mcp', 'pydantic'} & set(sys.modules)); "
        "print(json.dumps([code, heavy]), file=sys.stderr)"
    )
    done = daemon.docker("run", "--rm", "--network=none", *HARDENED, PYTHON, built.reference, "-I", "-c", code)
    assert done.stderr.splitlines()[-1] == "[0, []]"


def test_the_server_reads_the_cluster_s_certificates_and_time_zones(daemon: DockerDaemon, built: Built) -> None:
    code = (
        "import json, ssl, zoneinfo, datetime; zone = zoneinfo.ZoneInfo('Europe/Berlin'); "
        "print(json.dumps([ssl.create_default_context().cert_store_stats()['x509_ca'] > 100, "
        "datetime.datetime(2026, 7, 1, tzinfo=zone).utcoffset().total_seconds()]))"
    )
    assert run_python(daemon, built.reference, code) == [True, 7200.0]


def test_the_sandbox_is_reached_by_the_host_s_network_alone(
    daemon: DockerDaemon, built: Built, sandbox: Sandbox
) -> None:
    host = sandbox.api_server.removeprefix("https://").partition(":")[0]
    code = (
        "import json, socket, sys\n"
        f"try: socket.create_connection(({host!r}, {sandbox.instance.ports.api}), 2).close(); print('true')\n"
        "except OSError: print('false')"
    )
    reached = {}
    for network in ("host", "none"):
        done = daemon.docker(
            "run", "--rm", f"--network={network}", *HARDENED, PYTHON, built.reference, "-I", "-c", code
        )
        reached[network] = done.stdout.strip()
    assert reached == {"host": "true", "none": "false"}
