"""``policy/redaction.yaml`` in compiled form: which names and which looks make a value secret."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Literal

KeyKind = Literal["", "value", "sure", "rest", "map"]

_SEPARATORS = re.compile(r"[-_./ ]")
_LAST_WORD = re.compile(r"[A-Z]?[a-z0-9]+$|[A-Z0-9]+$")
# After a name: its value; or, where the name is itself a value, "value" on this line or the end of the line; or, where
# it may be a flag, a blank and something.
_KEY_END = rb"[-_.]{0,8}(?:\\*[\"']?(?:[ \t]{0,8}[:=]|,?[ \t]*(?:\r?\n|\\*[\"']?value)|,?[ \t]+\S)|\\+[nr]|\x1b)"
_GO_LOGIN = re.compile(r"[^\s\"'/@:]{1,128}:[^\s\"'@]{1,256}(?=@(?:tcp|unix)\()")
_SHARED = 4
_REMEMBERED_KEYS = 4096


class RedactionRules:
    """What is secret. ``key_kind`` says of a name: nothing; its value is secret; that and surely so, even in prose; all
    that follows is; or every value below it is. ``flag_kind`` says it of a flag with its dashes, where "login" means a
    name with a password.

    ``shapes`` find values by their looks, wherever they stand; ``triggers`` are a cheap test on lower-case bytes:
    text in which none of them is found has no name with a secret value in it. ``words`` is the same for one short
    string, in lower case.
    """

    __slots__ = (
        "_logins",
        "embedded",
        "key_kind",
        "marker",
        "prose",
        "query",
        "said",
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
        self.prose = frozenset(data["prose"])
        self._logins = frozenset(map(_plain, data["logins"]))
        self.secret_kinds = frozenset(data["secret_kinds"])
        self.embedded = frozenset(data["embedded"])
        self.shapes = tuple(re.compile(pattern) for pattern in data["shapes"].values())
        self.shapes_in_bytes = tuple(re.compile(pattern.encode()) for pattern in data["shapes"].values())
        parameters = "|".join(map(_loosely, data["query"]))
        self.query = re.compile(
            rf"((?:[?&;#]|%3f|%26|%23|\\u0026)(?:{parameters})(?:=|%3d))((?:(?!%26|\\u0026)[^&;#\s\"'<>\\])+)", re.I
        )
        self.said = re.compile(
            rf"(?i)(?P<before>(?<![\w.\-])(?:{'|'.join(map(_said, data['spoken']))})(?:[ \t]+is)?[ \t]{{1,8}}"
            r"(?P<q>\\*[\"']))(?P<inner>[^\"'\\]{1,1024})(?P=q)"
        )
        self.triggers = tuple(re.compile(pattern) for pattern in _triggers(data))
        names = [*keys["exact"], *keys["last"], *keys["ends"], *keys["rest"], *keys["maps"], *keys["contains"]]
        words = "|".join(map(_loosely, [*names, *data["query"]]))
        flags = "|".join(map(_loosely, data["logins"]))
        self.words = re.compile(
            rf"(?:{words})[\w.\-]{{0,64}}\\*[\"']?(?:(?:[ \t]{{0,8}}|%3)[:=d]|[ \t]+\S|\\n|\x1b|,?[ \t]*\\*[\"']?value)"
            rf"|private key|--?(?:{flags})[ \t\"',]|@(?:tcp|unix)\("
        )

    def hits(self, data: bytes) -> list[int]:
        """Where something may have to be taken out, as offsets in order; empty for most text."""
        lower = data.lower()
        found = [match.start() for trigger in self.triggers for match in trigger.finditer(lower)]
        found += [match.start() for shape in self.shapes_in_bytes for match in shape.finditer(data)]
        found.sort()
        return found

    def has_hit(self, data: bytes) -> bool:
        """Whether ``hits`` would find anything."""
        lower = data.lower()
        return any(trigger.search(lower) for trigger in self.triggers) or self.has_shape(data)

    def has_shape(self, data: bytes) -> bool:
        """Whether any value in it looks like a secret."""
        return any(shape.search(data) for shape in self.shapes_in_bytes) or b"PRIVATE KEY" in data

    def mask_shapes(self, text: str) -> str:
        """``text`` with every value that looks like a secret taken out."""
        for shape in self.shapes:
            text = shape.sub(self._mask_match, text)
        if "@tcp(" in text or "@unix(" in text:
            text = _GO_LOGIN.sub(self.marker, text)
        return self.query.sub(self._mask_parameter, text)

    def flag_kind(self, flag: str) -> KeyKind | Literal["login"]:
        """What ``key_kind`` says of the name of a flag, given with its dashes."""
        name = flag.lstrip("-")
        return "login" if _plain(name) in self._logins else self.key_kind(name)

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
        self._last = frozenset(keys["last"])
        self._ends = tuple(map(_plain, keys["ends"]))
        self._contains = tuple(map(_plain, keys["contains"]))
        self._rest = tuple(map(_plain, keys["rest"]))
        self._maps = tuple(map(_plain, keys["maps"]))
        self._harmless = frozenset(map(_plain, keys["harmless"]))

    def kind(self, name: str) -> KeyKind:
        plain = _plain(name)
        if plain in self._harmless:
            return ""
        if plain.endswith(self._maps):
            return "map"
        if plain.endswith(self._rest):
            return "rest"
        if any(word in plain for word in self._contains):
            return "sure"
        if plain in self._exact or plain.endswith(self._ends):
            return "value"
        last = _LAST_WORD.search(name)
        return "value" if last and last[0].lower() in self._last else ""


def _plain(name: str) -> str:
    return _SEPARATORS.sub("", name).lower()


def _loosely(word: str) -> str:
    return word.replace("_", "[-_. ]?")


def _said(words: str) -> str:
    return words.replace("_", "[-_ ]?") if words.endswith("key") else words.replace("_", "[ \\t]+")


def _triggers(data: Mapping[str, Any]) -> list[bytes]:
    """Patterns for lower-case bytes; each begins with a literal, which ``re`` searches for at memory speed."""
    keys = data["keys"]
    words = dict.fromkeys((*keys["exact"], *keys["last"], *keys["ends"], *keys["rest"], *keys["maps"]), b"")
    words |= dict.fromkeys(keys["contains"], rb"[\w.\-]{0,64}")
    patterns = list(_clusters(words))
    parameters = "|".join(map(_loosely, data["query"])).encode()
    patterns += [
        mark + b"(?:" + parameters + b")(?:=|%3d)" for mark in (rb"\?", b"&", b"#", b";", b"%3f", b"%26", rb"\\u0026")
    ]
    flags = "|".join(map(_loosely, data["logins"])).encode()
    patterns += [b"-(?:" + flags + rb")[\"']?,?(?:[ \t]|\r?\n)", rb"@tcp\(", rb"@unix\(", rb"identified by "]
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
