"""Releases as the helm tools see them: which one is meant, what is stored of it, and what its state asks for."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from obi_mcp.enforcer.concerned import ReleaseView
from obi_mcp.enforcer.model import Answer
from obi_mcp.errors import InvalidArgument, NotFound, ProgramFailed
from obi_mcp.policy.model import Document
from obi_mcp.policy.release import Release
from obi_mcp.toolsets.base import Schema, Services, ToolCall
from obi_mcp.toolsets.kubernetes.objects import Target
from obi_mcp.toolsets.kubernetes.place import PLACE, Place, name

RELEASE: dict[str, Schema] = {
    "release": {"type": "string", "maxLength": 53, "default": "obi"},
    **PLACE,
}
WORKLOADS = ("DaemonSet", "Deployment")
_IN_NO_NAMESPACE = frozenset({"Namespace", "ClusterRole", "ClusterRoleBinding"})
_VERSION = re.compile(r"v?[0-9][0-9A-Za-z.+-]{0,127}")


@dataclass(frozen=True, slots=True)
class State:
    """What a status of helm's means, and the call that leads out of it; both empty for a release that is well."""

    means: str = ""
    way_out: str = ""


_STATES = {
    "deployed": State(),
    "superseded": State("an earlier revision, which another has replaced"),
    "failed": State(
        "helm did not finish the last change; objects of it may be there",
        "obi_helm_rollback to the revision before, obi_helm_upgrade with what was wrong mended, or obi_helm_uninstall "
        "where it was the first",
    ),
    "pending-install": State(
        "helm is at work on the first install, or was ended in the middle of it",
        "if nobody runs helm now: obi_helm_uninstall, then obi_helm_install again",
    ),
    "pending-upgrade": State(
        "helm is at work on an upgrade, or was ended in the middle of it; until then it takes no other",
        "if nobody runs helm now: obi_helm_rollback, which goes back to the last revision that was deployed",
    ),
    "pending-rollback": State(
        "helm is at work on a roll-back, or was ended in the middle of it; until then it takes no upgrade",
        "if nobody runs helm now: obi_helm_rollback again",
    ),
    "uninstalling": State(
        "helm is removing the release, or was ended in the middle of it", "if nobody runs helm now: obi_helm_uninstall"
    ),
    "uninstalled": State(
        "it is removed and its history was kept", "obi_helm_rollback brings a revision back; obi_helm_uninstall forgets"
    ),
}


def state_named(status: str) -> State:
    """What that status means."""
    return _STATES.get(status, State(f"helm calls it {status}", "obi_helm_history shows how it came to be"))


@dataclass(frozen=True, slots=True)
class Stored:
    """The last revision of a release: helm's own metadata, and its objects (redacted)."""

    metadata: Mapping[str, Any]
    release: Release

    @property
    def pending(self) -> bool:
        """Whether helm takes no upgrade of it."""
        return self.release.status.startswith("pending-")


def place_of(tool: str, services: Services, call: ToolCall) -> Place:
    """Where the tool looks: helm needs one namespace. Raises: InvalidArgument."""
    place = Place.of(tool, call)
    return Place(tool, call.caller, place.context, place.namespace or services.settings.scope.default_namespace)


def release_of(call: ToolCall) -> str:
    """The release's name. Raises: InvalidArgument."""
    return name(call.arguments.get("release", "obi"), "release")


def chart_words(given: Mapping[str, Any], default: str) -> str:
    """The chart and its version as words of a command line; what they may be, the policy decides.

    Raises: InvalidArgument.
    """
    repository, slash, chart = str(given.get("chart", default)).rpartition("/")
    words = f"{name(repository, 'chart repository')}/{name(chart, 'chart')}" if slash else name(chart, "chart")
    version = given.get("version")
    if version is None:
        return words
    if not _VERSION.fullmatch(version):
        raise InvalidArgument(f"{version[:80]!r} is no chart version", "one exact version such as 0.12.0")
    return f"{words} --version {version}"


async def stored(services: Services, place: Place, release: str) -> Stored | None:
    """The last revision of the release; None where there is none of OBI's. Raises: ProgramFailed and what reading it
    raises."""
    try:
        answer = await run(services, place, f"helm get metadata {release} -n {place.namespace} -o json")
    except NotFound:
        return None
    view = answer.release
    if view is None or view.before is None:
        raise ProgramFailed(f"helm said nothing of the release {release}")
    return Stored(json.loads(answer.stdout), view.before)


async def run(services: Services, place: Place, command: str, stdin: str | None = None) -> Answer:
    """A read or a dry run of helm's, complete. Raises: ProgramFailed and what the road raises."""
    limit = services.settings.limits.max_max_bytes
    answer = await services.enforcer.run(place.call(command, stdin=stdin, max_bytes=limit))
    if answer.exit_code:
        raise ProgramFailed(f"{command[:120]} failed: {(answer.stderr or '').strip()[:600]}", "mend what helm names")
    return answer


def viewed(answer: Answer) -> ReleaseView:
    """What was found about the release. Raises: ProgramFailed where nothing was."""
    if answer.release is None:
        raise ProgramFailed("helm's command was about no release")
    return answer.release


def target_of(document: Document, release: Release) -> Target:
    """The object, where helm puts it."""
    inside = None if document.kind in _IN_NO_NAMESPACE else document.namespace or release.namespace
    return Target(document.kind, document.name, inside)
