#!/usr/bin/env python3
# mypy: disable-error-code="import-not-found"
"""Makes the programs of the sandbox cluster: Kubernetes, kwok, containerd, the agent; pinned and cached.

A first run takes minutes, one where nothing changed takes no time. Progress goes to standard error.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent.parent), str(HERE.parent.parent / "image")]

from recipes import toolchain  # noqa: E402
from recipes.step import BuildFailed, Steps, say  # noqa: E402
from recipes.store import Recipe, Store, Workplace, cache_root  # noqa: E402
from tests.sandbox import archive  # noqa: E402
from tests.sandbox.instance import machine_lock  # noqa: E402

NICENESS = 10
BUILD_FLAGS = ("-trimpath", "-buildvcs=false")
# None of these brings a service, so that installing them starts nothing.
DEBIAN_PACKAGES = {"runc": "runc", "ip": "iproute2", "nsenter": "util-linux"}
INSTALL = ("apt-get", "install", "-y", "-q", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300")
NODE_ONLY = "without it the sandbox comes up with simulated nodes alone"


@dataclass(frozen=True, slots=True)
class GoComponent:
    """Programs that one Go module gives. ``packages`` maps a program's name to the package that is its main."""

    name: str
    module: str
    packages: dict[str, str]
    linked: tuple[str, ...] = ()

    @property
    def directory(self) -> Path:
        return HERE / self.name

    @property
    def version(self) -> str:
        """The pinned version, ``v`` included, of the module that the component is made for."""
        found = re.search(rf"^(?:require)?\s+{re.escape(self.module)} (v\S+)", self._go_mod(), re.MULTILINE)
        if found is None:
            raise BuildFailed(f"{self.directory / 'go.mod'} does not require {self.module}")
        return found[1]

    def recipe(self) -> Recipe:
        """How it is made; the last program stands for all of them, because they appear together."""
        version = self.version if self.module else "(ours)"
        flags = " ".join(("-s -w", *(f"-X {one.format(version=version, **_numbers(version))}" for one in self.linked)))
        names = list(self.packages)

        def build(work: Workplace) -> None:
            compiler = toolchain.go(Store(cache_root()))  # one toolchain for all builds
            for name, package in self.packages.items():
                output = str(work.out / "bin" / name)
                argv = [compiler, "build", "-v", *BUILD_FLAGS, f"-ldflags={flags}", "-o", output, package]
                work.steps.run(argv, cwd=self.directory, env=toolchain.go_environment())

        inputs = (*self._contents(), repr(self.packages).encode(), flags.encode(), repr(BUILD_FLAGS).encode())
        return Recipe(self.name, version, f"bin/{names[-1]}", inputs, build)

    def _contents(self) -> Iterator[bytes]:
        for file in sorted((*self.directory.glob("go.*"), *self.directory.glob("*.go"))):
            yield from (file.name.encode(), file.read_bytes())

    def _go_mod(self) -> str:
        return (self.directory / "go.mod").read_text(encoding="utf-8")


_K8S = "k8s.io/component-base/version"
_CONTAINERD = "github.com/containerd/containerd/v2"
_CNI = "github.com/containernetworking/plugins"

COMPONENTS = (
    GoComponent("companion", "", {"companion": "."}),
    GoComponent(
        "agent",
        "github.com/grafana/beyla",
        {"beyla": "github.com/grafana/beyla/cmd/beyla"},
        ("github.com/grafana/beyla/pkg/buildinfo.Version={version}",),
    ),
    GoComponent(
        "runtime",
        _CONTAINERD,
        {
            "containerd": f"{_CONTAINERD}/cmd/containerd",
            "containerd-shim-runc-v2": f"{_CONTAINERD}/cmd/containerd-shim-runc-v2",
            "ctr": f"{_CONTAINERD}/cmd/ctr",
            "bridge": f"{_CNI}/plugins/main/bridge",
            "loopback": f"{_CNI}/plugins/main/loopback",
            "host-local": f"{_CNI}/plugins/ipam/host-local",
        },
        (f"{_CONTAINERD}/version.Version={{version}}",),
    ),
    GoComponent("kwok", "sigs.k8s.io/kwok", {"kwok": "sigs.k8s.io/kwok/cmd/kwok"}),
    GoComponent(
        "cluster",
        "k8s.io/kubernetes",
        {"cluster": "."},
        # kubectl and helm refuse a server whose version is not one.
        (
            f"{_K8S}.gitVersion={{version}}",
            f"{_K8S}.gitMajor={{major}}",
            f"{_K8S}.gitMinor={{minor}}",
            f"{_K8S}.gitTreeState=clean",
        ),
    ),
)


