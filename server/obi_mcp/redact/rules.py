"""``policy/redaction.yaml`` in compiled form: which names and which looks make a value secret."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Literal

KeyKind = Literal["", "value", "map"]

_SEPARATORS = re.compile(r"[-_./ ]")
# After a name: its value, or, where the name is itself a value, "value" on this line or the end of the line.
_KEY_END = rb"\\*[\"']?(?:[ \t]{0,8}[:=]|,?[ \t]*(?:\n|\\*[\"']?value))"
_SHARED = 4
_REMEMBERED_KEYS = 4096


class RedactionRules:
    """What is secret. ``key_kind`` says of a name: nothing, its value is secret, or every value below it is.

    ``shapes`` find values by their looks, wherever they stand; ``triggers`` are a cheap test on lower-case bytes:
    text in which none of them is found has no name with a secret value in it. ``words`` is the same for one short
    string, in lower case.
    """

    __slots__ = (
        "embedded",
        "key_kind",
        "marker",
        "query",
        "schemes",
        "secret_kinds",
        "shapes",
        "shapes_in_bytes",
        "triggers",
        "words",
    )

    def __init__(self, data: Mapping[str, Any]) -> None:
        keys = data["keys"]
        self.marker: str = data["marker"]
        self.key_kind: Callable[[str], KeyKind] = lru_cache(_REMEMBERED_KEYS)(_KeyNames(keys).kind)
        self.schemes = frozenset(data["schemes"])
        self.secret_kinds = frozenset(data["secret_kinds"])
        self.embedded = frozenset(data["embedded"])
        self.shapes = tuple(re.compile(pattern) for pattern in data["shapes"].values())
        self.shapes_in_bytes = tuple(re.compile(pattern.encode()) for pattern in data["shapes"].values())
        self.query = re.compile(rf"([?&;](?:{'|'.join(map(_loosely, data['query']))})=)([^&;#\s\"'<>\\]+)", re.I)
        self.triggers = tuple(re.compile(pattern) for pattern in _triggers(keys, data["query"]))
        names = [*keys["exact"], *keys["ends"], *keys["maps"], *keys["contains"], *data["query"]]
        words = "|".join(map(_loosely, names))
        self.words = re.compile(
            rf"(?:{words})[\w.\-]{{0,64}}\\*[\"']?(?:[ \t]{{0,8}}[:=]|,?[ \t]*\\*[\"']?value)|private key"
        )

    def hits(self, data: bytes) -> list[int]:
        """Where something may have to be taken out, as offsets in order; empty for most text."""
        lower = data.lower()
        found = [match.start() for trigger in self.triggers for match in trigger.finditer(lower)]
        found += [match.start() for shape in self.shapes_in_bytes for match in shape.finditer(data)]
        found.sort()
        return found

    def has_shape(self, data: bytes) -> bool:
        """Whether any value in it looks like a secret."""
        return any(shape.search(data) for shape in self.shapes_in_bytes) or b"PRIVATE KEY" in data

    def mask_shapes(self, text: str) -> str:
        """``text`` with every value that looks like a secret taken out."""
        for shape in self.shapes:
            text = shape.sub(self._mask_match, text)
        return self.query.sub(self._mask_parameter, text)

    def _mask_match(self, match: re.Match[str]) -> str:
        if not match.re.groups:
            return self.marker
        start, end = match.start(1) - match.start(), match.end(1) - match.start()
        return match[0][:start] + self.marker + match[0][end:]

    def _mask_parameter(self, match: re.Match[str]) -> str:
        return match[1] + self.marker


class _KeyNames:
    """The table of names, without separators."""

    def __init__(self, keys: Mapping[str, list[str]]) -> None:
        self._exact = frozenset(map(_plain, keys["exact"]))
        self._ends = tuple(map(_plain, keys["ends"]))
        self._contains = tuple(map(_plain, keys["contains"]))
        self._maps = tuple(map(_plain, keys["maps"]))
        self._harmless = frozenset(map(_plain, keys["harmless"]))

    def kind(self, name: str) -> KeyKind:
        plain = _plain(name)
        if plain in self._harmless:
            return ""
        if plain.endswith(self._maps):
            return "map"
        if plain in self._exact or plain.endswith(self._ends) or any(word in plain for word in self._contains):
            return "value"
        return ""


def _plain(name: str) -> str:
    return _SEPARATORS.sub("", name).lower()


def _loosely(word: str) -> str:
    return word.replace("_", "[-_. ]?")


def _triggers(keys: Mapping[str, list[str]], query: Iterable[str]) -> list[bytes]:
    """Patterns for lower-case bytes; each begins with a literal, which ``re`` searches for at memory speed."""
    words = dict.fromkeys((*keys["exact"], *keys["ends"], *keys["maps"]), b"")
    words |= dict.fromkeys(keys["contains"], rb"[\w.\-]{0,64}")
    patterns = list(_clusters(words))
    parameters = "|".join(map(_loosely, query)).encode()
    patterns += [rb"\?(?:" + parameters + b")=", rb"&(?:" + parameters + b")="]
    # Which kind a YAML document is of, and where its data begins.
    return [*patterns, rb"-----begin [a-z0-9 ]{0,40}private key", rb"data:[ \t]*(?:#[^\n]*)?\n", rb"kind:", rb"\n---"]


def _clusters(words: Mapping[str, bytes]) -> Iterator[bytes]:
    """One pattern for all words that begin alike; none for a word that ends in another, which is found there."""
    needed = [word for word in words if not any(word != other and word.endswith(other) for other in words)]
    clusters: dict[str, list[str]] = {}
    for word in sorted(needed):
        clusters.setdefault(word[:_SHARED].split("_")[0], []).append(word)
    for start, members in clusters.items():
        rest = b"|".join(_loosely(word[len(start) :]).encode() + words[word] + _KEY_END for word in members)
        yield start.encode() + b"(?:" + rest + b")"
