#!/usr/bin/env python3
"""Makes ``policy/obi/keys.json``: which version of which program has which key and variable, and its default.

``make_keys.py OBI.jsonl BEYLA.jsonl EFFECTIVE.yaml SCHEMA.json VARIABLES-0.5.0.txt VARIABLES-0.12.0.txt``; run it when
a version is added (``docs/obi-config.md``). The first two are what ``dump.go.txt`` prints of OBI v0.5.0 and Beyla
v1.8.0, the third what OBI v0.5.0 prints with OTEL_EBPF_LOG_CONFIG=yaml, the fourth the published schema of Beyla v3
(it embeds OBI v0.12.0), the last two the names of the variables of the two versions of OBI.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[4]
OBI5, OBI12, BEYLA1, BEYLA3 = "obi-0.5.0", "obi-0.12.0", "beyla-1.8.0", "beyla-3"
MODULES = "https://pkg.go.dev"
BEYLA_SCHEMA = "https://github.com/grafana/beyla (config schema of v3"
SOURCES = {
    OBI5: f"{MODULES}/go.opentelemetry.io/obi@v0.5.0/pkg/obi#Config (struct tags and defaults, by reflection)",
    OBI12: f"{BEYLA_SCHEMA}, which embeds OBI v0.12.0, less what only Beyla has) and OBI v0.12.0's variable names",
    BEYLA1: f"{MODULES}/github.com/grafana/beyla@v1.8.0/pkg/beyla#Config (struct tags and defaults, by reflection)",
    BEYLA3: f"{BEYLA_SCHEMA})",
}
# Read by the code around the struct tags.
ALIASES = {
    "OTEL_GO_AUTO_TARGET_EXE": ("autotargetexe", [OBI5, OBI12]),
    "OTEL_EBPF_SERVICE_NAME": ("service_name", [OBI5, OBI12]),
    "OTEL_EBPF_METRIC_FEATURES": ("metrics.features", [OBI5, OBI12]),
    "BEYLA_SERVICE_NAME": ("service_name", [BEYLA1, BEYLA3]),
    "BEYLA_OTEL_METRIC_FEATURES": ("otel_metrics_export.features", [BEYLA1]),
}
# Selectors that Beyla v1.8.0 refuses ("unknown attribute in discovery.services").
_NOT_IN_BEYLA_1 = tuple(
    f".{name}"
    for name in ("container_name", "k8s_pod_annotations", "k8s_container_name", "k8s_job_name", "k8s_cronjob_name")
)
NOT_DEFAULTS = {  # what the machine of the recording had set
    "network.enable": False,
    "network.agent_ip": "",
    "attributes.host_id.override": "",
    "ebpf.bpf_fs_path": "/sys/fs/bpf/",
    "prometheus_export.port": 0,
    "log_config": "",
    "otel_metrics_export.endpoint": "",
    "otel_traces_export.endpoint": "",
    "otel_metrics_export.interval": "1m0s",
    "otel_metrics_export.features": [],
    "prometheus_export.features": [],
    "metrics.features": ["application"],
}
UNIT = {"h": 3_600_000_000_000, "m": 60_000_000_000, "s": 1_000_000_000, "ms": 1_000_000}


def shape_paths(data: dict[str, Any]) -> dict[str, str]:
    """Every dotted key of the v1 model with its type; ``[]`` stands for an item, ``*`` for a key of a map."""

    def below(name: str, prefix: str, above: tuple[str, ...]) -> Iterator[tuple[str, str]]:
        for key, kind in data["shapes"][name].items():
            path = prefix + key
            yield path, kind
            inner = kind
            while inner.startswith(("list ", "map ")):
                path += "[]" if inner.startswith("list ") else ".*"
                inner = inner.split(" ", 1)[1]
            if inner.startswith("@") and inner[1:] not in above:
                yield from below(inner[1:], path + ".", (*above, inner[1:]))

    return dict(below("Config", "", ()))


def dumped(path: str) -> dict[str, dict[str, Any]]:
    entries: dict[str, dict[str, Any]] = {}
    for line in Path(path).read_text("utf-8").splitlines():
        entry = json.loads(line)
        entries.setdefault(entry["Path"].replace("<env only ", "").replace(">", ""), entry)
    return entries


def names_in(path: str) -> set[str]:
    return set(Path(path).read_text("utf-8").split()) - {"FOO"}


_NONE = "-"
"""What Go's tags say of a field that no variable sets."""


