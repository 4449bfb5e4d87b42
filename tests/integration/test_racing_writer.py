"""A racing writer: between check and run somebody relabels the object, or puts another of the same name in its place.

The writer has a client of its own, with cluster-admin, and strikes when the runner is about to start the program that
writes: when everything has been checked, and nothing has run. So nothing here depends on luck. What carries a
precondition is refused by the API server with 409, and the object stays as the writer left it. What cannot carry one is
the remainder of ``docs/decisions/0004-remainders.md``: here is the list, and what is reported.
"""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.integration.racing import (
    APPLIED,
    CANARY,
    FOREIGN,
    NAME,
    NAMESPACE,
    OBI,
    OURS,
    OURS_NOW,
    PATHS,
    THEIRS,
    Start,
    Writer,
    config,
    metadata,
    starting,
)
from tests.sandbox.api import wait_until
from tests.sandbox.sandbox import Sandbox

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

STRESS_S, MOST_STRESS_S = 4.0, 300.0


@pytest.fixture
def start(sandbox: Sandbox, programs_bin: Path, tmp_path: Path) -> Start:
    return starting(sandbox, programs_bin, tmp_path)


@dataclass(frozen=True)
class Write:
    """A write of an object of that kind; ``stdin`` for those that read documents."""

    command: str
    kind: str
    stdin: Any = None


SCOPED = "app.kubernetes.io/part-of=obi"
AT = f"{NAME} -n {NAMESPACE}"
TEMPLATE = '{"spec":{"template":{"spec":{"containers":[{"name":"obi","image":"otel/ebpf-instrument:v0.10.0"}]}}}}'
IMAGE = '[{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"otel/ebpf-instrument:v0.10.0"}]'
PINNED = [
    Write(f"kubectl patch ds {AT} -p '{TEMPLATE}'", "DaemonSet"),
    Write(f"kubectl patch ds {AT} --type=merge -p '{TEMPLATE}'", "DaemonSet"),
    Write(f"kubectl patch ds {AT} --type=json -p '{IMAGE}'", "DaemonSet"),
    Write(f"kubectl set image ds/{AT} obi=otel/ebpf-instrument:v0.10.0", "DaemonSet"),
    Write(f"kubectl set env ds/{AT} OTEL_EBPF_LOG_LEVEL=DEBUG", "DaemonSet"),
    Write(f"kubectl set resources deploy/{AT} --limits=memory=1Gi", "Deployment"),
    Write(f"kubectl label ds {AT} team=platform", "DaemonSet"),
    Write(f"kubectl label cm/{AT} team=platform -o json", "ConfigMap"),
    Write(f"kubectl annotate cm {AT} prometheus.io/scrape=true", "ConfigMap"),
    Write(f"kubectl scale deploy {AT} --replicas=2", "Deployment"),
    Write("kubectl apply -f -", "DaemonSet", APPLIED["DaemonSet"]),
    Write("kubectl apply -f - -o yaml", "ConfigMap", APPLIED["ConfigMap"]),
    Write("kubectl apply --server-side -f -", "ConfigMap", {**OURS_NOW["ConfigMap"]}),
    Write("kubectl replace -f -", "DaemonSet", APPLIED["DaemonSet"]),
    Write("kubectl replace -f -", "ConfigMap", APPLIED["ConfigMap"]),
    Write(f"kubectl delete ds {AT}", "DaemonSet"),
    Write(f"kubectl delete cm/{AT} -o name", "ConfigMap"),
    Write("kubectl delete -f -", "ConfigMap", OURS_NOW["ConfigMap"]),
    Write(
        f"kubectl delete cm -n {NAMESPACE} -l app.kubernetes.io/part-of=obi,app.kubernetes.io/component=raced",
        "ConfigMap",
    ),
    Write(f"kubectl delete pod {AT} --grace-period=5", "Pod"),
    Write(f"kubectl rollout restart ds/{AT}", "DaemonSet"),
    Write(f"kubectl rollout restart ds -n {NAMESPACE} -l app.kubernetes.io/component=raced,{SCOPED}", "DaemonSet"),
    Write(f"kubectl rollout pause deploy/{AT} -o name", "Deployment"),
]


