"""A container of OBI's as a Compose file, and a Compose file as the effect that the policy judges.

What is written is read back and judged, so that no file leaves here that this server would not run itself.
"""

from __future__ import annotations

from typing import Any

from obi_mcp.containers.creation import LOG_DRIVER, LOG_OPTIONS
from obi_mcp.errors import InvalidDocument
from obi_mcp.policy.effects import CONTAINER_CONFIG, ContainerRun, Mount
from obi_mcp.policy.yaml_reader import read_stream
from obi_mcp.policy.yaml_writer import to_yaml

HEADER = "# OBI by Docker Compose 2.23.1 or newer: docker compose -f FILE up -d\n"
_SERVICE = "obi"
_CONFIG = "obi-config"
_SERVICE_KEYS = {
    "image", "container_name", "command", "environment", "configs", "volumes", "privileged", "cap_drop", "cap_add",
    "security_opt", "pid", "network_mode", "labels", "restart", "mem_limit", "logging",
}  # fmt: skip


def compose_text(run: ContainerRun) -> str:
    """The file. ``$`` is doubled where Compose would put in a variable of its own."""
    service: dict[str, Any] = {
        "image": run.image,
        "container_name": run.name,
        "command": list(run.command),
        "environment": {name: _escaped(value) for name, value in run.environment},
        "configs": [{"source": _CONFIG, "target": CONTAINER_CONFIG}],
        "volumes": [
            {"type": "bind", "source": mount.source, "target": mount.target, "read_only": mount.read_only}
            for mount in run.mounts
        ],
        "privileged": run.privileged,
        "cap_drop": [] if run.privileged else ["ALL"],
        "cap_add": list(run.capabilities),
        "security_opt": list(run.security_options),
        "pid": run.pid_mode,
        "network_mode": run.network_mode,
        "labels": dict(run.labels),
        "restart": run.restart,
        "mem_limit": run.memory_bytes,
        "logging": {"driver": LOG_DRIVER, "options": LOG_OPTIONS},
    }
    document = {
        "services": {_SERVICE: {key: value for key, value in service.items() if value not in ([], {}, "", 0, False)}},
        "configs": {_CONFIG: {"content": _escaped(run.config)}},
    }
    return HEADER + to_yaml(document)


def effect_of_compose(text: str) -> ContainerRun:
    """The container that the file describes. Raises: InvalidDocument for what ``compose_text`` never writes."""
    documents = [document[2] for document in read_stream(text, max_bytes=1_048_576, max_documents=1, max_aliases=0)]
    data = documents[0] if documents else None
    if not isinstance(data, dict) or data.keys() != {"services", "configs"} or data["services"].keys() != {_SERVICE}:
        raise InvalidDocument("the Compose file has other parts than one service obi and its configuration")
    service, config = data["services"][_SERVICE], data["configs"].get(_CONFIG, {})
    if further := sorted(service.keys() - _SERVICE_KEYS):
        raise InvalidDocument(f"the service has keys that are not judged: {', '.join(further)}")
    return ContainerRun(
        image=service["image"],
        name=service["container_name"],
        command=tuple(service["command"]),
        environment=tuple(sorted((name, _plain(value)) for name, value in service.get("environment", {}).items())),
        config=_plain(config["content"]),
        mounts=tuple(
            Mount(volume["source"], volume["target"], volume.get("read_only", False))
            for volume in service.get("volumes", ())
        ),
        capabilities=tuple(service.get("cap_add", ())),
        privileged=service.get("privileged", False),
        pid_mode=service.get("pid", ""),
        network_mode=service.get("network_mode", ""),
        security_options=tuple(service.get("security_opt", ())),
        labels=tuple(sorted(service.get("labels", {}).items())),
        restart=service.get("restart", ""),
        memory_bytes=service.get("mem_limit", 0),
    )


def _escaped(text: str) -> str:
    return text.replace("$", "$$")


def _plain(text: str) -> str:
    return text.replace("$$", "$")
