"""The definitions that Flux and Argo CD publish of their objects, as JSON Schemas, from the Go modules that carry them.

Sources and Argo CD's Application are custom resource definitions. No module carries that of the HelmRelease: its schema
is made of the Go types and the markers from which the controller's own is made. Modules are downloaded once, checked
by the hash that is pinned here, and only the files that are read are kept.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [path for path in (str(ROOT), str(ROOT / "image")) if path not in sys.path]

from recipes import toolchain  # noqa: E402
from recipes.step import BuildFailed  # noqa: E402
from recipes.store import Recipe, Store, Workplace, cache_root  # noqa: E402


@dataclass(frozen=True)
class Module:
    """A Go module by version and the hash of its files, and which of them are read."""

    path: str
    version: str
    hash: str
    files: tuple[str, ...]


_SOURCES = "config/crd/bases/source.toolkit.fluxcd.io"
_KUSTOMIZE = "config/crd/bases/kustomize.toolkit.fluxcd.io"
_TYPES = "github.com/fluxcd/helm-controller/api"
MODULES = (
    Module(
        "github.com/fluxcd/source-controller",
        "v1.7.3",
        "h1:gFfeBiNUgF0kFFGap/rrMeJqz+0Tod0ARENJO8w/UA8=",
        tuple(f"{_SOURCES}_{kind}.yaml" for kind in ("gitrepositories", "helmrepositories", "ocirepositories")),
    ),
    Module(
        "github.com/fluxcd/kustomize-controller",
        "v1.7.2",
        "h1:xmOWILtm9329M7MQCS/iCHXc2R+Xm9HjFSft9fh/PCA=",
        (f"{_KUSTOMIZE}_kustomizations.yaml",),
    ),
    Module(
        _TYPES,
        "v1.4.2",
        "h1:2+D3kX3UJhYlr+1rzOkQ/YbIQ96R/olmdfjaYS+okNg=",
        ("v2/helmrelease_types.go", "v2/reference_types.go"),
    ),
    Module(
        "github.com/fluxcd/pkg/apis/meta",
        "v1.22.0",
        "h1:EHWQH5ZWml7i8eZ/AMjm1jxid3j/PQ31p+hIwCt6crM=",
        ("reference_types.go",),
    ),
    Module(
        "github.com/argoproj/argo-cd/v3",
        "v3.1.9",
        "h1:9P9vJKo1RGWu6mtQnGu61r+0h3XKlA2j3kVhwogUQ/0=",
        ("manifests/crds/application-crd.yaml",),
    ),
)


def problems(document: Mapping[str, Any]) -> list[str]:
    """What the published definition of the object's kind has against it, unknown fields too."""
    schema = definitions()[document["apiVersion"], document["kind"]]
    return [f"{error.json_path}: {error.message}" for error in jsonschema.Draft7Validator(schema).iter_errors(document)]


@cache
def definitions() -> dict[tuple[str, str], dict[str, Any]]:
    """Schemas by apiVersion and kind; a field that they do not name is an error."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    types = ""
    for module in MODULES:
        for name in module.files:
            text = (directory() / _place(module, name)).read_text("utf-8")
            if name.endswith(".go"):
                types += text
            else:
                found |= dict(_versions(yaml.safe_load(text)))
    spec = go_schema(types, "HelmReleaseSpec")
    return found | {("helm.toolkit.fluxcd.io/v2", "HelmRelease"): _object(spec)}


@cache
def directory() -> Path:
    """Where the files are, downloaded now if they are not cached. Raises: BuildFailed."""
    recipe = Recipe("published", "1", "complete", (repr(MODULES).encode(),), _download)
    return Store(cache_root().parent / "sandbox").get(recipe).parent


def _download(work: Workplace) -> None:
    go = toolchain.go(Store(cache_root()))
    options = {"GOMODCACHE": str(work.scratch / "modules"), "GOFLAGS": "-modcacherw"}
    for module in MODULES:
        done = subprocess.run(
            [go, "mod", "download", "-json", f"{module.path}@{module.version}"],
            cwd=work.scratch,
            env={**toolchain.go_environment(), **options},
            capture_output=True,
            text=True,
            check=False,
        )
        said = json.loads(done.stdout or "{}")
        if said.get("Sum") != module.hash:
            raise BuildFailed(f"{module.path}@{module.version} is not what is pinned: {done.stdout}{done.stderr}")
        with zipfile.ZipFile(said["Zip"]) as archive:
            for name in module.files:
                kept = work.out / _place(module, name)
                kept.write_bytes(archive.read(f"{module.path}@{module.version}/{name}"))
    (work.out / "complete").touch()


def _place(module: Module, name: str) -> str:
    return f"{module.path}/{name}".replace("/", "_")


# --- custom resource definitions ---


def _versions(crd: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], dict[str, Any]]]:
    group, kind = crd["spec"]["group"], crd["spec"]["names"]["kind"]
    for version in crd["spec"]["versions"]:
        spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
        yield (f"{group}/{version['name']}", kind), _object(_closed(spec))


def _object(spec: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {"type": "object", "properties": {"name": {"type": "string"}, "namespace": {"type": "string"}}}
    known = {"apiVersion": {}, "kind": {}, "metadata": {**metadata, "additionalProperties": False}, "spec": spec}
    return {"type": "object", "properties": known, "required": list(known), "additionalProperties": False}


def _closed(schema: Any) -> Any:
    """The schema, with no fields but those that it names: the API server drops any other without a word."""
    if isinstance(schema, list):
        return [_closed(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if schema.get("type") == "object" and "properties" in schema and not open_ended:
        closed["additionalProperties"] = False
    return closed


# --- Go types ---

_STRUCT = re.compile(r"^type (\w+) struct \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r'^\t\w+\s+(\S+)\s+`json:"(\w+)(,omitempty)?"`')
_MARKER = re.compile(r"^\t// \+kubebuilder:validation:(Enum|Pattern|MinLength|MaxLength)=(.*)$")
_PLAIN = {"string": "string", "bool": "boolean", "int": "integer", "int64": "integer", "metav1.Duration": "string"}


def go_schema(source: str, name: str) -> dict[str, Any]:
    """The schema of a struct, of its fields' types and the markers above them."""
    structs = dict(_STRUCT.findall(source))
    return _struct(structs, name)


def _struct(structs: Mapping[str, str], name: str) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    required = []
    markers: dict[str, Any] = {}
    demanded = False
    for line in structs[name].split("\n"):
        if marker := _MARKER.match(line):
            markers |= _word(*marker.groups())
        demanded = demanded or line.strip() == "// +required"
        if field := _FIELD.match(line):
            kind, key, _ = field.groups()
            properties[key] = {**_type(structs, kind), **markers}
            if demanded:
                required.append(key)
        if not line.strip().startswith("//"):
            markers, demanded = {}, False
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _word(word: str, value: str) -> dict[str, Any]:
    if word == "Enum":
        return {"enum": value.split(";")}
    if word == "Pattern":
        return {"pattern": json.loads(value) if value.startswith('"') else value.strip("`")}
    return {word[0].lower() + word[1:]: int(value)}


def _type(structs: Mapping[str, str], kind: str) -> dict[str, Any]:
    if kind.startswith("*"):
        return _type(structs, kind[1:])
    if kind.startswith("[]"):
        return {"type": "array", "items": _type(structs, kind[2:])}
    if kind in structs:
        return _struct(structs, kind)
    return {"type": _PLAIN[kind]} if kind in _PLAIN else {}
