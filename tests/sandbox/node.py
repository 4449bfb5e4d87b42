"""The real node of an instance: containerd, runc and a kubelet that runs real containers."""

from __future__ import annotations

import json
import os
import string
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.sandbox import cgroup, daemon, network
from tests.sandbox.api import wait_until
from tests.sandbox.controlplane import REAL_NODE, node_kubeconfig
from tests.sandbox.daemon import Daemon
from tests.sandbox.instance import Instance, SandboxError, machine_lock, recorded, state_of
from tests.sandbox.programs import Programs

LABEL = "sandbox.test/real=true"
STARTED_WITHIN_S = 180.0
_CONFIG = Path(__file__).resolve().parent / "config"
# The kubelet overwrites these for the whole machine when it starts.
_SYSCTLS = tuple(Path("/proc/sys") / name for name in ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops"))
_SAVED = "sysctl.json"


def obstacle(programs: Programs) -> str | None:
    """Why the machine cannot have a real node, None where it can."""
    if os.geteuid() != 0:
        return "not root"
    if programs.runc is None:
        return "runc is not installed"
    return cgroup.obstacle()


def start_runtime(instance: Instance, programs: Programs) -> Daemon:
    """Start containerd with mounts of its own and give it the images. Raises: SandboxError."""
    _configure(instance, programs)
    program = programs.runtime / "containerd"
    argv = (programs.companion, "private", instance.state, program, "--config", instance.state / "containerd.toml")
    path = f"{programs.runtime}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    started = daemon.start(
        instance, "containerd", argv, netns=instance.netns, program=program, environment={"PATH": path}
    )
    wait_until(
        "containerd answers",
        lambda: _control(instance, programs, "version").returncode == 0,
        within_s=STARTED_WITHIN_S,
        check=lambda: daemon.require_alive(instance, (started,)),
    )
    imported = _control(instance, programs, "images", "import", "--local", str(programs.images))
    if imported.returncode != 0:
        raise SandboxError(f"import the images: {imported.stderr.strip()}")
    return started


def start_kubelet(instance: Instance, programs: Programs, runtime: Daemon) -> Daemon:
    """Start the kubelet beside its containerd; it registers the node by itself."""
    cgroup.make(instance)
    argv = (
        programs.cluster,
        "kubelet",
        f"--config={instance.state / 'kubelet.yaml'}",
        f"--kubeconfig={node_kubeconfig(instance)}",
        f"--root-dir={instance.state / 'kubelet'}",
        f"--cert-dir={instance.state / 'kubelet-pki'}",
        f"--hostname-override={REAL_NODE}",
        f"--node-ip={instance.address}",
        f"--node-labels={LABEL}",
    )
    return daemon.start(instance, "kubelet", argv, netns=instance.netns, mounts_of=runtime)


@contextmanager
def kept_sysctls(instance: Instance) -> Iterator[None]:
    """Put back what a kubelet that starts meanwhile overwrites; one instance at a time."""
    with machine_lock("sysctl"):
        (instance.state / _SAVED).write_text(json.dumps(_as_before()), encoding="utf-8")
        try:
            yield
        finally:
            restore_sysctls(instance)


def sysctls() -> dict[str, str]:
    """What the kubelet overwrites, by the path, as it is while no kubelet starts."""
    with machine_lock("sysctl"):
        return {str(path): path.read_text() for path in _SYSCTLS}


def _as_before() -> dict[str, str]:
    """The values before any kubelet: those that a start noted which was cut off meanwhile, else those of now."""
    for other in recorded():
        with suppress(FileNotFoundError, ValueError):
            noted: dict[str, str] = json.loads((state_of(other) / _SAVED).read_text(encoding="utf-8"))
            return noted
    return {str(path): path.read_text() for path in _SYSCTLS}


def restore_sysctls(instance: Instance) -> None:
    """Put back what was saved, if a start was cut off before it could."""
    record = instance.state / _SAVED
    if not record.exists():
        return
    for path, value in json.loads(record.read_text(encoding="utf-8")).items():
        if Path(path).read_text() != value:
            Path(path).write_text(value)
    record.unlink(missing_ok=True)


def name_image(instance: Instance, programs: Programs, reference: str, other: str) -> None:
    """Give an image of the real node another name, too. Raises: SandboxError."""
    named = _control(instance, programs, "images", "tag", "--force", reference, other)
    if named.returncode != 0:
        raise SandboxError(f"name the image {other}: {named.stderr.strip()}")


def _control(instance: Instance, programs: Programs, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [str(programs.runtime / "ctr"), "-a", str(instance.state / "c.sock"), "-n", "k8s.io", *words]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def _configure(instance: Instance, programs: Programs) -> None:
    values = {
        "state": instance.state,
        "address": instance.address,
        "cgroup": instance.cgroup,
        "kubelet_port": instance.ports.kubelet,
        "kubelet_health_port": instance.ports.kubelet_health,
        "runtime": programs.runtime,
        "runc": programs.runc,
        "real_pods": network.REAL_PODS,
        "snapshotter": _snapshotter(instance.state),
    }
    (instance.state / "cni").mkdir()
    for name, target in (
        ("containerd.toml", "containerd.toml"),
        ("kubelet.yaml", "kubelet.yaml"),
        ("cni.conflist", "cni/10-sandbox.conflist"),
    ):
        text = string.Template((_CONFIG / name).read_text(encoding="utf-8")).substitute(values)
        (instance.state / target).write_text(text, encoding="utf-8")


def _snapshotter(state: Path) -> str:
    """``overlayfs``, or copies where the state lies on an overlay itself, which cannot be a layer of another."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    below = [mount for mount in mounts if state.is_relative_to(mount[1])]
    deepest = max(below, key=lambda mount: len(mount[1]))
    return "native" if deepest[2] == "overlay" else "overlayfs"
