"""The values of a helm command, merged from all its flags as helm merges them, and what in them is refused.

Charts run ``tpl`` on values, and a template in a value runs with the server's rights: ``lookup`` printed a Secret at
read-only. So no key and no value may hold the start of one, nor the halves from which a chart could join it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from obi_mcp.errors import InvalidDocument
from obi_mcp.policy.config_schema import dotted
from obi_mcp.policy.model import Violation
from obi_mcp.policy.strvals import set_into

if TYPE_CHECKING:
    from obi_mcp.command.model import Command
    from obi_mcp.policy.strvals import Form

MAX_BYTES = 262_144
# helm's own order: files first, then the flags by kind, whatever their order on the command line.
_FORMS: tuple[Form, ...] = ("set-json", "set", "set-string", "set-literal")
# Blanks between the braces are removed by `nospace`; a brace at the end meets one at the start of the next value.
_TEMPLATE = re.compile(r"\{\s*\{|\{\s*\Z")


def merge_values(sets: Mapping[Form, tuple[str, ...]], document: str | None = None) -> dict[str, Any]:
    """The values that helm gets from ``--set…`` flags and, first, from the text of ``--values -``.

    Raises: ValueError that names the flag or line and the place.
    """
    values = read_values(document) if document is not None else {}
    for form in _FORMS:
        for text in sets.get(form, ()):
            set_into(values, text, form)
    return values


def command_values(command: Command, stdin: str | None) -> dict[str, Any]:
    """The merged values of a parsed helm command. ``stdin`` is its document where it has ``--values -``.

    Raises: ValueError for what cannot be decoded, for a values file other than ``-``, and for ``--set-file``.
    """
    sets: dict[Form, tuple[str, ...]] = {
        form: tuple(flag.value for flag in command.flags if flag.name == form) for form in _FORMS
    }
    files = [name for flag in command.flags if flag.name == "values" for name in flag.values]
    if command.flag("set-file") is not None:
        raise ValueError("--set-file reads a file; send the text as a value")
    if files not in ([], ["-"]):
        raise ValueError("--values reads standard input only: write --values - once, and send the document as stdin")
    if files and stdin is None:
        raise ValueError("--values - without a document; send it as stdin")
    return merge_values(sets, stdin if files else None)


def read_values(text: str) -> dict[str, Any]:
    """One YAML document, read strictly; an empty one is no values.

    Raises: ValueError with the line.
    """
    from obi_mcp.policy.yaml_reader import read_stream

    try:
        bodies = [body for _, _, body in read_stream(text, max_bytes=MAX_BYTES, max_documents=2, max_aliases=20)]
    except InvalidDocument as error:
        raise ValueError(f"the values cannot be read: {error.message}") from None
    if len(bodies) > 1:
        raise ValueError("the values are one YAML document, not more")
    data = bodies[0] if bodies else None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ValueError("the values are a mapping of names to values")
    # A fresh copy: aliases share their data, and `--set` writes into it.
    copied: dict[str, Any] = json.loads(json.dumps(data))
    return copied


def canonical_values(values: Mapping[str, Any]) -> bytes:
    """The bytes for ``--values -``: JSON, which every YAML reader takes alike; never the caller's own text."""
    return json.dumps(values, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii")


def judge_values(values: Mapping[str, Any]) -> tuple[Violation, ...]:
    """Keys and values that a chart could run as a template. Paths like ``config.data.a[0]``."""
    return tuple(_judge(values, ()))


def _judge(value: Any, path: tuple[str | int, ...]) -> Iterator[Violation]:
    if isinstance(value, Mapping):
        for key, below in value.items():
            if _TEMPLATE.search(str(key)):
                yield _refused("name", key, (*path, key))
            yield from _judge(below, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _judge(item, (*path, index))
    elif isinstance(value, str) and _TEMPLATE.search(value):
        yield _refused("value", value, path)


def _refused(what: str, text: object, path: tuple[str | int, ...]) -> Violation:
    shown = str(text) if len(str(text)) <= 60 else f"{str(text)[:57]}…"
    return Violation(
        "values.template",
        f"the {what} {shown!r} could be run as a template by the chart",
        dotted(path),
        "write the finished text; no value may contain '{{' or end with '{'",
    )
