"""Manifests as data: good ones, attacks made of them, and what a real API server made of the good ones."""

from __future__ import annotations

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

from obi_mcp.policy.documents import documents_of, read_documents
from obi_mcp.policy.loader import read_yaml
from obi_mcp.policy.manifest import ENVIRONMENT_FILE, SCHEMA_FILES, ManifestPolicy
from obi_mcp.policy.model import Document
from obi_mcp.policy.shipped import shipped_policy

CASES = Path(__file__).parents[2] / "cases" / "manifests"
GOOD = ("upstream-chart", "complete", "beyla")


@cache
def policy_files() -> dict[str, Any]:
    """The parsed files of the closed schema, by their path below the policy directory."""
    root = shipped_policy()
    files = [*sorted(root.glob(SCHEMA_FILES)), root / ENVIRONMENT_FILE]
    return {str(path.relative_to(root)): read_yaml(path) for path in files}


@cache
def manifest_policy() -> ManifestPolicy:
    """The shipped manifest policy."""
    return ManifestPolicy.from_data(policy_files())


@cache
def good(name: str) -> tuple[Document, ...]:
    """A set of manifests that passes."""
    return read_documents((CASES / "good" / f"{name}.yaml").read_text(encoding="utf-8"))


def stored(name: str) -> tuple[Document, ...]:
    """What a kube-apiserver 1.36.3 made of the set in a server-side dry run (``live``: after a rollout restart)."""
    return documents_of(json.loads((CASES / "stored" / f"{name}.json").read_text(encoding="utf-8"))["items"])


def attacks(name: str) -> list[dict[str, Any]]:
    """The attacks of one file."""
    entries: list[dict[str, Any]] = read_yaml(CASES / "attacks" / f"{name}.yaml")
    return entries


def body_of(kind: str) -> dict[str, Any]:
    """A fresh copy of the good object of that kind."""
    return copy.deepcopy(dict(next(document.body for document in good("complete") if document.kind == kind)))


def put(body: Any, at: list[str | int], value: Any) -> None:
    """Set ``value`` at the path, making objects on the way; an index one past the end appends."""
    for step in at[:-1]:
        if isinstance(step, str) and body.get(step) is None:
            body[step] = {}
        body = body[step]
    last = at[-1]
    if isinstance(last, int) and last == len(body):
        body.append(value)
    else:
        body[last] = value


def path_of(at: list[str | int]) -> str:
    """The path as violations write it."""
    text = ""
    for step in at:
        if isinstance(step, int):
            text += f"[{step}]"
        elif step.isidentifier():
            text += f".{step}" if text else step
        else:
            text += f"[{step}]"
    return text
