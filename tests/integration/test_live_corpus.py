"""The whole corpus for real, at ``full`` and with cluster-admin: nothing that is not OBI's changes or is seen.

Lines go through the real server as a client sends them. What the text refuses must be refused; what only the cluster
can refuse (``layer: check``) must be refused by it; an ordinary day's lines must work. Writes that are allowed run last
and one after another, for they take OBI away. So this module has a sandbox of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.integration.conftest import Outcome, Serve, Session
from tests.sandbox.sandbox import Sandbox
from tests.unit.policy.policies import built_in

from obi_mcp.policy.model import Access

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

ROOT = Path(__file__).parents[2]
CORPUS = ROOT / "tests" / "corpus"
IN_FLIGHT = 16
TIMEOUT_S = 8
"""Of a line that may never end."""
ENDS_WITHIN_S = {"an ordinary day": 120, "an ordinary day's work": 20}
"""Of lines that are to work: the reads end by themselves; of the writes enough do."""
EVERYTHING = 1_000_000
TOOLS = {"helm": "obi_helm", "obi": "obi_command"}
# What the sandbox does not have, so that a line which is right finds nothing there.
MISSING = ("servicemonitors", "podmonitors")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """One of this module's own: at the end there is no OBI left in it."""
    with Sandbox.up(f"corpus-{os.getpid()}") as running:
        yield running


@dataclass(frozen=True)
class Line:
    """A line of the corpus as it runs here: names of the corpus stand for those of the sandbox."""

    command: str
    stdin: str | None
    layer: str | None
    technique: str
    denied: bool
    """By its text, at full."""
    access: Access

    @property
    def checked(self) -> bool:
        return self.layer == "check"

    @property
    def writes(self) -> bool:
        """Allowed, and changes something of OBI's."""
        return not self.denied and not self.checked and self.access is not Access.READ_ONLY


@dataclass(frozen=True)
class Ran:
    line: Line
    outcome: Outcome

    @property
    def refused(self) -> bool:
        """No effect and no output of the cluster's: an error, or a filter that printed nothing and failed."""
        return self.outcome.is_error or bool(self.outcome.structured.get("exit_code"))

    @property
    def found_nothing(self) -> bool:
        """grep's own answer: what a pod has printed last, which is another one each time, has no such line."""
        of_a_log = self.line.command.startswith("kubectl logs ") and "| grep " in self.line.command
        outcome = self.outcome.structured
        return of_a_log and not self.outcome.is_error and outcome.get("exit_code") == 1 and not outcome.get("stderr")

    @property
    def everything(self) -> str:
        return json.dumps(self.outcome.structured, ensure_ascii=False) + self.outcome.text


def lines(facts: dict[str, Any]) -> list[Line]:
    pods = sorted(facts["obi"]["pods_by_node"].values())
    found = []
    for name in ("attacks.ndjson", "given.ndjson", "neighbours.ndjson"):
        for text in (CORPUS / name).read_text("utf-8").splitlines():
            entry = json.loads(text)
            command = entry["command"].replace("obi-x7k2p", pods[0]).replace("obi-9q2lm", pods[1])
            decision = built_in().decide(command, stdin=entry.get("stdin"), access=Access.FULL)
            found.append(
                Line(
                    command,
                    entry.get("stdin"),
                    entry.get("layer"),
                    entry.get("technique", ""),
                    denied=not decision.allowed,
                    access=decision.access or Access.READ_ONLY,
                )
            )
    return found


async def run(session: Session, wanted: Sequence[Line], in_flight: int) -> list[Ran]:
    gate = asyncio.Semaphore(in_flight)

    async def one(line: Line) -> Ran:
        async with gate:
            tool = TOOLS.get(line.command.split(" ", 1)[0], "obi_kubectl")
            more = {"stdin": line.stdin} if line.stdin is not None else {}
            timeout_s = ENDS_WITHIN_S.get(line.technique, TIMEOUT_S)
            outcome = await session.call(tool, line.command, timeout_s=timeout_s, max_bytes=EVERYTHING, **more)
            return Ran(line, outcome)

    return list(await asyncio.gather(*(one(line) for line in wanted)))


async def test_the_whole_corpus_changes_and_shows_nothing_foreign(
    serve: Serve, sandbox: Sandbox, programs_bin: Path
) -> None:
    secrets = [canary["text"] for canary in sandbox.facts["canaries"]] + [plant_release(programs_bin, sandbox)]
    before = sandbox.foreign()
    corpus = lines(dict(sandbox.facts))
    early = [line for line in corpus if not line.writes]
    late = sorted((line for line in corpus if line.writes), key=lambda line: line.access)
    async with serve("full") as session:
        named = await session.helm("install obi obi -n observability --set fullnameOverride=obi-obi")
        assert not named.is_error, named.text
        ran = await run(session, early, IN_FLIGHT)
        ran += await run(session, late, 1)
        audit = session.audit
    after = sandbox.foreign()

    assert_nothing_foreign_changed(before, after)
    assert_nothing_foreign_was_seen(ran, audit.read_text("utf-8"), secrets)
    assert_refused_and_allowed(ran)


def assert_nothing_foreign_changed(before: dict[str, str], after: dict[str, str]) -> None:
    assert {path: after.get(path) for path in before} == before
    assert [path for path in after.keys() - before.keys() if not path.rpartition("/")[2].startswith("obi")] == []


def assert_nothing_foreign_was_seen(ran: Sequence[Ran], audit: str, secrets: Sequence[str]) -> None:
    assert [text for text in secrets if text in audit] == []
    assert [one.line.command for one in ran if any(text in one.everything for text in secrets)] == []


def assert_refused_and_allowed(ran: Sequence[Ran]) -> None:
    assert [one.line.command for one in ran if one.line.denied and not one.outcome.is_error] == []
    assert [(one.line.command, one.outcome.stdout[:200]) for one in ran if one.line.checked and not one.refused] == []
    day = [one for one in ran if one.line.technique == "an ordinary day"]
    assert len(day) >= 100
    assert [
        (one.line.command, one.outcome.text[:300])
        for one in day
        if one.refused and not one.found_nothing and not any(name in one.line.command for name in MISSING)
    ] == []
    # Of what changes OBI, some lines take away what others need.
    work = [one for one in ran if one.line.technique == "an ordinary day's work"]
    assert sum(not one.refused for one in work) >= 12


def plant_release(programs_bin: Path, sandbox: Sandbox) -> str:
    """A foreign release by OBI's name, in a namespace where OBI may live; the text of its Secret."""
    chart = ROOT / "tests" / "cases" / "charts" / "foreign-release" / "obi"
    command = [str(programs_bin / "helm"), f"--kubeconfig={sandbox.kubeconfig}", "install", "obi", str(chart)]
    subprocess.run([*command, "-n", "monitoring", "--create-namespace"], check=True, capture_output=True)
    return "CANARY-release-secret"
