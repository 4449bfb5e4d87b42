"""The cgroups of an instance's real node, in both versions of the interface."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tests.sandbox.instance import Instance, SandboxError

_ROOT = Path("/sys/fs/cgroup")
_REMOVED_WITHIN_S = 60.0
_POLL_S = 0.01
# What the kubelet wants to account and limit.
_NEEDED = frozenset({"cpu", "memory", "pids"})
_KUBELETS = frozenset({"cpu", "cpuset", "hugetlb", "memory", "pids"})
_ENABLED = "cgroup-controllers"
_CONTROLLERS_V1 = ("blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "memory", "pids", "systemd")


def is_unified() -> bool:
    """Whether the machine has version 2 alone."""
    return (_ROOT / "cgroup.controllers").exists()


def obstacle() -> str | None:
    """Why no cgroup for a node can be made here, None where one can."""
    if is_unified():
        missing = set(_NEEDED - _words("cgroup.controllers"))
        # Below the machine's own root (in a container), controllers are given to children by whoever is above.
        if not missing and (_ROOT / "cgroup.type").exists():
            missing = set(_NEEDED - _words("cgroup.subtree_control"))
    else:
        missing = {name for name in _NEEDED if not (_ROOT / name / "cgroup.procs").exists()}
    return f"the cgroup controllers {', '.join(sorted(missing))} are not available" if missing else None


def make(instance: Instance) -> None:
    """Make the cgroup under which the kubelet puts its pods."""
    if is_unified():
        _enable_controllers(instance)
    for path in paths(instance):
        path.mkdir(exist_ok=True)
        if not is_unified() and path.parent.name == "cpuset":
            # A new cpuset of version 1 is empty, and nothing can run in it.
            for name in ("cpuset.cpus", "cpuset.mems"):
                (path / name).write_text((path.parent / name).read_text())


def remove(instance: Instance) -> None:
    """Remove the cgroups, innermost first; their processes must be dead. Raises: SandboxError."""
    deadline = time.monotonic() + _REMOVED_WITHIN_S
    for path in paths(instance):
        while path.exists() and not _remove_tree(path):
            if time.monotonic() > deadline:
                raise SandboxError(f"{path} cannot be removed; its processes: {(path / 'cgroup.procs').read_text()!r}")
            time.sleep(_POLL_S)
    record = instance.state / _ENABLED
    if record.exists():
        for name in record.read_text(encoding="utf-8").split():
            with suppress(OSError):  # somebody else uses it by now
                (_ROOT / "cgroup.subtree_control").write_text(f"-{name}")


def below(root: Path) -> Iterator[Path]:
    """The cgroups in a cgroup, parents before children. What goes meanwhile is left out: rglob() would fail."""
    for folder, names, _ in os.walk(root):
        yield from (Path(folder, name) for name in names)


def paths(instance: Instance) -> tuple[Path, ...]:
    """The instance's cgroup in each hierarchy of the machine."""
    if is_unified():
        return (_ROOT / instance.cgroup,)
    names = [*(name for name in _CONTROLLERS_V1 if (_ROOT / name).is_dir()), "unified"]
    return tuple(_ROOT / name / instance.cgroup for name in names if (_ROOT / name / "cgroup.procs").exists())


def _enable_controllers(instance: Instance) -> None:
    """Give children every controller that the kubelet would look for; which ones is recorded, to be taken back."""
    wanted = (_words("cgroup.controllers") & _KUBELETS) - _words("cgroup.subtree_control")
    (instance.state / _ENABLED).write_text(" ".join(sorted(wanted)), encoding="utf-8")
    for name in sorted(wanted):
        (_ROOT / "cgroup.subtree_control").write_text(f"+{name}")


def _words(file: str) -> set[str]:
    return set((_ROOT / file).read_text(encoding="utf-8").split())


def _remove_tree(root: Path) -> bool:
    """Whether everything went; a cgroup is busy until the kernel is done with its last process."""
    for path in [*reversed(list(below(root))), root]:
        try:
            path.rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return True