@pytest.mark.parametrize("write", PINNED, ids=lambda write: write.command[:60])
async def test_what_is_no_longer_as_it_was_judged_is_not_written(start: Start, write: Write) -> None:
    async with start() as raced:
        writer = raced.writer
        for name, strike in (("relabel", writer.relabel), ("swap", writer.swap)):
            writer.fresh(write.kind)
            left: list[Any] = []

            def race() -> None:
                strike(write.kind)  # noqa: B023 - it runs within this turn of the loop
                left.append(content(writer.live(write.kind)))  # noqa: B023

            code, said = await raced.run(write.command, write.stdin, race)
            assert (name, code, "changed between check and use" in said) == (name, "conflict", True), said
            assert left == [content(writer.live(write.kind))], name
            assert CANARY not in said
        # And without a race it is done: the precondition refuses nothing else.
        writer.fresh(write.kind)
        was = content(writer.live(write.kind))
        code, said = await raced.run(write.command, write.stdin, None)
        assert code == "0", said
        assert content(writer.live(write.kind)) != was or "server-side" in write.command
        writer.remove(write.kind)


def content(body: dict[str, Any] | None) -> Any:
    """What somebody could have changed, and which object it is."""
    if body is None:
        return None
    kept = {key: body["metadata"].get(key) for key in ("uid", "labels", "annotations", "deletionTimestamp")}
    annotations = {key: value for key, value in (kept["annotations"] or {}).items() if "deployment." not in key}
    return {**kept, "annotations": annotations, "spec": body.get("spec"), "data": body.get("data")}


async def test_a_rollout_is_paused_once_and_resumed_in_kubectls_words(start: Start) -> None:
    steps = [
        ("resume", "program_failed", "is not paused"),
        ("pause", "0", "deployment.apps/obi-raced paused"),
        ("pause", "program_failed", "is paused"),
        ("restart", "program_failed", "is paused"),
        ("resume", "0", "deployment.apps/obi-raced resumed"),
        ("restart", "0", "deployment.apps/obi-raced restarted"),
    ]
    async with start() as raced:
        raced.writer.fresh("Deployment")
        for verb, code, says in steps:
            outcome = await raced.run(f"kubectl rollout {verb} deploy/{AT}", None, None)
            assert (verb, outcome[0], says in outcome[1]) == (verb, code, True), outcome
        for strike in (raced.writer.relabel, raced.writer.swap):
            raced.writer.fresh("Deployment")
            assert (await raced.run(f"kubectl rollout pause deploy/{AT}", None, None))[0] == "0"
            outcome = await raced.run(f"kubectl rollout resume deploy/{AT}", None, lambda: strike("Deployment"))  # noqa: B023
            assert outcome[0] == "conflict", outcome
        raced.writer.remove("Deployment")


async def test_a_deletion_waits_as_long_as_it_was_told(start: Start) -> None:
    """Another's finalizer keeps the object: the deletion is under way, and that is said."""
    async with start() as raced:
        writer = raced.writer
        writer.fresh("ConfigMap")
        for command, code, says in (
            (f"kubectl delete cm {AT} --timeout=1s", "program_failed", "is being deleted, and was not gone within 1 s"),
            (f"kubectl delete cm {AT} --wait=false", "0", "deleted from observability namespace"),
        ):
            keep(writer, ["obi.test/kept"])
            outcome = await raced.run(command, None, None)
            assert (outcome[0], says in outcome[1]) == (code, True), outcome
            assert (writer.live("ConfigMap") or {})["metadata"]["deletionTimestamp"]
            keep(writer, [])
            writer.fresh("ConfigMap")
        writer.remove("ConfigMap")


def keep(writer: Writer, finalizers: list[str]) -> None:
    patch = json.dumps({"metadata": {"finalizers": finalizers}}).encode()
    writer.api.request("PATCH", writer.path("ConfigMap"), patch, "application/merge-patch+json").require("keep it")


# --- documents: what is not there yet, and several at once ---


async def test_what_comes_to_be_in_between_is_not_taken_over(start: Start) -> None:
    """Nothing was there when it was checked, and ``apply`` would change what is there now; ``create`` does not."""
    async with start() as raced:
        writer = raced.writer
        for verb in ("apply", "create"):
            writer.remove("ConfigMap")
            code, said = await raced.run(
                f"kubectl {verb} -f -", OURS_NOW["ConfigMap"], lambda: writer.make(FOREIGN["ConfigMap"])
            )
            assert code == ("conflict" if verb == "apply" else "1"), said
            assert "AlreadyExists" in said
            assert (writer.live("ConfigMap") or {})["data"] == FOREIGN["ConfigMap"]["data"]
        writer.remove("ConfigMap")


