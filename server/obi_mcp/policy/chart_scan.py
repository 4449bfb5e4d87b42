"""What the templates of a chart call, and which of it a chart may not: functions that read the cluster or the network,
or that give something else each time.

What is judged is one rendering and what is installed is another, so a chart that uses chance or time installs what
nobody judged; ``lookup`` reads objects with the server's credentials. The words count only where Go's template
language calls functions: not in text, comments, strings, fields (``.lookup``) or variables.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from obi_mcp.policy.chart_files import read_archive
from obi_mcp.policy.model import Violation

_READS_CLUSTER = frozenset({"lookup"})
_READS_NETWORK = frozenset({"getHostByName"})
# sprig's and helm's functions whose result changes from one call to the next; bcrypt, htpasswd and encryptAES salt.
_CHANGES = frozenset(
    {"randAlphaNum", "randAlpha", "randAscii", "randNumeric", "randBytes", "randInt", "shuffle", "uuidv4", "now", "ago"}
    | {"genPrivateKey", "genCA", "genCAWithKey", "genSelfSignedCert", "genSelfSignedCertWithKey", "genSignedCert"}
    | {"genSignedCertWithKey", "buildCustomCert", "bcrypt", "htpasswd", "encryptAES"}
)
REFUSED = _READS_CLUSTER | _READS_NETWORK | _CHANGES
"""What no template of a chart calls, nor any text that one runs as a template."""
# helm fetches what they name, over the network and from files; of the drafts it has its own copies.
_REFERRING = ("$ref", "$dynamicRef", "$recursiveRef", "$schema")
_DRAFT = re.compile(r"https?://json-schema\.org/(?:draft-0[4-7]|draft/20(?:19-09|20-12))/schema#?")
_MAX_DEPTH = 5
WAY_OUT = "use a chart without it, or list the chart in scope.charts_trusted"

# Go knows a comment only right behind the opening braces.
_COMMENT = re.compile(r"\{\{(?:-\s+)?/\*.*?\*/(?:\s+-)?\}\}", re.DOTALL)
_TOKEN = re.compile(
    r'(?P<string>"(?:\\.|[^"\\\n])*")'
    r"|(?P<raw>`[^`]*`)"
    r"|(?P<char>'(?:\\.|[^'\\\n])+')"
    r"|(?P<field>[.$][A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<word>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<end>\}\})"
    r"|(?P<other>.)",
    re.DOTALL,
)


def scan_files(files: Mapping[str, bytes], *, prefix: str = "", depth: int = 0) -> Iterator[Violation]:
    """Every reason why this chart, or a chart inside it, may not be used. Paths are files below the chart's top.

    What ``tpl`` runs is known only while helm renders: ``chart_guard`` holds it to the same.
    """
    if depth > _MAX_DEPTH:
        yield Violation("chart.depth", f"charts inside charts more than {_MAX_DEPTH} deep", prefix)
        return
    inner: dict[str, dict[str, bytes]] = {}
    for name, data in files.items():
        where = prefix + name
        top, _, rest = name.partition("/")
        if "{" in name:
            yield Violation("chart.name", f"{where!r} could be run as a template by its name", where)
        if top == "charts":
            yield from _sub_chart(rest, data, where, depth, inner)
        elif top == "crds":
            yield _crd(where)
        elif name == "values.schema.json":
            yield from _schema(data, where)
        elif top == "templates":
            yield from _template(data, where)
    for folder, below in inner.items():
        yield from scan_files(below, prefix=f"{prefix}charts/{folder}/", depth=depth + 1)


def called(text: str) -> Iterator[tuple[str, int]]:
    """Every function that a template calls, with its line from 1."""
    lines = _Lines(text)
    for token in tokens(text):
        if token.lastgroup == "word":
            yield token.group(), lines.at(token.start())


def tokens(text: str) -> Iterator[re.Match[str]]:
    """What stands between ``{{`` and ``}}``, word by word as Go's lexer takes it, comments left out.

    INVARIANT: where it reads otherwise than Go, Go refuses the template; so no call is overlooked.
    """
    at = text.find("{{")
    while at >= 0:
        comment = _COMMENT.match(text, at)
        end = comment.end() if comment else at + 2
        if comment is None:
            for token in action(text, end):
                yield token
                end = token.end()
        at = text.find("{{", end)


def action(text: str, at: int) -> Iterator[re.Match[str]]:
    """The tokens from a place inside of an action to its end, the closing braces too."""
    while at < len(text):
        match = _TOKEN.match(text, at)
        assert match is not None
        yield match
        if match.lastgroup == "end":
            return
        at = match.end()


class _Lines:
    """The line, from 1, of one place after the other: counted once, however many words a hostile file has."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at, self._line = 0, 1

    def at(self, place: int) -> int:
        """Places come in order."""
        self._line += self._text.count("\n", self._at, place)
        self._at = place
        return self._line


def _sub_chart(
    rest: str, data: bytes, where: str, depth: int, inner: dict[str, dict[str, bytes]]
) -> Iterator[Violation]:
    """An archive in ``charts/`` is scanned; a file of a folder there is put to its chart."""
    folder, slash, name = rest.partition("/")
    if slash:
        inner.setdefault(folder, {})[name] = data
    elif rest.endswith(".tgz"):
        try:
            files = read_archive(data, where)
        except ValueError as error:
            yield Violation("chart.archive", str(error), where)
        else:
            yield from scan_files(files, prefix=f"{where}/", depth=depth + 1)


def _crd(where: str) -> Violation:
    return Violation(
        "chart.crds",
        f"{where} is a custom resource definition, which helm installs for the whole cluster without showing it",
        where,
        "take it out of the chart, or list the chart in scope.charts_trusted",
    )


def _template(data: bytes, where: str) -> Iterator[Violation]:
    seen: set[str] = set()
    for word, line in called(data.decode("utf-8", "replace")):
        reason = _reason(word)
        if reason is not None and word not in seen:
            seen.add(word)
            yield Violation(f"chart.{word}", f"line {line} calls {word}, which {reason}", where, WAY_OUT)


def _reason(word: str) -> str | None:
    if word in _READS_CLUSTER:
        return "reads any object of the cluster with the server's credentials"
    if word in _READS_NETWORK:
        return "asks the network, and tells it a name"
    if word in _CHANGES:
        return "gives something else each time: what is installed would not be what was judged"
    return None


def _schema(data: bytes, where: str) -> Iterator[Violation]:
    """helm follows references of a values schema to files and addresses."""
    try:
        schema = json.loads(data)
    except (ValueError, RecursionError):
        yield Violation("chart.schema", f"{where} is no JSON", where)
        return
    for word, reference in _references(schema):
        known = _DRAFT.fullmatch(reference) if word == "$schema" else reference.startswith("#")
        if not known:
            yield Violation("chart.schema", f"{where} refers to {reference!r} by {word}, outside itself", where)


def _references(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for word in _REFERRING:
            if isinstance(value.get(word), str):
                yield word, value[word]
        for below in value.values():
            yield from _references(below)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)
