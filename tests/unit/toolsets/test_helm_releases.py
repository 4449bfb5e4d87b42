"""What a plan for a release is bound to, what it says, and which roll-back the road makes without the level for it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.unit.policy.policies import built_in, over
from tests.unit.recorded_road import ANSWER, NARROWED, RecordedRoad, services

from obi_mcp.audit import AuditLog
from obi_mcp.config import Settings
from obi_mcp.enforcer.case import Case
from obi_mcp.enforcer.concerned import Concerned, ReleaseView, Seal
from obi_mcp.enforcer.enforcer import Enforcer
from obi_mcp.enforcer.model import Answer, Call
from obi_mcp.enforcer.reading import Reading
from obi_mcp.enforcer.upgrades import Upgrades
from obi_mcp.errors import CallTimeout, ClusterUnreachable, Conflict, Denied, NotFound, ObiMcpError
from obi_mcp.policy.chart_remote import RemoteChart
from obi_mcp.policy.model import Access, Decision
from obi_mcp.policy.release import Release, read_objects
from obi_mcp.redact import Redactor
from obi_mcp.toolsets.base import ToolCall
from obi_mcp.toolsets.helm.carry_out import carry_out_release
from obi_mcp.toolsets.helm.change import rollback_spec
from obi_mcp.toolsets.helm.plan import ReleasePlan, _drift, hooks_of
from obi_mcp.toolsets.helm.release import chart_words, state_named
from obi_mcp.toolsets.kubernetes.objects import Target, state_of
from obi_mcp.toolsets.kubernetes.place import Place
from obi_mcp.toolsets.kubernetes.plan import Plans, Step

pytestmark = pytest.mark.anyio

MAP = Target("ConfigMap", "obi", "observability")
HOOKED = """
# Source: obi/templates/a.yaml
apiVersion: v1
kind: ConfigMap
metadata: {name: before, annotations: {helm.sh/hook: "post-upgrade, pre-install"}}
data: {password: CANARY-of-a-hook}
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def release(revision: int = 1, manifest: str = "", status: str = "deployed") -> Release:
    return Release("obi", "observability", "obi", "0.2.0", revision, status, read_objects(manifest))


# --- what a plan is bound to ---

SEALED = Seal(2, "stored", "chart", "to come")


@pytest.mark.parametrize(
    ("now", "says"),
    [
        (SEALED, None),
        (replace(SEALED, revision=3), "revision 3 and was at 2"),
        (replace(SEALED, stored="other"), "what helm stored"),
        (replace(SEALED, chart="other"), "the chart is not the one"),
        (replace(SEALED, to_come="other"), "renders something else"),
        (replace(SEALED, chart=""), "the chart is not the one"),
    ],
)
def test_a_seal_names_what_is_not_as_it_was(now: Seal, says: str | None) -> None:
    said = SEALED.changed(now)
    assert said is None if says is None else said is not None and says in said


def test_a_seal_of_a_revision_alone_asks_for_nothing_else() -> None:
    assert Seal(2).changed(SEALED) is None and Seal(3).changed(SEALED) is not None


def test_a_seal_follows_from_everything_that_is_stored_or_rendered() -> None:
    plain = Concerned(before=release(), after=release(0, HOOKED))
    seals = {
        plain.seal(),
        Concerned(before=release(2), after=release(0, HOOKED)).seal(),
        Concerned(before=release(status="failed"), after=release(0, HOOKED)).seal(),
        Concerned(before=release(), after=release(0, HOOKED.replace("pre-install", "pre-delete"))).seal(),
        Concerned(before=release(), after=release(0, HOOKED.replace("CANARY", "other"))).seal(),
        Concerned(after=release(0, HOOKED)).seal(),
    }
    assert len(seals) == 6 and Concerned(before=release(), after=release(0, HOOKED)).seal() in seals
    view = plain.view(Redactor.load())
    assert view is not None and "CANARY" not in str(view.after)
    assert Concerned().view(Redactor.load()) is None


# --- what the road takes back ---


def decided(command: str, access: Access = Access.FULL) -> Decision:
    return built_in().decide(command, access=access)


