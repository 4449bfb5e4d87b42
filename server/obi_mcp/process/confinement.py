"""What the server itself is held to: the files that it and its children need, put on once before it serves.

Its children inherit it and put their own, narrower rules on top (``sandbox.py``). What is open already (the audit log,
the client's pipes) stays open and needs no rule. docs/decisions/0005-confinement.md has the costs.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import obi_mcp
from obi_mcp.config import Settings
from obi_mcp.errors import ConfigError
from obi_mcp.policy.shipped import shipped_charts, shipped_policy
from obi_mcp.process import files, kernel
from obi_mcp.process.children import Rules
from obi_mcp.process.kubeconfig import SERVICE_ACCOUNT, Context, Kubeconfig, kubeconfig_paths, read_kubeconfig
from obi_mcp.process.programs import Programs

Held = Literal["reading and writing", "writing", "nothing"]

_STATE = "obi-mcp"
_DEVICES = ("/dev/null",)
# The launcher looks for what its children left behind in /proc. Other processes' memory, environment and files stay
# shut there: Landlock refuses to look into a process that is not confined alike.
_PROCESSES = "/proc"
_ALL = "all"
_STATEFUL = frozenset({"local", "docker", _ALL})
"""Toolsets whose tools leave something for the next server: an agent, what was captured."""
_LIMITS = ("/sys/fs/cgroup", "/sys/kernel/mm/transparent_hugepage")
"""What the receiver's engine looks up; DuckDB 2.0 ends with SIGABRT where its cgroup is there and may not be read."""
_HOST_FACTS = ("/sys", "/boot", "/etc/os-release", "/usr/lib/os-release")
"""What the toolset ``local`` looks up to say whether OBI can run on this host."""


@dataclass(frozen=True, slots=True)
class Needs:
    """Files that a part of the server uses besides those that everything uses; what is not there is left out."""

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Confinement:
    """What holds the server. ``why``: the reason when it is less than reading and writing; empty otherwise."""

    held: Held
    rules: Rules
    why: str = ""

    def describe(self) -> str:
        """One sentence: what the server may still do with files."""
        if self.held == "nothing":
            return f"the server is not held to its files: {self.why}"
        written = ", ".join(self.rules.write)
        if self.held == "writing":
            return f"the server writes only to {written}; it may read what its user may: {self.why}"
        return f"the server reads {len(self.rules.read)} places and writes only to {written}"


def state_directory(environ: Mapping[str, str]) -> Path:
    """Where the server keeps what outlives it: ``$XDG_STATE_HOME/obi-mcp`` or ``~/.local/state/obi-mcp``."""
    base = environ.get("XDG_STATE_HOME", "")
    if not base.startswith("/"):
        base = os.path.join(environ.get("HOME", "/"), ".local", "state")
    return Path(base) / _STATE


def confine_server(
    settings: Settings, programs: Programs, *, private: str | None = None, environ: Mapping[str, str] | None = None
) -> Confinement:
    """Holds this process, and every child that it starts from now on, for good. ``private``: its private directory.

    INVARIANT: called while the process has one thread, since the kernel confines the calling thread and what it starts.
    Raises: ConfigError when a kernel that has Landlock refuses.
    """
    environ = os.environ if environ is None else environ
    if _keeps_state(settings, programs):
        for place in filter(None, (str(state_directory(environ)), settings.capture.directory)):
            _make(Path(place))  # a rule needs a directory that is there
    planned = plan(settings, programs, private=private, environ=environ)
    kernel.no_new_privileges()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold what the kubeconfig's credentials gave
    if planned.held == "nothing":
        return planned
    kernel.drop_capabilities()
    rules = planned.rules
    try:
        ruleset = kernel.landlock_ruleset(
            read=list(rules.read),
            execute=list(rules.execute),
            write=list(rules.write),
            everything=rules.everything,
            network=True,
            remove=[os.path.dirname(private)] if private else [],  # the private directory itself, at the end
        )
        if ruleset is not None:
            kernel.landlock_restrict(ruleset)
            os.close(ruleset)
    except OSError as error:
        raise ConfigError(
            f"the kernel refuses to confine the server: {error.strerror}",
            "say why on the project's page, and go on without: --confine none",
        ) from None
    return planned


