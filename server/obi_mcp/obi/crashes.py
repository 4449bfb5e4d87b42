"""Why OBI ended: the container that ended before, and what its last lines say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from obi_mcp.obi.bodies import Object, at, name_of
from obi_mcp.obi.findings import Finding, Severity
from obi_mcp.obi.symptoms import Symptom, symptom_of_end, symptoms_in

OFTEN = 3
"""A pod that was started again more often than that is in trouble, also while it runs."""
_LAST_LINES = 3
_PROBES = ("Liveness probe failed", "Startup probe failed")
_ENDED_BY_PROBE = "Kubernetes ended it because a probe of it fails"
_MEND_PROBE = "mend the probe's path and port in the DaemonSet, or give OBI more time to start"


@dataclass(frozen=True, slots=True)
class Crash:
    """The end of a container that is, or will be, started again. ``count``: how often it has been so far; ``running``:
    it is at the moment."""

    pod: str
    container: str
    count: int
    reason: str
    exit_code: int | None
    running: bool

    @property
    def severity(self) -> Severity:
        return Severity.WARNING if self.running and self.count <= OFTEN else Severity.ERROR


def crash_of(pod: Object) -> Crash | None:
    """The pod's container that ended last; None where none has, or where it has to end because the pod is deleted."""
    if (pod.get("metadata") or {}).get("deletionTimestamp"):
        return None
    for status in at(pod, "status", "containerStatuses") or ():
        ended = at(status, "state", "terminated") or at(status, "lastState", "terminated")
        if ended is None:
            continue
        code = ended.get("exitCode")
        return Crash(
            pod=name_of(pod),
            container=str(status.get("name", "")),
            count=int(status.get("restartCount", 0)),
            reason=str(ended.get("reason") or ""),
            exit_code=int(code) if isinstance(code, int) else None,
            running="running" in (status.get("state") or {}),
        )
    return None


def explained(crash: Crash, lines: Sequence[str], said: Sequence[str] = ()) -> Finding:
    """The end as a finding, from the last lines that the container printed: the latest that shows a known cause.

    ``said``: what the kubelet complains of, which ends a container itself where a probe of it fails.
    """
    code = "" if crash.exit_code is None else f", exit code {crash.exit_code}"
    times = f"{crash.count} times" if crash.count != 1 else "once"
    what = f"{crash.pod} ended and was started again {times} (last: {crash.reason or 'unknown'}{code})"
    if not crash.count:
        what = f"{crash.pod} ended ({crash.reason or 'unknown'}{code})"
    symptom = _cause(crash, lines, said)
    if symptom is not None:
        return Finding(
            f"crash.{symptom.id}", crash.severity, f"{what}: {symptom.cause}", symptom.evidence, symptom.way_out
        )
    last = [line.strip() for line in lines if line.strip()][-_LAST_LINES:]
    return Finding(
        "crash.unknown",
        crash.severity,
        f"{what}, and its last lines show no cause that is known",
        " | ".join(last) or "it printed nothing",
        f"read more of it: obi_k8s_get_pod_logs with pod {crash.pod} and previous",
    )


def _cause(crash: Crash, lines: Sequence[str], said: Sequence[str]) -> Symptom | None:
    # Killed for its memory it had no time to say so; otherwise the log knows better than the reason.
    by_reason = symptom_of_end(crash.reason)
    if by_reason is not None and crash.reason == "OOMKilled":
        return by_reason
    shown = next(iter(symptoms_in(lines)), None)
    failing = next((text for text in said if text.startswith(_PROBES)), None)
    if shown is None and failing is not None:
        return Symptom("probe", failing, _ENDED_BY_PROBE, _MEND_PROBE, "run")
    return shown or by_reason
