"""Plans for releases: what helm would make, held against what it made, and bound to chart, rendering and revision."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from obi_mcp.enforcer.concerned import ReleaseView, Seal
from obi_mcp.obi.bodies import Object
from obi_mcp.policy.release import Release
from obi_mcp.toolsets.base import Services
from obi_mcp.toolsets.helm.release import WORKLOADS, target_of
from obi_mcp.toolsets.kubernetes.objects import Target, look_up, state_of
from obi_mcp.toolsets.kubernetes.place import Place
from obi_mcp.toolsets.kubernetes.plan import Change, Plan, Step, change_of

Verb = Literal["install", "upgrade", "rollback", "uninstall"]
MAX_DRIFT = 10
_EVENTS: Mapping[Verb, str] = {
    "install": "install",
    "upgrade": "upgrade",
    "rollback": "rollback",
    "uninstall": "delete",
}


@dataclass(frozen=True, slots=True)
class ReleasePlan(Plan):
    """One command of helm's. ``seal`` is what it expects to find; ``workloads`` are those whose pods change;
    ``namespace``: the one that helm makes, which was not there."""

    verb: Verb = "install"
    release: str = ""
    seal: Seal = field(default_factory=lambda: Seal(0))
    workloads: tuple[Target, ...] = ()
    namespace: Target | None = None


async def release_plan(
    services: Services,
    place: Place,
    verb: Verb,
    *,
    release: str,
    step: Step,
    view: ReleaseView,
    warnings: Sequence[str] = (),
) -> ReleasePlan:
    """The plan of that command, from what its dry run found. Raises: what looking at the objects raises."""
    olds = _objects(view.before) if verb != "install" else {}
    news = _objects(view.after) if verb != "uninstall" else {}
    targets = list(dict.fromkeys((*news, *olds)))
    lives = dict(zip(targets, await asyncio.gather(*(look_up(services, place, t) for t in targets)), strict=True))
    changes = tuple(_change(target, olds, news, lives[target]) for target in targets)
    state = {target: state_of(body) for target, body in lives.items()}
    if (made := await _made_namespace(services, place, step)) is not None:
        changes, state = (Change(made, "create"), *changes), {made: state_of(None), **state}
    workloads = tuple(t for t in news if t.kind in WORKLOADS and _template(olds.get(t)) != _template(news[t]))
    bound = [place.context, step.command, step.stdin, asdict(view.seal), [[str(t), s] for t, s in state.items()]]
    said = [*warnings, *_other_version(view), *view.warnings, *_drift(olds, news, lives)]
    if verb in {"upgrade", "rollback"} and all(change.action == "same" for change in changes):
        said.append("no object changes: helm would only write down another revision")
    return ReleasePlan(
        id=hashlib.sha256(json.dumps(bound).encode()).hexdigest()[:20],
        tool=place.tool,
        place=place,
        steps=(step,),
        state=state,
        changes=changes,
        warnings=tuple(dict.fromkeys(said)),
        more=_more(verb, view, workloads),
        verb=verb,
        release=release,
        seal=view.seal,
        workloads=workloads,
        namespace=made,
        befores=lives,
        afters=news,
    )


async def _made_namespace(services: Services, place: Place, step: Step) -> Target | None:
    """The namespace that helm will make; None where it makes none, or it is there."""
    if "--create-namespace" not in step.command.split() or place.namespace is None:
        return None
    target = Target("Namespace", place.namespace, None)
    return target if await look_up(services, place, target) is None else None


def hooks_of(release: Release | None, verb: Verb) -> list[str]:
    """The hooks of the release that helm runs in that command, each with its event, those before it first."""
    hooks = release.hooks if release is not None else ()
    events = [f"{when}-{_EVENTS[verb]}" for when in ("pre", "post")]
    return [f"{event} {item.label}" for event in events for item in hooks if event in item.events]


def _more(verb: Verb, view: ReleaseView, workloads: Iterable[Target]) -> dict[str, Any]:
    more: dict[str, Any] = {"revision": view.seal.revision} if view.seal.revision else {}
    if (chart := view.chart) is not None:
        more["chart"] = f"{chart.name} {chart.version} ({chart.digest})"
    if hooks := hooks_of(view.before if verb == "uninstall" else view.after, verb):
        more["hooks"] = hooks
    if restarts := [str(workload) for workload in workloads]:
        more["restarts"] = restarts
    return more


def _objects(release: Release | None) -> dict[Target, Object]:
    if release is None:
        return {}
    return {target_of(item.document, release): item.document.body for item in release.objects}


def _change(
    target: Target, olds: Mapping[Target, Object], news: Mapping[Target, Object], live: Object | None
) -> Change:
    old, new = olds.get(target), news.get(target)
    if new is None and live is None:
        return Change(target, "same")  # helm forgets what is not there
    if old == new and live is None and new is not None:
        return change_of(target, None, new)
    return change_of(target, old, new)


def _template(body: Object | None) -> Any:
    return ((body or {}).get("spec") or {}).get("template")


def _other_version(view: ReleaseView) -> list[str]:
    """A chart of the release's name need not be the one that the release is of."""
    if view.before is None or view.chart is None or view.before.version == view.chart.version:
        return []
    return [f"the release is of {view.before.chart} {view.before.version}, this is {view.chart.version}"]


def _drift(
    olds: Mapping[Target, Object], news: Mapping[Target, Object], lives: Mapping[Target, Object | None]
) -> list[str]:
    """What somebody else changed in the objects of the release.

    A release of helm 4's is written by server-side apply, which ends in a conflict where it would change what another
    has set; source: Kubernetes' documentation of server-side apply ("Conflicts").
    """
    said: list[str] = []
    for target, old in olds.items():
        live, new = lives.get(target), news.get(target)
        if live is None:
            said.append(f"{target} of the release is gone from the cluster")
        elif paths := _paths(old, live):
            text = f"{target} is not as helm made it: {', '.join(paths[:MAX_DRIFT])}"
            if new is not None and set(paths) & set(_paths(new, live)):
                text += "; helm refuses to write over what another has set: delete it, and helm makes it again"
            said.append(text)
    return said


def _paths(wanted: Object, live: Object) -> list[str]:
    return [path for part in ("spec", "data", "rules") for path in _differing(wanted.get(part), live.get(part), part)]


def _differing(wanted: Any, live: Any, path: str) -> list[str]:
    """Where what helm wrote is no longer there; what the cluster added is no difference."""
    if isinstance(wanted, Mapping):
        if not isinstance(live, Mapping):
            return [path] if wanted else []
        return [found for key, value in wanted.items() for found in _differing(value, live.get(key), f"{path}.{key}")]
    if isinstance(wanted, list):
        if not isinstance(live, list) or len(wanted) != len(live):
            return [path] if wanted else []
        pairs = enumerate(zip(wanted, live, strict=True))
        return [found for at, (one, other) in pairs for found in _differing(one, other, f"{path}[{at}]")]
    # Quantities have several spellings, and an empty value is left out.
    same = wanted == live or not wanted or ".resources." in path or str(wanted) == str(live)
    return [] if same else [path]
