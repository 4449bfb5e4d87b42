"""What kubectl prints of an object when an expression fails.

A jsonpath or go-template that is harmless when it succeeds may fail on some object (an index out of range, a field
of nothing), and kubectl then prints the *whole* object, environment and all, in Go's or JSON's notation: a go-template
to standard output, a jsonpath to standard error (``cli-runtime/pkg/printers``, kubectl 1.36), ``--sort-by`` to
standard error (``kubectl/pkg/cmd/get/sorter.go``). Whoever hands on the output or the errors of a command with
``-o jsonpath…``, ``-o go-template…`` or ``--sort-by`` cuts them here first, before redaction.
"""

from __future__ import annotations

from collections.abc import Sequence

# INVARIANT: kubectl prints no object after a failed expression without one of these before it, on one line.
_MARKERS = (
    b"Printing more information for debugging the template:",
    b"Failed to get i values for ",
    b"Failed to get j values for ",
)
_LONGEST_MARKER = max(map(len, _MARKERS))
# As they stand in an argument vector of ours: --flag=value. Output formats that render an expression, and sorting.
_DUMPING = ("--output=jsonpath", "--output=go-template", "--output=custom-columns", "--sort-by=", "--for=jsonpath")
CUT_NOTE = b"[what kubectl prints of the object is left out: ask for -o json and pipe it through jq]\n"


def cut_dump(line: bytes) -> tuple[bytes, bool]:
    """What may be handed on of one line of kubectl's output or errors, and whether all that follows is dropped."""
    found = [at for at in (line.find(marker) for marker in _MARKERS) if at >= 0]
    return (line[: min(found)] + CUT_NOTE, True) if found else (line, False)


def without_dump(output: bytes) -> bytes:
    """All of kubectl's output or errors, up to a dump."""
    return cut_dump(output)[0]


class DumpCut:
    """The same for output that comes in chunks: a marker may stand across two of them."""

    def __init__(self) -> None:
        self._held = b""
        self._stopped = False

    def feed(self, chunk: bytes) -> bytes:
        """What may be handed on by now."""
        if self._stopped:
            return b""
        data = self._held + chunk
        kept, self._stopped = cut_dump(data)
        if self._stopped:
            self._held = b""
            return kept
        at = max(len(data) - _LONGEST_MARKER + 1, 0)
        self._held = data[at:]
        return data[:at]

    def finish(self) -> bytes:
        """The rest."""
        held, self._held = self._held, b""
        return held


def may_dump(argv: Sequence[str]) -> bool:
    """Whether a command's output or errors may hold such a dump. ``argv`` is as the parser rebuilds it."""
    return any(word.startswith(_DUMPING) for word in argv)
