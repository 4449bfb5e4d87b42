"""What kubectl and helm print when no cluster answers, told from what they print when the cluster says no.

The programs have no exit code for it, so their words are read, here and nowhere else. The sentences are those of
client-go's transport and of kubectl's and helm's wrappers around them (kubectl 1.36, helm 4.3).
"""

from __future__ import annotations

import re

from obi_mcp.command.model import Command
from obi_mcp.errors import ClusterUnreachable
from obi_mcp.process.container import unreachable_step
from obi_mcp.process.runner import Completed

_UNREACHABLE = re.compile(
    rb"Unable to connect to the server|was refused - did you specify the right host or port"
    rb"|Kubernetes cluster unreachable|dial tcp .*: (?:connect: |i/o timeout)|no such host"
    rb"|net/http: TLS handshake timeout|client rate limiter Wait returned an error: context deadline exceeded"
)


def raise_for_failure(completed: Completed, head: Command) -> None:
    """Raises: ClusterUnreachable when the head failed because no API server answered."""
    if completed.exit_code == 0 or head.program not in {"kubectl", "helm"}:
        return
    if _UNREACHABLE.search(completed.stderr):
        said = completed.stderr.decode("utf-8", "replace").strip().splitlines()
        last = said[-1][:300] if said else ""
        raise ClusterUnreachable(
            f"no API server answered {head.program}: {last}", f"{unreachable_step(last)}; obi-mcp doctor looks at more"
        )
