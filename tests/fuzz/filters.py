"""The real filters under a tracer: what the policy allows opens no file, no socket and no program, and reads its
options as we rebuilt them (the same standard input gives the same output and exit code, written or rebuilt)."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.filter_lines import stage
from tests.fuzz.generator import ROOT
from tests.fuzz.judge import Finding, Tally
from tests.fuzz.spelling import respelled

from obi_mcp.command.lexer import lex
from obi_mcp.policy.engine import Policy
from obi_mcp.policy.model import Access

CANARY = "canary-7f3a91"
_BATCH = 400
_USAGE = 2
"""What jq and grep end with where they cannot read their own command line."""
_TRACED = (
    *("open", "openat", "openat2", "creat", "execve", "execveat", "fork", "vfork", "clone", "clone3", "socket"),
    *("socketpair", "connect", "bind", "sendto", "sendmsg", "unlink", "unlinkat", "rename", "renameat", "renameat2"),
    *("mkdir", "mkdirat", "link", "linkat", "symlink", "symlinkat", "truncate", "chmod", "fchmodat", "kill", "ptrace"),
)
_HARMLESS = re.compile(
    r"/(?:usr/)?lib(?:64)?/.*|/usr/share/(?:locale|locale-langpack)/.*|/etc/ld\.so\.(?:cache|preload)"
    # GNU's stack overflow handler (grep) looks for the limits of its own stack.
    r"|/proc/self/maps"
)
_CALL = re.compile(r"(\d+) +(\w+)\((.*)$")
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>")
_PATH = re.compile(r'"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Outcome:
    """One traced run. ``calls`` are the ones that nothing harmless explains."""

    exit_code: int
    output: str
    calls: tuple[str, ...]


def campaign(policy: Policy, bin_directory: Path, *, seed: str, runs: int) -> Tally:
    """Generate stages until ``runs`` different allowed ones were traced, written and rebuilt."""
    tally = Tally()
    allowed = _allowed(policy, random.Random(f"filters/{seed}"), tally)
    done = 0
    while done < runs:
        batch = [next(allowed) for _ in range(min(_BATCH, runs - done))]
        vectors = [vector for _, written, rebuilt in batch for vector in (written, rebuilt)]
        outcomes = trace(vectors, bin_directory)
        for at, (text, _, _) in enumerate(batch):
            tally.findings.extend(_judge(text, *outcomes[2 * at : 2 * at + 2]))
        done += len(batch)
        tally.counts["filter stages traced"] += len(batch)
    return tally


def _allowed(
    policy: Policy, rng: random.Random, tally: Tally
) -> Iterator[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    seen: set[tuple[str, ...]] = set()
    while True:
        text = respelled(rng, (("kubectl", "api-versions"), stage(rng, policy.grammars)))
        tally.counts["filter stages generated"] += 1
        decision = policy.decide(text, access=Access.FULL)
        if not decision.allowed or decision.pipeline is None:
            continue
        written = tuple(token.text for token in lex(text)[1])
        if written in seen:
            continue
        seen.add(written)
        tally.counts[f"filter stages allowed: {written[0]}"] += 1
        yield text, written, decision.pipeline.filters[0].argv()


def _judge(text: str, written: Outcome, rebuilt: Outcome) -> Iterator[Finding]:
    for how, outcome in (("written", written), ("rebuilt", rebuilt)):
        if outcome.calls:
            yield Finding(f"filter.{how}", text, "; ".join(outcome.calls))
        if CANARY in outcome.output:
            yield Finding("filter.canary", text, outcome.output[:200])
    if written.exit_code == rebuilt.exit_code == _USAGE:
        return  # of two wrong options the first is named, and rebuilding orders them
    if (written.exit_code, written.output) != (rebuilt.exit_code, rebuilt.output):
        yield Finding("filter.differs", text, f"written {written}, rebuilt {rebuilt}"[:1000])


def trace(vectors: Sequence[Sequence[str]], bin_directory: Path) -> list[Outcome]:
    """Run each vector under strace with a little input, in one go."""
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        (directory / "empty").mkdir()
        for name in ("canary.txt", "canary.jq", "canary.json", "x", "a", "-"):
            (directory / "empty" / name).write_text(f'"{CANARY}"\n')
        tasks = "".join(json.dumps([str(bin_directory / vector[0]), *vector[1:]]) + "\n" for vector in vectors)
        log = directory / "trace"
        tracer = [
            "strace",
            "-f",
            "--seccomp-bpf",
            "-qq",
            "-s",
            "400",
            "-o",
            str(log),
            "-e",
            f"trace={','.join(_TRACED)}",
        ]
        done = subprocess.run(
            [*tracer, sys.executable, "-S", "-E", str(ROOT / "tests/fuzz/filter_runner.py")],
            input=tasks,
            stdout=subprocess.PIPE,
            cwd=directory / "empty",
            env={"LC_ALL": "C.UTF-8", "MALLOC_ARENA_MAX": "1", "OBI_CANARY": CANARY, "HOME": str(directory / "empty")},
            text=True,
            check=True,
        )
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        calls = _calls(log)
    return [
        Outcome(answer["exit"], answer["output"], tuple(calls.get(answer["pid"], ("never executed",))))
        for answer in answers
    ]


def _calls(log: Path) -> dict[int, list[str]]:
    """By process: what it called after it had become the filter, save for what is harmless."""
    found: dict[int, list[str]] = {}
    for line in _whole_lines(log.read_text(encoding="utf-8", errors="replace").splitlines()):
        match = _CALL.match(line)
        if match is None:
            continue
        pid, call, rest = int(match[1]), match[2], match[3]
        if pid not in found:
            if call == "execve" and rest.endswith("= 0"):
                found[pid] = []
            continue
        path = _PATH.search(rest)
        if call.startswith("open") and path is not None and _HARMLESS.fullmatch(path[1]):
            continue
        found[pid].append(f"{call}({rest}")
    return found


def _whole_lines(lines: Sequence[str]) -> Iterator[str]:
    """strace's lines with the two halves of an interrupted one put together."""
    halves: dict[str, str] = {}
    for line in lines:
        pid, _, rest = line.partition(" ")
        if line.endswith("<unfinished ...>"):
            halves[pid] = line.removesuffix("<unfinished ...>")
        elif resumed := _RESUMED.match(rest.lstrip()):
            yield halves.pop(pid, pid + " ?(") + rest.lstrip()[resumed.end() :]
        else:
            yield line
