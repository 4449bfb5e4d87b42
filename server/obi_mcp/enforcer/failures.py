"""What kubectl and helm print when no cluster answers, told from what they print when the cluster says no, and why.

The programs have no exit code for it, so their words are read, here and nowhere else. The sentences are those of
client-go's transport and of kubectl's and helm's wrappers around them (kubectl 1.36, helm 4.3).
"""

from __future__ import annotations

import re

from obi_mcp.command.model import Command
from obi_mcp.errors import ClusterUnreachable, Conflict, ObiMcpError
from obi_mcp.policy.resource import ResourceTable
from obi_mcp.policy.scope import Scope
from obi_mcp.process.container import unreachable_step
from obi_mcp.process.runner import Completed

_UNREACHABLE = re.compile(
    rb"Unable to connect to the server|was refused - did you specify the right host or port"
    rb"|Kubernetes cluster unreachable|dial tcp .*: (?:connect: |i/o timeout)|no such host"
    rb"|net/http: TLS handshake timeout|client rate limiter Wait returned an error: context deadline exceeded"
)

# What the API server says where a precondition does not hold, kubectl scale where the version is another, create where
# something has come to be, and a server-side apply whose dry run has just passed where a field is another's by now.
_CHANGED = re.compile(
    rb"the object has been modified|object might have been (?:modified|deleted)|Precondition failed|uid mismatch"
    rb"|metadata\.uid: Invalid value|Expected resource version to be|Apply failed with \d+ conflict|\(AlreadyExists\)"
)
_GONE = re.compile(rb"\(NotFound\)")


class ChangedSince(Conflict):
    """A write was refused because its object is no longer as it was judged. ``uids`` of the objects that were judged:
    where they are still the same ones, it is worth judging and writing them again."""

    uids: frozenset[str] = frozenset()


def changed_since(completed: Completed) -> ChangedSince | None:
    """The conflict, when a write that carries preconditions was refused because its object is another one by now."""
    if completed.exit_code == 0 or not (_CHANGED.search(completed.stderr) or _GONE.search(completed.stderr)):
        return None
    said = completed.stderr.decode("utf-8", "replace").strip().splitlines()
    return ChangedSince(
        f"the object changed between check and use, and was not written: {said[0][:300] if said else ''}",
        "look at it, and try again",
    )


def raise_for_failure(completed: Completed, head: Command) -> None:
    """Raises: ClusterUnreachable when the head failed because no API server answered."""
    if completed.exit_code == 0 or head.program not in {"kubectl", "helm"}:
        return
    if _UNREACHABLE.search(completed.stderr):
        said = completed.stderr.decode("utf-8", "replace").strip().splitlines()
        last = said[-1][:300] if said else ""
        error = ClusterUnreachable(
            f"no API server answered {head.program}: {last}", f"{unreachable_step(last)}; obi-mcp doctor looks at more"
        )
        error.stdout = completed.stdout.decode("utf-8", "replace")
        raise error


def name_missing_right(error: ObiMcpError, resources: ResourceTable, scope: Scope) -> None:
    """Where the API server refused for want of a right, the error's hint says which one and where it is given."""
    if hint := _missing(error.message, resources, scope):
        error.hint = hint


def forbidden_note(completed: Completed, resources: ResourceTable, scope: Scope) -> str | None:
    """The same, to be told beside what a program printed that was refused."""
    if completed.exit_code == 0:
        return None
    return _missing(completed.stderr.decode("utf-8", "replace"), resources, scope)


def _missing(said: str, resources: ResourceTable, scope: Scope) -> str | None:
    if "forbidden" not in said:
        return None
    # Here, because the classes of manifests are dear to make, and nearly every server has its rights.
    from obi_mcp.obi.missing_right import missing_right, who_gives_it

    right = missing_right(said)
    if right is None:
        return None
    given = who_gives_it(right, resources, tuple(sorted(scope.known_cluster_objects())))
    return f"the account of this server may not {right}: {given}"
