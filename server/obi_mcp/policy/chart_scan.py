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

from obi_mcp.errors import InvalidDocument
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
# Text that is computed, and that `tpl` could be given: in base64 nobody sees `lookup`.
_DECODES = frozenset(
    {"b64dec", "b32dec", "fromJson", "fromJsonArray", "mustFromJson", "fromYaml", "fromYamlArray", "fromToml"}
)
# helm fetches what they name, over the network and from files; of the drafts it has its own copies.
_REFERRING = ("$ref", "$dynamicRef", "$recursiveRef", "$schema")
_DRAFT = re.compile(r"https?://json-schema\.org/(?:draft-0[4-7]|draft/20(?:19-09|20-12))/schema#?")
_DATA = frozenset({"values.yaml", "Chart.yaml", "requirements.yaml"})
_DATA_BYTES, _DATA_ALIASES = 1024 * 1024, 100
# `print` joins it with another one, and `nospace` takes blanks out.
_HALF = re.compile(r"\{\s+\{|\{\s*\Z")
_CHARACTER = re.compile(r"%[-+# 0-9.*\[\]]*[cU]")
_SUSPECT = re.compile(r"\{|%")
HALF = '"{"'
"""Stands for a string of a template from which the start of another one could be made."""
_MAX_DEPTH = 5

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


def scan_files(
    files: Mapping[str, bytes], *, prefix: str = "", depth: int = 0, evaluates: bool = False
) -> Iterator[Violation]:
    """Every reason why this chart, or a chart inside it, may not be used. Paths are files below the chart's top.

    ``evaluates``: a chart around this one calls ``tpl``, and the templates of all charts of an install can call each
    other.
    """
    if depth > _MAX_DEPTH:
        yield Violation("chart.depth", f"charts inside charts more than {_MAX_DEPTH} deep", prefix)
        return
    reads_files = any(b"Files" in data for name, data in files.items() if name.startswith("templates/"))
    evaluates = evaluates or any(_evaluates(data) for name, data in files.items() if "templates/" in name)
    reads_files = reads_files or evaluates
    inner: dict[str, dict[str, bytes]] = {}
    for name, data in files.items():
        where = prefix + name
        top, _, rest = name.partition("/")
        if "{" in name:
            yield Violation("chart.name", f"{where!r} could be run as a template by its name", where)
        if top == "charts":
            yield from _sub_chart(rest, data, where, depth, inner, evaluates=evaluates)
        elif top == "crds":
            yield _crd(where)
        elif name == "values.schema.json":
            yield from _schema(data, where)
        elif evaluates and name in _DATA:
            yield from _data(data, where)
        # `tpl` may run any file that a template reads.
        elif top == "templates" or name == "values.yaml" or reads_files:
            yield from _template(data, where, evaluates=evaluates)
    for folder, below in inner.items():
        yield from scan_files(below, prefix=f"{prefix}charts/{folder}/", depth=depth + 1, evaluates=evaluates)


def called(text: str) -> Iterator[tuple[str, int]]:
    """Every function that a template calls, with its line from 1; templates in strings (for ``tpl``) count, too,
    and a string with half the start of one counts as ``HALF``."""
    lines = _Lines(text)
    at = text.find("{{")
    while at >= 0:
        comment = _COMMENT.match(text, at)
        if comment is not None:
            at = text.find("{{", comment.end())
            continue
        at += 2
        while at < len(text):
            match = _TOKEN.match(text, at)
            assert match is not None
            if match.lastgroup == "word":
                yield match.group(), lines.at(at)
            elif match.lastgroup in ("string", "raw") and _SUSPECT.search(inside := _unquoted(match.group())):
                if _HALF.search(inside) or _CHARACTER.search(inside):
                    yield HALF, lines.at(at)
                yield from ((word, lines.at(at)) for word, _ in called(inside))
            at = match.end()
            if match.lastgroup == "end":
                break
        at = text.find("{{", at)


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


def _evaluates(data: bytes) -> bool:
    """Whether a template runs text as a template."""
    return b"tpl" in data and any(word == "tpl" for word, _ in called(data.decode("utf-8", "replace")))


def _sub_chart(
    rest: str, data: bytes, where: str, depth: int, inner: dict[str, dict[str, bytes]], *, evaluates: bool
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
            yield from scan_files(files, prefix=f"{where}/", depth=depth + 1, evaluates=evaluates)


def _crd(where: str) -> Violation:
    return Violation(
        "chart.crds",
        f"{where} is a custom resource definition, which helm installs for the whole cluster without showing it",
        where,
        "take it out of the chart, or list the chart in scope.charts_trusted",
    )


def _template(data: bytes, where: str, *, evaluates: bool) -> Iterator[Violation]:
    seen: set[str] = set()
    for word, line in called(data.decode("utf-8", "replace")):
        reason = _reason(word, evaluates=evaluates)
        if reason is not None and word not in seen:
            seen.add(word)
            hint = "use a chart without it, or list the chart in scope.charts_trusted"
            rule = "chart.half" if word == HALF else f"chart.{word}"
            yield Violation(rule, f"line {line} calls {word}, which {reason}", where, hint)


def _data(data: bytes, where: str) -> Iterator[Violation]:
    """What templates find in ``.Values`` and ``.Chart`` and may run, as YAML's reader sees it."""
    from obi_mcp.policy.yaml_reader import read_stream

    try:
        written = data.decode("utf-8")
        documents = list(read_stream(written, max_bytes=_DATA_BYTES, max_documents=1, max_aliases=_DATA_ALIASES))
    except (UnicodeDecodeError, InvalidDocument) as error:
        yield Violation("chart.data", f"{where} cannot be read, and templates may run what is in it: {error}", where)
        return
    for text in (text for document in documents for text in _texts(document[2])):
        yield from _template(text.encode("utf-8", "replace"), where, evaluates=True)
        if _HALF.search(text):
            yield Violation("chart.data", f"{where} holds half the start of a template, {text[-40:]!r}", where)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, below in value.items():
            yield from _texts(key)
            yield from _texts(below)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _reason(word: str, *, evaluates: bool) -> str | None:
    if word in _READS_CLUSTER:
        return "reads any object of the cluster with the server's credentials"
    if word in _READS_NETWORK:
        return "asks the network, and tells it a name"
    if word in _CHANGES:
        return "gives something else each time: what is installed would not be what was judged"
    if evaluates and (word in _DECODES or word == HALF):
        return "makes text that nobody can judge, which `tpl` could run as a template"
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


def _unquoted(token: str) -> str:
    """The text of a string token; Go's escapes of ASCII are enough to find braces and words."""
    if token.startswith("`"):
        return token[1:-1]
    return re.sub(
        r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U0*([0-9a-fA-F]{1,6})|([0-7]{3})|(.))",
        _escape,
        token[1:-1],
        flags=re.DOTALL,
    )


def _escape(match: re.Match[str]) -> str:
    code = match[1] or match[2] or match[3]
    if code:
        return chr(min(int(code, 16), 0x10FFFF))
    return chr(int(match[4], 8)) if match[4] else match[5]