async def test_a_batch_is_created_and_changed_for_the_states_that_were_judged(start: Start) -> None:
    batch = {"apiVersion": "v1", "kind": "List", "items": [APPLIED["DaemonSet"], APPLIED["ConfigMap"]]}
    async with start() as raced:
        writer = raced.writer
        writer.fresh("DaemonSet")
        writer.remove("ConfigMap")
        code, said = await raced.run("kubectl apply -f -", batch, None)
        assert code == "0" and "configmap/obi-raced created" in said and "daemonset.apps/obi-raced patched" in said
        assert (writer.live("ConfigMap") or {})["data"] == APPLIED["ConfigMap"]["data"]
        again = await raced.run("kubectl apply -f -", batch, None)
        assert again[0] == "0" and again[1].count("(no change)") == 2, again
        code, said = await raced.run("kubectl apply -f - -o json", batch, None)
        assert [item["kind"] for item in json.loads(said)["items"]] == ["DaemonSet", "ConfigMap"]
        for how in ("", " -o json"):
            writer.fresh("DaemonSet")
            code, said = await raced.run(f"kubectl apply -f -{how}", batch, lambda: writer.swap("DaemonSet"))
            assert (how, code) == (how, "conflict"), said
            assert image(writer) == "registry.test/shop:1"
        writer.remove("ConfigMap")
        writer.remove("DaemonSet")


@pytest.mark.parametrize("verb", ["apply", "replace", "apply --server-side"])
async def test_a_precondition_of_the_caller_is_kept(start: Start, verb: str) -> None:
    """The document was read some time ago, and names the state that it was made from."""
    async with start() as raced:
        raced.writer.fresh("ConfigMap")
        old = raced.writer.live("ConfigMap") or {}
        raced.writer.relabel("ConfigMap")
        raced.writer.api.request(
            "PATCH",
            raced.writer.path("ConfigMap"),
            json.dumps({"metadata": {"labels": OURS}}).encode(),
            "application/merge-patch+json",
        ).require("label it as it was")
        document = {**APPLIED["ConfigMap"], "metadata": {**metadata(OURS)}}
        document["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
        code, said = await raced.run(f"kubectl {verb} -f -", document, None)
        assert (code, "it changed since it was read" in said) == ("denied", True), said
        assert (raced.writer.live("ConfigMap") or {})["data"] == OURS_NOW["ConfigMap"]["data"]
        raced.writer.remove("ConfigMap")


# --- a revision that is poisoned after it was judged ---


async def test_undo_brings_back_the_template_that_was_judged(start: Start) -> None:
    async with start() as raced:
        writer = raced.writer
        writer.fresh("DaemonSet")
        wait_until("a revision", lambda: len(revisions(writer)) == 1, within_s=120)
        assert (await raced.run(f"kubectl set image ds/{AT} obi=otel/ebpf-instrument:v0.10.0", None, None))[0] == "0"
        wait_until("two revisions", lambda: len(revisions(writer)) == 2, within_s=120)

        def poison() -> None:
            first = min(revisions(writer), key=lambda body: body["revision"])
            template = json.loads(json.dumps(first["data"]))
            template["spec"]["template"]["spec"]["containers"][0]["image"] = "registry.test/shop:1"
            path = f"/apis/apps/v1/namespaces/{NAMESPACE}/controllerrevisions/{first['metadata']['name']}"
            # Its data cannot be changed: it is made again.
            writer.api.request("DELETE", path)
            metadata = {key: first["metadata"][key] for key in ("name", "namespace", "labels", "ownerReferences")}
            made = {**first, "metadata": metadata, "data": template}
            writer.api.post(path.rpartition("/")[0], made).require("poison a revision")

        code, said = await raced.run(f"kubectl rollout undo ds/{AT} --to-revision=1", None, poison)
        assert (code, image(writer)) == ("0", OBI), said
        for name, strike in (("relabel", writer.relabel), ("swap", writer.swap)):
            code, said = await raced.run(f"kubectl rollout undo ds/{AT}", None, lambda: strike("DaemonSet"))  # noqa: B023
            assert (name, code) == (name, "conflict"), said
            writer.fresh("DaemonSet")
            wait_until("a revision", lambda: len(revisions(writer)) >= 1, within_s=120)
            await raced.run(f"kubectl set image ds/{AT} obi=otel/ebpf-instrument:v0.10.0", None, None)
            wait_until("two revisions", lambda: len(revisions(writer)) == 2, within_s=120)
        writer.remove("DaemonSet")


def revisions(writer: Writer) -> list[dict[str, Any]]:
    body = writer.api.get(f"/apis/apps/v1/namespaces/{NAMESPACE}/controllerrevisions").body
    uid = (writer.live("DaemonSet") or {}).get("metadata", {}).get("uid")
    return [one for one in body["items"] if any(owner["uid"] == uid for owner in one["metadata"]["ownerReferences"])]


def image(writer: Writer) -> str:
    body = writer.live("DaemonSet") or {}
    return str(body["spec"]["template"]["spec"]["containers"][0]["image"])


# --- what can carry no precondition: the remainder, as docs/decisions/0004-remainders.md names it ---


async def test_a_change_that_is_too_long_to_carry_its_state_is_looked_at_again(start: Start) -> None:
    """It runs as kubectl's own apply, which merges into what bears the name by then."""
    long = config("# " + "x" * 60_000 + "\nlog_level: DEBUG")
    async with start() as raced:
        raced.writer.fresh("ConfigMap")
        code, said = await raced.run("kubectl apply -f -", long, lambda: raced.writer.swap("ConfigMap"))
        assert (code, "another object than the one that was checked" in said) == ("conflict", True), said
        raced.writer.fresh("ConfigMap")
        assert (await raced.run("kubectl apply -f -", long, None))[0] == "0"
        raced.writer.remove("ConfigMap")


async def test_a_server_side_apply_of_what_was_not_there_is_looked_at_again(start: Start) -> None:
    async with start() as raced:
        raced.writer.remove("ConfigMap")
        foreign = {**FOREIGN["ConfigMap"], "data": {"shop.txt": CANARY}}
        code, said = await raced.run(
            "kubectl apply --server-side -f -", OURS_NOW["ConfigMap"], lambda: raced.writer.make(foreign)
        )
        assert (code, "would not pass" in said) == ("conflict", True), said
        raced.writer.remove("ConfigMap")


# --- reading: another object of the name is not shown ---


@pytest.mark.parametrize("how", ["-o json", "-o yaml", "-o json | jq .data"])
async def test_another_object_of_the_name_is_not_read(start: Start, how: str) -> None:
    async with start() as raced:
        raced.runner.verbs = frozenset({"get"})
        raced.writer.fresh("ConfigMap")
        code, said = await raced.run(f"kubectl get cm {AT} {how}", None, None)
        assert code == "0" and "log_level" in said
        code, said = await raced.run(f"kubectl get cm {AT} {how}", None, lambda: raced.writer.swap("ConfigMap"))
        assert (code, CANARY in said, "uid" in said) == ("0", False, False), said
        raced.writer.remove("ConfigMap")


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (f"kubectl describe cm {AT}", "ConfigMap"),
        (f"kubectl describe cm -n {NAMESPACE} -l {SCOPED},app.kubernetes.io/component=raced", "ConfigMap"),
        (f"kubectl logs {AT}", "Pod"),
        (f"kubectl logs -n {NAMESPACE} -l {SCOPED},app.kubernetes.io/component=raced", "Pod"),
    ],
)
async def test_what_may_be_of_another_object_is_not_told(start: Start, command: str, kind: str) -> None:
    async with start() as raced:
        raced.runner.verbs = frozenset({"describe", "logs"})
        raced.writer.fresh(kind)
        code, said = await raced.run(command, None, lambda: raced.writer.swap(kind))
        assert (code, "another object than the one that was checked" in said) == ("conflict", True), said
        assert CANARY not in said
        raced.writer.remove(kind)


