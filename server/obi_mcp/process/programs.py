"""Which files the allowed programs are, found once and by absolute path, and which versions they have."""

from __future__ import annotations

import os
import re
import shutil
import stat
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from obi_mcp.config import Settings
from obi_mcp.errors import ProgramMissing

HEADS = ("kubectl", "helm")
FILTERS = ("jq", "grep", "head", "tail", "sort", "uniq", "wc", "cut", "tr")
HELPERS = ("diff",)
"""What kubectl starts itself: ``kubectl diff`` without it is an error."""
OBI_NAMES = ("obi", "ebpf-instrument", "beyla")

VERSION_ARGUMENTS = {
    "kubectl": ("version", "--client=true", "--output=json"),
    "helm": ("version", "--template={{.Version}}"),
    "jq": ("--version",),
}
_VERSION = re.compile(rb"(?:\"gitVersion\":\s*\"v|^v|^jq-)(\d+)\.(\d+)(?:\.(\d+))?", re.M)
_LEAST_JQ = (1, 7)


@dataclass(frozen=True, slots=True)
class Program:
    """One program: the name a command line uses, and the file it is."""

    name: str
    path: str

    def identity(self) -> tuple[int, int, int]:
        """What changes when the file is replaced. Raises: ProgramMissing when it is gone."""
        try:
            status = os.stat(self.path)
        except OSError as error:
            raise ProgramMissing(
                f"{self.name} is no longer at {self.path}: {error.strerror}", "restart the server when it is back"
            ) from None
        return status.st_ino, status.st_mtime_ns, status.st_size


@dataclass(frozen=True, slots=True)
class Programs:
    """The programs that were found, by the name a command line uses (``obi`` under whatever name its file has)."""

    found: Mapping[str, Program]
    searched: tuple[str, ...]

    def get(self, name: str) -> Program:
        """Raises: ProgramMissing that says where it was looked for."""
        program = self.found.get(name)
        if program is None:
            raise ProgramMissing(
                f"{name} is not installed in any of {', '.join(self.searched)}",
                f"install {name}, or add its directory to programs.path",
            )
        return program

    def missing(self) -> tuple[str, ...]:
        """The names of those that are not there, without obi: what ``doctor`` reports."""
        return tuple(name for name in (*HEADS, *FILTERS, *HELPERS) if name not in self.found)

    def look_up(self, command: str) -> str | None:
        """The file of any other program that the operator's kubeconfig names, in the same directories."""
        return _look_up(command, self.searched)


def find_programs(
    settings: Settings, environ: Mapping[str, str] | None = None, *, python: str | None = None
) -> Programs:
    """Looks for every program in ``programs.path``, beside the server's ``python``, and in PATH; first found wins."""
    path = (os.environ if environ is None else environ).get("PATH", os.defpath)
    directories = [*settings.programs.path, str(Path(python or sys.executable).parent), *path.split(os.pathsep)]
    searched = tuple(dict.fromkeys(os.path.abspath(place) for place in directories if place))
    names: dict[str, Iterable[str]] = {name: (name,) for name in (*HEADS, *FILTERS, *HELPERS)}
    names["obi"] = OBI_NAMES
    found: dict[str, Program] = {}
    for name, files in names.items():
        file = next((file for candidate in files if (file := _look_up(candidate, searched))), None)
        if file is not None:
            found[name] = Program(name, file)
    return Programs(found, searched)


def read_version(name: str, printed: bytes) -> tuple[int, ...]:
    """The version in what the program printed. Raises: ProgramMissing when there is none."""
    match = _VERSION.search(printed)
    if match is None:
        raise ProgramMissing(f"{name} does not say its version: {printed[:80]!r}", f"install {name} as it is published")
    return tuple(int(part) for part in match.groups() if part is not None)


def check_version(program: Program, version: tuple[int, ...], described: str | None) -> None:
    """Holds a program to the version that its grammar describes: the same major and minor. jq is 1.7 or newer.

    Raises: ProgramMissing, since what is judged with one grammar must not run as another.
    """
    has = ".".join(map(str, version))
    if program.name == "jq" and version < _LEAST_JQ:
        raise ProgramMissing(
            f"jq at {program.path} is {has}, and 1.7 is the oldest that is used here",
            "install jq 1.7 or newer, and put its directory first in programs.path",
        )
    if described is None or program.name == "jq":
        return
    wanted = tuple(int(part) for part in described.split(".")[:2])
    if version[:2] != wanted:
        raise ProgramMissing(
            f"{program.name} at {program.path} is {has}, and the policy's grammar describes {described}",
            f"install {program.name} {wanted[0]}.{wanted[1]}, and put its directory first in programs.path",
        )


def _look_up(name: str, directories: Iterable[str]) -> str | None:
    """The real path of the first executable of that name: a later change of a link changes nothing."""
    for directory in directories:
        file = shutil.which(name, path=directory)
        if file is not None and stat.S_ISREG(os.stat(file).st_mode):
            return os.path.realpath(file)
    return None
