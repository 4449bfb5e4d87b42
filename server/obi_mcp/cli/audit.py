"""``obi-mcp audit verify FILE [--head HASH]``: whether the log is as it was written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from obi_mcp.audit_chain import Verification, verify
from obi_mcp.cli.arguments import VerbParser


def parser() -> VerbParser:
    """The arguments of ``audit``."""
    made = VerbParser("obi-mcp audit", "Verifies an audit log: exit 0 when every line is as it was written, else 1.")
    made.add_argument("action", choices=["verify"], help="follow the chain of hashes from the first line to the head")
    made.add_argument("file", metavar="FILE", help="the log, as --audit-file named it")
    made.add_argument("--head", metavar="HASH", help="the head printed at stop; default: the one kept in FILE.head")
    made.add_argument("--json", action="store_true", help="the result as JSON")
    return made


def main(argv: Sequence[str]) -> int:
    """Prints the verdict and the first bad line."""
    args = parser().parse_args(argv)
    found = verify(Path(args.file), args.head)
    if args.json:
        print(json.dumps(_as_json(found), indent=2))
    else:
        print(_verdict(args.file, found))
        for notice in found.notices:
            print(f"note: {notice}")
    return 0 if found.good else 1


def _verdict(file: str, found: Verification) -> str:
    if found.good:
        return f"{file}: {found.lines} lines, each as it was written; head {found.head.hash}"
    where = f"line {found.line}" if found.line else "the log"
    return f"{file}: {where} {found.problem}"


def _as_json(found: Verification) -> dict[str, object]:
    return {
        "good": found.good,
        "lines": found.lines,
        "head": found.head.hash,
        "line": found.line,
        "problem": found.problem,
        "notices": list(found.notices),
    }
