"""What a run found, for people."""

from __future__ import annotations

from tests.fuzz.judge import Tally

_SHOWN = 40


def print_report(tally: Tally, *, seed: str, seconds: float) -> None:
    """Counts, what the programs refuse although we read it, and findings."""
    lines = tally.counts["lines"]
    print(f"seed {seed}: {lines} lines in {seconds:.1f} s ({lines / max(seconds, 0.001):.0f} a second)")
    for name, count in tally.counts.most_common():
        print(f"  {count:>9}  {name}")
    print("read by us, refused by the program:")
    for name, count in tally.rejected.most_common(_SHOWN):
        print(f"  {count:>9}  {name}   e.g. {tally.examples[name]}")
    print("allowed by the policy, refused by the program:")
    for name, count in tally.allowed_rejected.most_common(_SHOWN):
        print(f"  {count:>9}  {name}   e.g. {tally.examples[f'allowed: {name}']}")
    print(f"findings: {len(tally.findings)}")
    kinds: dict[str, int] = {}
    for finding in tally.findings:
        kinds[finding.kind] = kinds.get(finding.kind, 0) + 1
        if kinds[finding.kind] <= 5:
            print(f"  {finding.kind}: {finding.text}\n      {finding.says}")
    print("  " + ", ".join(f"{kind}: {count}" for kind, count in sorted(kinds.items())))
