"""Debian packages by version and hash: ``image/debian.lock`` says which, the machine's own apt fetches them."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from recipes.step import BuildFailed, Steps, say

from parts.platform import Platform

RELEASE = "bookworm"
SOURCES_VARIABLE = "OBI_MCP_DEBIAN_SOURCES"
_SUITES = frozenset({RELEASE, f"{RELEASE}-updates", f"{RELEASE}-security"})
_STATES = ("lists/partial", "archives/partial")


@dataclass(frozen=True, slots=True)
class Package:
    """One package of one architecture, pinned."""

    architecture: str
    name: str
    version: str
    sha256: str

    @property
    def line(self) -> str:
        """As it stands in the lock."""
        return f"{self.architecture} {self.name} {self.version} {self.sha256}"


def read_lock(lock: Path, platform: Platform, names: Iterable[str]) -> tuple[Package, ...]:
    """The pinned packages of these names. Raises: BuildFailed when the lock lacks one."""
    pinned = {}
    for line in lock.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            package = Package(*line.split())
            pinned[package.architecture, package.name] = package
    try:
        return tuple(pinned[platform.architecture, name] for name in names)
    except KeyError as missing:
        raise BuildFailed(f"{lock.name} lacks {' '.join(missing.args[0])}: run `make image-lock`") from None


def write_lock(lock: Path, packages: Iterable[Package]) -> None:
    """Write the lock, sorted."""
    head = (
        f"# Debian 12 ({RELEASE}): architecture, package, version, sha256 of the .deb. Renewed by `make image-lock`.\n"
    )
    lock.write_text(head + "".join(f"{line}\n" for line in sorted(one.line for one in packages)), encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Apt:
    """The machine's apt with a state of its own, for one platform. ``root`` may be kept between runs."""

    root: Path
    platform: Platform
    steps: Steps

    def candidates(self, names: Iterable[str]) -> tuple[Package, ...]:
        """What Debian offers now. Raises: BuildFailed."""
        self._update()
        log = self.root / "show.txt"
        log.unlink(missing_ok=True)
        Steps("apt-cache", log).run(
            [*self._argv("apt-cache"), "show", "--no-all-versions", *names], cwd=self.root, env=_environment()
        )
        found = []
        for stanza in re.split(r"\n\n+", log.read_text(encoding="utf-8")):
            fields = dict(re.findall(r"^(Package|Version|SHA256): (\S+)$", stanza, re.MULTILINE))
            if len(fields) == 3:
                found.append(
                    Package(self.platform.architecture, fields["Package"], fields["Version"], fields["SHA256"])
                )
        if missing := set(names) - {one.name for one in found}:
            raise BuildFailed(f"Debian {RELEASE} has no {', '.join(sorted(missing))}")
        return tuple(found)

    def fetch(self, packages: Iterable[Package], cache: Path) -> tuple[Path, ...]:
        """The files of the packages, downloaded where ``cache`` lacks them. Raises: BuildFailed."""
        chosen = tuple(packages)
        cache.mkdir(parents=True, exist_ok=True)
        lacking = [one for one in chosen if not (cache / f"{one.sha256}.deb").exists()]
        if lacking:
            say(f"{self.steps.title}: fetching {len(lacking)} Debian packages")
            if not any((self.root / "lists").glob("*_Packages*")):
                self._update()
            with tempfile.TemporaryDirectory(dir=cache) as place:
                self._download(lacking, Path(place))
                self._keep(lacking, Path(place), cache)
        return tuple(cache / f"{one.sha256}.deb" for one in chosen)

    def _download(self, packages: list[Package], place: Path) -> None:
        words = [f"{one.name}={one.version}" for one in packages]
        argv = [*self._argv("apt-get"), "download", "-q", *words]
        try:
            self.steps.run(argv, cwd=place, env=_environment())
        except BuildFailed:
            self._update()  # the lists may be older than the lock
            try:
                self.steps.run(argv, cwd=place, env=_environment())
            except BuildFailed as failure:
                raise BuildFailed(
                    f"{failure}\nDebian's mirror does not have every package of debian.lock any more (a newer version "
                    "replaces an older one): run `make image-lock`, look at its diff, and build again"
                ) from None

    @staticmethod
    def _keep(packages: list[Package], place: Path, cache: Path) -> None:
        wanted = {one.sha256: one for one in packages}
        for file in place.glob("*.deb"):
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            if digest not in wanted:
                raise BuildFailed(f"{file.name} has sha256 {digest}, which is not in debian.lock")
            file.rename(cache / f"{digest}.deb")

    def _update(self) -> None:
        for folder in _STATES:
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        (self.root / "status").touch()
        (self.root / "sources.list").write_text("".join(f"{line}\n" for line in sources()), encoding="utf-8")
        self.steps.run([*self._argv("apt-get"), "update", "-q"], cwd=self.root, env=_environment())

    def _argv(self, program: str) -> list[str]:
        settings = {
            "APT::Architecture": self.platform.architecture,
            "APT::Architectures": self.platform.architecture,
            "APT::Sandbox::User": "",
            "Acquire::Languages": "none",
            "Dir::Cache": self.root,
            "Dir::Etc::SourceList": self.root / "sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::State": self.root,
            "Dir::State::status": self.root / "status",
        }
        return [program, *(word for name, value in settings.items() for word in ("-o", f"{name}={value}"))]


def apt(root: Path, platform: Platform, steps: Steps) -> Apt:
    """Raises: BuildFailed where there is no apt."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise BuildFailed("the base is made of Debian packages, and this machine has no apt-get and dpkg-deb")
    root.mkdir(parents=True, exist_ok=True)
    return Apt(root, platform, steps)


def sources() -> list[str]:
    """Lines of a sources list with Debian's own suites, from the machine's or ``$OBI_MCP_DEBIAN_SOURCES``.

    Raises: BuildFailed when there is none.
    """
    named = os.environ.get(SOURCES_VARIABLE)
    files = (
        [Path(named)] if named else [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt").glob("sources.list.d/*"))]
    )
    found = [line for file in files if file.exists() for line in _read_sources(file.read_text(encoding="utf-8"))]
    if not found:
        raise BuildFailed(
            f"apt knows no source of Debian {RELEASE} here: name a sources list that has it in {SOURCES_VARIABLE}"
        )
    return found


def _read_sources(text: str) -> Iterator[str]:
    """The entries of Debian's suites in either format, without the architectures that they are limited to."""
    for option, uri, suite in re.findall(r"^deb (?:\[([^]]*)\] )?(\S+) (\S+) [^\n#]*\bmain\b", text, re.MULTILINE):
        if suite in _SUITES:
            signed = re.search(r"signed-by=\S+", option)
            yield f"deb {f'[{signed[0]}] ' if signed else ''}{uri} {suite} main"
    for stanza in re.split(r"\n\s*\n", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)):
        fields = {name.lower(): value for name, value in re.findall(r"^([\w-]+):[ \t]*(.*)$", stanza, re.MULTILINE)}
        if "deb" in fields.get("types", "").split() and "main" in fields.get("components", "").split():
            signed_by = fields.get("signed-by", "")
            option = f"[signed-by={signed_by}] " if signed_by.startswith("/") else ""
            for uri in fields["uris"].split():
                yield from (f"deb {option}{uri} {suite} main" for suite in fields["suites"].split() if suite in _SUITES)


def _environment() -> dict[str, str]:
    return os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
