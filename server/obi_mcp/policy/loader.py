"""Policy files to plain data: the built-in directory, an operator's directory on top of it, validated by JSON Schema.

There is no degraded mode: a file that is invalid, unknown, or that others may write is an error that names it.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from obi_mcp.errors import InvalidDocument, PolicyError
from obi_mcp.policy.shipped import shipped_policy

GRAMMARS = ("kubectl", "helm", "obi", "filters")
_MAX_FILE_BYTES = 1_048_576
_MAX_ALIASES = 500
_SCOPE_FILE = "scope.yaml"


@dataclass(frozen=True, slots=True)
class PolicyData:
    """Everything that the policy files say, as plain JSON data: what the compiled form holds.

    ``rules`` are the built-in ones first; ``extended`` counts the operator's at their end. ``scope`` is what the
    operator's directory adds. ``manifest`` holds the closed schema's files by their path below the policy directory.
    ``effects`` are the rules about effects on this host.
    """

    rules: Sequence[Mapping[str, Any]]
    extended: int
    resources: Mapping[str, Any]
    grammars: Mapping[str, Any]
    manifest: Mapping[str, Any]
    scope: Mapping[str, Any] = field(default_factory=dict)
    effects: Sequence[Mapping[str, Any]] = ()


def policy_files(operator: Path | None) -> Iterator[tuple[str, Path]]:
    """Every file that decides what the policy is, with a stable name. Raises: PolicyError for an unsafe one."""
    builtin = shipped_policy()
    if not builtin.is_dir():
        raise PolicyError(f"{builtin}: the built-in policy is not there", "install obi-mcp again")
    for path in sorted(builtin.rglob("*")):
        if path.suffix in {".yaml", ".json", ".txt"} and path.is_file():
            yield f"builtin/{path.relative_to(builtin)}", path
    if operator is not None:
        for path in operator_files(operator):
            yield f"operator/{path.relative_to(operator)}", path


def operator_files(directory: Path) -> tuple[Path, ...]:
    """The YAML files of an operator's directory: ``scope.yaml``, and rules beside it or under ``rules/``.

    Raises: PolicyError if the directory is not there, holds something else, or others may write to it.
    """
    if not directory.is_dir():
        raise PolicyError(f"{directory}: the policy directory is not there", "name a directory with rules/*.yaml")
    found: list[Path] = []
    for folder in (directory, directory / "rules"):
        if not folder.is_dir():
            continue
        refuse_writable(folder)
        for path in sorted(folder.iterdir()):
            if path.name.startswith(".") or path.suffix == ".md" or path == directory / "rules":
                continue
            if path.suffix != ".yaml" or not path.is_file():
                raise PolicyError(
                    f"{path}: a policy directory holds scope.yaml and rules/*.yaml, nothing else", "move it elsewhere"
                )
            refuse_writable(path)
            found.append(path)
    if not found:
        raise PolicyError(f"{directory}: the policy directory holds no .yaml file", "add rules/*.yaml or scope.yaml")
    return tuple(found)


def refuse_writable(path: Path) -> None:
    """Raises: PolicyError if anybody but root and the user who runs the server may write to ``path``."""
    status = path.stat()
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PolicyError(
            f"{path} can be written by others (mode {stat.S_IMODE(status.st_mode):o})", f"chmod go-w {path}"
        )
    if status.st_uid not in {0, os.geteuid()}:
        raise PolicyError(f"{path} belongs to user {status.st_uid}, not to the one who runs the server", "chown it")


def read_policy(operator: Path | None) -> PolicyData:
    """Read and validate everything; examples are not run. Raises: PolicyError that names file and place."""
    builtin = shipped_policy()
    rules: list[Mapping[str, Any]] = []
    for path in sorted((builtin / "rules").glob("*.yaml")):
        rules.extend(_rules(path))
    scope: Mapping[str, Any] = {}
    extension: list[Mapping[str, Any]] = []
    for path in operator_files(operator) if operator is not None else ():
        if path.name == _SCOPE_FILE:
            scope = _valid(path, read_yaml(path), "scope")
        else:
            extension.extend(_rules(path))
    resources = _valid(builtin / "resources.yaml", read_yaml(builtin / "resources.yaml"), "resources")
    grammars = {name: _json(builtin / "grammar" / f"{name}.json") for name in GRAMMARS}
    effects: list[Mapping[str, Any]] = []
    for path in sorted((builtin / "effects").glob("*.yaml")):
        effects.extend(_valid(path, read_yaml(path), "effect"))
    _refuse_repeated([*rules, *extension, *effects])
    return PolicyData([*rules, *extension], len(extension), resources, grammars, _manifest(builtin), scope, effects)


def _manifest(builtin: Path) -> Mapping[str, Any]:
    """The closed schema and the names of OBI's variables."""
    files = {f"manifest/{path.name}": path for path in sorted((builtin / "manifest").glob("*.yaml"))}
    found = {name: _valid(path, read_yaml(path), "manifest") for name, path in files.items()}
    names = builtin / "obi" / "env-names.yaml"
    return {**found, "obi/env-names.yaml": _valid(names, read_yaml(names), "env-names")}


def read_yaml(path: Path) -> Any:
    """One YAML document, read as strictly as a caller's. Raises: PolicyError."""
    from obi_mcp.policy.yaml_reader import read_stream

    try:
        text = path.read_text(encoding="utf-8")
        bodies = list(read_stream(text, max_bytes=_MAX_FILE_BYTES, max_documents=1, max_aliases=_MAX_ALIASES))
    except InvalidDocument as error:
        line = f", line {error.line}" if error.line else ""
        raise PolicyError(f"{path}{line}: {error.message}", error.hint) from None
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"{path} cannot be read: {error}", "check the file") from error
    if not bodies:
        raise PolicyError(f"{path} is empty", "remove it, or write rules into it")
    return bodies[0][2]


def _rules(path: Path) -> Sequence[Mapping[str, Any]]:
    rules: Sequence[Mapping[str, Any]] = _valid(path, read_yaml(path), "rule")
    return rules


def _valid(path: Path, data: Any, schema: str) -> Any:
    """The data, if it is valid by ``schema/NAME.schema.json``. Raises: PolicyError at the place."""
    from jsonschema import Draft202012Validator

    validator = Draft202012Validator(_json(shipped_policy() / "schema" / f"{schema}.schema.json"))
    errors = sorted(validator.iter_errors(data), key=lambda error: list(map(str, error.absolute_path)))
    if errors:
        error = errors[0]
        raise PolicyError(f"{path}: {_place(data, error.absolute_path)}{error.message}", "see policy/README.md")
    return data


def _place(data: Any, path: Sequence[Any]) -> str:
    """``rule kubectl.logs, flags.allow[2]: `` from the path of a schema error."""
    parts = list(path)
    if not parts:
        return ""
    named = ""
    if isinstance(data, list) and isinstance(parts[0], int):
        rule = data[parts[0]]
        named = f"rule {rule.get('id', parts[0])}" if isinstance(rule, dict) else f"rule {parts[0]}"
        parts = parts[1:]
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".")
    return ", ".join(filter(None, (named, text))) + ": "


def _refuse_repeated(rules: Sequence[Mapping[str, Any]]) -> None:
    seen: set[str] = set()
    for rule in rules:
        if rule["id"] in seen:
            raise PolicyError(f"the rule {rule['id']} is there twice", "rules are added, not replaced: choose a new id")
        seen.add(rule["id"])


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PolicyError(f"{path} cannot be read: {error}", "install obi-mcp again, or run make grammar") from error
