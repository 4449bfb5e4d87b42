"""The values of a configuration: whether each is what its key takes, after ``${VAR}`` is replaced."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import Any

from obi_mcp.obi.document import Document
from obi_mcp.obi.environment import expand, expands, references
from obi_mcp.obi.finding import ConfigFinding
from obi_mcp.obi.keys import known_keys
from obi_mcp.policy.config_schema import Leaf, dotted, nearest
from obi_mcp.policy.config_types import expected
from obi_mcp.policy.yaml_reader import plain_scalar

_UNCLEAR = re.compile(r"\$\{[^}\n]{1,500}\}|\$\([^)\n]{1,500}\)")
_ENDPOINT = re.compile(r"https?://(?:[^/?#\s@]+@)?(?:\[[0-9A-Fa-f:]+\]|[^/?#\s@:]+)(?::[0-9]{1,5})?(?:[/?#]\S*)?")
_USERINFO = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#\s@]+@", re.IGNORECASE)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#\s]+", re.IGNORECASE)
_RANGE = re.compile(r"([0-9]+)\s*(?:-\s*([0-9]+))?")
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]*)?)(ns|us|µs|ms|s|m|h)")
_LIMIT = re.compile(r"(gte?|lte?)=([0-9]+)([a-z]*)")
_REGEX_SIGNS = re.compile(r"^\^|\$$|\.\*|\\[.dwsb]|\(\?|\.\+")
# What RE2 has and Python's engine has not.
_RE2_ONLY = re.compile(r"\\[zpPQEC]|\[\[:|\(\?[imsU-]+[:)]|\(\?<[A-Za-z]")
_PERL_ONLY = re.compile(r"\(\?<?[=!]|\\[1-9]|\(\?>")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_LAST_PORT = 65535
_LONGEST_PATTERN = 1000
_CASES = {"duration": "duration", "ports": "ports", "ip": "ip", "interface": "interface", "cidr": "cidr"}
_CASES |= {"propagation": "propagation", "log level": "log-level", "severity": "log-level"}
_NO_GLOB = frozenset({"name", "namespace", "arg"})


def judge_leaf(document: Document, leaf: Leaf) -> Iterator[ConfigFinding]:
    """What is wrong with one value."""
    value = leaf.value
    if isinstance(value, str) and _UNCLEAR.search(value):
        yield from _unset(document, leaf)
        resolved = _resolved(document, value)
        if resolved is None:
            return
        value = resolved
    elif (leaf.kind == "secret" and value not in ("", {}, [])) or (isinstance(value, str) and _USERINFO.match(value)):
        hint = "write ${VARIABLE} there, and give the variable to the program alone"
        yield document.place("secret", leaf.path, "a credential stands in the file", hint)
    words = expected(document.schema, leaf.kind, value)
    if words is not None:
        yield _misfit(document, leaf, value, words)
    else:
        yield from _meant(document, leaf, value)


def shown(value: Any) -> str:
    """A value in a message, cut."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def seconds(value: Any) -> float | None:
    """A duration of Go's in seconds; None where it is none."""
    parts = _DURATION.findall(value) if isinstance(value, str) else []
    return sum(float(number) * _SECONDS[unit] for number, unit in parts) if parts else None


def _unset(document: Document, leaf: Leaf) -> Iterator[ConfigFinding]:
    """A variable that the text asks for and nobody has set; or a program that does not look for any."""
    if not expands(document.program, document.version):
        message = (
            f"Beyla {document.version} does not replace variables in its YAML: it takes {shown(leaf.value)} as text"
        )
        yield document.place(
            "environment.literal", leaf.path, message, "write the value out, or set the key's variable"
        )
        return
    if document.environment is None:
        return
    for reference in references(leaf.value, document.environment):
        if reference.value is None:
            hint = f"set it, or give a default: ${{{reference.name}:-value}}"
            message = f"the variable {reference.name} is not set, so that nothing stands there"
            yield document.place("environment.unset", leaf.path, message, hint)


