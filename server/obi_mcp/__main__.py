"""The entry point: takes signals first, then hands over to the verb. Imports nothing that takes time."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line, without the program's name; gives the exit code."""
    # As process 1 of a container Python ignores SIGTERM unless somebody handles it, and the imports take a second.
    signal.signal(signal.SIGTERM, _leave)
    _hold_standard_streams()
    from obi_mcp.cli.verbs import run

    return run(sys.argv[1:] if argv is None else argv)


def _hold_standard_streams() -> None:
    """A stream that was closed by whoever started us leads to nothing: else the next file that is opened takes its
    number, and the audit log gets what is meant for standard error."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _leave(number: int, _frame: FrameType | None) -> None:
    os._exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
