"""What the kubeconfig says of contexts, credential plugins and files, read as kubectl reads it: first file wins.

Source of fact: client-go's ``tools/clientcmd`` (merging, relative paths) and ``plugin/pkg/client/auth/exec``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from obi_mcp.errors import ConfigError

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_CLUSTER_FILES = ("certificate-authority",)
_USER_FILES = ("client-certificate", "client-key", "tokenFile")
_MAX_BYTES = 4_194_304


@dataclass(frozen=True, slots=True)
class Plugin:
    """An ``exec`` credential plugin. ``command`` is absolute, or a bare name to be looked up."""

    command: str
    install_hint: str = ""


@dataclass(frozen=True, slots=True)
class Context:
    """One context: the files that its cluster and user name, as absolute paths, and its plugin if it has one."""

    name: str
    files: tuple[str, ...] = ()
    plugin: Plugin | None = None


@dataclass(frozen=True, slots=True)
class Kubeconfig:
    """All contexts by name; ``current`` is empty where none is set. ``paths`` are the files, as KUBECONFIG has them."""

    paths: tuple[str, ...] = ()
    current: str = ""
    contexts: Mapping[str, Context] = field(default_factory=dict)

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
    return Kubeconfig(paths, current, made)


def _context(
    name: str, body: Mapping[str, Any], clusters: Mapping[str, tuple[Any, str]], users: Mapping[str, tuple[Any, str]]
) -> Context:
    cluster, cluster_folder = clusters.get(str(body.get("cluster", "")), ({}, ""))
    user, user_folder = users.get(str(body.get("user", "")), ({}, ""))
    files = [os.path.join(cluster_folder, cluster[key]) for key in _CLUSTER_FILES if cluster.get(key)]
    files += [os.path.join(user_folder, user[key]) for key in _USER_FILES if user.get(key)]
    plugin = user.get("exec")
    return Context(name, tuple(files), _plugin(plugin, user_folder) if isinstance(plugin, dict) else None)


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
        raise ConfigError(
            f"the kubeconfig {path} cannot be read: {error.strerror}",
            "run the server as its owner, or give it a kubeconfig of its own",
        ) from None
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
