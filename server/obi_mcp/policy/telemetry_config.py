"""OBI's own configuration, as the policy sees it: where telemetry goes, what OBI reads, and what it gives away.

The configuration comes in a ConfigMap or in environment variables. It is judged by a closed schema, like every object:
a key that OBI does not have is refused, and of those it has, the ones that could send telemetry elsewhere, read a
file, carry a credential or print what the instrumented services carry are looked at. Whether OBI would start with it
is another question; ``obi/config.py`` answers that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from obi_mcp.errors import InvalidDocument
from obi_mcp.policy.config_schema import (
    ConfigSchema,
    Leaf,
    Misshapen,
    Never,
    Unknown,
    config_schema,
    dotted,
    version_of,
    walk,
)
from obi_mcp.policy.config_types import expected
from obi_mcp.policy.endpoint import HOST_IP, judge_endpoint
from obi_mcp.policy.model import Violation

if TYPE_CHECKING:
    from obi_mcp.policy.config_schema import Visit
    from obi_mcp.policy.scope import Scope

__all__ = ["judge_config", "judge_endpoint", "judge_variable"]

MAX_BYTES = 262_144
CONFIG_DIRECTORIES = ("/etc/ebpf-instrument", "/etc/obi", "/etc/beyla", "/etc/otel", "/config", "/conf")
"""Where the manifest check lets a ConfigMap be mounted; OBI's image has nothing there of its own."""
_BPF_DIRECTORY = "/sys/fs/bpf"
_PATH = re.compile(r"/[A-Za-z0-9._/-]*")
# OBI replaces these in the text before it reads YAML, in comments and keys, too: a variable's text could be anything.
_INTERPOLATION = re.compile(r"\$(?:\{[^}\n]*\}?|\([^)\n]*\)?|[A-Za-z_][A-Za-z0-9_]*)")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
# A recursive template never ends, and OBI runs it for every pod.
_TEMPLATE_DENIED = re.compile(r"\b(?:define|template|block|range|call|html|js|urlquery)\b")
_NEVER_VARIABLES = {
    "OTEL_EBPF_PROFILE_PORT": "profile_port",
    "OTEL_EBPF_K8S_CACHE_PROFILE_PORT": "profile_port",
    "OTEL_EBPF_PROTOCOL_DEBUG_PRINT": "ebpf.protocol_debug_print",
}


def judge_config(text: str, *, scope: Scope, path: str) -> tuple[Violation, ...]:
    """What of this configuration (v1, Beyla's names, or v2) the policy refuses.

    ``path`` is where the text stands in its object (``data["obi-config.yml"]``); the key within it is added.
    """
    from obi_mcp.policy.yaml_reader import read_stream

    try:
        documents = list(read_stream(text, max_bytes=MAX_BYTES, max_documents=2, max_aliases=20))
    except InvalidDocument as error:
        return (Violation("config.yaml", f"OBI's configuration cannot be read: {error.message}", path, error.hint),)
    if len(documents) > 1:
        return (Violation("config.yaml", "OBI's configuration is one YAML document", path, "remove the others"),)
    found: list[Violation] = []
    data = documents[0][2] if documents else None
    if data is not None:
        schema = config_schema(version_of(data))
        found.extend(_never(schema, data, path))
        for visit in walk(schema, data):
            violation = _judge(schema, visit, scope)
            if violation is not None:
                found.append(_below(violation, path))
    if not any(violation.rule == "config.interpolation" for violation in found):
        found.extend(_interpolations(text, path))
    return tuple(found)


def judge_variable(name: str, value: str, *, scope: Scope) -> str | None:
    """Why a container of OBI's may not have this environment variable; None when it may.

    Knows the variables that OBI v0.5.0 to v0.12.0 read, and HOST_IP is not one of them: what fills a variable from
    the pod is for the manifest check. The reason is a whole sentence.
    """
    schema = config_schema("v1")
    kind = schema.environment.get(name)
    if kind is None:
        return f"{name} is no variable that OBI reads"
    never = _NEVER_VARIABLES.get(name)
    if never is not None and value not in ("", "0", "false"):
        return f"{name}: {_reason(schema, never)}"
    if any(form not in HOST_IP for form in _INTERPOLATION.findall(value)):
        return f"{name} takes its value from another variable; only $(HOST_IP) may stand there"
    if kind in ("file", "bpffs"):
        return None if _may_read(kind, value) else f"{name} names the file {value!r}; leave it unset"
    reason = judge_endpoint(value, scope) if kind in ("endpoint", "address") or _URL.search(value) else None
    return f"{name}: {reason}" if reason else None


