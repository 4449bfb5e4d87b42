"""Which OBI program this host has, and where the server keeps what belongs to its agent."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from obi_mcp.config import Settings
from obi_mcp.policy.effects import Host
from obi_mcp.process.confinement import state_directory
from obi_mcp.process.programs import OBI_NAMES, find_programs

_FOLDER = "agent"


@dataclass(frozen=True, slots=True)
class Binary:
    """The OBI program of this host, or why there is none. ``path``: its real path; empty when ``problem`` is set."""

    path: str = ""
    problem: str = ""
    searched: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return os.path.basename(self.path)

    @property
    def is_beyla(self) -> bool:
        """By its name alone; the first line of its log knows better."""
        return "beyla" in self.name


def agent_directory(environ: Mapping[str, str] | None = None) -> Path:
    """Where the agent's configuration, state and log are, across restarts of the server."""
    return state_directory(os.environ if environ is None else environ) / _FOLDER


def find_binary(settings: Settings, environ: Mapping[str, str] | None = None) -> Binary:
    """``local.binary``, else the first of ``obi``, ``ebpf-instrument`` and ``beyla`` where programs are searched."""
    configured = settings.local.binary
    searched: tuple[str, ...]
    if configured is not None:
        path, searched = os.path.realpath(configured), (configured,)
    else:
        programs = find_programs(settings, environ)
        found = programs.found.get("obi")
        if found is None:
            names = ", ".join(OBI_NAMES)
            return Binary("", f"none of {names} is in {', '.join(programs.searched)}", programs.searched)
        path, searched = found.path, programs.searched
    problem = _problem(path)
    return Binary("" if problem else path, problem, searched)


def _problem(path: str) -> str:
    try:
        status = os.stat(path)
    except OSError as error:
        return f"{path}: {error.strerror}"
    if not stat.S_ISREG(status.st_mode) or not os.access(path, os.X_OK):
        return f"{path} is no program that may be run"
    if status.st_mode & stat.S_IWOTH:
        return f"{path} can be written by everybody on this machine: chmod o-w {path}"
    return ""


def host_of(settings: Settings, environ: Mapping[str, str] | None = None) -> Host:
    """The ground on which effects are judged here."""
    binary = find_binary(settings, environ)
    return Host(
        binaries=(binary.path,) if binary.path else (),
        directory=str(agent_directory(environ)),
        config_directories=settings.local.config_directories,
        mounts=settings.docker.mounts,
    )
