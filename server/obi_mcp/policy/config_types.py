"""Whether a value of OBI's configuration is of the type that its key has, read as OBI's YAML and env readers do.

Source of fact: the config schema (patterns and enums), and what OBI v0.5.0 says of wrong values. A string key takes
any scalar, as Go's YAML reader does; a duration is Go's (``1m30s``), never a bare number.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any

from obi_mcp.policy.config_schema import ConfigSchema

_DURATION = re.compile(r"[-+]?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|ms|s|m|h))+|0")
_RANGES = re.compile(r"\s*[0-9]+\s*(?:-\s*[0-9]+\s*)?(?:,\s*[0-9]+\s*(?:-\s*[0-9]+\s*)?)*")
_PROPAGATION = re.compile(r"|all|disabled|ip|(?:headers|http|tcp)(?:,(?:headers|http|tcp))*")
_INTERFACE = re.compile(r"external|local|name:.+")
_GO_BOOL = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false"})
_GO_LOG_LEVEL = re.compile(r"(?i)(?:debug|info|warn|error)(?:[-+][0-9]+)?")
_SEVERITY = re.compile(r"(?i)(?:trace|debug|info|warn|error|fatal)[2-4]?")

_EXPECTED = {
    "string": "a string",
    "regex": "a string (a regular expression)",
    "endpoint": "a URL like http://collector.observability.svc:4318",
    "address": "an address like obi-k8s-cache.observability.svc:50055",
    "file": "a path",
    "bpffs": "a path",
    "int": "an integer",
    "number": "a number",
    "bool": "true or false",
    "duration": "a duration like 30s or 1m30s",
    "ports": "a number, a list, or ranges like 80,8000-8999",
    "ip": "an IP address",
    "cidr": "a CIDR like 10.0.0.0/8, or a mapping with cidr and name",
    "interface": "external, local or name:INTERFACE",
    "propagation": "disabled, all, or headers and tcp joined by a comma",
    "log level": "DEBUG, INFO, WARN or ERROR",
    "severity": "trace, debug, info, warn, error or fatal",
}


def expected(schema: ConfigSchema, kind: str, value: Any) -> str | None:
    """What ``value`` should have been, in words; None when it fits. Null always fits: it is an unset key."""
    if value is None or kind == "secret":
        return None
    choices = schema.choices(kind)
    if choices is not None:
        return None if _scalar_text(value) in choices else f"one of {', '.join(c or '(empty)' for c in choices)}"
    return None if _fits(kind, value) else _EXPECTED[kind]


def _fits(kind: str, value: Any) -> bool:
    check = _CHECKS.get(kind)
    if check is not None:
        return check(value)
    text = _scalar_text(value)
    pattern = _PATTERNS.get(kind)
    return text is not None and (pattern is None or pattern.fullmatch(text) is not None)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool) or (isinstance(value, str) and value.lower() in _GO_BOOL)


def _is_duration(value: Any) -> bool:
    return isinstance(value, str) and _DURATION.fullmatch(value) is not None


def _is_ip(value: Any) -> bool:
    return value == "" or (isinstance(value, str) and _parses(ipaddress.ip_address, value))


def _scalar_text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else None


def _is_ports(value: Any) -> bool:
    if isinstance(value, list):
        return all(not isinstance(item, list) and _is_ports(item) for item in value)
    if isinstance(value, str):
        return not value or _RANGES.fullmatch(value) is not None
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_cidr(value: Any) -> bool:
    if isinstance(value, dict):
        return set(value) <= {"cidr", "name"} and "cidr" in value and _is_cidr(value["cidr"])
    return isinstance(value, str) and _parses(lambda text: ipaddress.ip_network(text, strict=False), value)


def _parses(parser: Any, text: str) -> bool:
    try:
        parser(text)
    except ValueError:
        return False
    return True


_PATTERNS = {"interface": _INTERFACE, "propagation": _PROPAGATION, "log level": _GO_LOG_LEVEL, "severity": _SEVERITY}
_CHECKS: dict[str, Callable[[Any], bool]] = {
    "int": _is_int,
    "number": _is_number,
    "bool": _is_bool,
    "duration": _is_duration,
    "ports": _is_ports,
    "ip": _is_ip,
    "cidr": _is_cidr,
}
