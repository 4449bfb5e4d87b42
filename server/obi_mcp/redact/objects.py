"""JSON data: values after secret names, pairs of name and value, Secrets, and text inside strings."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any, TypeGuard

from obi_mcp.redact.flags import is_login
from obi_mcp.redact.rules import RedactionRules

_PAIR_NAMES = ("name", "Name", "key")
# Where the next of `--set a=b,c=d` begins.
_NEXT_NAME = re.compile(r",(?=[\w.\-\[\]]{1,128}=)")
_SECRET_FIELDS = ("data", "stringData")
# Stands between the strings of an object when all of them are searched at once: no pattern of a name goes on beyond it.
_BETWEEN = "\0"
# What may be a line of a key, and no digest.
_KEY = re.compile(rb"[A-Za-z0-9+/=]{60}(?<![0-9a-f]{60})")
# JSON as one word: a patch, or `--set-json a={…}`.
_JSON_WORD = re.compile(r"(?P<flag>-{0,2}[\w.\-\[\]]{0,128}=)?(?=[\[{]\s*[\"{\[])")
_LONGEST_JSON = 65_536
_NAMING_FLAGS = ("--arg", "--argjson")
# A string without these holds no name with a value: no mark between them, no flag, no quotes.
_MAY_HOLD = re.compile(r"[=:\"'%]|(?:^|\s)-")


class Looks(IntEnum):
    """How closely each string of an object has to be looked at."""

    NOT = 0
    """None can change: no trigger, no shape and no second line is in any of them."""
    NAMES = 1
    """No value looks like a secret; one may stand behind its name."""
    ALL = 2


class ObjectRedactor:
    """Walks JSON data and copies only what changes. ``text`` redacts strings that hold text of their own."""

    __slots__ = ("_rules", "_text")

    def __init__(self, rules: RedactionRules, text: Callable[[str], str]) -> None:
        self._rules = rules
        self._text = text

    def looks(self, value: Any) -> Looks:
        """How closely the strings have to be looked at, from one search through all of them: of the hundred strings of
        a pod none holds a secret as a rule."""
        if not isinstance(value, (dict, list)):
            return Looks.ALL
        strings: list[str] = []
        _collect(value, strings)
        data = _BETWEEN.join(strings).encode("utf-8", "surrogatepass")
        plain = b"\n" not in data and not _KEY.search(data) and not self._rules.has_hit(data)
        return Looks.NOT if plain else Looks.ALL

    def redact(self, value: Any, *, looks: Looks) -> Any:
        """The data without secrets."""
        if isinstance(value, dict):
            return self._mapping(value, looks)
        if isinstance(value, list):
            return self._sequence(value, looks)
        return self._string(value, looks) if isinstance(value, str) else value

    def words(self, words: Sequence[str]) -> list[str]:
        """An argument vector."""
        out: list[str] = []
        kind = ""
        for index, word in enumerate(words):
            if index > 1 and words[index - 2] in _NAMING_FLAGS:  # jq's --arg NAME VALUE
                kind = self._rules.key_kind(words[index - 1])
            follows = bool(word) and bool(kind) and (kind != "login" or is_login(word))
            out.append(self._rules.marker if follows else self._string(self._assignment(word), looks=Looks.ALL))
            kind = self._rules.flag_kind(word) if word.startswith("-") and "=" not in word else ""
        return out

    def _assignment(self, word: str) -> str:
        """``--token=X`` and ``a.token=X,b=Y``: within a word, a value may hold blanks and quotes."""
        name, equals, rest = word.partition("=")
        if not equals:
            return word
        if self._rules.key_kind(name.lstrip("-")) == "map" and rest and rest != self._rules.marker:
            return f"{name}={self._rules.marker}"
        parts = _NEXT_NAME.split(word)
        named = [
            name.removesuffix("name")
            for name, _, value in (part.partition("=") for part in parts)
            if name.endswith(".name") and self._rules.key_kind(value)
        ]
        return ",".join(self._masked_part(part, named) for part in parts)

    def _masked_part(self, part: str, named: Sequence[str]) -> str:
        """``named``: what stands before ``value`` where a name beside it is a secret's: ``env[0].``"""
        name, equals, value = part.partition("=")
        secret = equals and value and (self._key_kind(name.lstrip("-")) or name.removesuffix("value") in named)
        if not secret or _is_reference(value) or value == self._rules.marker:
            return part
        return f"{name}={self._rules.marker}"

    def _key_kind(self, path: str) -> str:
        """What is said of a value by its path, ``config.headers.x-team``: by its name, or by a map that it is in."""
        *above, _ = path.split(".")
        return self._rules.key_kind(path) or ("map" if any(self._rules.key_kind(one) == "map" for one in above) else "")

    def _mapping(self, mapping: dict[str, Any], looks: Looks) -> dict[str, Any]:
        key_kind = self._rules.key_kind
        changed: dict[str, Any] = {}
        for key, value in mapping.items():
            secret = key_kind(key)
            new = self._masked(value, secret, looks) if secret else self._inner(key, value, looks)
            if new is not value:
                changed[key] = new
        if "value" in mapping and self._names_secret(mapping):
            changed["value"] = self._mask(mapping["value"])
        if "op" in mapping and "value" in mapping and self._patches_secret(mapping.get("path")):
            changed["value"] = self._mask(mapping["value"])
        if isinstance(kind := mapping.get("kind"), str) and kind in self._rules.secret_kinds:
            changed |= {field: self._mask_all(mapping[field]) for field in _SECRET_FIELDS if mapping.get(field)}
        return {**mapping, **changed} if changed else mapping

    def _sequence(self, items: list[Any], looks: Looks) -> list[Any]:
        if any(isinstance(item, str) and item.startswith("-") for item in items) and _are_words(items):
            new: list[Any] = self.words(items)
            return items if new == items else new
        new = [self.redact(item, looks=looks) for item in items]
        for index, item in enumerate(items[:-1]):
            if isinstance(item, str) and item.startswith("-") and isinstance(items[index + 1], str):
                new[index : index + 2] = self.words(items[index : index + 2])
        return items if all(map(_same, items, new)) else new

    def _inner(self, key: str, value: Any, looks: Looks) -> Any:
        kind = value.__class__
        if kind is str:
            if key in self._rules.embedded:
                return self._embedded(value)
            return self._string(value, looks)
        if kind is dict:
            return self._mapping(value, looks)
        return self._sequence(value, looks) if kind is list else value

    def _string(self, text: str, looks: Looks) -> str:
        if looks is Looks.NOT:
            return text
        # Nearly every string has no bracket, which is seen sooner than where one could stand.
        may_be_json = ("{" in text or "[" in text) and len(text) <= _LONGEST_JSON and "\n" not in text
        if may_be_json and (word := _JSON_WORD.match(text)):
            return text[: word.end()] + self._json_word(text[word.end() :])
        return self._plain_string(text, looks)

    def _plain_string(self, text: str, looks: Looks) -> str:
        # A value of its own has no name beside it: only text with "name=value" or several lines can hold one.
        if "\n" in text:
            return self._text(text)
        if looks is Looks.ALL and self._rules.has_shape(text.encode("utf-8", "surrogatepass")):
            return self._text(text)
        if _MAY_HOLD.search(text) and self._rules.words.search(text.lower()):
            return self._text(text)
        return text

    def _json_word(self, text: str) -> str:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return self._plain_string(text, Looks.ALL)
        new = self.redact(value, looks=Looks.ALL)
        separators = (", ", ": ") if '": ' in text else (",", ":")
        return text if new is value else json.dumps(new, ensure_ascii=False, separators=separators)

    def _embedded(self, text: str) -> str:
        try:
            value = json.loads(text)
        except ValueError:
            return self._text(text)
        new = self.redact(value, looks=Looks.ALL)
        return text if new is value else json.dumps(new, ensure_ascii=False, separators=(",", ":"))

    def _masked(self, value: Any, kind: str, looks: Looks) -> Any:
        """The value under a secret name: a scalar goes, an object keeps its own names unless ``kind`` is map."""
        if kind == "map":
            return self._mask_all(value)
        if isinstance(value, dict):
            return self._mapping(value, looks)
        if isinstance(value, list):
            new = [self._mapping(item, looks) if isinstance(item, dict) else self._mask(item) for item in value]
            return value if all(map(_same, value, new)) else new
        return self._mask(value)

    def _mask_all(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: item if key in _PAIR_NAMES and isinstance(item, str) else self._mask_all(item)
                for key, item in value.items()
            }
        if isinstance(value, list):
            return [self._mask_all(item) for item in value]
        return self._mask(value)

    def _mask(self, value: Any) -> Any:
        if value is None or isinstance(value, bool) or value in ("", self._rules.marker):
            return value
        if isinstance(value, (dict, list)):
            return self._mask_all(value)
        return value if isinstance(value, str) and _is_reference(value) else self._rules.marker

    def _patches_secret(self, path: Any) -> bool:
        """Of a JSON patch's operation: whether its value is a secret, or of a variable whose name it does not say."""
        if not isinstance(path, str):
            return False
        name = path.rpartition("/")[2]
        return name == "value" or bool(self._key_kind(path.strip("/").replace("/", ".")))

    def _names_secret(self, mapping: dict[str, Any]) -> bool:
        return any(
            isinstance(mapping.get(name), str) and bool(self._rules.key_kind(mapping[name])) for name in _PAIR_NAMES
        )


def _collect(value: dict[str, Any] | list[Any], into: list[str]) -> None:
    """Every string among the values, wherever it stands; names of fields are no values."""
    for part in value.values() if isinstance(value, dict) else value:
        if isinstance(part, str):
            into.append(part)
        elif isinstance(part, (dict, list)):
            _collect(part, into)


def _are_words(items: list[Any]) -> TypeGuard[list[str]]:
    return all(isinstance(item, str) for item in items)


def _same(old: Any, new: Any) -> bool:
    return old is new


def _is_reference(text: str) -> bool:
    """``$(TOKEN)``: Kubernetes puts the value there; the text itself is no secret."""
    return text.startswith("$(") and text.endswith(")") and text.count("(") == 1
