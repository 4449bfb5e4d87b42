"""A watch of a list: what counts as a change, and what ends it. The API is a double; policy and proofs are real."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from tests.unit.policy.policies import built_in

from obi_mcp.enforcer.case import Case
from obi_mcp.enforcer.cluster import Cluster
from obi_mcp.enforcer.members import Members
from obi_mcp.enforcer.watching import MAX_EVENT_BYTES, Seen, open_log, open_watch
from obi_mcp.errors import NotFound, ObiMcpError, ProgramFailed
from obi_mcp.policy.model import Access
from obi_mcp.policy.scope import DEFAULT_IMAGES
from obi_mcp.process.turns import Turns

LABELS = {"app.kubernetes.io/part-of": "obi"}
LIST = "kubectl get pods -n observability -l app.kubernetes.io/part-of=obi -o json"
OURS = f"{DEFAULT_IMAGES[0]}:v0.11.0"


def pod(uid: str, version: int, image: str = OURS) -> dict[str, Any]:
    metadata = {"name": f"pod-{uid}", "namespace": "observability", "uid": uid, "labels": LABELS}
    return {
        "metadata": {**metadata, "resourceVersion": str(version)},
        "spec": {"containers": [{"name": "obi", "image": image}]},
    }


def event(kind: str, body: Mapping[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": body}).encode() + b"\n"


@dataclass
class Api:
    """What the API server answers: objects by path, and the pieces of a stream."""

    items: list[dict[str, Any]] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    turns: Turns = field(default_factory=Turns)

    async def get_json(self, path: str, *, timeout_s: float = 0) -> tuple[int, Mapping[str, Any]]:
        plain = path.partition("?")[0]
        if plain.endswith("/pods"):
            return 200, {"apiVersion": "v1", "metadata": {"resourceVersion": "100"}, "items": self.items}
        found = [item for item in self.items if plain.endswith(f"/pods/{item['metadata']['name']}")]
        return (200, {"kind": "Pod", **found[0]}) if found else (404, {})

    async def watch(self, path: str, *, quiet_s: float) -> AsyncGenerator[bytes, None]:
        self.asked.append(path)
        for piece in self.pieces:
            yield piece


def case_of(api: Api, command: str) -> Case:
    policy = built_in()
    cluster = Cluster(api)
    return Case(
        decision=policy.decide(command, access=Access.READ_ONLY),
        access=Access.READ_ONLY,
        cluster=cluster,
        members=Members(cluster, policy.scope, policy.resources),
        policy=policy,
        scope=policy.scope,
        resources=policy.resources,
        charts=cast(Any, None),
        run_own=cast(Any, None),
        channel=cast(Any, api),
        timeout_s=1.0,
    )


def approve(case: Case, proofs: Any) -> object:
    return case.policy.approve(case.decision, access=case.access, results=[proof.result for proof in proofs])


def changes(
    api: Api, seen: Seen | None = None, command: str = LIST, opened: Callable[..., Any] = open_watch
) -> list[bool]:
    """What the stream gives until it ends."""

    async def run() -> list[bool]:
        more = (seen or Seen(),) if opened is open_watch else ()
        async with aclosing(await opened(case_of(api, command), approve, cast(Any, api), *more)) as stream:
            return [changed async for changed in stream]

    return asyncio.run(run())


STREAMS: list[tuple[str, list[bytes], int]] = [
    ("nothing", [], 0),
    ("a new pod", [event("ADDED", pod("b", 101))], 1),
    ("another version of one", [event("MODIFIED", pod("a", 101))], 1),
    ("the same version again", [event("MODIFIED", pod("a", 1))], 0),
    ("one goes", [event("DELETED", pod("a", 102))], 1),
    ("one that was never seen goes", [event("DELETED", pod("b", 102))], 0),
    (
        "a foreign pod under our label",
        [event("ADDED", pod("x", 101, "nginx")), event("DELETED", pod("x", 102, "nginx"))],
        0,
    ),
    ("a bookmark", [event("BOOKMARK", {"metadata": {"resourceVersion": "200"}})], 0),
    ("two in one piece", [event("ADDED", pod("b", 101)) + event("MODIFIED", pod("b", 102))], 2),
    ("one in many pieces", [bytes([byte]) for byte in event("ADDED", pod("b", 101))], 1),
    ("the version has been forgotten", [event("ERROR", {"code": 410}), event("ADDED", pod("b", 101))], 0),
]


@pytest.mark.parametrize(("what", "pieces", "times"), STREAMS, ids=[row[0] for row in STREAMS])
def test_what_is_a_change(what: str, pieces: list[bytes], times: int) -> None:
    api = Api([pod("a", 1), pod("y", 1, "nginx")], pieces)
    assert changes(api) == [False] + [True] * times
    (path,) = api.asked
    assert path.startswith(
        "/api/v1/namespaces/observability/pods?watch=1&allowWatchBookmarks=true&resourceVersion=100&"
    )
    assert path.endswith("labelSelector=app.kubernetes.io%2Fpart-of%3Dobi")


# What was known before, what is there now, and whether that is a change.
BETWEEN: list[tuple[list[dict[str, Any]], list[dict[str, Any]], bool]] = [
    ([pod("a", 1)], [pod("a", 1)], False),
    ([pod("a", 1)], [pod("a", 2)], True),
    ([pod("a", 1)], [], True),
    ([], [pod("a", 1)], True),
    ([], [], False),
    ([], [pod("x", 1, "nginx")], False),
]


@pytest.mark.parametrize(("before", "after", "changed"), BETWEEN)
def test_what_happened_between_two_connections_is_seen(
    before: list[dict[str, Any]], after: list[dict[str, Any]], changed: bool
) -> None:
    seen = Seen()
    assert changes(Api(before), seen) == [False]
    assert changes(Api(after), seen) == [changed]


FAILURES: list[tuple[list[bytes], str]] = [
    ([event("ERROR", {"code": 500, "message": "etcd is down"})], "ended a watch of pods: etcd is down"),
    ([b"{not json}\n"], "is not JSON"),
    ([b"x" * (MAX_EVENT_BYTES + 1)], "has more than"),
]


@pytest.mark.parametrize(("pieces", "said"), FAILURES)
def test_what_is_no_event_ends_it(pieces: list[bytes], said: str) -> None:
    with pytest.raises(ProgramFailed, match=said):
        changes(Api([], pieces))


NOT_WATCHED: list[tuple[str, type[ObiMcpError]]] = [
    ("kubectl get pods -n observability", ProgramFailed),  # not as JSON
    ("kubectl get pod pod-a -n observability -o json", ProgramFailed),  # one by name
    ("kubectl get pods,daemonsets -n observability -l app=obi -o json", ProgramFailed),
    ("kubectl get nodes -o json", ProgramFailed),
    (f"{LIST} | jq .", ProgramFailed),
    ("kubectl logs pod-a -n observability", ProgramFailed),
]


@pytest.mark.parametrize(("command", "error"), NOT_WATCHED)
def test_only_a_list_of_one_kind_is_watched(command: str, error: type[ObiMcpError]) -> None:
    with pytest.raises(error):
        changes(Api([pod("a", 1)]), command=command)


def test_a_log_is_followed_where_it_is_obis() -> None:
    api = Api([pod("a", 1), pod("x", 1, "nginx")], [b"one\n", b"two\n"])
    command = "kubectl logs pod-a -n observability --since=90s"
    assert changes(api, command=command, opened=open_log) == [False, True, True]
    assert api.asked == ["/api/v1/namespaces/observability/pods/pod-a/log?container=obi&follow=true&sinceSeconds=90"]
    for absent in ("pod-x", "pod-b"):
        with pytest.raises(NotFound):
            changes(api, command=f"kubectl logs {absent} -n observability", opened=open_log)
    assert len(api.asked) == 1
