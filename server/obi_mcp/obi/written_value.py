"""Plain data as YAML text: what a person would write for it, in the quotes that stood there before."""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal
from typing import Any

from obi_mcp.policy.yaml_reader import plain_scalar

# Nothing in it means anything to YAML, in a flow collection either.
_PLAIN = re.compile(r"[A-Za-z0-9_/][A-Za-z0-9_./@+*-]*(?::[A-Za-z0-9_./@+-]+)*(?: [A-Za-z0-9_./@+-]+)*")
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "~", "nan", "inf"})
_PRINTABLE = re.compile("[\t\x20-\x7e\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]*")
_LINE_ENDS = re.compile("[\n\r\x85\u2028\u2029]")


def quoted_like(old: Any, value: Any, *, flow: bool) -> str:
    """A value in the place of an old one: a text keeps the old one's quotes, a list its brackets."""
    if isinstance(value, str) and old.id == "scalar" and _fits_quotes(value):
        if old.style == "'":
            return _single(value)
        if old.style == '"':
            return _double(value)
    return inline(value, flow=flow)


def inline(value: Any, *, flow: bool = False) -> str:
    """A value on one line."""
    if isinstance(value, dict):
        return (
            "{" + ", ".join(f"{inline(key, flow=True)}: {inline(each, flow=True)}" for key, each in value.items()) + "}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(inline(each, flow=True) for each in value) + "]"
    return _scalar(value)


def is_block(value: Any) -> bool:
    """Whether a value is written on lines of its own: mappings, and lists that hold any."""
    if isinstance(value, dict):
        return bool(value)
    return isinstance(value, list) and any(isinstance(each, dict | list) and each for each in value)


def lines_of(value: Any, column: int, step: int) -> list[str]:
    """A mapping or a list as lines that begin at a column."""
    indent = " " * column
    lines: list[str] = []
    if isinstance(value, dict):
        for key, each in value.items():
            if is_block(each):
                below = column if isinstance(each, list) and step <= 1 else column + step
                lines += [f"{indent}{_scalar(key)}:", *lines_of(each, below, step)]
            else:
                lines.append(f"{indent}{_scalar(key)}: {inline(each)}")
        return lines
    for each in value:
        if is_block(each):
            first, *rest = lines_of(each, column + 2, step)
            lines += [f"{indent}- {first[column + 2 :]}", *rest]
        else:
            lines.append(f"{indent}- {inline(each)}")
    return lines


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _float(value)
    text = str(value)
    if _is_plain(text):
        return text
    return _single(text) if _fits_quotes(text) and '"' not in text[:1] else _double(text)


def _float(value: float) -> str:
    if not math.isfinite(value):
        return {"inf": ".inf", "-inf": "-.inf"}.get(repr(value), ".nan")
    text = repr(value)
    return text if "e" not in text else f"{Decimal(text):f}"


def _is_plain(text: str) -> bool:
    if not _PLAIN.fullmatch(text) or text.lower() in _WORDS:
        return False
    try:
        return isinstance(plain_scalar(text), str)
    except ValueError:
        return False


def _fits_quotes(text: str) -> bool:
    return _PRINTABLE.fullmatch(text) is not None and not _LINE_ENDS.search(text)


def _single(text: str) -> str:
    doubled = text.replace("'", "''")
    return f"'{doubled}'"


def _double(text: str) -> str:
    """In double quotes, what is not printable escaped; YAML reads JSON's escapes."""
    written = json.dumps(text, ensure_ascii=False)
    return "".join(
        sign if _PRINTABLE.fullmatch(sign) and not _LINE_ENDS.match(sign) else f"\\U{ord(sign):08x}" for sign in written
    )