def _resolved(document: Document, text: str) -> Any | None:
    """The value with its variables; None where one of them is not known."""
    if document.environment is None or not expands(document.program, document.version):
        return None
    if any(reference.value is None for reference in references(text, document.environment)):
        return None
    replaced = expand(text, document.environment)
    try:
        return plain_scalar(replaced)
    except ValueError:
        return replaced


def _misfit(document: Document, leaf: Leaf, value: Any, words: str) -> ConfigFinding:
    choices = document.schema.choices(leaf.kind)
    scalar = not isinstance(value, dict | list)
    near = nearest(str(value), choices) if choices and scalar else None
    if choices and near is None and scalar:
        near = next(
            (choice for choice in choices if choice and str(value).lower() and choice.startswith(str(value))), None
        )
    case = "value.type"
    if choices and scalar:
        case = "value.word"
    elif leaf.kind in _CASES and (scalar or leaf.kind == "cidr"):
        case = f"value.{_CASES[leaf.kind]}"
    elif leaf.kind == "int" and isinstance(value, float):
        case = "value.fraction"
    hint = f"did you mean {near}?" if near else _unit(leaf.kind, value)
    message = f"{words} was expected, not {shown(value)}"
    return document.place(case, leaf.path, message, hint, expected=words, nearest=near)


def _unit(kind: str, value: Any) -> str | None:
    if kind == "duration" and (isinstance(value, int | float) or (isinstance(value, str) and value.isdigit())):
        return f"did you mean {value}s?"
    return "write it without quotes" if kind == "int" and isinstance(value, str) and value.isdigit() else None


def _meant(document: Document, leaf: Leaf, value: Any) -> Iterator[ConfigFinding]:
    """A value of the right type that still cannot be what was meant."""
    name = str(leaf.path[-1])
    match leaf.kind:
        case "endpoint" if value:
            yield from _endpoint(document, leaf, str(value))
        case "int" if name.endswith("port") and not 0 <= value <= _LAST_PORT:
            words = f"a port from 0 to {_LAST_PORT}"
            yield document.place("value.port", leaf.path, f"{words} was expected, not {value}", expected=words)
        case "ports":
            yield from _ports(document, leaf, value)
        case "regex":
            yield from _regex(document, leaf, str(value))
        case "string" if _is_glob(leaf):
            yield from _glob(document, leaf, str(value))
    if not document.is_v2:
        yield from _limited(document, leaf, value)


def _endpoint(document: Document, leaf: Leaf, value: str) -> Iterator[ConfigFinding]:
    if _ENDPOINT.fullmatch(value):
        return
    hint = "write it like http://collector.observability.svc:4318"
    words = "a URL with http:// or https://"
    if _SCHEME.match(value) and not value.lower().startswith("http"):
        message = f"{words} was expected, not {shown(value)}: OTLP by gRPC is http:// as well"
        yield document.place("value.scheme", leaf.path, message, hint, expected=words)
        return
    message = f"the URL {shown(value)} must have a scheme and a host"
    yield document.place("value.endpoint", leaf.path, message, hint, expected=words)


def _ports(document: Document, leaf: Leaf, value: Any) -> Iterator[ConfigFinding]:
    # The type that takes lists came with this key.
    newer = known_keys().keys["target_pids"].seen
    if isinstance(value, list) and newer.has(document.program, document.version) is False:
        message = f"a list of ports is for later versions; {document.version} takes 80,443,8000-8999"
        yield document.place("version.ports", leaf.path, message, "write it as one text")
    for part in value if isinstance(value, list) else [value]:
        for first, last in _RANGE.findall(str(part)):
            highest = max(int(first), int(last or 0))
            if "pids" not in str(leaf.path[-1]) and highest > _LAST_PORT:
                message = f"{highest} is no port: the last one is {_LAST_PORT}"
                yield document.place("value.range", leaf.path, message)
            elif last and int(last) < int(first):
                message = f"the range {first}-{last} holds no port"
                yield document.place("value.range", leaf.path, message, "write the lower end first")


