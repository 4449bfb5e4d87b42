"""What is taken back, and by which command line: states of objects, without a cluster."""

from __future__ import annotations

import json
from typing import Any

import pytest

from obi_mcp.errors import CallTimeout, ClusterUnreachable, Conflict, NotFound, ObiMcpError, ProgramFailed
from obi_mcp.obi.bodies import Object
from obi_mcp.toolsets.kubernetes.objects import (
    LAST_APPLIED,
    Target,
    as_document,
    as_planned,
    covers,
    is_going,
    restarted,
    same,
)
from obi_mcp.toolsets.kubernetes.take_back import Piece, passes, undo_of

TARGET = Target("ConfigMap", "obi", "obi")


def body(data: str = "a", uid: str = "1", version: str = "1", noted: str | None = None, **metadata: Any) -> Object:
    """A config map as the API server gives it; ``noted``: what was applied last."""
    made = written(data, **metadata)
    made["metadata"] |= {"uid": uid, "resourceVersion": version, "creationTimestamp": "2026-11-21T00:00:00Z"}
    if noted is not None:
        made["metadata"].setdefault("annotations", {})[LAST_APPLIED] = json.dumps(written(noted))
    return made


def written(data: str, **metadata: Any) -> dict[str, Any]:
    metadata = {"name": "obi", "namespace": "obi", "labels": {"app": "obi"}, **metadata}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"obi.yml": data}}


SAME: list[tuple[str, Object | None, Object | None, bool]] = [
    ("none", None, None, True),
    ("made", None, body(), False),
    ("the server's books", body(), body(uid="2", version="9"), True),
    ("a status", body(), {**body(), "status": {"phase": "x"}}, True),
    ("data", body(), body("b"), False),
    ("a label", body(), body(labels={"app": "obi", "team": "a"}), False),
    ("an annotation", body(), body(annotations={"note": "x"}), False),
    ("applied last", body(noted="a"), body(noted="b"), False),
    ("nothing applied", body(noted="a"), body(), False),
]


@pytest.mark.parametrize(("one", "other", "expected"), [row[1:] for row in SAME], ids=[row[0] for row in SAME])
def test_two_states_are_the_same_but_for_the_servers_books(
    one: Object | None, other: Object | None, expected: bool
) -> None:
    assert same(one, other) is expected and same(other, one) is expected


def test_kubectl_adds_annotations_to_what_it_notes() -> None:
    with_empty = written("a", annotations={})
    one = body(annotations={LAST_APPLIED: json.dumps(with_empty)})
    assert same(one, body(noted="a"))


DRY_RUN = body("b", uid="1")
PLANNED: list[tuple[str, Object, Object | None, Object, bool]] = [
    ("as the dry run said", body("b", version="2"), body(), DRY_RUN, True),
    ("something else", body("c"), body(), DRY_RUN, False),
    ("more than planned", body("b", labels={"app": "obi", "team": "a"}), body(), DRY_RUN, False),
    ("another object of that name", body("b", uid="7"), body(), DRY_RUN, False),
    ("new, by its dry run", body("b", uid="7"), None, DRY_RUN, True),
    ("new, and more than its dry run", body("b", uid="7", labels={"app": "obi", "team": "a"}), None, DRY_RUN, False),
    ("new, by its text", body("b", uid="7"), None, written("b"), True),
    ("new, with defaults", body("b", uid="7", annotations={"by": "server"}), None, written("b"), True),
    ("new, and somebody else's", body("c", uid="7"), None, written("b"), False),
]


@pytest.mark.parametrize(
    ("live", "before", "after", "expected"), [row[1:] for row in PLANNED], ids=[row[0] for row in PLANNED]
)
def test_what_is_ours_is_told_from_what_is_somebody_elses(
    live: Object, before: Object | None, after: Object, expected: bool
) -> None:
    assert as_planned(live, before, after) is expected
    piece = Piece(TARGET, before, after)
    piece.see(live)
    assert piece.state == ("as planned" if expected else "changed by somebody else")


def test_a_restart_is_ours_at_whatever_time_it_was_and_nothing_else_with_it() -> None:
    before: Object = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "obi", "namespace": "obi", "uid": "1"},
        "spec": {"template": {"metadata": {"labels": {"app": "obi"}}, "spec": {"containers": []}}},
    }
    after = restarted(before, "when it is carried out")
    assert as_planned(restarted(before, "2026-11-21T00:00:00Z"), before, after)
    assert not as_planned(before, before, after)
    others = restarted(before, "2026-11-21T00:00:00Z")
    others["spec"]["template"]["metadata"]["labels"]["theirs"] = "yes"
    assert not as_planned(others, before, after)


def patched(change: dict[str, Any]) -> str:
    return f"kubectl patch configmap obi -n obi --type merge -p '{json.dumps(change)}'"


