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
    from obi_mcp.cli.verbs import run

    return run(sys.argv[1:] if argv is None else argv)


def _leave(number: int, _frame: FrameType | None) -> None:
    os._exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
