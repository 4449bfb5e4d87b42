"""From a caller's arguments to what container is wanted: types, OBI's own reading of the configuration, defaults."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from obi_mcp.containers.model import DEFAULT_MEMORY_BYTES, NOBODY, EngineFacts
from obi_mcp.containers.plan import Planned, Wish, made_config, plan
from obi_mcp.errors import InvalidArgument, InvalidDocument
from obi_mcp.obi.config import ConfigFinding, validate
from obi_mcp.obi.manifests.install import REPOSITORY, VERSION
from obi_mcp.policy.effects import ContainerProof
from obi_mcp.policy.manifest.environment import is_beyla
from obi_mcp.toolsets.capturing import ENDPOINT

_PARANOID = Path("/proc/sys/kernel/perf_event_paranoid")
_VERSION = re.compile(r":v?(\d+\.\d+\.\d+)(?:@|$)")
_CAPABILITY = re.compile(r"(?:CAP_)?([A-Z_]{2,32})")
_PORTS = re.compile(r"\d{1,5}(-\d{1,5})?(,\d{1,5}(-\d{1,5})?)*")
_MOST_FINDINGS = 5
_MIB = 1024 * 1024


def planned(
    given: Mapping[str, Any], facts: EngineFacts | None, replaces: ContainerProof = NOBODY
) -> tuple[Planned, list[str]]:
    """The plan for these arguments, and what is to be said beside it. ``replaces``: whose place it takes.

    Raises: InvalidArgument; InvalidDocument for a configuration that OBI would refuse or misread.
    """
    wish = replace(_wish(given), replaces=replaces)
    findings = validate(wish.config, environment=wish.environment, version=wish.version, program=wish.program)
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        raise _refused(errors)
    made = plan(wish, facts, _paranoid() if facts is not None and facts.local else None)
    warnings = [str(finding) for finding in findings if finding.severity == "warning"][:_MOST_FINDINGS]
    return made, [*made.notes, *warnings]


def _wish(given: Mapping[str, Any]) -> Wish:
    environment = _environment(given.get("env", {}))
    if endpoint := given.get("otlp_endpoint"):
        environment[ENDPOINT] = endpoint
    image = given.get("image", f"{REPOSITORY}:{VERSION}")
    version = _VERSION.search(image)
    return Wish(
        image=image,
        config=_config(given, exports=ENDPOINT in environment),
        name=given.get("name", "obi"),
        environment=environment,
        privileged=given.get("privileged", False),
        further=tuple(_capability(word) for word in given.get("capabilities", ())),
        mounts=tuple(_path(word) for word in given.get("mounts", ())),
        memory_bytes=given["memory_mib"] * _MIB if "memory_mib" in given else DEFAULT_MEMORY_BYTES,
        restart=given.get("restart", "unless-stopped"),
        program="beyla" if is_beyla(image) else "obi",
        version=f"v{version[1]}" if version else None,
    )


def _config(given: Mapping[str, Any], *, exports: bool) -> str:
    port, network = given.get("open_port"), given.get("network", False)
    text: str | None = given.get("config")
    if text is not None and (port or network):
        raise InvalidArgument("config was given, and open_port or network besides", "write them into config")
    if text is not None:
        return text
    if not port and not network:
        raise InvalidArgument(
            "nothing says what OBI should watch", "give config, or open_port (like 8080), or network: true"
        )
    if port and not _PORTS.fullmatch(port):
        raise InvalidArgument(f"open_port is {port[:60]!r}", "give it like 8080 or 80,8000-8999")
    return made_config(open_port=port, network=network, exports=exports)


def _environment(given: Mapping[str, Any]) -> dict[str, str]:
    for name, value in given.items():
        if isinstance(value, dict | list) or value is None:
            raise InvalidArgument(f"env.{name[:60]} is no text", 'give env like {"OTEL_EBPF_LOG_LEVEL": "DEBUG"}')
    # YAML's and JSON's true and OBI's are spelled alike.
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in given.items()}


def _capability(word: object) -> str:
    match = _CAPABILITY.fullmatch(word) if isinstance(word, str) else None
    if match is None:
        raise InvalidArgument(f"{str(word)[:40]!r} is no capability", "name it like DAC_READ_SEARCH")
    return match[1]


def _path(word: object) -> str:
    if not isinstance(word, str) or not word.startswith("/"):
        raise InvalidArgument(f"{str(word)[:40]!r} is no absolute path", "name a path of the engine's host")
    return word


def _refused(errors: list[ConfigFinding]) -> InvalidDocument:
    told = "; ".join(map(str, errors[:_MOST_FINDINGS]))
    more = f" and {len(errors) - _MOST_FINDINGS} more" if len(errors) > _MOST_FINDINGS else ""
    return InvalidDocument(
        f"OBI would refuse or misread the configuration: {told}{more}",
        "mend it; obi_command `obi config validate -` tells everything",
        path=errors[0].key or None,
        line=errors[0].line,
    )


def _paranoid() -> int | None:
    try:
        return int(_PARANOID.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