def variables_of(path: str) -> set[str]:
    """The variables that a dump names, those of fields without a key of their own among them."""
    lines = Path(path).read_text("utf-8").splitlines()
    return {json.loads(line)["Env"].split(",")[0] for line in lines} - {"", _NONE}


def schema_paths(schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    def below(node: dict[str, Any], prefix: str, above: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
        while "$ref" in node:
            name = node["$ref"].rsplit("/", 1)[-1]
            if name in above:
                return
            above, node = (*above, name), schema["$defs"][name]
        for key, value in node.get("properties", {}).items():
            path = prefix + (key.lower() if key.startswith("AutoTarget") else key)
            yield path, value
            yield from below(value, path + ".", above)
        if "items" in node:
            yield from below(node["items"], prefix.rstrip(".") + "[].", above)
        if isinstance(node.get("additionalProperties"), dict):
            yield from below(node["additionalProperties"], prefix + "*.", above)
        for choice in [*node.get("oneOf", []), *node.get("anyOf", [])]:
            yield from below(choice, prefix, above)

    return dict(below(schema, "", ()))


def flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from flat(item, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix, value


def duration(nanoseconds: int) -> str:
    for unit, size in UNIT.items():
        if nanoseconds and nanoseconds % size == 0:
            return f"{nanoseconds // size}{unit}"
    return "0s" if nanoseconds == 0 else f"{nanoseconds}ns"


def same(kind: str, one: Any, other: Any) -> bool:
    return bool(normal(kind, one) == normal(kind, other))


def normal(kind: str, value: Any) -> Any:
    if kind.startswith("map ") and value in ({}, []):
        return {}
    if kind == "duration" and isinstance(value, str):
        parts = re.findall(r"([0-9]+)(h|ms|m|s)", value)
        return sum(int(number) * UNIT[unit] for number, unit in parts)
    return str(value).lower() if isinstance(value, bool) else value


def main(arguments: list[str]) -> None:
    obi_dump, beyla_dump = dumped(arguments[0]), dumped(arguments[1])
    effective = {**dict(flat(yaml.safe_load(Path(arguments[2]).read_text("utf-8")))), **NOT_DEFAULTS}
    schema = schema_paths(json.loads(Path(arguments[3]).read_text("utf-8")))
    of_version = {OBI5: names_in(arguments[4]), OBI12: names_in(arguments[5]), BEYLA1: variables_of(arguments[1])}
    names = of_version[OBI12]
    model = json.loads((ROOT / "policy/obi/config-v1.json").read_text("utf-8"))
    kinds = shape_paths(model)
    only_beyla = tuple(model["beyla_only"])
    keys: dict[str, dict[str, Any]] = {}
    variables: dict[str, dict[str, Any]] = {}

    def variable(name: str, key: str, where: str) -> None:
        if name == _NONE:
            return
        entry = variables.setdefault(name, {"key": key, "in": []})
        if where not in entry["in"]:
            entry["in"].append(where)

    for path in sorted(
        {*kinds, *(p for p in beyla_dump if not p.endswith("[]") and ".ranges" not in p and not p.endswith(".-"))}
    ):
        kind = kinds.get(path, "")
        seen: list[str] = []
        defaults: dict[str, Any] = {}
        of_beyla = (
            any(path == key or path.startswith((key + ".", key + "[")) for key in only_beyla) or path not in kinds
        )
        inlined = re.search(r"\.(k8s_\w+|container_name)$", path) and not path.startswith(only_beyla)
        if (path in obi_dump and not of_beyla) or (inlined and not of_beyla):
            seen.append(OBI5)
            name = obi_dump.get(path, {}).get("Env", "").split(",")[0]
            if name:
                variable(name, path, OBI5)
            if path in effective and "[]" not in path and not kind.startswith("@"):
                defaults[OBI5] = effective[path]
        if (path in schema and not of_beyla) or path == "executable_path":
            seen.append(OBI12)
            name = schema.get(path, {}).get("x-env-var", "")
            name = "OTEL_EBPF" + name.removeprefix("BEYLA") if name.startswith("BEYLA_") else name
            if name in names:
                variable(name, path, OBI12)
            elif name and not name.startswith("KUBECONFIG"):
                print(f"not in v0.12.0's names: {name} ({path})", file=sys.stderr)
        if path in beyla_dump:
            seen.append(BEYLA1)
            name = beyla_dump[path]["Env"].split(",")[0]
            if name:
                variable(name, path, BEYLA1)
            raw = beyla_dump[path]["Default"]
            if raw and path != "ebpf.bpf_fs_path" and "[]" not in path and not kind.startswith("@") and raw[0] != "{":
                value = json.loads(raw)
                is_duration = beyla_dump[path]["Type"] == "time.Duration"
                defaults[BEYLA1] = duration(value) if is_duration else ([] if value is None else value)
        elif (
            inlined
            and not path.startswith(("discovery.instrument", "discovery.exclude_instrument", "ebpf"))
            and "default" not in path
            and not path.endswith(_NOT_IN_BEYLA_1)
        ):
            seen.append(BEYLA1)
        if path in schema or path == "executable_path":
            seen.append(BEYLA3)
            name = schema.get(path, {}).get("x-env-var", "")
            if name:
                variable(name, path, BEYLA3)
            if "default" in schema.get(path, {}) and not kind.startswith("@") and "[]" not in path:
                defaults[BEYLA3] = schema[path]["default"]
                if OBI12 in seen:
                    defaults[OBI12] = schema[path]["default"]
        if not seen:
            print(f"nobody has {path}", file=sys.stderr)
            continue
        entry: dict[str, Any] = {"in": seen}
        values = list(defaults.values())
        if values and all(same(kind, values[0], other) for other in values[1:]):
            entry["default"] = values[0]
        elif values:
            entry["defaults"] = defaults
        limit = obi_dump.get(path, {}).get("Validate", "")
        if re.fullmatch(r"(?:omitempty,)?(?:gte?|lte?)=\w+", limit) and not of_beyla:
            entry["limit"] = limit.removeprefix("omitempty,")
        keys[path] = entry
    for version, read in of_version.items():
        for name in sorted(read):
            entry = variables.setdefault(name, {"key": None, "in": []})
            entry["in"] = [known for known in SOURCES if known in entry["in"] or known == version]
    for name, (key, where) in ALIASES.items():
        variables[name] = {"key": key, "in": where}
    write(keys, variables)


def write(keys: dict[str, Any], variables: dict[str, Any]) -> None:
    about = (
        "Made by tests/cases/obi-config/record/make_keys.py. 'in': the versions in which a key or a variable was seen; "
        "one that is not in an older version is new since. 'default': the value without it, 'defaults' where versions "
        "differ. 'limit': what OBI v0.5.0 checks. '[]' stands for an item, '*' for a key of the author's choice."
    )
    lines = ["{", f' "about": {json.dumps(about)},', ' "sources": {']
    lines += [",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in SOURCES.items()), " },"]
    for title, table, end in (("keys", keys, ","), ("variables", variables, "")):
        lines += [
            f' "{title}": {{',
            ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(table.items())),
        ]
        lines += [f" }}{end}"]
    (ROOT / "policy/obi/keys.json").write_text("\n".join([*lines, "}", ""]), "utf-8")
    print(f"{len(keys)} keys, {len(variables)} variables")


if __name__ == "__main__":
    main(sys.argv[1:])
