"""``make coverage``: the branches that tests took, by package, from coverage's JSON report.

    python -m tests.branches REPORT [--fail-under PERCENT PACKAGE…]

Exit code 1 when one of the named packages is below the bar.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PACKAGE = "server/obi_mcp/"
TOP = "(top)"


@dataclass(slots=True)
class Taken:
    """How many branches and lines there are, and how many were taken."""

    branches: int = 0
    all_branches: int = 0
    lines: int = 0
    all_lines: int = 0

    @property
    def branches_percent(self) -> float:
        """100 where there are none."""
        return 100 * self.branches / self.all_branches if self.all_branches else 100.0

    @property
    def lines_percent(self) -> float:
        return 100 * self.lines / self.all_lines if self.all_lines else 100.0


def by_package(report: Mapping[str, Any]) -> dict[str, Taken]:
    """The sums of each package below ``obi_mcp``; modules at its top count as one."""
    found: dict[str, Taken] = defaultdict(Taken)
    for path, file in report["files"].items():
        _, mark, rest = path.partition(PACKAGE)
        if mark:
            taken, summary = found[rest.split("/")[0] if "/" in rest else TOP], file["summary"]
            taken.branches += summary["covered_branches"]
            taken.all_branches += summary["num_branches"]
            taken.lines += summary["covered_lines"]
            taken.all_lines += summary["num_statements"]
    return dict(found)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.branches", description=__doc__)
    parser.add_argument("report", type=Path)
    parser.add_argument("--fail-under", nargs="+", default=["0"], metavar="PERCENT PACKAGE")
    args = parser.parse_args(argv)
    bar, wanted = float(args.fail_under[0]), args.fail_under[1:]
    packages = by_package(json.loads(args.report.read_text("utf-8")))
    print(f"{'package':12} {'branches':>14} {'':>7} {'lines':>14}")
    for name, taken in sorted(packages.items()):
        shown = f"{taken.branches}/{taken.all_branches}", f"{taken.lines}/{taken.all_lines}"
        print(f"{name:12} {shown[0]:>14} {taken.branches_percent:6.1f}% {shown[1]:>14} {taken.lines_percent:6.1f}%")
    low = [name for name in wanted if name not in packages or packages[name].branches_percent < bar]
    if low:
        print(f"below {bar:g} % of branches: {', '.join(low)}", file=sys.stderr)
    return 1 if low else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