def begun(command: str, revision: int) -> Upgrades:
    """The memory after that command has begun on a release at that revision."""
    upgrades, decision = Upgrades(), decided(command)
    assert decision.pipeline is not None
    case = SimpleNamespace(decision=decision, head=decision.pipeline.head, revision=revision)
    upgrades.begin(cast(Case, case))
    return upgrades


UPGRADE = "helm upgrade obi obi -n observability"


@pytest.mark.parametrize(
    ("ran", "revision", "asked", "before"),
    [
        (UPGRADE, 4, "helm rollback obi 4 -n observability", 4),
        (UPGRADE, 4, "helm rollback obi 3 -n observability", None),
        (UPGRADE, 4, "helm rollback obi 4 -n obi", None),
        (UPGRADE, 4, "helm rollback beyla 4 -n observability", None),
        (UPGRADE, 4, "helm uninstall obi -n observability", None),
        (f"{UPGRADE} --dry-run=client", 4, "helm rollback obi 4 -n observability", None),
        (f"{UPGRADE} --install", 0, "helm rollback obi 1 -n observability", None),
        ("helm install obi obi -n observability", 0, "helm rollback obi 1 -n observability", None),
        ("helm rollback obi 2 -n observability", 4, "helm rollback obi 4 -n observability", None),
    ],
)
def test_only_the_way_back_from_an_upgrade_of_ours(ran: str, revision: int, asked: str, before: int | None) -> None:
    assert begun(ran, revision).taken_back_by(decided(asked)) == before


def test_a_denied_roll_back_takes_nothing_back() -> None:
    denied = decided("helm rollback obi 4 -n observability", Access.NON_DESTRUCTIVE)
    assert not denied.allowed and begun(UPGRADE, 4).taken_back_by(denied) is None


async def test_the_road_rolls_nobody_elses_upgrade_back(tmp_path: Path) -> None:
    settings = Settings(access=Access.NON_DESTRUCTIVE, audit=replace(Settings().audit, file=str(tmp_path / "audit")))
    audit = AuditLog(settings)
    enforcer = Enforcer(settings, built_in(), audit)
    try:
        with pytest.raises(Denied, match="full"):
            await enforcer.take_back(Call("helm rollback obi 4 -n observability", "test"))
    finally:
        await enforcer.close()
        audit.close()


# --- a plan that fails ---


def _answer(text: str, view: ReleaseView) -> Answer:
    return replace(ANSWER, stdout=text, release=view)


STORED = "helm get metadata obi -n observability -o json"
RUN: dict[str, str] = {
    "install": "helm install obi obi -n observability",
    "upgrade": UPGRADE,
    "rollback": "helm rollback obi 1 -n observability",
    "uninstall": "helm uninstall obi -n observability",
}
FAILED = replace(ANSWER, exit_code=1, stdout="", stderr="Error: it did not work")
WELL = replace(ANSWER, stdout="done")
GONE = ClusterUnreachable("no API server answered helm")
UNMADE = "kubectl delete namespace observability"
REMOVE, BACK = "helm uninstall obi -n observability", "helm rollback obi 4 -n observability"


def at(revision: int, status: str) -> Answer:
    return _answer("{}", ReleaseView(Seal(revision), release(revision, status=status), None, None))


@dataclass(frozen=True)
class Failure:
    """A command of helm's that fails, what is stored then, and what comes of taking it back."""

    verb: str
    said: Answer | ObiMcpError
    stored: Answer | ObiMcpError
    back: Answer | ObiMcpError = WELL
    taken_back: tuple[str, ...] = ()
    left: str = ""


FAILURES = [
    Failure("upgrade", FAILED, at(4, "deployed")),
    Failure("upgrade", FAILED, at(5, "failed"), taken_back=(BACK,)),
    Failure("upgrade", CallTimeout("it took too long"), at(5, "pending-upgrade"), taken_back=(BACK,)),
    Failure(
        "upgrade", FAILED, at(5, "failed"), back=FAILED, left=f"{BACK}  # the release is at revision 5, failed; Error"
    ),
    Failure("upgrade", FAILED, at(6, "deployed"), left="which is somebody else's"),
    Failure("upgrade", GONE, GONE, left=f"{BACK}  # how far helm came is not known"),
    Failure("rollback", FAILED, at(5, "failed"), taken_back=(BACK,)),
    Failure("install", FAILED, NotFound("obi", "observability")),
    Failure("install", FAILED, at(1, "failed"), taken_back=(REMOVE,)),
    Failure("install", FAILED, at(1, "failed"), back=Denied(decided("helm rollback obi 4 -n shop")), left=REMOVE),
    Failure("uninstall", FAILED, at(4, "deployed")),
    Failure("uninstall", FAILED, at(4, "uninstalling"), left=REMOVE),
]


