"""How each program runs: an environment made from nothing, limits, and the files it may see."""

from __future__ import annotations

import asyncio
import json
import os
import resource
from collections.abc import Mapping, Sequence
from functools import lru_cache

from obi_mcp.config import Settings
from obi_mcp.errors import ConfigError, ProgramMissing
from obi_mcp.policy.shipped import shipped_charts
from obi_mcp.process import files
from obi_mcp.process.children import Launch, Rules
from obi_mcp.process.directory import PrivateDirectory
from obi_mcp.process.kubeconfig import (
    SERVICE_ACCOUNT,
    Context,
    Kubeconfig,
    Plugin,
    kubeconfig_paths,
    read_kubeconfig,
    stamp,
)
from obi_mcp.process.programs import HEADS, HELPERS, Program, Programs

_MIB = 1 << 20
FILTER_MEMORY_BYTES = 512 * _MIB
FILTER_CPU_S = 10
_HEAD_FILE_BYTES = 256 * _MIB
# What helm fetches from a repository: it keeps an index in memory, however large, before it writes it.
_FETCHES = frozenset({"repo", "pull"})
_FETCHED_FILE_BYTES = 32 * _MIB
_FETCHING_MEMORY_BYTES = 2048 * _MIB

# kubectl lives for 30 ms: collecting garbage is a tenth of that. The soft limit makes it collect where lists are large.
_GO = {"GOGC": "400", "GOMEMLIMIT": "256MiB"}
_MAX_THREADS = 4
_FILTER_ENVIRONMENT = {"LC_ALL": "C.UTF-8", "MALLOC_ARENA_MAX": "1"}
# Of a pipe sort keeps some megabytes and writes the rest to files, unless it is told how much it may keep.
_IN_MEMORY = {"sort": ("--buffer-size=256M",)}
_IN_CLUSTER = ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT")
_NOT_FOR_OPERATORS = (
    *("PATH", "HOME", "TMPDIR", "SHELL", "ENV", "BASH_ENV", "EDITOR", "PAGER", "XDG_", "LD_", "KUBECTL_", "KUBERC"),
    *("KUBE_EDITOR", "KUBECONFIG", "KUBECACHEDIR", "KUBERNETES_", "HELM_", "GIT_", "PYTHON", "DYLD_"),
)
_FOR_OPERATORS = frozenset({"HELM_DRIVER", "HELM_MAX_HISTORY", "HELM_BURST_LIMIT", "HELM_QPS"})