HIDDEN = "[redacted]"
UNDO: list[tuple[str, Object | None, Object | None, str | None]] = [
    ("made: removed", None, body(), "kubectl delete configmap obi -n obi"),
    ("changed: what differs", body(), body("b"), patched({"data": {"obi.yml": "a"}})),
    ("a label added", body(), body(labels={"app": "obi", "x": "y"}), patched({"metadata": {"labels": {"x": None}}})),
    ("applied over", body(noted="a"), body("b", noted="b"), "kubectl apply -f -"),
    ("applied over what was made by hand", body(), body("b", noted="b"), "kubectl replace -f -"),
    ("removed, was applied", body(noted="a"), None, "kubectl apply -f -"),
    ("removed, was made by hand", body(), None, "kubectl create -f -"),
    (
        "holds a credential, elsewhere",
        body(HIDDEN),
        body(HIDDEN, labels={}),
        patched({"metadata": {"labels": {"app": "obi"}}}),
    ),
    ("holds a credential, here", body("x: [redacted]"), body("b"), None),
]


@pytest.mark.parametrize(("before", "live", "command"), [row[1:] for row in UNDO], ids=[row[0] for row in UNDO])
def test_the_way_back_changes_what_differs_and_no_more(
    before: Object | None, live: Object | None, command: str | None
) -> None:
    undo = undo_of(Piece(TARGET, before, live), live, applied=False)
    assert (undo.command if undo else None) == command
    if undo is not None and undo.stdin is not None:
        (document,) = json.loads(undo.stdin)["items"]
        assert document["data"] == {"obi.yml": "a"} and "uid" not in document["metadata"]


def test_a_service_that_was_made_again_keeps_its_new_address() -> None:
    before: Object = {"kind": "Service", "metadata": {"name": "obi", "uid": "1"}, "spec": {"clusterIP": "10.0.0.1"}}
    live: Object = {
        "kind": "Service",
        "metadata": {"name": "obi", "uid": "2", "labels": {"x": "y"}},
        "spec": {"clusterIP": "10.0.0.2"},
    }
    undo = undo_of(Piece(Target("Service", "obi", "obi"), before, None), live, applied=True)
    assert undo is not None and "clusterIP" not in undo.command and "labels" in undo.command


def test_a_role_is_not_patched() -> None:
    piece = Piece(Target("ClusterRole", "obi", None), body(noted="a"), body("b", noted="a"))
    undo = undo_of(piece, piece.after, applied=False)
    assert undo is not None and undo.command == "kubectl apply -f -"
    assert undo_of(piece, piece.after, applied=True) is None, "it has been applied, and that was not all"


def test_a_document_leaves_to_the_api_server_what_is_its() -> None:
    service: Object = {
        "kind": "Service",
        "metadata": {"name": "obi", "uid": "1"},
        "spec": {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ports": []},
        "status": {},
    }
    assert as_document(service) == {"kind": "Service", "metadata": {"name": "obi"}, "spec": {"ports": []}}
    workload: Object = {
        "kind": "DaemonSet",
        "metadata": {"name": "obi"},
        "spec": {"template": {"spec": {"serviceAccount": "obi", "serviceAccountName": "obi"}}},
    }
    assert as_document(workload)["spec"]["template"]["spec"] == {"serviceAccountName": "obi"}


COVERS: list[tuple[Any, Any, bool]] = [
    ({"a": 1, "b": 2}, {"a": 1}, True),
    ({"a": 1}, {"a": 1, "b": 2}, False),
    ([{"a": 1, "b": 2}], [{"a": 1}], True),
    ([{"a": 1}, {"b": 2}], [{"a": 1}], False),
    ("a", "a", True),
    ("a", {"a": 1}, False),
]


@pytest.mark.parametrize(("live", "document", "expected"), COVERS)
def test_a_document_is_covered_with_the_defaults_of_the_api_server(live: Any, document: Any, expected: bool) -> None:
    assert covers(live, document) is expected


GOING: list[tuple[dict[str, Any], bool]] = [
    ({"metadata": {}}, False),
    ({"metadata": {"deletionTimestamp": "2026-11-21T00:00:00Z"}}, True),
    ({"metadata": {}, "status": {"phase": "Terminating"}}, True),
    ({"metadata": {}, "status": {"phase": "Active"}}, False),
]


@pytest.mark.parametrize(("space", "expected"), GOING)
def test_a_namespace_that_is_being_removed_is_as_good_as_gone(space: dict[str, Any], expected: bool) -> None:
    assert is_going(space) is expected


PASSES: list[tuple[ObiMcpError, bool]] = [
    (ClusterUnreachable("no API server answered"), True),
    (Conflict("the object changed between check and use"), True),
    (ProgramFailed("failed: Error from server (TooManyRequests): slow down"), True),
    (ProgramFailed("failed: Error from server (ServiceUnavailable): later"), True),
    (ProgramFailed("failed: etcdserver: leader changed"), True),
    (ProgramFailed("failed: Error from server (InternalError): a webhook"), False),
    (ProgramFailed("failed: Error from server (Forbidden): no"), False),
    (NotFound("configmaps/obi", "obi"), False),
    (CallTimeout("the command did not finish"), False),
]


@pytest.mark.parametrize(("error", "expected"), PASSES, ids=[row[0].message[:40] for row in PASSES])
def test_only_what_passes_is_tried_again(error: ObiMcpError, expected: bool) -> None:
    assert passes(error) is expected
