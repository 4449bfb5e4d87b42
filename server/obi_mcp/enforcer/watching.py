"""Changes as they happen: a watch of what ``kubectl get … -o json`` would list, and a log as it grows, by the warm
channel.

kubectl's own ``--watch`` and ``--follow`` are refused to callers, whose calls have to end. What is watched here for a
subscription is decided as the list or the log that it belongs to, proved object by object, and nothing of it is handed
on but that something changed.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlencode

from obi_mcp.enforcer.case import Case, Proved, passed
from obi_mcp.enforcer.cluster import collection
from obi_mcp.enforcer.members import uids
from obi_mcp.enforcer.model import Call
from obi_mcp.enforcer.reading import Approve, log_path, proved_logs, readable, seconds
from obi_mcp.errors import ProgramFailed
from obi_mcp.policy.model import MembersSpec
from obi_mcp.process.channel import Channel, read_object

WATCH_S = 1_800
"""How long one watch may last before the API server ends it; then all of it is decided and proved anew."""
QUIET_S = 300.0
"""How long a watch may be silent. The API server sends a bookmark about once a minute, so that a longer silence is a
connection that nobody cut and that leads nowhere."""
LOG_QUIET_S = 1_800.0
"""The same for a log, which has no bookmarks: after that all of it is decided and proved anew."""
MAX_EVENT_BYTES = 4_194_304
"""An object has at most 1.5 MiB (etcd's limit)."""
_GONE = 410


@dataclass(frozen=True, slots=True)
class Contexts:
    """Contexts of the kubeconfig. ``current`` is empty where it has none, as in a cluster; ``named``: those of
    ``scope.contexts`` that the kubeconfig knows."""

    current: str
    named: tuple[str, ...] = ()


class Watching(Protocol):
    """What the guarded road offers besides calls that end: what ``Enforcer`` does."""

    def watch(self, call: Call, seen: Seen) -> AsyncGenerator[bool, None]: ...

    def follow(self, call: Call) -> AsyncGenerator[bool, None]: ...

    async def contexts(self) -> Contexts: ...


@dataclass(slots=True)
class Seen:
    """What a watch knows: the versions of OBI's objects by uid; None before it has listed them once.

    It is kept over the watch's connections, so that what happened between two of them is seen as well.
    """

    versions: dict[str, str] | None = field(default=None)


async def open_watch(case: Case, approve: Approve, channel: Channel, seen: Seen) -> AsyncGenerator[bool, None]:
    """The stream of a decided list: first whether anything changed since ``seen``, then True for each change.

    It ends when the API server ends it, or has forgotten from where to go on (410).

    Raises: Denied, NotFound, ClusterUnreachable, ProgramFailed; the stream the last two.
    """
    readable(case, ("get",))
    check = next(iter(case.decision.checks), None)
    if check is None or not isinstance(check.spec, MembersSpec) or len(case.decision.checks) != 1 or check.spec.names:
        raise ProgramFailed("only a list of one kind is watched")
    spec = check.spec
    listed = await case.cluster.listed(spec.resource, spec.namespace, spec.selector)
    found = [await case.members.prove(body, spec.resource, spec.container) for body in listed.objects]
    ours = {entry.uid: _version(entry.body) for entry in found if entry.ours and entry.uid}
    approve(case, [Proved(passed(check), members=uids(found), skipped=len(found) - len(ours))])
    return _changes(case, spec, channel, listed.version, seen=seen, now=ours)


async def open_log(case: Case, approve: Approve, channel: Channel) -> AsyncGenerator[bool, None]:
    """The stream of a decided ``kubectl logs POD --since=…``: False, then True for each piece that the log grows by.

    Raises: as ``open_watch``.
    """
    proved = await proved_logs(case, approve)
    pod, container = proved.pods[0]
    since = max(1, round(seconds(proved.head.value("since", "1s"))))
    return _growth(channel, log_path(pod, container, urlencode({"follow": "true", "sinceSeconds": since})))


async def _changes(
    case: Case, spec: MembersSpec, channel: Channel, version: str, *, seen: Seen, now: dict[str, str]
) -> AsyncGenerator[bool, None]:
    changed = seen.versions is not None and seen.versions != now
    known = seen.versions = now
    yield changed
    query = {
        "watch": "1",
        "allowWatchBookmarks": "true",
        "resourceVersion": version,
        "timeoutSeconds": str(WATCH_S),
        **({"labelSelector": spec.selector} if spec.selector else {}),
    }
    path = f"{collection(spec.resource, spec.namespace)}?{urlencode(query)}"
    async with aclosing(_events(channel, path)) as events:
        async for event in events:
            said = event.get("object") or {}
            if event.get("type") == "ERROR":
                if said.get("code") == _GONE:
                    return
                raise ProgramFailed(f"the API server ended a watch of {spec.resource.plural}: {said.get('message')}")
            if event.get("type") != "BOOKMARK" and await _is_news(case, spec, str(event.get("type")), said, known):
                yield True


async def _is_news(case: Case, spec: MembersSpec, kind: str, body: Mapping[str, Any], known: dict[str, str]) -> bool:
    """Whether an object of OBI's came, changed or went; it is kept in mind."""
    uid = str((body.get("metadata") or {}).get("uid", ""))
    if kind == "DELETED":
        return known.pop(uid, None) is not None
    if not uid or known.get(uid) == _version(body):
        return False
    typed = {"kind": spec.resource.kind, **body}
    # What has shown itself to be OBI's stays so for telling that it changed; reading it is proved again.
    if uid not in known and not (await case.members.fresh().prove(typed, spec.resource, spec.container)).ours:
        return False
    known[uid] = _version(body)
    return True


async def _events(channel: Channel, path: str) -> AsyncGenerator[Mapping[str, Any], None]:
    """The events of a watch: one JSON object a line."""
    kept = bytearray()
    async with aclosing(channel.watch(path, quiet_s=QUIET_S)) as pieces:
        async for piece in pieces:
            kept += piece
            *lines, rest = bytes(kept).split(b"\n")
            kept = bytearray(rest)
            if len(kept) > MAX_EVENT_BYTES:
                raise ProgramFailed(f"an event of a watch has more than {MAX_EVENT_BYTES} bytes")
            for line in lines:
                if line.strip():
                    yield await read_object(line, path, channel.turns)


async def _growth(channel: Channel, path: str) -> AsyncGenerator[bool, None]:
    yield False
    async with aclosing(channel.watch(path, quiet_s=LOG_QUIET_S)) as pieces:
        async for _ in pieces:
            yield True


def _version(body: Mapping[str, Any]) -> str:
    return str((body.get("metadata") or {}).get("resourceVersion", ""))