def _interpolations(text: str, path: str) -> Iterator[Violation]:
    for match in _INTERPOLATION.finditer(text):
        if match.group() not in HOST_IP:
            line = text.count("\n", 0, match.start()) + 1
            yield Violation(
                "config.interpolation",
                f"line {line} takes {match.group()[:60]!r} from OBI's environment, which may hold secrets",
                path,
                "write the value out; only ${HOST_IP} may stand in an endpoint",
            )


def _judge(schema: ConfigSchema, visit: Visit, scope: Scope) -> Violation | None:
    """The violation of one value, its path relative to the configuration."""
    where = dotted(visit.path)
    match visit:
        case Unknown():
            hint = f"did you mean {visit.nearest}?" if visit.nearest else "remove it; OBI would ignore it silently"
            return Violation("config.unknown-key", f"OBI's configuration has no key {where}", where, hint)
        case Misshapen():
            return Violation("config.type", f"{where or 'the configuration'} must be {visit.expected}", where)
        case Leaf(kind=kind, value=value):
            return _judge_leaf(schema, kind, value, where, scope)


def _judge_leaf(schema: ConfigSchema, kind: str, value: Any, where: str, scope: Scope) -> Violation | None:
    match kind:
        case "endpoint" | "address":
            return _judge_address(value, where, scope)
        case "secret" if value not in ("", {}, []):
            hint = "leave it out; credentials are environment variables from a secret listed in scope.allowed_secrets"
            return Violation("config.secret", f"{where} would put a credential into a ConfigMap", where, hint)
        case "file" | "bpffs" if not _may_read(kind, value):
            home = _BPF_DIRECTORY if kind == "bpffs" else "the directory where the ConfigMap is mounted"
            hint = f"leave it out, or stay in {home}"
            return Violation("config.file", f"{where} names the file {value!r}", where, hint)
    words = expected(schema, kind, value)
    if words is not None:
        return Violation("config.type", f"{where} must be {words}", where)
    return _judge_text(value, where, scope) if isinstance(value, str) else None


def _judge_address(value: object, where: str, scope: Scope) -> Violation | None:
    reason = judge_endpoint(value, scope)
    if reason is None:
        return None
    hint = f"set {where} to a collector of this host or of the cluster; others: scope.endpoints"
    return Violation("config.endpoint", f"{where}: {reason}", where, hint)


def _judge_text(value: str, where: str, scope: Scope) -> Violation | None:
    """Texts that no type covers: a URL in a place where none is expected, and the one template that OBI runs."""
    if any(form not in HOST_IP for form in _INTERPOLATION.findall(value)):
        # Written with YAML escapes, so that the text itself did not show it.
        return Violation("config.interpolation", f"{where} takes its value from the environment", where)
    if _URL.search(value):
        return _judge_address(value, where, scope)
    if where.endswith("service_name_template") and _TEMPLATE_DENIED.search(value):
        hint = "use fields like {{ .Meta.Name }} only"
        reason = f"{where} uses more of Go's templates than fields, if and index"
        return Violation("config.template", reason, where, hint)
    return None


def _never(schema: ConfigSchema, data: Any, path: str) -> Iterator[Violation]:
    for entry in schema.never:
        value = data
        for part in entry.key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value not in entry.but:
            yield Violation("config.never", f"{entry.key}: {entry.because}", f"{path}.{entry.key}", entry.hint)


def _may_read(kind: str, value: Any) -> bool:
    if value == "":
        return True
    if not isinstance(value, str) or not _PATH.fullmatch(value) or ".." in value.split("/"):
        return False
    roots = (_BPF_DIRECTORY,) if kind == "bpffs" else CONFIG_DIRECTORIES
    return any(value == root or value.startswith(root + "/") for root in roots)


def _reason(schema: ConfigSchema, key: str) -> str:
    entry: Never = next(entry for entry in schema.never if entry.key == key)
    return f"{entry.because}; {entry.hint}"


def _below(violation: Violation, path: str) -> Violation:
    where = f"{path}.{violation.path}" if violation.path else path
    return Violation(violation.rule, violation.reason, where, violation.hint)