def _regex(document: Document, leaf: Leaf, value: str) -> Iterator[ConfigFinding]:
    problem = _regex_problem(value)
    if problem is None:
        return
    parent = ".".join(str(part) for part in leaf.path[:-1] if not isinstance(part, int))
    instead = parent.replace("services", "instrument") if "services" in parent else "discovery.instrument"
    starts = value.startswith(("*", "?"))
    hint = f"globs belong into {instead}" if starts else None
    message = f"{shown(value)} is no regular expression: {problem}"
    words = "a regular expression"
    yield document.place("value.regex", leaf.path, message, hint, expected=words, nearest=instead if starts else None)


def _regex_problem(value: str) -> str | None:
    """Why Go's engine would refuse it; None where it takes it, or where that cannot be told here."""
    if _PERL_ONLY.search(value):
        return "Go's engine has no lookaround and no back references"
    if len(value) > _LONGEST_PATTERN or _RE2_ONLY.search(value):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(value)
    except (re.error, OverflowError, RecursionError) as error:
        return str(error)
    return None


def _is_glob(leaf: Leaf) -> bool:
    """Whether the value is a pattern of discovery.instrument and its kind."""
    names = [part for part in leaf.path if isinstance(part, str)]
    return len(leaf.path) > len(names) and names[0] in ("discovery", "ebpf") and names[-1] not in _NO_GLOB


def _glob(document: Document, leaf: Leaf, value: str) -> Iterator[ConfigFinding]:
    open_sign = _unclosed(value)
    if open_sign:
        message = f"the glob {shown(value)} opens {open_sign} and does not close it"
        yield document.place("value.glob", leaf.path, message, expected="a glob")
    elif _REGEX_SIGNS.search(value):
        message = f"{shown(value)} looks like a regular expression, and this key takes a glob"
        yield document.place(
            "value.pattern", leaf.path, message, "write it like */java or {*/java,*/node}", expected="a glob"
        )


def _unclosed(value: str) -> str | None:
    """The bracket or brace that a glob leaves open."""
    within: list[str] = []
    escaped = False
    for sign in value:
        if escaped:
            escaped = False
        elif sign == "\\":
            escaped = True
        elif within[-1:] == ["["]:
            if sign == "]":
                within.pop()
        elif sign in "[{":
            within.append(sign)
        elif sign == "}" and within[-1:] == ["{"]:
            within.pop()
    return within[-1] if within else None


def _limited(document: Document, leaf: Leaf, value: Any) -> Iterator[ConfigFinding]:
    """The bounds that OBI checks at start, and two values that it refuses by name."""
    key = dotted(leaf.path)
    if key == "routes.wildcard_char" and isinstance(value, str) and len(value.encode()) > 1:
        yield document.place("value.character", leaf.path, "a single character was expected", expected="one character")
    if key == "attributes.kubernetes.informers_sync_timeout" and seconds(value) == 0:
        yield document.place("value.zero", leaf.path, "it must be longer than 0s", "30s is the default")
    facts = known_keys().of(leaf.path)
    found = _LIMIT.fullmatch(facts.limit) if facts is not None and facts.limit else None
    if found is None:
        return
    word, bound, unit = found.groups()
    number = seconds(value) if leaf.kind == "duration" else value
    limit = float(bound) * _SECONDS.get(unit, 1.0)
    if not isinstance(number, int | float) or isinstance(number, bool):
        return
    fits = {"gt": number > limit, "gte": number >= limit, "lt": number < limit, "lte": number <= limit}[word]
    # Go leaves a zero out where a bound is only for what is set.
    if not fits and not (number == 0 and key in ("network.sampling", "network.deduper_fc_ttl")):
        side = {"gt": "more than", "gte": "at least", "lt": "less than", "lte": "at most"}[word]
        words = f"{side} {bound}{unit}"
        yield document.place("value.limit", leaf.path, f"{words} was expected, not {shown(value)}", expected=words)
