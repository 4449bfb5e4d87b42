"""From a value as it was given to the type of its setting: what is expected, and the error that says so."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from obi_mcp.config_table import Setting, setting_type
from obi_mcp.errors import ConfigError
from obi_mcp.policy.model import Access


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value came from. ``detail``: the file and line, the variable, the flag."""

    kind: Literal["default", "derived", "file", "environment", "flag"]
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Given:
    """One value as it was given: plain YAML or JSON data, or the text of a variable or flag."""

    value: Any
    origin: Origin
    is_text: bool


def convert(setting: Setting, given: Given) -> Any:
    """The value in the type of the setting's field. Raises: ConfigError that says what is expected."""
    kind = setting_type(setting)
    try:
        value = _CONVERTERS[str(kind)](given)
    except ValueError as error:
        raise ConfigError(
            f"{given.origin.detail}: {setting.key} {error}, not {_shown(setting, given.value)}",
            f"{setting.key}: {setting.doc}",
        ) from None
    _check_bounds(setting, given, value)
    return value


def _check_bounds(setting: Setting, given: Given, value: Any) -> None:
    where = f"{given.origin.detail}: {setting.key}"
    label = value.label if isinstance(value, Access) else value
    if setting.choices and label not in setting.choices:
        raise ConfigError(f"{where} is {label!r}", f"use one of {', '.join(setting.choices)}")
    if isinstance(value, int | float) and not isinstance(value, bool | Access):
        unit = f" {setting.unit}" if setting.unit else ""
        if setting.minimum is not None and not value >= setting.minimum:
            raise ConfigError(f"{where} is {value}", f"use at least {setting.minimum:,.15g}{unit}")
        if setting.maximum is not None and not value <= setting.maximum:
            raise ConfigError(f"{where} is {value}", f"use at most {setting.maximum:,.15g}{unit}")


def _shown(setting: Setting, value: Any) -> str:
    text = "[redacted]" if setting.secret else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _text(given: Given) -> str:
    if not isinstance(given.value, str):
        raise ValueError("must be text (quote it)")
    return given.value


def _optional_text(given: Given) -> str | None:
    return _text(given) or None


def _access(given: Given) -> Access:
    try:
        return Access.parse(_text(given))
    except ValueError:
        raise ValueError("must be read-only, non-destructive or full") from None


def _flag(given: Given) -> bool:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    value = words.get(given.value.lower()) if given.is_text else given.value
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _integer(given: Given) -> int:
    try:
        value = int(given.value) if given.is_text else given.value
    except ValueError:
        value = None
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("must be a whole number")
    return value


def _number(given: Given) -> float:
    try:
        value = float(given.value) if given.is_text else given.value
    except ValueError:
        value = None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError("must be a number")
    return float(value)


def _structured(given: Given, opening: str) -> Any:
    """The data of a list or mapping; from text it is JSON where it starts like it."""
    if not given.is_text or not given.value.lstrip().startswith(opening):
        return given.value
    try:
        return json.loads(given.value)
    except ValueError:
        raise ValueError(f"starts with {opening} and so must be JSON") from None


def _list(given: Given) -> tuple[str, ...]:
    value = _structured(given, "[")
    if given.is_text and isinstance(value, str):
        value = [word.strip() for word in value.split(",") if word.strip()]
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("must be a list of texts")
    return tuple(value)


def _mapping(given: Given) -> dict[str, str]:
    value = _structured(given, "{")
    if given.is_text and isinstance(value, str):
        pairs = [pair.partition("=") for pair in value.split(",") if pair.strip()]
        if not all(mark for _, mark, _ in pairs):
            raise ValueError("must be NAME=VALUE pairs, comma-separated, or a JSON object")
        value = {name.strip(): text for name, _, text in pairs}
    if not isinstance(value, dict) or not all(isinstance(text, str) for pair in value.items() for text in pair):
        raise ValueError("must be a mapping of names to texts")
    return value


def _mapping_of_lists(given: Given) -> dict[str, tuple[str, ...]]:
    value = _structured(given, "{")
    if not isinstance(value, dict):
        raise ValueError('must be a mapping of names to lists, like {"obi": ["obi"]}')
    if not all(isinstance(items, list) and all(isinstance(item, str) for item in items) for items in value.values()):
        raise ValueError('must have a list of texts for every name, like {"obi": ["obi"]}')
    return {str(name): tuple(items) for name, items in value.items()}


_CONVERTERS: Mapping[str, Callable[[Given], Any]] = {
    str(Access): _access,
    str(str): _text,
    str(str | None): _optional_text,
    str(bool): _flag,
    str(int): _integer,
    str(float): _number,
    str(tuple[str, ...]): _list,
    str(dict[str, str]): _mapping,
    str(dict[str, tuple[str, ...]]): _mapping_of_lists,
}
