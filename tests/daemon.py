"""A real Docker daemon of a test's own: Debian's, on a private socket, with roots that go when it goes.

Nothing is installed: the packages are downloaded once, unpacked into the cache, and run from there. The daemon is the
first process of a process namespace and has a mount namespace of its own, so that its end, however it comes, takes its
containers and its mounts along::

    with DockerDaemon.up("build") as daemon:
        daemon.load(archive)
        daemon.docker("run", "--rm", "--network=none", IMAGE)

A container on the host's network is in the network namespace of the daemon: ``netns`` says which. ``modern`` takes a
daemon of today, built from its Go module (tests/sandbox/engine, minutes the first time): Debian's 20.10 knows no
CAP_BPF.
"""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [path for path in (str(ROOT), str(ROOT / "image")) if path not in sys.path]

from recipes.step import Steps  # noqa: E402
from recipes.store import Recipe, Store, Workplace, cache_root  # noqa: E402
from tests.sandbox import build, cgroup  # noqa: E402
from tests.sandbox.instance import machine_lock  # noqa: E402

_PACKAGES = ("docker.io", "containerd", "tini")
# Their libraries and runc come with no service, so that installing them starts nothing.
_INSTALLED = {
    "/usr/sbin/runc": "runc",
    "libdevmapper.so.1.02.1": "libdevmapper1.02.1",
    "libsystemd.so.0": "libsystemd0",
}
_ENGINE = build.GoComponent(
    "engine",
    "github.com/moby/moby/v2",
    {"dockerd": "github.com/moby/moby/v2/cmd/dockerd"},
    ("github.com/moby/moby/v2/dockerversion.Version=29.0.0-{version}",),
)
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_READY_WITHIN_S = 180.0
_ENDS_WITHIN_S = 120.0
_POLL_S = 0.02
_LOG_LINES = 12
_LIBRARIES = ("/lib", "/usr/lib")


def modern_programs() -> tuple[Path, ...]:
    """The directories of a dockerd of today and of the containerd that it needs, built now if they are not cached."""
    store = Store(cache_root().parent / "sandbox")
    runtime = next(component for component in build.COMPONENTS if component.name == "runtime")
    return tuple(store.get(component.recipe()).parent for component in (_ENGINE, runtime))


class DaemonFailed(Exception):
    """The daemon could not be started or does not end; the text has the end of its log."""


def obstacle() -> str | None:
    """Why no daemon can be started on this machine, None where one can."""
    if os.geteuid() != 0:
        return "a Docker daemon needs root"
    if shutil.which("apt-get") is None:
        return "Debian's packages need apt-get"
    return None


def programs() -> Path:
    """The directory of dockerd, docker, containerd and their helpers, downloaded now if it is not cached."""
    _install_libraries()
    release = Path("/etc/os-release").read_bytes()
    recipe = Recipe("docker", "(Debian's)", "bin/dockerd", (*(name.encode() for name in _PACKAGES), release), _unpack)
    return Store(cache_root().parent / "sandbox").get(recipe).parent


def _unpack(work: Workplace) -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    quiet = ["-q", "-o", "APT::Sandbox::User=root"]
    if not any(Path("/var/lib/apt/lists").glob("*_Packages*")):
        work.steps.run(["apt-get", "update", *quiet], cwd=work.scratch, env=environment)
    work.steps.run(["apt-get", "download", *quiet, *_PACKAGES], cwd=work.scratch, env=environment)
    for package in sorted(work.scratch.glob("*.deb")):
        work.steps.run(["dpkg-deb", "-x", package, work.scratch / "root"], cwd=work.scratch)
    (work.out / "bin").mkdir()
    for folder in ("usr/bin", "usr/sbin"):
        for program in (work.scratch / "root" / folder).iterdir():
            program.rename(work.out / "bin" / program.name)


def _missing() -> set[str]:
    return {package for file, package in _INSTALLED.items() if not _present(file)}


def _install_libraries() -> None:
    if not _missing():
        return
    with machine_lock("packages"):  # apt-get fails where another runs
        if missing := _missing():  # another may have installed them meanwhile
            _install(missing)


def _install(missing: set[str]) -> None:
    log = cache_root().parent / "sandbox" / "docker-packages.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    steps = Steps("packages", log)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    steps.run(["apt-get", "update", "-q"], cwd=log.parent, env=environment)
    install = [*build.INSTALL, *sorted(missing)]
    steps.run(install, cwd=log.parent, env=environment)


def _present(file: str) -> bool:
    if file.startswith("/"):
        return Path(file).exists()
    return any(found for place in _LIBRARIES for found in Path(place).glob(f"*-linux-gnu*/{file}"))


