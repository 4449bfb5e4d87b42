"""helm's ``--set`` language: ``a.b=c,d={x,y},e[0].f=1,g\\.h=i``, and its string, JSON and literal forms.

Source of fact: helm 4.3.1, ``pkg/strvals`` and ``pkg/cli/values``. Decoded as helm decodes it; where helm goes on after
something odd (an empty key, text behind a list, a list where a mapping was) this reader refuses. So what it returns is
what helm works with, and what it does not understand does not run.
"""

from __future__ import annotations

import json
import re
from typing import Any, Literal, NoReturn

Form = Literal["set", "set-string", "set-json", "set-literal"]

MAX_INDEX = 1000
MAX_LEVELS = 30
_INT = re.compile(r"[+-]?[0-9]+", re.ASCII)
_INDEX = re.compile(r"[0-9]{1,6}", re.ASCII)


def set_into(values: dict[str, Any], text: str, form: Form) -> None:
    """Decodes one flag's text and sets what it says in ``values``.

    Raises: ValueError that names the flag and the character, from 1, at which it cannot be read.
    """
    if form == "set-json" and text.strip().startswith("{"):
        # A whole object: merged into what is there, instead of replacing it.
        merge(values, _json_object(text))
        return
    _Line(text, form).read(values)


def merge(base: dict[str, Any], over: dict[str, Any]) -> None:
    """Puts ``over`` into ``base``: mappings are merged, anything else is replaced."""
    for key, value in over.items():
        known = base.get(key)
        if isinstance(known, dict) and isinstance(value, dict):
            merge(known, value)
        else:
            base[key] = value


class _Line:
    """One flag's text while it is read."""

    __slots__ = ("_at", "_form", "_literal", "_text")

    def __init__(self, text: str, form: Form) -> None:
        self._text = text
        self._form = form
        self._literal = form == "set-literal"
        self._at = 0

    def read(self, values: dict[str, Any]) -> None:
        """Every ``name=value`` of the text."""
        while self._at < len(self._text):
            self._name(values, 0)

    def _name(self, into: dict[str, Any], level: int) -> None:
        """One name, or the rest of one, and its value."""
        if level > MAX_LEVELS:
            self._refuse(f"more than {MAX_LEVELS} levels")
        name, stop = self._until("=[." if self._literal else "=[,.")
        if not name:
            self._refuse("an empty name")
        if stop == "=":
            into[name] = self._value()
        elif stop == ".":
            self._name(self._mapping(into.get(name), into, name), level + 1)
        elif stop == "[":
            items = into.setdefault(name, [])
            if not isinstance(items, list):
                self._refuse(f"{name!r} is no list")
            self._item(items, level)
        else:
            self._refuse(f"{name!r} has no value")

    def _item(self, items: list[Any], level: int) -> None:
        """What follows ``[``: an index, and a value, a name or another index for that item."""
        if level > MAX_LEVELS:
            self._refuse(f"more than {MAX_LEVELS} levels")
        digits, stop = self._until("]")
        if stop != "]" or not _INDEX.fullmatch(digits) or int(digits) > MAX_INDEX:
            self._refuse(f"an index from 0 to {MAX_INDEX} and a closing bracket were expected")
        index = int(digits)
        items.extend([None] * (index + 1 - len(items)))
        between, stop = self._until("=[.")
        if between:
            self._refuse("text behind an index")
        if stop == "=":
            items[index] = self._value()
        elif stop == ".":
            self._name(self._mapping(items[index], items, index), level + 1)
        elif stop == "[":
            if items[index] is None:
                items[index] = []
            if not isinstance(items[index], list):
                self._refuse(f"item {index} is no list")
            self._item(items[index], level + 1)
        else:
            self._refuse("an item without a value")

    def _mapping(self, known: Any, holder: Any, key: Any) -> dict[str, Any]:
        if known is None:
            known = holder[key] = {}
        if not isinstance(known, dict):
            self._refuse(f"{key!r} is no mapping")
        return known

    def _value(self) -> Any:
        if self._literal:
            text, self._at = self._text[self._at :], len(self._text)
            return text
        if self._form == "set-json":
            return self._json()
        if self._text.startswith("{", self._at):
            self._at += 1
            return self._list()
        return self._typed(self._until(",")[0])

    def _list(self) -> list[Any]:
        items = []
        while True:
            item, stop = self._until(",}")
            if not stop:
                self._refuse("a list that does not end with }")
            items.append(self._typed(item))
            if stop == "}":
                break
        if self._at < len(self._text):
            if self._text[self._at] != ",":
                self._refuse("text behind a list")
            self._at += 1
        return items

    def _json(self) -> Any:
        """One JSON value, and the comma behind it; nothing at all is null."""
        self._skip_blanks()
        if self._at == len(self._text) or self._text[self._at] == ",":
            self._at += 1
            return None
        try:
            value, self._at = _DECODER.raw_decode(self._text, self._at)
        except (ValueError, RecursionError):
            self._refuse("no JSON value")
        self._skip_blanks()
        if self._at < len(self._text):
            if self._text[self._at] != ",":
                self._refuse("text behind a JSON value")
            self._at += 1
        return value

    def _skip_blanks(self) -> None:
        while self._at < len(self._text) and self._text[self._at].isspace():
            self._at += 1

    def _until(self, stops: str) -> tuple[str, str]:
        """The text up to a stop (consumed), escapes resolved, and the stop: empty at the end of the text."""
        found: list[str] = []
        while self._at < len(self._text):
            sign = self._text[self._at]
            self._at += 1
            if sign in stops:
                return "".join(found), sign
            if sign == "\\" and not self._literal:
                if self._at == len(self._text):
                    self._refuse("a backslash with nothing behind it")
                sign = self._text[self._at]
                self._at += 1
            found.append(sign)
        return "".join(found), ""

    def _typed(self, text: str) -> Any:
        """What helm makes of a bare word: true, false, null, a 64-bit integer without leading zero, or a string."""
        if self._form == "set-string":
            return text
        folded = text.casefold()
        if folded in {"true", "false"}:
            return folded == "true"
        if folded == "null":
            return None
        if text == "0" or (_INT.fullmatch(text) and text[0] != "0" and -(2**63) <= int(text) < 2**63):
            return int(text)
        return text

    def _refuse(self, what: str) -> NoReturn:
        raise ValueError(f"--{self._form}, character {self._at}: {what}")


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"--set-json, character {getattr(error, 'pos', 0) + 1}: no JSON object") from None
    assert isinstance(value, dict)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key is there twice")
    return fields


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