def main() -> int:
    """Exit code 0; 1 when a build failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print where the programs are, as JSON, for scripts")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a running step is stopped with us
    os.nice(max(0, NICENESS - os.nice(0)))
    store = Store(cache_root().parent / "sandbox")
    try:
        made = make(store)
    except BuildFailed as failure:
        say(f"{failure}")
        return 1
    except KeyboardInterrupt:
        return 130
    versions = {component.name: component.version for component in COMPONENTS if component.module}
    print(json.dumps({"programs": made, "versions": versions}) if arguments.json else f"sandbox: {store.root}")
    return 0


def make(store: Store) -> dict[str, str]:
    """Every program's path by its name, ``images`` (an archive) among them. Raises: BuildFailed."""
    ensure_packages(store)
    made: dict[str, str] = {}
    for component in COMPONENTS:
        last = store.get(component.recipe())
        made |= {name: str(last.parent / name) for name in component.packages}
    made["images"] = str(store.get(_images(Path(made["beyla"]), Path(made["companion"]))))
    return made


def ensure_packages(store: Store) -> None:
    """Leave runc and the network tools on the machine: installed where we are root on Debian, else told about."""
    missing = _missing_packages()
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        say(f"not on this machine: {' '.join(missing)}; {NODE_ONLY}")
        return
    with machine_lock("packages"):  # apt-get fails where another runs
        if missing := _missing_packages():  # another may have installed them meanwhile
            _install(store, missing)


def _missing_packages() -> list[str]:
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return sorted({package for name, package in DEBIAN_PACKAGES.items() if shutil.which(name, path=path) is None})


def _install(store: Store, missing: list[str]) -> None:
    say(f"installing {' '.join(missing)}")
    store.root.mkdir(parents=True, exist_ok=True)
    steps = Steps("packages", store.root / "packages.log")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        steps.run(["apt-get", "update", "-q"], cwd=store.root, env=environment)
        steps.run([*INSTALL, *missing], cwd=store.root, env=environment)
    except BuildFailed as failure:
        say(f"{failure}\n{NODE_ONLY}")


def _images(agent: Path, companion: Path) -> Recipe:
    """One archive with every image that the real node runs."""

    def build(work: Workplace) -> None:
        archive.write(
            work.out / "images.tar",
            (
                archive.Image("sandbox.test/pause:1", companion, "companion", ("pause",)),
                archive.Image("sandbox.test/companion:1", companion, "companion"),
                # The agent is Beyla, OBI's ancestor: no release of OBI can be had as a module with its eBPF objects.
                # It goes by OBI's image name, so that what recognises OBI by its image meets the real thing.
                archive.Image(archive.OBI_IMAGE, agent, "obi"),
            ),
        )

    # The programs' directories are named by the hash of what went into them.
    paths = tuple(str(path).encode() for path in (agent, companion))
    sources = tuple(Path(file).read_bytes() for file in (archive.__file__, __file__))
    return Recipe("images", "(ours)", "images.tar", (*paths, *sources), build)


def _numbers(version: str) -> dict[str, str]:
    found = re.match(r"v(\d+)\.(\d+)", version)
    return {"major": found[1], "minor": found[2]} if found else {}


if __name__ == "__main__":
    sys.exit(main())
