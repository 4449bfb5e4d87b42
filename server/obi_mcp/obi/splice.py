"""One key of a YAML text put, replaced or deleted where it stands; the rest of the text is not touched.

Places come from the parser's marks. A block collection's own end mark is where the next token begins, comments
between included, so its end is that of its last value.
"""

from __future__ import annotations

from typing import Any

from obi_mcp.obi.config_text import shielded, unshielded
from obi_mcp.obi.written_value import inline, is_block, lines_of, quoted_like

_STEP = 2


class Splice:
    """A text, and where its parts are."""

    __slots__ = ("_newline", "_root", "_step", "_text")

    def __init__(self, text: str) -> None:
        import yaml

        self._text = text
        self._newline = "\r\n" if "\r\n" in text else "\n"
        self._root: Any = yaml.compose(shielded(text), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        self._step = self._indentation(self._root)

    def put(self, path: tuple[str, ...], value: Any) -> str:
        """The text with the key set (its mapping must be there), or deleted for None. Raises: ValueError."""
        if self._root is None:
            return self._appended(path, value)
        node = self._root
        for key in path[:-1]:
            node = self._pair(node, key)[1]
        pairs = [pair for pair in node.value if unshielded(pair[0].value) == path[-1]]
        if value is None:
            return self._deleted(node, pairs[0]) if pairs else self._text
        return self._replaced(node, pairs[0], value) if pairs else self._inserted(node, path[-1], value)

    def rename(self, path: tuple[str, ...], name: str) -> str:
        """The text with a key called otherwise. Raises: ValueError."""
        node = self._root
        for key in path[:-1]:
            node = self._pair(node, key)[1]
        key = self._pair(node, path[-1])[0]
        start, end = self._at(key.start_mark), self._at(key.end_mark)
        return f"{self._text[:start]}{quoted_like(key, name, flow=bool(node.flow_style))}{self._text[end:]}"

    # --- one change each ---

    def _replaced(self, mapping: Any, pair: tuple[Any, Any], value: Any) -> str:
        key, old = pair
        colon = self._colon(key)
        if self._is_alias(key, old):
            end = self._pair_end(key, old)
            start = colon + len(self._text[colon:end]) - len(self._text[colon:end].lstrip())
        else:
            start, end = max(self._at(old.start_mark), colon), max(self._end(old), colon)
        between = self._text[colon:start]
        same_line = "\n" not in between and "#" not in between
        if not mapping.flow_style and is_block(value):
            comment = self._comment(colon if not same_line else end)
            column = key.start_mark.column + self._step
            written = self._newline.join(lines_of(value, column, self._step))
            rest = self._text[end + len(comment) if same_line else end :]
            return f"{self._text[:colon]}{comment}{self._newline}{written}{rest}"
        written = quoted_like(old, value, flow=bool(mapping.flow_style))
        if same_line:
            space = between or " "
            return f"{self._text[:colon]}{space}{written}{self._text[end:]}"
        comment = self._comment(colon)
        return f"{self._text[:colon]} {written}{comment}{self._text[end:]}"

    def _deleted(self, mapping: Any, pair: tuple[Any, Any]) -> str:
        key, old = pair
        if len(mapping.value) == 1:
            return self._emptied(mapping, key, old)
        start, end = self._at(key.start_mark), self._pair_end(key, old)
        if not mapping.flow_style:
            first, last = self._line_start(start), self._line_end(end)
            return self._text[:first] + self._text[last:]
        index = next(number for number, each in enumerate(mapping.value) if each[0] is key)
        if index == 0:
            return self._text[:start] + self._text[self._at(mapping.value[1][0].start_mark) :]
        before = self._pair_end(*mapping.value[index - 1])
        return self._text[:before] + self._text[end:]

    def _emptied(self, mapping: Any, key: Any, old: Any) -> str:
        """The last key goes: an empty mapping stays, or it would be null."""
        start, end = self._at(mapping.start_mark), self._pair_end(key, old)
        if mapping.flow_style:
            return f"{self._text[:start]}{{}}{self._text[self._at(mapping.end_mark) :]}"
        return f"{self._text[:start]}{{}}{self._text[end:]}"

    def _inserted(self, mapping: Any, key: str, value: Any) -> str:
        if mapping.id != "mapping":
            raise ValueError("it is no mapping")
        if mapping.flow_style:
            written = f"{inline(key, flow=True)}: {inline(value, flow=True)}"
            if mapping.value:
                at = self._pair_end(*mapping.value[-1])
                return f"{self._text[:at]}, {written}{self._text[at:]}"
            at = self._at(mapping.start_mark) + 1
            return f"{self._text[:at]}{written}{self._text[at:].lstrip()}"
        column = self._column(mapping.value[0][0])
        at = self._line_end(self._pair_end(*mapping.value[-1]))
        break_before = "" if self._text[:at].endswith("\n") else self._newline
        return f"{self._text[:at]}{break_before}{self._entry(key, value, column)}{self._text[at:]}"

    def _appended(self, path: tuple[str, ...], value: Any) -> str:
        """The first key of a text that has none, below its comments."""
        if len(path) != 1 or value is None:
            return self._text
        break_before = "" if not self._text or self._text.endswith("\n") else self._newline
        return f"{self._text}{break_before}{self._entry(path[0], value, 0)}"

    def _entry(self, key: str, value: Any, column: int) -> str:
        lines = lines_of({key: value}, column, self._step)
        return self._newline.join([*lines, ""])

    # --- where things are ---

    def _pair(self, node: Any, key: str) -> tuple[Any, Any]:
        found = [pair for pair in node.value if unshielded(pair[0].value) == key] if node.id == "mapping" else []
        if not found:
            raise ValueError("it stands below an alias or a merge key")
        pair: tuple[Any, Any] = found[0]
        return pair

    def _at(self, mark: Any) -> int:
        return int(mark.index)

    def _end(self, node: Any) -> int:
        """Behind the last sign of a node."""
        if node.id != "scalar" and not node.flow_style:
            last = node.value[-1] if node.value else None
            if last is None:
                return self._at(node.start_mark)
            return self._pair_end(*last) if node.id == "mapping" else self._end(last)
        start, end = self._at(node.start_mark), self._at(node.end_mark)
        if node.id == "scalar" and node.style in ("|", ">"):
            return start + len(self._text[start:end].rstrip())
        return end

    def _pair_end(self, key: Any, value: Any) -> int:
        if self._is_alias(key, value):
            colon = self._colon(key)
            word = self._text[colon:].split(",")[0].split("}")[0].splitlines()[0]
            return colon + len(word.split("#")[0].rstrip())
        return max(self._end(value), self._colon(key, or_end=True))

    def _is_alias(self, key: Any, value: Any) -> bool:
        """An alias has the node of its anchor, which stands before its key."""
        return self._at(value.end_mark) < self._at(key.end_mark)

    def _colon(self, key: Any, *, or_end: bool = False) -> int:
        """Behind the colon of a key."""
        end = self._at(key.end_mark)
        rest = self._text[end:]
        explicit = self._column(key) != key.start_mark.column
        blanks = len(rest) - len(rest.lstrip(" \t\r\n" if explicit else " \t"))
        if rest[blanks : blanks + 1] == ":":
            return end + blanks + 1
        if or_end:
            return end
        raise ValueError("its key is not followed by a colon")

    def _column(self, key: Any) -> int:
        """Where a pair begins on its line: at its key, or at the question mark of an explicit one."""
        start = self._at(key.start_mark)
        before = self._text[self._line_start(start) : start]
        return len(before.rstrip()) - 1 if before.rstrip().endswith("?") else int(key.start_mark.column)

    def _comment(self, at: int) -> str:
        """The comment behind a place on its line, with the blanks before it; empty for none."""
        rest = self._text[at : self._text.find("\n", at) if "\n" in self._text[at:] else len(self._text)]
        return rest.rstrip() if rest.lstrip().startswith("#") and rest[:1].isspace() else ""

    def _line_start(self, at: int) -> int:
        return self._text.rfind("\n", 0, at) + 1

    def _line_end(self, at: int) -> int:
        """Behind the line break after a place."""
        found = self._text.find("\n", at)
        return len(self._text) if found < 0 else found + 1

    def _indentation(self, root: Any) -> int:
        """How far the author indents: by the first mapping in a mapping."""
        for _, value in root.value if root is not None and root.id == "mapping" and not root.flow_style else ():
            if value.id == "mapping" and not value.flow_style and value.start_mark.column > root.start_mark.column:
                return int(value.start_mark.column - root.start_mark.column)
        return _STEP