# --- luck, besides: a writer and no pause ---


async def test_a_writer_that_never_rests_is_never_written_over(start: Start) -> None:
    """OBI's object and another's change places as fast as they can; the other's is neither changed nor deleted."""
    touched: list[Any] = []
    stood: list[bool] = []
    stop = threading.Event()

    async with start() as raced:
        writer = raced.writer

        def strike() -> None:
            while not stop.is_set():
                for document in (OURS_NOW["ConfigMap"], config(f"text: {CANARY}", THEIRS)):
                    writer.api.request("DELETE", writer.path("ConfigMap"))
                    made = writer.api.post(PATHS["ConfigMap"], document)
                    stop.wait(0.02)
                    if made.status == 201 and document["metadata"]["labels"] == THEIRS:
                        live = (writer.live("ConfigMap") or {}).get("metadata", {})
                        as_made = (live.get("uid"), live.get("labels")) == (made.body["metadata"]["uid"], THEIRS)
                        touched.extend([] if as_made else [live])
                        stood.append(as_made)

        thread = threading.Thread(target=strike)
        thread.start()
        codes: list[str] = []
        try:
            begun = asyncio.get_running_loop().time()
            # As long as a slow machine needs for enough of both.
            while (spent := asyncio.get_running_loop().time() - begun) < STRESS_S or (
                min(len(codes), len(stood)) <= 10 and spent < MOST_STRESS_S
            ):
                for command in (f"kubectl label cm {AT} team=platform", f"kubectl delete cm {AT} --wait=false"):
                    code, said = await raced.run(command, None, None)
                    codes.append(code)
                    assert CANARY not in said
        finally:
            stop.set()
            thread.join()
        writer.remove("ConfigMap")
    assert touched == [] and len(stood) > 10
    assert set(codes) <= {"0", "conflict", "not_found", "denied", "program_failed"} and len(codes) > 10
