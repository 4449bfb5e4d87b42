"""The release that a helm command is about: as it is stored, as it would become, and a seal over both.

A plan keeps the seal of what it showed; the command that carries it out is refused where the seal is another.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace

from obi_mcp.policy.chart import Chart
from obi_mcp.policy.release import Release, RenderedObject
from obi_mcp.redact import Redactor


@dataclass(frozen=True, slots=True)
class Seal:
    """``revision`` 0: there was no release. The rest are digests; empty: there was nothing of the kind, or it does not
    matter."""

    revision: int
    stored: str = ""
    chart: str = ""
    to_come: str = ""

    def changed(self, now: Seal) -> str | None:
        """What is not as it was, in a few words, or None."""
        if now.revision != self.revision:
            return f"the release is at revision {now.revision} and was at {self.revision}"
        if self.stored and now.stored != self.stored:
            return "what helm stored of the release is not what it was"
        if self.chart and now.chart != self.chart:
            return "the chart is not the one that it was"
        if self.to_come and now.to_come != self.to_come:
            return "helm now renders something else"
        return None


@dataclass(frozen=True, slots=True)
class ReleaseView:
    """What was found about a release, redacted: text of the cluster and the chart, never an instruction.

    ``before`` None: there is none. ``after``: what helm rendered, or the revision that comes back.
    """

    seal: Seal
    before: Release | None
    after: Release | None
    chart: Chart | None
    warnings: tuple[str, ...] = ()


@dataclass(slots=True)
class Concerned:
    """Collected while a call is proved."""

    before: Release | None = None
    after: Release | None = None
    chart: Chart | None = None
    warnings: tuple[str, ...] = ()

    def seal(self) -> Seal:
        """Over all of it, as it is."""
        return Seal(
            revision=self.before.revision if self.before else 0,
            stored=_digest(self.before),
            chart=self.chart.digest if self.chart else "",
            to_come=_digest(self.after),
        )

    def view(self, redactor: Redactor) -> ReleaseView | None:
        """The same for a tool, without secrets; None where no release was looked at."""
        if self.before is None and self.after is None:
            return None
        before, after = (_redacted(release, redactor) for release in (self.before, self.after))
        return ReleaseView(self.seal(), before, after, self.chart, self.warnings)


def _digest(release: Release | None) -> str:
    if release is None:
        return ""
    said = [
        [release.name, release.namespace, release.chart, release.version, release.status],
        *([item.source, list(item.events), item.document.body] for item in release.everything),
    ]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _redacted(release: Release | None, redactor: Redactor) -> Release | None:
    if release is None:
        return None

    def shown(items: tuple[RenderedObject, ...]) -> tuple[RenderedObject, ...]:
        return tuple(
            replace(item, document=replace(item.document, body=redactor.value(item.document.body))) for item in items
        )

    return replace(release, objects=shown(release.objects), hooks=shown(release.hooks))