class Sandbox:
    """Makes launches. Reads the kubeconfig again when one of its files has changed."""

    def __init__(
        self, settings: Settings, programs: Programs, directory: PrivateDirectory, environ: Mapping[str, str]
    ) -> None:
        """INVARIANT: ``check_environment`` has passed the settings."""
        self._settings = settings
        self._programs = programs
        self._directory = directory
        self._environ = environ
        self._paths = kubeconfig_paths(settings.programs.kubeconfig, environ)
        self._stamp: object = None
        self._kubeconfig = Kubeconfig()
        self._plugins: dict[str, str] = {}
        self._head_rules: dict[str, Rules] = {}
        self._reading = asyncio.Lock()
        self._base = self._environment(settings.programs.environment)
        self._write_repositories()
        self._link()

    @property
    def kubeconfig(self) -> Kubeconfig:
        """As last read by ``prepare``."""
        return self._kubeconfig

    @property
    def version(self) -> object:
        """Equal as long as the kubeconfig's files are the same."""
        return self._stamp

    async def prepare(self, context: str | None) -> Context | None:
        """The context of that name (None: the current one), with the kubeconfig as it is now; None: no such context.

        Raises: ConfigError for a kubeconfig that cannot be read.
        """
        now = stamp(self._paths)
        if now != self._stamp:
            async with self._reading:
                self._kubeconfig = await asyncio.to_thread(read_kubeconfig, self._paths)
                self._stamp = now
                self._head_rules.clear()
                self._find_plugins()
        return self._kubeconfig.context(context)

    def missing_plugin(self, context: Context | None) -> ProgramMissing | None:
        """Why nothing can speak to this context: its credential plugin is not installed. None: it is, or needs none."""
        if context is None or context.plugin is None or context.plugin.command in self._plugins:
            return None
        return _missing_plugin(context.name, context.plugin, self._programs.searched)

    def head(self, program: Program, arguments: Sequence[str], *, temporary: str, context: Context | None) -> Launch:
        """kubectl or helm: the network, the kubeconfig's files, and a private place to write."""
        cpu_s = int(self._settings.limits.max_timeout_s) + 1
        fetches = program.name == "helm" and not _FETCHES.isdisjoint(arguments[:1])
        return Launch(
            path=program.path,
            argv=(program.name, *arguments),
            env={**self._base, "TMPDIR": temporary},
            cwd=self._directory.path("work"),
            limits=(
                _limit(resource.RLIMIT_CORE, 0),
                _limit(resource.RLIMIT_CPU, cpu_s),
                _limit(resource.RLIMIT_FSIZE, _FETCHED_FILE_BYTES if fetches else _HEAD_FILE_BYTES),
                _limit(resource.RLIMIT_NOFILE, 1024),
                *([_limit(resource.RLIMIT_AS, _FETCHING_MEMORY_BYTES)] if fetches else []),
            ),
            rules=self._rules(context),
        )

    def proxy(self, program: Program, arguments: Sequence[str], *, context: Context | None) -> Launch:
        """``kubectl proxy``, which lives as long as it is used."""
        return Launch(
            path=program.path,
            argv=(program.name, *arguments),
            env={**self._base, "TMPDIR": self._directory.path("tmp")},
            cwd=self._directory.path("work"),
            limits=(_limit(resource.RLIMIT_CORE, 0), _limit(resource.RLIMIT_NOFILE, 4096)),
            rules=self._rules(context),
        )

    def filter(self, program: Program, arguments: Sequence[str]) -> Launch:
        """jq or a text filter: no files but its own libraries, no sockets, no variables, 512 MiB and 10 CPU seconds."""
        return Launch(
            path=program.path,
            argv=(program.name, *_IN_MEMORY.get(program.name, ()), *arguments),
            env=_FILTER_ENVIRONMENT,
            cwd=self._directory.path("work"),
            limits=(
                _limit(resource.RLIMIT_CORE, 0),
                (resource.RLIMIT_CPU, FILTER_CPU_S, FILTER_CPU_S + 1),
                _limit(resource.RLIMIT_AS, FILTER_MEMORY_BYTES),
                _limit(resource.RLIMIT_FSIZE, 0),
                _limit(resource.RLIMIT_NOFILE, 32),
            ),
            rules=_filter_rules(program.path),
            sockets=False,
        )

    def _environment(self, extras: Mapping[str, str]) -> dict[str, str]:
        home, helm = self._directory.path("home"), self._directory.path("helm")
        threads = str(max(1, min(_MAX_THREADS, len(os.sched_getaffinity(0)))))
        environment = {
            **_GO,
            "GOMAXPROCS": threads,
            **extras,
            **{name: self._environ[name] for name in _IN_CLUSTER if name in self._environ},
            "PATH": self._directory.path("bin"),
            "HOME": home,
            "XDG_CACHE_HOME": f"{home}/.cache",
            "XDG_CONFIG_HOME": f"{home}/.config",
            "XDG_DATA_HOME": f"{home}/.local/share",
            "KUBECACHEDIR": self._directory.path("cache"),
            "KUBECTL_KUBERC": "false",
            # The whole context, so that a value is seen with the name above it; it is cut after redaction.
            "KUBECTL_EXTERNAL_DIFF": "diff -u -N -U 1000000",
            "HELM_CACHE_HOME": f"{helm}/cache",
            "HELM_CONFIG_HOME": f"{helm}/config",
            "HELM_DATA_HOME": f"{helm}/data",
            "HELM_PLUGINS": f"{helm}/plugins",
            "HELM_NO_PLUGINS": "1",
            "HELM_REPOSITORY_CONFIG": f"{helm}/repositories.yaml",
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            "TERM": "dumb",
            "NO_COLOR": "1",
        }
        if self._paths:
            environment["KUBECONFIG"] = os.pathsep.join(self._paths)
        return environment

    def _rules(self, context: Context | None) -> Rules:
        name = context.name if context else ""
        if name not in self._head_rules:
            self._head_rules[name] = self._make_rules(context)
        return self._head_rules[name]

    def _make_rules(self, context: Context | None) -> Rules:
        private = str(self._directory.root)
        if context is not None and context.plugin is not None:
            # Nobody knows what a plugin reads and runs; it may write nowhere but here all the same.
            return Rules(write=(private, "/dev/null"), everything=False, network=True)
        extras = self._settings.programs.environment.values()
        home = self._environ.get("HOME", "/")
        read = (
            *files.LIBRARIES,
            *files.NETWORK,
            os.path.realpath("/etc/resolv.conf"),
            SERVICE_ACCOUNT,
            *files.around((*self._paths, *(context.files if context else ())), home),
            *files.around((value for value in extras if value.startswith("/") and os.path.exists(value)), home),
            str(shipped_charts()),
            *([self._settings.programs.chart_store] if self._settings.programs.chart_store else []),
        )
        execute = [self._programs.found[name].path for name in (*HEADS, *HELPERS) if name in self._programs.found]
        return Rules(
            read=tuple(dict.fromkeys(read)),
            execute=files.with_loaders(tuple(execute)),
            write=(private, "/dev/null"),
            network=True,
            stamp=repr(self._stamp),
        )

    def _find_plugins(self) -> None:
        wanted = {context.plugin.command for context in self._kubeconfig.contexts.values() if context.plugin}
        self._plugins = {command: file for command in wanted if (file := self._programs.look_up(command))}
        self._link()

    def _link(self) -> None:
        bare = {command: file for command, file in self._plugins.items() if "/" not in command}
        helpers = {name: program.path for name, program in self._programs.found.items()}
        self._directory.link_programs({**bare, **helpers})

    def _write_repositories(self) -> None:
        """helm's list of repositories, as the operator configured it. JSON is YAML."""
        entries = [{"name": name, "url": url} for name, url in self._settings.scope.repositories.items()]
        text = json.dumps({"apiVersion": "", "generated": "0001-01-01T00:00:00Z", "repositories": entries})
        (self._directory.root / "helm" / "repositories.yaml").write_text(text, encoding="utf-8")


