"""The compiled form: everything the policy files say as one JSON file, keyed by their bytes.

It is written only after every file has been validated and every example has passed, so whoever finds it under the same
key need not import YAML or JSON Schema again. A cache that cannot be read, that is neither ours nor root's (as in the
image, which brings it along), or that others may write, is as good as none.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obi_mcp.policy.loader import PolicyData, policy_files

if TYPE_CHECKING:
    from obi_mcp.policy.scope import Scope

_FORMAT = 2


def policy_key(operator: Path | None, scope: Scope, version: str) -> str:
    """The key of these files, this scope (an operator's examples depend on it) and this version of the package.

    Raises: PolicyError for a file that others may write.
    """
    digest = blake2b(digest_size=20)
    for part in (str(_FORMAT), version, json.dumps(asdict(scope), sort_keys=True)):
        digest.update(part.encode() + b"\0")
    for name, path in policy_files(operator):
        body = path.read_bytes()
        digest.update(f"{name}\0{len(body)}\0".encode())
        digest.update(body)
    return digest.hexdigest()


def cache_directory(environ: Mapping[str, str]) -> Path | None:
    """``$XDG_CACHE_HOME/obi-mcp`` or ``~/.cache/obi-mcp``; None where neither is known."""
    base = environ.get("XDG_CACHE_HOME") or (f"{environ['HOME']}/.cache" if environ.get("HOME") else "")
    return Path(base) / "obi-mcp" if base.startswith("/") else None


def read_compiled(directory: Path, key: str) -> PolicyData | None:
    """The compiled form of that key, or None where there is none to be trusted."""
    path = directory / f"policy-{key}.json"
    try:
        if not all(map(_is_trusted, (directory, path))):
            return None
        data = json.loads(path.read_bytes())
        if data.pop("key") != key:
            return None
        return PolicyData(**data)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_compiled(directory: Path, key: str, data: PolicyData) -> bool:
    """Write the compiled form, private and in one step; older ones go. False where that cannot be done."""
    path = directory / f"policy-{key}.json"
    text = json.dumps({"key": key, **asdict(replace(data))}, separators=(",", ":"))
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not _is_trusted(directory):
            return False
        handle, name = tempfile.mkstemp(dir=directory, prefix=".policy-")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(name, path)
        _remove(old for old in directory.glob("policy-*.json") if old != path)
    except OSError:
        return False
    return True


def _is_trusted(path: Path) -> bool:
    status = path.lstat()
    regular = stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode)
    return regular and status.st_uid in {os.geteuid(), 0} and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _remove(paths: Iterable[Path], keep: int = 4) -> None:
    """All but the newest few: several configurations may be in use side by side."""
    newest_first = sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True)
    for path in newest_first[keep:]:
        path.unlink(missing_ok=True)


def as_plain(data: PolicyData) -> Mapping[str, Any]:
    """The compiled form's content, for tests that compare it."""
    return asdict(data)
