"""How fast the policy decides: in process, as a batch, and as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator

from tests.bench.table import Bar, Row, median, percentile

from obi_mcp.config import Settings
from obi_mcp.policy.engine import Policy
from obi_mcp.policy.model import Access

LINES = 5_000
BATCH = 30_000
RUNS = 15
CHECK = (sys.executable, "-m", "obi_mcp", "policy", "check")
# Allowed, narrowed and denied ones, as an agent types them; {n} makes every line different.
_TEMPLATES = (
    "kubectl get pods -n observability -l app.kubernetes.io/part-of=obi -o json | jq -r '.items[{n}].metadata.name'",
    "kubectl get pods -A --field-selector=spec.nodeName=node-{n}",
    "kubectl logs obi-{n} -n observability --tail=50 | grep -c ERROR",
    "kubectl describe pod obi-{n} -n observability",
    "kubectl rollout status ds/obi -n observability --timeout={n}s",
    "kubectl get --raw /api/v1/namespaces/observability/pods/obi-{n}:9090/proxy/metrics | head -n 20",
    "kubectl top pods -n observability -l 'app.kubernetes.io/part-of in (obi, beyla)' | sort -k 2 | head -n {n}",
    "kubectl set image ds/obi ebpf-instrument=otel/ebpf-instrument:v0.11.{n} -n observability",
    "helm history obi -n observability --max={n}",
    "kubectl get secret token-{n} -n observability -o yaml",
    "kubectl delete pod web-{n} -n shop",
    "kubectl get pods -n observability | awk 'NR == {n}'",
)


def command_lines(count: int) -> Iterator[str]:
    """So many different command lines."""
    for number in range(count):
        yield _TEMPLATES[number % len(_TEMPLATES)].replace("{n}", str(number))


def measure() -> Iterator[Row]:
    """In process, batch, whole process."""
    policy = Policy.load(Settings())
    lines = list(command_lines(LINES))
    for line in lines[: len(_TEMPLATES)]:
        policy.decide(line, access=Access.FULL)
    spent = []
    for line in lines:
        began = time.perf_counter_ns()
        policy.decide(line, access=Access.FULL)
        spent.append((time.perf_counter_ns() - began) / 1_000)
    yield Row("decision, in process", median(spent), "µs", Bar(100), f"median of {LINES:,} different lines")
    yield Row("decision, in process, p99", percentile(spent, 0.99), "µs")
    yield Row(
        "policy check --batch",
        _batch_rate(),
        "/s",
        Bar(10_000, least=True),
        f"{BATCH:,} different lines, start included",
    )
    yield Row("policy check, whole process", _whole_process(), "s", Bar(0.25), f"median of {RUNS}")


def _batch_rate() -> float:
    lines = "".join(json.dumps({"command": line}) + "\n" for line in command_lines(BATCH))
    began = time.perf_counter()
    done = subprocess.run([*CHECK, "--batch"], input=lines, capture_output=True, text=True, check=False)
    took = time.perf_counter() - began
    if done.returncode != 0 or done.stdout.count("\n") != BATCH:
        raise OSError(f"policy check --batch ended with {done.returncode}: {done.stderr[:500]}")
    return BATCH / took


def _whole_process() -> float:
    spent = []
    for _ in range(RUNS):
        began = time.perf_counter()
        done = subprocess.run([*CHECK, "kubectl get pods -A"], capture_output=True, check=False)
        spent.append(time.perf_counter() - began)
        if done.returncode != 0:
            raise OSError(f"policy check ended with {done.returncode}: {done.stderr.decode()[:500]}")
    return median(spent)
