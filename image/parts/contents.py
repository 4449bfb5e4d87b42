"""All parts of one image, each a folder that becomes a layer; what changes least comes first."""

from __future__ import annotations

import os
import shutil
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from recipes import golang, jq
from recipes.step import BuildFailed, Steps
from recipes.store import Store, Workplace

from parts import base, server, wheels
from parts.bytecode import Python
from parts.platform import Platform, this_machine

BASE = "base"
PARTS = ("filters", "kubectl", "helm", "python", "analysis", "obi", "server")
"""The parts on top of the base, which is the one that the Dockerfile takes from elsewhere. An optional one that is not
wanted is an empty folder."""

_PROGRAMS = "usr/local/bin"
_ELF_MACHINES = {62: "amd64", 183: "arm64"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the image is to hold besides what every image holds."""

    obi: Path | None = None
    analysis: bool = False


@dataclass(frozen=True, slots=True)
class Contents:
    """Makes the parts of images of one project. ``python`` compiles for every platform."""

    project: Path
    store: Store
    python: Python

    def make(self, platform: Platform, wanted: Wanted, folder: Path) -> None:
        """Leave ``folder/BASE`` and one folder for each of PARTS, replacing what is there. Raises: BuildFailed."""
        shutil.rmtree(folder, ignore_errors=True)
        for part in PARTS:
            (folder / part).mkdir(parents=True)
        _link_tree(self._base(platform), folder / BASE)
        _link_tree(self.store.get(base.filters_recipe(platform, self.store, self._debian_lock)), folder / "filters")
        _add_program(self._jq(platform), folder / "filters", "jq")
        tools = self.project / "image/tools"
        for program in (golang.kubectl(tools), golang.helm(tools)):
            architecture = None if platform.native else platform.architecture
            made = self.store.get(program.recipe(tools, self.store, architecture=architecture))
            _add_program(made, folder / program.name, program.name)
        _link_tree(self._packages(platform), folder / "python")
        if wanted.analysis:
            self._add_analysis(platform, folder / "analysis")
        if wanted.obi is not None:
            check_program(wanted.obi, platform)
            _add_program(wanted.obi, folder / "obi", "obi")
        with workplace("server", self.store) as work:
            made = server.make(self.project, self.python, self._packages(this_machine()), self.store, work)
            shutil.copytree(made, folder / "server", dirs_exist_ok=True)

    @property
    def _debian_lock(self) -> Path:
        return self.project / "image/debian.lock"

    def _base(self, platform: Platform) -> Path:
        plain = self.store.get(base.recipe(platform, self.store, self._debian_lock))
        return self.store.get(base.compiled_recipe(platform, plain, self.python))

    def _jq(self, platform: Platform) -> Path:
        if platform.native:
            return jq.pinned(self.store)
        return self.store.get(jq.cross_recipe(triplet=platform.triplet, architecture=platform.architecture))

    def _packages(self, platform: Platform) -> Path:
        lock = self.project / "requirements.lock"
        return self.store.get(wheels.recipe("packages", platform, lock, self.python))

    def _add_analysis(self, platform: Platform, folder: Path) -> None:
        there = wheels.names(self.project / "requirements.lock")
        lock = self.project / "requirements-analysis.lock"
        _link_tree(self.store.get(wheels.recipe("analysis", platform, lock, self.python, without=there)), folder)
        names = base.ANALYSIS_PACKAGES
        _link_tree(self.store.get(base.libraries_recipe(platform, self.store, self._debian_lock, names)), folder)


def contents_of(project: Path, store: Store) -> Contents:
    """Raises: BuildFailed on a machine that runs none of the platforms."""
    here = this_machine()
    root = store.get(base.recipe(here, store, project / "image/debian.lock"))
    return Contents(project, store, Python(root, here))


def check_program(program: Path, platform: Platform) -> None:
    """Hold a given binary to the platform. Raises: BuildFailed."""
    try:
        head = program.read_bytes()[:20]
    except OSError as error:
        raise BuildFailed(f"{program}: {error.strerror}") from None
    machine = struct.unpack_from("<H", head, 18)[0] if head[:4] == b"\x7fELF" and len(head) == 20 else None
    if _ELF_MACHINES.get(machine or 0) != platform.architecture:
        raise BuildFailed(f"{program} is no program for linux/{platform.architecture}")


@contextmanager
def workplace(title: str, store: Store) -> Iterator[Workplace]:
    """A place for what is made anew each time, gone afterwards."""
    store.root.mkdir(parents=True, exist_ok=True)
    log = store.root / f"{title}.log"
    log.write_bytes(b"")
    with tempfile.TemporaryDirectory(prefix=f".{title}.", suffix=".tmp", dir=store.root) as place:
        work = Workplace(Path(place) / "out", Path(place) / "scratch", Steps(title, log))
        work.out.mkdir()
        work.scratch.mkdir()
        yield work


def _add_program(program: Path, folder: Path, name: str) -> None:
    target = folder / _PROGRAMS / name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(program, target)
    target.chmod(0o755)


def _link_tree(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True, copy_function=_link)


def _link(source: str, target: str) -> None:
    """A hard link where that can be: what is in the store is never changed."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)