class DockerDaemon:
    """A running daemon. ``host`` is what DOCKER_HOST takes; ``state`` holds its socket, log and roots."""

    def __init__(self, name: str, *, netns: str | None = None, modern: bool = False) -> None:
        self.bin = programs()
        self._path = [str(place) for place in (*(modern_programs() if modern else ()), self.bin)]
        self.state = Path(tempfile.mkdtemp(prefix="obi-mcp-docker-", dir="/tmp"))
        self.socket = self.state / "docker.sock"
        self.host = f"unix://{self.socket}"
        self._cgroup = f"obi-mcp-docker-{name}-{os.getpid()}"
        self._netns = netns
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    @contextmanager
    def up(cls, name: str, *, netns: str | None = None, modern: bool = False) -> Iterator[DockerDaemon]:
        """Start one and wait until it answers; nothing of it is left afterwards. Raises: DaemonFailed."""
        daemon = cls(name, netns=netns, modern=modern)
        try:
            daemon.start()
            yield daemon
        finally:
            daemon.remove()

    @property
    def environment(self) -> dict[str, str]:
        """What the docker command line needs to find this daemon and nothing of the user's."""
        return {
            "PATH": ":".join((*self._path, _SYSTEM_PATH)),
            "HOME": str(self.state),
            "DOCKER_HOST": self.host,
            "DOCKER_BUILDKIT": "0",
        }

    def docker(self, *words: str | Path, check: bool = True, **more: object) -> subprocess.CompletedProcess[str]:
        """Run Debian's docker command line against this daemon; output is captured as text."""
        argv = [str(self.bin / "docker"), *(str(word) for word in words)]
        return subprocess.run(argv, env=self.environment, capture_output=True, text=True, check=check, **more)  # type: ignore[call-overload, no-any-return]

    def load(self, archive: Path) -> None:
        """Load images from an archive, under the names that it gives them."""
        self.docker("load", "-i", archive)

    def start(self) -> None:
        """Start it, again with the same roots after ``stop`` or ``kill``. Raises: DaemonFailed."""
        entering = ["nsenter", f"--net=/run/netns/{self._netns}", "--"] if self._netns else []
        argv = [
            *("setpriv", "--pdeathsig", "KILL"),
            *entering,
            *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
            f"{self._path[0]}/dockerd",
            f"--host={self.host}",
            f"--data-root={self.state / 'data'}",
            f"--exec-root={self.state / 'exec'}",
            f"--pidfile={self.state / 'pid'}",
            f"--cgroup-parent=/{self._cgroup}",
            *(f"--add-runtime=sandbox={ROOT / 'tests' / 'runtime.py'}", "--default-runtime=sandbox"),
            *("--bridge=none", "--iptables=false", "--ip-forward=false", "--ip-masq=false", "--userland-proxy=false"),
        ]
        # Numbers of a process namespace that is gone: in the new one they may be somebody else's, and dockerd would
        # take its containerd for one that runs.
        for noted in (self.state / "pid", self.state / "exec" / "containerd" / "containerd.pid"):
            noted.unlink(missing_ok=True)
        with (self.state / "log").open("ab") as log:
            self._process = subprocess.Popen(
                argv, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + _READY_WITHIN_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise DaemonFailed(f"dockerd does not answer; its log ends:\n{self.log_end()}")
            time.sleep(_POLL_S)

    def stop(self) -> None:
        """End it in good order: containers are stopped, then the daemon goes."""
        if self._process is not None:
            self._signal(signal.SIGTERM)
            try:
                self._process.wait(_ENDS_WITHIN_S)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None

    def kill(self) -> None:
        """End it at once, and its containers with it."""
        if self._process is not None:
            self._signal(signal.SIGKILL)
            self._process.wait()
            self._process = None
            self._wait_until_gone()

    def _signal(self, number: int) -> None:
        """Signal the daemon itself; unshare, which is between, reaps it and ends with it."""
        assert self._process is not None
        between = self._process.pid
        with suppress(ProcessLookupError, FileNotFoundError):
            children = Path(f"/proc/{between}/task/{between}/children").read_text(encoding="utf-8").split()
            os.kill(int(children[0]) if children else between, number)

    def remove(self) -> None:
        """End it and leave nothing: no process, mount, cgroup or file."""
        self.kill()
        self._remove_cgroups()
        shutil.rmtree(self.state)

    def log_end(self) -> str:
        """The last lines of its log."""
        lines = (self.state / "log").read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-_LOG_LINES:])

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("docker")
        with socket.socket(socket.AF_UNIX) as stream, suppress(OSError):
            stream.settimeout(60)
            stream.connect(str(self.socket))
            connection.sock = stream
            connection.request("GET", "/_ping")
            return connection.getresponse().status == 200
        return False

    def _wait_until_gone(self) -> None:
        """The kernel ends a process namespace after its first process; containers are in our cgroups until then."""
        deadline = time.monotonic() + _ENDS_WITHIN_S
        while any(map(_inhabited, self._groups())):
            if time.monotonic() > deadline:
                raise DaemonFailed(f"processes of {self._cgroup} do not end")
            time.sleep(_POLL_S)

    def _groups(self) -> list[Path]:
        return [group for root in self._cgroups() for group in (root, *cgroup.below(root))]

    def _cgroups(self) -> list[Path]:
        root = Path("/sys/fs/cgroup")
        return [path for path in (root / self._cgroup, *root.glob(f"*/{self._cgroup}")) if path.is_dir()]

    def _remove_cgroups(self) -> None:
        deadline = time.monotonic() + _ENDS_WITHIN_S
        for root in self._cgroups():
            for path in [*reversed(list(cgroup.below(root))), root]:
                while path.exists():
                    try:
                        path.rmdir()
                    except OSError as error:
                        if time.monotonic() > deadline:
                            raise DaemonFailed(f"{path} cannot be removed: {error}") from error
                        time.sleep(_POLL_S)


def _inhabited(group: Path) -> bool:
    try:
        return bool((group / "cgroup.procs").read_text())
    except OSError:  # it has gone meanwhile
        return False