def plan(
    settings: Settings, programs: Programs, *, private: str | None = None, environ: Mapping[str, str]
) -> Confinement:
    """What ``confine_server`` would hold the server to, here and with these settings."""
    if settings.confine == "none":
        return Confinement("nothing", Rules(), "the setting confine is none")
    if not kernel.landlock_abi():
        return Confinement("nothing", Rules(), "this kernel offers no Landlock")
    paths = kubeconfig_paths(settings.programs.kubeconfig, environ)
    contexts = _contexts(settings, paths)
    needs = toolset_needs(settings, environ)
    write = _there((*([private] if private else []), *_DEVICES, *needs.write))
    plugin = next((context for context in contexts if context.plugin), None)
    if plugin is not None and plugin.plugin is not None:
        why = f"the context {plugin.name} gets its credentials from {plugin.plugin.command}, which may read anything"
        return Confinement("writing", Rules(write=write, everything=False, network=True), why)
    home = environ.get("HOME", "/")
    read = (
        *_python(home),
        *files.LIBRARIES,
        *files.NETWORK,
        _PROCESSES,
        SERVICE_ACCOUNT,
        *files.around((*paths, *(file for context in contexts for file in context.files)), home),
        *files.around((value for value in settings.programs.environment.values() if _is_path(value)), home),
        *(path for path in (settings.programs.chart_store, settings.policy_directory) if path),
        *needs.read,
    )
    executables = [*(program.path for program in programs.found.values()), os.path.realpath(sys.executable)]
    execute = files.with_loaders(tuple(executables))
    libraries = (library for program in executables for library in files.libraries_of(program))
    return Confinement(
        "reading and writing",
        Rules(read=_there((*read, *libraries)), execute=_there(execute), write=write, network=True),
    )


def toolset_needs(settings: Settings, environ: Mapping[str, str]) -> Needs:
    """What the toolsets that are switched on use besides."""
    names, home = _names(settings), environ.get("HOME", "/")
    read: list[str] = []
    write: list[str] = []
    if names & _STATEFUL:
        write += filter(None, (str(state_directory(environ)), settings.capture.directory))
        read += _LIMITS
    if names & {"local", _ALL}:
        read += (*_HOST_FACTS, *settings.local.config_directories)
    if names & {"docker", _ALL}:
        places = (environ.get("DOCKER_CONFIG"), environ.get("DOCKER_CERT_PATH"), os.path.join(home, ".docker"))
        read += [place for place in places if place]
    return Needs(tuple(read), tuple(write))


def _keeps_state(settings: Settings, programs: Programs) -> bool:
    """Whether something may be written into the state directory that is not there yet."""
    has_obi = "obi" in programs.found or settings.local.binary is not None
    return bool(_names(settings) & (_STATEFUL if has_obi else _STATEFUL - {"local"}))


def _names(settings: Settings) -> frozenset[str]:
    return frozenset(settings.toolsets)


def _make(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        pass  # whoever needs it says so when it is needed


def _contexts(settings: Settings, paths: tuple[str, ...]) -> list[Context]:
    """The contexts that a caller may name; and the kubeconfig's files again where they cannot be read just now."""
    try:
        kubeconfig = read_kubeconfig(paths)
    except ConfigError:  # a finding and no failed start: it may be mended while the server runs
        kubeconfig = Kubeconfig(paths)
    names = settings.scope.contexts or ((kubeconfig.current,) if kubeconfig.current else ())
    return [context for name in names if (context := kubeconfig.contexts.get(name))]


def _python(home: str) -> tuple[str, ...]:
    """The interpreter's own files and ours: modules are imported when they are first used."""
    package = Path(obi_mcp.__file__).resolve().parent
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    # `python -m` puts the folder it was started in first, which may be anything.
    broad = {os.getcwd(), *(path for path in sys.path if not path or files.is_broad(path, home))}
    importable = [os.path.realpath(path) for path in sys.path if path not in broad]
    return (
        os.path.dirname(os.path.realpath(os.__file__)),
        *importable,
        *(real for folder in importable for real in _linked(folder)),
        os.path.join(sys.prefix, "pyvenv.cfg"),
        f"/etc/{version}",
        str(package),
        str(shipped_policy()),
        str(shipped_charts()),
    )


def _linked(folder: str) -> Iterator[str]:
    """Where packages really lie that an installer put into the folder as links, whole or file by file."""
    try:
        entries = list(os.scandir(folder))
    except OSError:  # an archive, or not there
        return
    for entry in entries:
        if entry.is_symlink():
            yield os.path.realpath(entry.path)
        elif entry.is_dir() and os.path.islink(first := os.path.join(entry.path, "__init__.py")):
            yield os.path.dirname(os.path.realpath(first))


def _is_path(value: str) -> bool:
    return value.startswith("/") and os.path.exists(value)


def _there(paths: Iterable[str]) -> tuple[str, ...]:
    return tuple(path for path in dict.fromkeys(paths) if os.path.exists(path))
