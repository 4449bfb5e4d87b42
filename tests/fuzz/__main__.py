"""``python -m tests.fuzz``: our parser against kubectl's, helm's and the shell's own reading of generated lines."""

from __future__ import annotations

import argparse
import os
import sys
import time

from tests.fuzz import filters
from tests.fuzz.campaign import Campaign, bin_directory, judging
from tests.fuzz.report import print_report
from tests.fuzz.shrink import FOUND, record


def main() -> int:
    """Exit code 0 without a finding, 1 with one."""
    arguments = _arguments()
    os.nice(10)
    started = time.monotonic()
    campaign = Campaign(seed=arguments.seed, lines=arguments.lines, seconds=arguments.seconds, jobs=arguments.jobs)
    tally = campaign.run(progress=sys.stderr.isatty() or arguments.verbose)
    if arguments.filters:
        with judging() as judge:
            runs = arguments.filters
            tally.add(filters.campaign(judge.policy, bin_directory(), seed=arguments.seed, runs=runs))
    print_report(tally, seed=arguments.seed, seconds=time.monotonic() - started)
    if tally.findings:
        with judging() as judge:
            for finding in record(judge, tally.findings, seed=arguments.seed):
                print(f"kept in {FOUND.name}: {finding.kind}: {finding.text}\n    {finding.says}")
    return 1 if tally.findings else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--lines", type=int, default=None, help="stop after so many lines (default 100000)")
    parser.add_argument("--seconds", type=float, default=None, help="stop after so many seconds")
    parser.add_argument("--seed", default="1", help="the same seed gives the same lines (default 1)")
    parser.add_argument("--filters", type=int, default=400, help="trace so many filter stages besides (default 400)")
    parser.add_argument("--jobs", type=int, default=min(4, os.cpu_count() or 1), help="processes at once")
    parser.add_argument("--verbose", action="store_true", help="tell progress also where nobody watches")
    arguments = parser.parse_args()
    if arguments.lines is None and arguments.seconds is None:
        arguments.lines = 100_000
    return arguments


if __name__ == "__main__":
    sys.exit(main())