def _limit(which: int, most: int) -> tuple[int, int, int]:
    """An rlimit, never above what this process has itself."""
    hard = resource.getrlimit(which)[1]
    bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
    return which, bound, bound


def check_environment(configured: Mapping[str, str]) -> None:
    """Raises: ConfigError when ``programs.environment`` sets what is ours to set."""
    for name in configured:
        if name.startswith(_NOT_FOR_OPERATORS) and name not in _FOR_OPERATORS:
            raise ConfigError(
                f"programs.environment sets {name}, which the server sets itself",
                "programs.environment is for proxies and for the variables of a credential plugin",
            )


@lru_cache(32)
def _filter_rules(path: str) -> Rules:
    return Rules(read=files.libraries_of(path), execute=files.with_loaders((path,)))


def _missing_plugin(context: str, plugin: Plugin, searched: Sequence[str]) -> ProgramMissing:
    hint = f"install {plugin.command}, mount it into the container, or add its directory to programs.path"
    if plugin.install_hint:
        hint += f"; its own hint: {plugin.install_hint.splitlines()[0][:200]}"
    where = "" if "/" in plugin.command else f" in any of {', '.join(searched)}"
    return ProgramMissing(
        f"the context {context} gets its credentials from the program {plugin.command}, which is not there{where}", hint
    )