def release_plan_of(verb: str) -> ReleasePlan:
    place = Place("obi_helm_test", "test", None, "observability")
    seal = Seal(0 if verb == "install" else 4)
    step = Step(RUN[verb], ())
    return ReleasePlan("id", "obi_helm_test", place, (step,), {}, (), verb=cast(Any, verb), release="obi", seal=seal)


@pytest.mark.parametrize("case", FAILURES, ids=lambda case: f"{case.verb}-{case.left or case.taken_back}")
async def test_what_a_failure_leaves_follows_from_what_helm_stored(case: Failure) -> None:
    road = RecordedRoad()
    road.answers |= {BACK: case.back, REMOVE: case.back, STORED: case.stored, RUN[case.verb]: case.said}
    outcome = await carry_out_release(services(road), release_plan_of(case.verb), None, wait_s=0.01)
    assert outcome.problem and outcome.taken_back == case.taken_back, outcome
    assert len(outcome.left) == bool(case.left) and case.left in "".join(outcome.left), outcome
    ran = [call.command for call in road.calls if call.command in {BACK, REMOVE} - {RUN[case.verb]}]
    assert bool(ran) == bool(case.taken_back or case.back is not WELL)


@pytest.mark.parametrize(
    ("stored", "live", "taken_back", "left"),
    [
        (NotFound("obi", "shop"), True, (UNMADE,), ""),
        (NotFound("obi", "shop"), False, (), ""),
        (at(1, "failed"), True, (REMOVE, UNMADE), ""),
        (at(7, "deployed"), True, (), "when it is empty"),
    ],
)
async def test_a_namespace_that_helm_made_goes_with_what_failed_in_it(
    stored: Answer | ObiMcpError, live: bool, taken_back: tuple[str, ...], left: str
) -> None:
    class Emptied(RecordedRoad):
        async def remove_namespaces(self, call: Call) -> tuple[str, ...]:
            assert json.loads(call.stdin or "")["items"][0]["metadata"]["name"] == "observability"
            return ("observability",)

    road = Emptied()
    road.answers |= {REMOVE: WELL, STORED: stored, RUN["install"]: FAILED}
    body = {"kind": "Namespace", "metadata": {"name": "observability"}}
    road.readings["kubectl get ns observability -o json"] = Reading((body,) if live else (), NARROWED)
    plan = replace(release_plan_of("install"), namespace=Target("Namespace", "observability", None))
    outcome = await carry_out_release(services(road), plan, None, wait_s=0.01)
    assert outcome.taken_back == taken_back and len(outcome.left) == 2 * bool(left), outcome
    assert left in "".join(outcome.left)


@pytest.mark.parametrize(
    ("stored", "there", "left"),
    [
        (at(4, "deployed"), True, None),
        (at(4, "deployed"), False, REMOVE),
        (NotFound("obi", "observability"), True, "kubectl delete configmap obi -n observability"),
        (NotFound("obi", "observability"), False, ""),
    ],
)
async def test_what_an_uninstall_has_removed_is_asked_of_the_cluster(
    stored: Answer | ObiMcpError, there: bool, left: str | None
) -> None:
    """helm goes on deleting when it cannot write down that it does, and forgets the release last. ``left`` None:
    nothing was removed; empty: everything was."""
    road, body = RecordedRoad(), {"kind": "ConfigMap", "metadata": {"name": "obi", "uid": "1"}}
    road.answers |= {REMOVE: FAILED, STORED: stored}
    seen = Reading((body,), NARROWED)
    road.readings["kubectl get configmap obi -n observability -o json"] = seen
    plan = replace(release_plan_of("uninstall"), state={MAP: state_of(body)})
    run = road.run

    async def running(call: Call, progress: Any = None) -> Answer:
        if call.command == REMOVE and not there:
            road.readings["kubectl get configmap obi -n observability -o json"] = Reading((), NARROWED)
        return await run(call, progress)

    road.run = running  # type: ignore[method-assign]
    outcome = await carry_out_release(services(road), plan, None, wait_s=0.01)
    assert (outcome.problem is None) == (left == ""), outcome
    assert [entry.partition("  #")[0] for entry in outcome.left] == ([left] if left else [])


