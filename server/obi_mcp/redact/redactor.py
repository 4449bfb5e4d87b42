"""The one object that knows what is secret: for text, streams of text, JSON, argument vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from shlex import quote
from typing import Any

from obi_mcp.command.lexer import lex
from obi_mcp.errors import InvalidCommand
from obi_mcp.redact.controls import strip_controls
from obi_mcp.redact.meaning import mask_meant
from obi_mcp.redact.objects import Looks, ObjectRedactor
from obi_mcp.redact.rules import RedactionRules
from obi_mcp.redact.stream import TextStream

FILE = "redaction.yaml"


class Redactor:
    """Takes out what ``policy/redaction.yaml`` names. Safe to share: it holds no state of any text.

    INVARIANT: redacting what was redacted changes nothing, and JSON stays JSON.
    """

    def __init__(self, rules: RedactionRules) -> None:
        self.rules = rules
        self._objects = ObjectRedactor(rules, self.text)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Redactor:
        """From the plain data of ``redaction.yaml``. Raises: KeyError or re.error where it breaks its schema."""
        return cls(RedactionRules(data))

    @classmethod
    def load(cls, directory: Path | None = None) -> Redactor:
        """From ``redaction.yaml`` in ``directory``; by default the built-in one, which is read once."""
        from obi_mcp.policy.shipped import shipped_policy

        return _load(directory or shipped_policy())

    @property
    def marker(self) -> str:
        """What stands in a secret's place."""
        return self.rules.marker

    def text(self, text: str) -> str:
        """The whole text without secrets; lines of it may be missing, none is added."""
        data = mask_meant(text, self.rules).encode("utf-8", "surrogatepass")
        return self.data(data).decode("utf-8", "surrogatepass")

    def plain(self, text: str) -> str:
        """The text as it may be shown: without what deceives the eye, and without the secrets whose names it hid. JSON
        stays JSON."""
        return self.text(strip_controls(text)[0])

    def data(self, data: bytes) -> bytes:
        """``text`` for bytes; what is no UTF-8 stays as it is."""
        stream = self.stream()
        return stream.feed(data) + stream.finish()

    def stream(self, *, diff: bool = False) -> TextStream:
        """A redactor for one stream of text, which remembers what a line leaves open below it.

        ``diff``: the text is a unified diff with its whole context.
        """
        return TextStream(self.rules, diff=diff)

    def value(self, value: Any, source: bytes | None = None) -> Any:
        """JSON data without secrets; the same object where nothing had to change.

        ``source`` is the text that it was parsed from, if at hand: it saves looking into every string.
        """
        if source is None:
            return self._objects.redact(value, looks=self._objects.looks(value))
        return self._objects.redact(value, looks=Looks.ALL if self.rules.has_shape(source) else Looks.NAMES)

    def command(self, text: str) -> str:
        """A command line as a caller wrote it, without secrets: word by word where it can be read, as quotes would
        hide where a value ends. One of several lines is none: only the first is kept."""
        try:
            stages = lex(text)
        except InvalidCommand:
            first, newline, rest = text.partition("\n")
            more = f" … and {rest.count(newline) + 1} more lines" if newline else ""
            return self.text(first) + more
        words = [[token.text for token in stage] for stage in stages]
        clean = [list(self.argv(stage)) for stage in words]
        if clean == words:
            return self.text(text)
        return self.text(" | ".join(" ".join(map(quote, stage)) for stage in clean))

    def argv(self, words: Sequence[str]) -> tuple[str, ...]:
        """An argument vector without secrets: ``--token=X``, ``--token X``, ``password=X``."""
        return tuple(self._objects.words(words))


@lru_cache(8)
def _load(directory: Path) -> Redactor:
    import yaml

    text = (directory / FILE).read_text(encoding="utf-8")
    return Redactor.from_data(yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
