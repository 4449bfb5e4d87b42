"""What a pod template's parts may be together: mounts and volumes, files and mounts, ports and networks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from obi_mcp.policy.manifest.environment import variables_of
from obi_mcp.policy.manifest.findings import Inspection, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_CONFIG_FLAG = re.compile(r"--?config(?:=(?P<file>.+))?")
_PLAIN_PATH = re.compile(r"(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)+")
_SMALLER_SET = "BPF, PERFMON, NET_RAW, SYS_PTRACE, DAC_READ_SEARCH, CHECKPOINT_RESTORE"


def arguments(value: Any, _of: Any, path: str, inspection: Inspection) -> None:
    """Check: nothing, ``-config FILE`` or ``-config=FILE``; OBI ignores other operands and starts."""
    if value and config_argument(value) is None:
        inspection.violate(
            "arguments",
            f"{path} is not a flag that OBI has",
            path,
            "leave it out, or write ['-config', '/etc/obi/config.yml']",
        )


def config_argument(args: list[str]) -> str | None:
    """The file that ``-config`` names, or None where the words are anything else."""
    match = _CONFIG_FLAG.fullmatch(args[0]) if args else None
    if match is None:
        return None
    if match["file"]:
        return match["file"] if len(args) == 1 else None
    return args[1] if len(args) == 2 and not args[1].startswith("-") else None


def privileged(value: Any, _of: Any, path: str, inspection: Inspection) -> None:
    """Check: a bool; true only where the configuration allows it, and with a warning that names the smaller set."""
    if not isinstance(value, bool):
        inspection.violate("type", f"{path} is {shown(value)}, not true or false", path, "write true or false")
    elif value and not inspection.scope.allow_privileged:
        inspection.violate(
            "privileged",
            "the configuration allows no privileged containers",
            path,
            f"add capabilities instead: {_SMALLER_SET}",
        )
    elif value:
        inspection.warn(
            "privileged", "a privileged container can do anything on its node", path, f"enough is: {_SMALLER_SET}"
        )


def capability(value: Any, of: Any, path: str, inspection: Inspection) -> None:
    """Check: one of the documented set."""
    if value not in of:
        hint = f"use some of {', '.join(of)}" if of else "leave capabilities out here"
        inspection.violate("capability", f"the capability {shown(value)} is not one that OBI needs here", path, hint)
    elif value == "SYS_ADMIN":
        inspection.warn(
            "capability", "SYS_ADMIN is nearly all of root", path, "only Go context propagation and old kernels need it"
        )


def seccomp_type(value: Any, _of: Any, path: str, inspection: Inspection) -> None:
    """Check: RuntimeDefault; Unconfined where privileged containers are allowed. Localhost names a file of the node."""
    if value == "Unconfined" and inspection.scope.allow_privileged:
        inspection.warn("confinement", "seccomp is off", path, "RuntimeDefault lets BPF through with CAP_BPF")
    elif value != "RuntimeDefault":
        inspection.violate("confinement", f"the seccomp profile {shown(value)}", path, "use RuntimeDefault")


def apparmor_type(value: Any, _of: Any, path: str, inspection: Inspection) -> None:
    """Check: RuntimeDefault or Unconfined, which OBI needs without privileges: the default profile forbids ptrace."""
    if value == "Unconfined":
        inspection.warn("confinement", "AppArmor is off", path, "only needed where the default profile forbids ptrace")
    elif value != "RuntimeDefault":
        inspection.violate(
            "confinement", f"the AppArmor profile {shown(value)}", path, "use RuntimeDefault or Unconfined"
        )


def host_path(value: Any, of: Any, path: str, inspection: Inspection) -> None:
    """Check: one of the paths of the node that OBI needs, spelled exactly so."""
    if value not in of:
        inspection.violate(
            "host-path", f"the path {shown(value)} of the node is not one that OBI needs", path, f"use {', '.join(of)}"
        )


def pod(value: Any, of: Any, path: str, inspection: Inspection) -> None:
    """Check: the parts of a pod fit together. ``of``: where each kind of volume may be mounted."""
    if not value.get("serviceAccountName"):
        inspection.warn(
            "service-account",
            "without serviceAccountName OBI runs as the namespace's default account",
            f"{path}.serviceAccountName",
            "give OBI an account of its own",
        )
    _names_once(value, path, inspection)
    volumes = {volume["name"]: volume for volume in value.get("volumes") or []}
    for container, at in _containers(value, path):
        fits_together(container, volumes, of, at, inspection, host_network=value.get("hostNetwork") is True)


def fits_together(
    container: Mapping[str, Any],
    volumes: Mapping[str, Any],
    of: Any,
    path: str,
    inspection: Inspection,
    *,
    host_network: bool = False,
) -> None:
    """One container against the pod's volumes (by name) and network."""
    mounts = _mounts(container, volumes, of, path, inspection)
    _files(container, mounts, path, inspection)
    _ports(container, of, path, inspection, host_network=host_network)


