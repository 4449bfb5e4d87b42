"""What the kubeconfig says of contexts, credential plugins and files, read as kubectl reads it: first file wins.

Source of fact: client-go's ``tools/clientcmd`` (merging, relative paths) and ``plugin/pkg/client/auth/exec``.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from obi_mcp.errors import ConfigError
from obi_mcp.process.container import in_container

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_CLUSTER_FILES = ("certificate-authority",)
_USER_FILES = ("client-certificate", "client-key", "tokenFile")
_CREDENTIALS = ("token", "tokenFile", "client-certificate", "client-certificate-data", "username", "exec")
_MAX_BYTES = 4_194_304


@dataclass(frozen=True, slots=True)
class Plugin:
    """An ``exec`` credential plugin. ``command`` is absolute, or a bare name to be looked up."""

    command: str
    install_hint: str = ""


@dataclass(frozen=True, slots=True)
class Context:
    """One context: the files that its cluster and user name, as absolute paths, and its plugin if it has one.

    ``server`` is the cluster's address; ``credentials`` is the kubeconfig's word for what the user has, empty: nothing.
    """

    name: str
    files: tuple[str, ...] = ()
    plugin: Plugin | None = None
    server: str = ""
    credentials: str = ""


@dataclass(frozen=True, slots=True)
class Kubeconfig:
    """All contexts by name; ``current`` is empty where none is set. ``paths`` are the files, as KUBECONFIG has them,
    and ``missing`` those that are not there."""

    paths: tuple[str, ...] = ()
    current: str = ""
    contexts: Mapping[str, Context] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    def context(self, name: str | None) -> Context | None:
        """The context of that name, the current one for None; None where there is no such context."""
        return self.contexts.get(name or self.current)


def kubeconfig_paths(configured: str | None, environ: Mapping[str, str]) -> tuple[str, ...]:
    """The kubeconfig's files: configured, else KUBECONFIG, else ``~/.kube/config`` where it is; empty: in a cluster."""
    listed = configured or environ.get("KUBECONFIG", "")
    if listed:
        return tuple(dict.fromkeys(os.path.abspath(os.path.expanduser(p)) for p in listed.split(os.pathsep) if p))
    home = os.path.join(environ.get("HOME", "/"), ".kube", "config")
    return (home,) if os.path.isfile(home) else ()


def stamp(paths: Sequence[str]) -> tuple[tuple[int, int, int] | None, ...]:
    """What changes when one of the files does."""
    return tuple(_stat(path) for path in paths)


def read_kubeconfig(paths: tuple[str, ...]) -> Kubeconfig:
    """Reads and merges the files; one that is not there is skipped, as kubectl does. Blocking.

    Raises: ConfigError for a file that cannot be read or is no kubeconfig.
    """
    clusters: dict[str, tuple[Any, str]] = {}
    users: dict[str, tuple[Any, str]] = {}
    contexts: dict[str, Any] = {}
    current = ""
    for path in paths:
        data = _load(path)
        folder = str(Path(path).parent)
        current = current or str(data.get("current-context") or "")
        for name, body in _named(data, "clusters", "cluster"):
            clusters.setdefault(name, (body, folder))
        for name, body in _named(data, "users", "user"):
            users.setdefault(name, (body, folder))
        for name, body in _named(data, "contexts", "context"):
            contexts.setdefault(name, body)
    made = {name: _context(name, body, clusters, users) for name, body in contexts.items()}
    return Kubeconfig(paths, current, made, tuple(path for path in paths if not os.path.exists(path)))


def file_error(path: str, environ: Mapping[str, str] | None = None) -> ConfigError | None:
    """Why this kubeconfig cannot be read, and what to do; None: it can be. ``environ`` None: the process's own."""
    contained = in_container(environ)
    try:
        status = os.stat(path)
    except FileNotFoundError:
        step = "name one that is: --kubeconfig, programs.kubeconfig or KUBECONFIG"
        mount = f"mount it: -v $HOME/.kube/config:{path}:ro"
        return ConfigError(f"the kubeconfig {path} is not there", mount if contained else step)
    except OSError as error:
        return ConfigError(f"the kubeconfig {path} cannot be reached: {error.strerror}", _reader_step(contained, None))
    if stat.S_ISDIR(status.st_mode):
        step = "docker makes a directory where the file of a -v is not there: check its path on the host"
        return ConfigError(
            f"the kubeconfig {path} is a directory", step if contained else "name the file: --kubeconfig, KUBECONFIG"
        )
    if not os.access(path, os.R_OK):
        mode = stat.S_IMODE(status.st_mode)
        return ConfigError(
            f"the kubeconfig {path} belongs to user {status.st_uid} with mode {mode:04o}, "
            f"and user {os.geteuid()} may not read it",
            _reader_step(contained, status),
        )
    return None


def _reader_step(contained: bool, status: os.stat_result | None) -> str:
    if not contained:
        return "run the server as its owner, or give it a kubeconfig of its own"
    if status is None:
        return "run the container as the file's owner: --user $(id -u):$(id -g)"
    if status.st_uid == os.geteuid() and status.st_mode & stat.S_IRUSR:
        return "SELinux keeps containers from a home's files: run it with --security-opt=label=disable"
    # As the container sees them, which without root (rootless engines) are not the numbers of the host.
    return f"run the container as the file's owner: --user {status.st_uid}:{status.st_gid}"


def _context(
    name: str, body: Mapping[str, Any], clusters: Mapping[str, tuple[Any, str]], users: Mapping[str, tuple[Any, str]]
) -> Context:
    cluster, cluster_folder = clusters.get(str(body.get("cluster", "")), ({}, ""))
    user, user_folder = users.get(str(body.get("user", "")), ({}, ""))
    files = [os.path.join(cluster_folder, cluster[key]) for key in _CLUSTER_FILES if cluster.get(key)]
    files += [os.path.join(user_folder, user[key]) for key in _USER_FILES if user.get(key)]
    if user.get("token") and user.get("tokenFile") and not os.path.exists(files[-1]):
        files.pop()  # then the token is used
    plugin = user.get("exec")
    return Context(
        name,
        tuple(files),
        _plugin(plugin, user_folder) if isinstance(plugin, dict) else None,
        str(cluster.get("server") or ""),
        next((key for key in _CREDENTIALS if user.get(key)), ""),
    )


def _plugin(body: Mapping[str, Any], folder: str) -> Plugin:
    command = str(body.get("command", ""))
    if "/" in command:  # relative to the kubeconfig it stands in
        command = os.path.join(folder, command)
    return Plugin(command, str(body.get("installHint") or "").strip())


def _named(data: Mapping[str, Any], section: str, key: str) -> list[tuple[str, Mapping[str, Any]]]:
    entries = data.get(section)
    if not isinstance(entries, list):
        return []
    return [
        (str(entry.get("name", "")), entry[key])
        for entry in entries
        if isinstance(entry, dict) and isinstance(entry.get(key), dict)
    ]


def _load(path: str) -> Mapping[str, Any]:
    import yaml

    try:
        with open(path, "rb") as file:
            text = file.read(_MAX_BYTES)
        data = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except FileNotFoundError:
        return {}
    except OSError as error:
        known = file_error(path)
        raise known or ConfigError(f"the kubeconfig {path} cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"the kubeconfig {path} is not YAML: {str(error).splitlines()[0]}") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"the kubeconfig {path} is not a mapping")
    return data


def _stat(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
