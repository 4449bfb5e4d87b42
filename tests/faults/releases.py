"""Releases carried out on a cluster that fails in the middle of one write: what stood there before, after, and what
was claimed. ``python -m tests.faults.releases [--scenario NAME] [--failure WORD]``; takes its time."""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.place import place, write_kubeconfig
from tests.faults.plans import Ground, State, difference, tools_of
from tests.faults.writes import FAILURES, Failure, failing_server
from tests.sandbox.sandbox import Sandbox

from obi_mcp.toolsets.base import ToolResult

ROOT = Path(__file__).parents[2]
WAIT_S = 4
VALUES = (
    "fullnameOverride: {}\nconfig: {{prometheus_export: {{port: 9292}}}}\n"
    "updateStrategy: {{rollingUpdate: {{maxUnavailable: 100%}}}}\n"
)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A plan: the tool with its arguments, and how often the release has been changed before (0: it is not there)."""

    name: str
    arguments: Mapping[str, Any]
    revisions: int = 1

    @property
    def tool(self) -> str:
        return f"obi_helm_{self.name}"


SCENARIOS = (
    Scenario("install", {}, revisions=0),
    Scenario("upgrade", {"values": "config: {log_level: DEBUG}\n"}),
    Scenario("rollback", {"revision": 1}, revisions=2),
    Scenario("uninstall", {}),
)


@dataclass(frozen=True, slots=True)
class Case:
    """A failure of the n-th write of a plan."""

    scenario: Scenario
    number: int
    failure: Failure
    write: str

    @property
    def id(self) -> str:
        return f"{self.scenario.name}, write {self.number + 1} ({self.write}): {self.failure.name}"


async def call(ground: Ground, tool: str, name: str, **arguments: Any) -> ToolResult:
    return await ground.call(tool, namespace=name, **arguments)


async def prepared(ground: Ground, scenario: Scenario, name: str) -> str:
    """Makes what is there before, and the plan; its id."""
    ground.double.arm(None)
    values = VALUES.format(name)
    ground.api.post(
        "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    ).require("make the namespace")
    for revision in range(scenario.revisions):
        tool = "obi_helm_upgrade" if revision else "obi_helm_install"
        plan = await call(ground, tool, name, values="config: {log_level: INFO}\n" if revision else values)
        done = await ground.call(tool, plan_id=plan.structured["plan_id"], wait_s=60)
        assert done.structured["applied"], done.text
    given: Mapping[str, Any] = {"values": values} if scenario.name == "install" else scenario.arguments
    made = await call(ground, scenario.tool, name, **given)
    assert made.structured.get("plan_id"), made.text
    return str(made.structured["plan_id"])


async def standing(ground: Ground, name: str) -> tuple[State, str]:
    """The objects, and the state of the release."""
    found = await call(ground, "obi_helm_status", name)
    return ground.state(name), str(found.structured.get("status", "none"))


async def clean_run(ground: Ground, scenario: Scenario) -> list[str]:
    """The writes of a plan that nothing fails."""
    name = ground.new_name()
    plan_id = await prepared(ground, scenario, name)
    ground.double.arm(None)
    done = await ground.call(scenario.tool, plan_id=plan_id, wait_s=60)
    assert done.structured["applied"], done.text
    writes = [f"{verb} {path.replace(name, 'NAME')}" for verb, path in ground.double.writes]
    ground.remove(name)
    return writes


async def play(ground: Ground, case: Case) -> str:
    """One case: done, or as before with a release that is well, or the answer has the call that gets there."""
    name = ground.new_name()
    plan_id = await prepared(ground, case.scenario, name)
    before, was = await standing(ground, name)
    ground.double.arm(case.failure, case.write.replace("NAME", name))
    answer = await ground.call(case.scenario.tool, plan_id=plan_id, wait_s=WAIT_S)
    struck = ground.double.struck.is_set()
    ground.double.arm(None)
    assert struck, "the failure struck"
    said = answer.structured
    ended = "done" if said.get("applied") else "taken back"
    if said.get("left"):
        finish = str(said["left"][0]).partition("  #")[0]
        assert finish in answer.text
        again = await ground.call("obi_helm", command=finish)
        finished = again.structured.get("exit_code") == 0 or again.structured.get("code") == "not_found"
        assert finished, f"{finish}: {again.text}\n{answer.text}"
        ended = "left, then taken back"
    now, state = await standing(ground, name)
    gone = case.scenario.name == "uninstall" and ended != "taken back"
    if gone or (case.scenario.name == "install" and ended != "done"):
        assert state == "none" and not _made(now, name), f"{state} {sorted(now)}\n{answer.text}"
    elif ended == "done":
        assert state == "deployed", f"{state}\n{answer.text}"
    else:
        assert (state, now) == (was, before), f"{state}, was {was}\n{difference(now, before)}\n{answer.text}"
    ground.remove(name)
    return ended


def _made(state: State, name: str) -> list[str]:
    return [key for key in state if key != f"Namespace {name}"]


def main() -> int:
    """Exit code 0 when every case ended as it has to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenario", action="append")
    parser.add_argument("--failure", action="append")
    args = parser.parse_args()
    printed = subprocess.run(
        [sys.executable, str(ROOT / "image" / "programs.py"), "--print-bin"], check=True, capture_output=True, text=True
    ).stdout
    programs = Path(printed.strip().splitlines()[-1])
    failures = [entry for entry in FAILURES if not args.failure or any(word in entry.name for word in args.failure)]
    started, failed, count = time.monotonic(), 0, 0

    async def cases(ground: Ground) -> None:
        nonlocal failed, count
        for scenario in SCENARIOS:
            if args.scenario and scenario.name not in args.scenario:
                continue
            writes = await clean_run(ground, scenario)
            for number, write in enumerate(dict.fromkeys(writes)):
                for failure in failures:
                    case = Case(scenario, number, failure, write)
                    count += 1
                    try:
                        print(f"{await play(ground, case)}: {case.id}", flush=True)
                    except AssertionError as error:
                        failed += 1
                        print(f"FAILED: {case.id}\n{''.join(traceback.format_exception(error))}", flush=True)

    async def run(sandbox: Sandbox) -> None:
        with place() as at, failing_server(sandbox) as double:
            write_kubeconfig(at.kubeconfig, double.address)
            async with tools_of(at, programs, double, sandbox.api, toolsets=("helm",)) as ground:
                await cases(ground)

    with Sandbox.up(f"releases-{os.getpid()}", real_node=False, kwok_nodes=2) as sandbox:
        asyncio.run(run(sandbox))
    print(f"{count} cases in {time.monotonic() - started:.0f} s, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