def _containers(value: Mapping[str, Any], path: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    for field in ("initContainers", "containers"):
        for position, container in enumerate(value.get(field) or []):
            yield container, f"{path}.{field}[{position}]"


def _names_once(value: Mapping[str, Any], path: str, inspection: Inspection) -> None:
    """The API server merges by name; of two with one name, who is judged?"""
    for named in (
        _containers(value, path),
        ((v, f"{path}.volumes[{i}]") for i, v in enumerate(value.get("volumes") or [])),
    ):
        seen: set[str] = set()
        for entry, at in named:
            if entry["name"] in seen:
                inspection.violate(
                    "twice", f"the name {entry['name']} is there twice", f"{at}.name", "give each its own name"
                )
            seen.add(entry["name"])


def _mounts(
    container: Mapping[str, Any], volumes: Mapping[str, Any], of: Any, path: str, inspection: Inspection
) -> list[tuple[str, str]]:
    """(kind of volume, mount path) of each mount of the container, reporting those that may not be."""
    found = []
    for position, mount in enumerate(container.get("volumeMounts") or []):
        at = f"{path}.volumeMounts[{position}]"
        volume = volumes.get(mount["name"])
        if volume is None:
            inspection.violate("mount", f"there is no volume {mount['name']}", f"{at}.name", "declare it under volumes")
            continue
        kind = next(key for key in ("configMap", "emptyDir", "projected", "hostPath") if volume.get(key) is not None)
        if kind == "hostPath":
            _host_mount(mount, volume["hostPath"]["path"], of["readOnly"], at, inspection)
        elif not any(_within(mount["mountPath"], root) for root in of[kind]):
            inspection.violate(
                "mount",
                f"a {kind} volume is mounted at {mount['mountPath']}",
                f"{at}.mountPath",
                f"mount it below {', '.join(of[kind])}",
            )
        found.append((kind, mount["mountPath"]))
    return found


def _host_mount(mount: Mapping[str, Any], source: str, read_only: list[str], path: str, inspection: Inspection) -> None:
    if mount["mountPath"] != source:
        inspection.violate(
            "mount", f"{source} is mounted at another path", f"{path}.mountPath", f"mount it at {source}"
        )
    if mount.get("subPath"):
        inspection.violate("mount", "a part of a path of the node is mounted", f"{path}.subPath", "remove subPath")
    if source in read_only and mount.get("readOnly") is not True:
        inspection.violate(
            "mount", f"{source} is mounted writable", f"{path}.readOnly", "set readOnly: true; OBI only reads it"
        )


def _files(container: Mapping[str, Any], mounts: list[tuple[str, str]], path: str, inspection: Inspection) -> None:
    """Configuration only from a mounted config map; other files only from something that is mounted."""
    names = inspection.environment
    configs = [at for kind, at in mounts if kind == "configMap"]
    for position, name, value in variables_of(container):
        at = f"{path}.env[{position}].value"
        if value and name in names.config_paths and not any(_within(value, root) for root in configs):
            inspection.violate("config-path", f"{name} is no file of a mounted config map", at, _config_hint(configs))
    file = config_argument(container.get("args") or [])
    if file is not None and not any(_within(file, root) for root in configs):
        inspection.violate(
            "config-path",
            "the file after -config is not from a mounted config map",
            f"{path}.args",
            _config_hint(configs),
        )


def _config_hint(configs: list[str]) -> str:
    return f"name a file below {', '.join(configs)}" if configs else "mount OBI's config map and name a file below it"


def _ports(container: Mapping[str, Any], of: Any, path: str, inspection: Inspection, *, host_network: bool) -> None:
    """A declared port is one that may be fetched through the API server; with hostNetwork it is the node's own."""
    for position, port in enumerate(container.get("ports") or []):
        at = f"{path}.ports[{position}]"
        number, host = port["containerPort"], port.get("hostPort")
        if host is not None and not (host_network and host == number):
            hint = "remove it; with hostNetwork it is the containerPort by itself"
            inspection.violate("host-port", f"hostPort {host} opens a port on every node", f"{at}.hostPort", hint)
        if host_network and any(first <= number <= last for first, last in of["nodePorts"]):
            reason = f"port {number} of the node belongs to somebody else"
            inspection.violate("host-port", reason, f"{at}.containerPort", "declare the port that OBI listens on")


def _within(path: str, root: str) -> bool:
    """Whether ``path`` is ``root`` or below it. ``..`` is below nothing, and ``$(NAME)`` could become ``..``."""
    return _PLAIN_PATH.fullmatch(path) is not None and (path == root or path.startswith(f"{root}/"))
