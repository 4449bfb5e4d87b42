"""What kubectl prints of an object when an expression fails.

A jsonpath or go-template that is harmless when it succeeds may fail on some object (an index out of range, a field
of nothing), and kubectl then prints the *whole* object, environment and all, in Go's or JSON's notation: a go-template
to standard output, a jsonpath to standard error (``cli-runtime/pkg/printers``, kubectl 1.36), ``--sort-by`` to
standard error (``kubectl/pkg/cmd/get/sorter.go``). Whoever hands on the output or the errors of a command with
``-o jsonpath…``, ``-o go-template…`` or ``--sort-by`` cuts them here first, before redaction.
"""

from __future__ import annotations

# INVARIANT: kubectl prints no object after a failed expression without one of these before it, on one line.
_MARKERS = (
    b"Printing more information for debugging the template:",
    b"Failed to get i values for ",
    b"Failed to get j values for ",
)
CUT_NOTE = b"[what kubectl prints of the object is left out: ask for -o json and pipe it through jq]\n"


def cut_dump(line: bytes) -> tuple[bytes, bool]:
    """What may be handed on of one line of kubectl's output or errors, and whether all that follows is dropped."""
    found = [at for at in (line.find(marker) for marker in _MARKERS) if at >= 0]
    return (line[: min(found)] + CUT_NOTE, True) if found else (line, False)


def without_dump(output: bytes) -> bytes:
    """All of kubectl's output or errors, up to a dump."""
    return cut_dump(output)[0]
