"""``obi-mcp`` in this process: a test of what a verb says need not start a Python for it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from unittest.mock import patch

from obi_mcp.cli.verbs import run


def run_verb(argv: tuple[str, ...], stdin: bytes, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """What the verb printed, and its exit code; it sees only ``env``."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="\n") for _ in range(2))
    given = io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
    with (
        patch.dict(os.environ, env, clear=True),
        patch.object(sys, "stdin", given),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            code = run(argv)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
    texts = []
    for stream in (out, err):
        stream.flush()
        assert isinstance(stream.buffer, io.BytesIO)
        texts.append(stream.buffer.getvalue().decode())
    return subprocess.CompletedProcess(argv, code, *texts)