@pytest.mark.parametrize("refusal", [Conflict("it has changed"), Denied(decided("helm rollback obi 4 -n shop"))])
async def test_what_was_refused_takes_nothing_back(refusal: ObiMcpError) -> None:
    """Somebody else's upgrade made the revision that is there now."""
    road = RecordedRoad()
    road.answers |= {UPGRADE: refusal, STORED: at(5, "deployed")}
    with pytest.raises(type(refusal)):
        await carry_out_release(services(road), release_plan_of("upgrade"), None, wait_s=0.01)
    (ran,) = road.calls
    assert ran.command == UPGRADE and ran.expects == Seal(4)


async def test_an_upgrade_that_is_cancelled_while_it_waits_goes_back() -> None:
    waiting: dict[str, Any] = {"metadata": {"name": "obi", "namespace": "observability", "generation": 2}, "status": {}}
    waiting |= {"kind": "DaemonSet", "spec": {"selector": {"matchLabels": {"a": "b"}}}}
    plan = replace(release_plan_of("upgrade"), workloads=(Target("DaemonSet", "obi", "observability"),))
    road, heard = RecordedRoad(), asyncio.Event()
    road.answers |= {BACK: WELL, STORED: at(5, "deployed"), UPGRADE: WELL}
    road.readings["kubectl get daemonset obi -n observability -o json"] = Reading((waiting,), NARROWED)
    road.readings["kubectl get pods -n observability -l 'a=b' -o json"] = Reading((), NARROWED)

    async def hear(done: float, total: float | None, message: str) -> None:
        if "pods of obi are ready" in message:
            heard.set()

    carrying = asyncio.create_task(carry_out_release(services(road), plan, hear, wait_s=300))
    await heard.wait()
    carrying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await carrying
    assert [call.command for call in road.calls if "rollback" in call.command] == [BACK]


# --- what is fetched ---

REMOTE = RemoteChart("otel", "obi", "0.2.0", "https://charts.example.com")


@pytest.mark.parametrize(
    ("remote", "allowed"),
    [
        (REMOTE, True),
        (replace(REMOTE, version="0.1.0"), False),
        (replace(REMOTE, name="beyla"), False),
        (replace(REMOTE, repository="other"), False),
        (replace(REMOTE, url="https://evil.example"), False),
    ],
)
def test_only_the_chart_that_a_command_names_is_fetched(remote: RemoteChart, allowed: bool) -> None:
    policy = over({"repositories": {"otel": "https://charts.example.com"}})
    decision = policy.decide("helm show chart otel/obi --version 0.2.0", access=Access.READ_ONLY)
    assert decision.allowed, decision.reason
    if allowed:
        for step in ("update", "pull"):
            approved = policy.approve_fetch(decision, remote, cast(Any, step), Path("/private"))
            assert approved.heads[0][:2] == ("helm", "repo" if step == "update" else "pull")
    else:
        with pytest.raises(Denied, match="only the chart"):
            policy.approve_fetch(decision, remote, "pull", Path("/private"))


# --- what a plan says ---


def config(text: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": "obi"}, "data": {"obi.yml": text}, **more}


@pytest.mark.parametrize(
    ("old", "new", "live", "says"),
    [
        (config("a"), config("b"), config("a", status={}, binaryData={}), []),
        (config("a"), config("b"), None, ["is gone from the cluster"]),
        (config("a"), config("b"), config("c"), ["not as helm made it: data.obi.yml; helm refuses"]),
        (config("a"), config("c"), config("c"), ["not as helm made it: data.obi.yml"]),
        ({"spec": {"a": [{"b": 1}], "e": {}}}, {}, {"spec": {"a": [{"b": 1, "c": 2}]}}, []),
        ({"spec": {"a": [{"b": 1}]}}, {}, {"spec": {"a": [{"b": 2}]}}, ["spec.a[0].b"]),
        ({"spec": {"a": [1]}}, {}, {"spec": {"a": [1, 2]}}, ["spec.a"]),
        ({"spec": {"x": {"resources": {"cpu": "0.5"}}}}, {}, {"spec": {"x": {"resources": {"cpu": "500m"}}}}, []),
    ],
)
def test_what_somebody_else_changed_is_said(old: Any, new: Any, live: Any, says: list[str]) -> None:
    said = _drift({MAP: old}, {MAP: new}, {MAP: live})
    assert len(said) == len(says) and all(part in text for part, text in zip(says, said, strict=True)), said
    assert ("refuses" in str(said)) == ("refuses" in str(says))


def test_the_hooks_of_a_command_are_those_that_it_runs() -> None:
    (hook,) = read_objects(HOOKED)
    made = replace(release(), hooks=(hook,))
    named = "ConfigMap before (obi/templates/a.yaml)"
    assert hooks_of(made, "install") == [f"pre-install {named}"]
    assert hooks_of(made, "upgrade") == [f"post-upgrade {named}"]
    assert hooks_of(made, "rollback") == hooks_of(made, "uninstall") == hooks_of(None, "install") == []


@pytest.mark.parametrize("status", ["failed", "pending-install", "pending-upgrade", "pending-rollback", "uninstalling"])
def test_every_state_that_is_not_well_has_a_way_out(status: str) -> None:
    state = state_named(status)
    assert state.means and "obi_helm_" in state.way_out


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "obi"),
        ({"chart": "otel/obi", "version": "1.0.0-rc.1+build"}, "otel/obi --version 1.0.0-rc.1+build"),
        ({"chart": "a b"}, None),
        ({"chart": "../obi"}, None),
        ({"chart": "oci://x/y"}, None),
        ({"version": "1 --repo=https://evil.example"}, None),
        ({"version": "$(id)"}, None),
    ],
)
def test_a_chart_is_one_word_and_a_version_another(given: dict[str, Any], words: str | None) -> None:
    if words is not None:
        assert chart_words(given, "obi") == words
        return
    with pytest.raises(ObiMcpError):
        chart_words(given, "obi")


HISTORY = "helm history obi -n observability --max 1000 -o json"


@pytest.mark.parametrize(
    ("rows", "revision"),
    [
        ([("superseded", "Install complete"), ("deployed", "Upgrade complete")], 1),
        ([("deployed", "Install complete"), ("pending-upgrade", "Preparing upgrade")], 1),
        ([("superseded", ""), ("superseded", ""), ("superseded", "bad"), ("deployed", "Rollback to 2")], 1),
        ([("superseded", ""), ("superseded", 'Upgrade "obi" failed: x'), ("failed", 'Rollback "obi" failed: y')], 1),
        ([("failed", 'Release "obi" failed: x'), ("failed", 'Upgrade "obi" failed: x')], None),
        ([("deployed", "Install complete")], None),
    ],
)
async def test_the_way_back_leads_to_the_last_good_revision(rows: list[tuple[str, str]], revision: int | None) -> None:
    history = [{"revision": at, "status": status, "description": said} for at, (status, said) in enumerate(rows, 1)]
    before = release(len(rows), status=rows[-1][0])
    view = ReleaseView(Seal(len(rows)), before, None, None)
    road = RecordedRoad()
    road.answers["helm get metadata obi -n observability -o json"] = _answer("{}", view)
    road.answers[HISTORY] = _answer(json.dumps(history), view)
    spec = rollback_spec(Plans())
    road.answers[f"helm rollback obi {revision} -n observability --dry-run=client"] = _answer("", view)
    if revision is None:
        with pytest.raises(NotFound):
            await spec.run(services(road), ToolCall({}, "test"))
        return
    plan = await spec.run(services(road), ToolCall({}, "test"))
    assert plan.structured["commands"] == [f"helm rollback obi {revision} -n observability"]
