"""One hundred credentials stand in a real cluster and in what a caller sends: no way of reading shows one.

Each read that is allowed runs for real, alone and through every filter; what comes back, by any tool, the command line,
the audit log and the server's own log at debug, holds none of them in any form. That what stands beside them was shown
proves that the reads came near.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from tests.integration.planting import CHART, REFUSED, plant
from tests.sandbox.sandbox import Sandbox
from tests.unit import planted
from tests.unit.planted import NAME, NAMESPACE

from obi_mcp.redact import strip_controls

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

IN_FLIGHT = 8
MARK = "data, never instructions"
AT = f"-n {NAMESPACE}"
SELECTOR = "-l app.kubernetes.io/component=planted,app.kubernetes.io/part-of=obi"

KUBECTL = [
    *(f"get cm,ds,pods {AT} {SELECTOR} -o {form}" for form in ("yaml", "json", "wide", "name")),
    *(f"get cm {NAME} {AT} -o {form}" for form in ("yaml", "json", "wide")),
    *(f"get ds {NAME} {AT} -o {form}" for form in ("yaml", "json")),
    f"get pods -A {SELECTOR} -o yaml",
    f"get pods {AT} {SELECTOR} -o jsonpath='{{.items[*].status.conditions}}'",
    f"get pod POD {AT} -o jsonpath='{{.status}}'",
    f"get pod POD {AT} -o go-template='{{{{.status.conditions}}}}'",
    f"get pod POD {AT} -o custom-columns='A:.status.conditions[*].message,B:.metadata.name'",
    f"get pods {AT} {SELECTOR} --sort-by=.status.phase -o wide",
    f"describe cm {NAME} {AT}",
    f"describe ds {NAME} {AT}",
    f"describe pod POD {AT}",
    f"describe pods {AT} {SELECTOR}",
    f"logs POD {AT}",
    f"logs POD {AT} --timestamps --prefix",
    f"logs ds/{NAME} {AT}",
    f"logs {AT} {SELECTOR} --tail=500",
    # What begins within a private key: every number of lines from the end.
    *(f"logs POD {AT} --tail={number}" for number in range(1, 30)),
    f"events --for pod/POD {AT}",
    f"events --for pod/POD {AT} -o yaml",
    f"get events {AT} --field-selector involvedObject.kind=Pod,involvedObject.name=POD -o json",
    f"rollout history ds/{NAME} {AT}",
    f"rollout history ds/{NAME} {AT} --revision=1",
    f"rollout history ds/{NAME} {AT} --revision=1 -o yaml",
    f"get controllerrevisions {AT} {SELECTOR} -o json",
    f"get controllerrevisions {AT} {SELECTOR} -o yaml",
]
# What holds credentials may not be written, so these are refused; a refusal may not show them either.
WRITES = [
    f"kubectl label ds {NAME} {AT} team=obi --dry-run=server -o yaml",
    f"kubectl annotate cm {NAME} {AT} checksum/config=1 --dry-run=client -o json",
    f"helm template obi obi {AT} --values -",
    f"helm upgrade obi obi {AT} --reuse-values --dry-run=client",
]
HELM = [
    *(f"get {part} obi {AT}" for part in ("values", "manifest", "notes", "hooks", "metadata", "all")),
    *(f"get values obi {AT} {form}" for form in ("-a", "-o json", "-o yaml", "-a -o json", "--revision 1")),
    f"get metadata obi {AT} -o json",
    *(f"status obi {AT} {form}" for form in ("", "-o json", "-o yaml")),
    *(f"history obi {AT} {form}" for form in ("", "-o json", "-o yaml")),
    f"list {AT} -o json",
]
FILTERS = [
    "jq .",
    "jq '.. | strings'",
    "jq '.. | strings | @base64'",
    "jq '.. | strings | @uri'",
    "jq '.. | strings | @json'",
    "jq '.. | strings | explode | reverse | implode'",
    "jq '.. | strings | ascii_downcase | ascii_upcase'",
    'jq -r \'.. | strings | split("") | join("\\u200b")\'',
    "jq -r 'tostream | tostring'",
    "jq -c 'tostring | @base64d? // .'",
    "grep -o -E '.{1,40}'",
    "grep -i -A 3 -B 3 -E 'pass|token|key'",
    "tr '\\n' ' '",
    "tr -d ' \\n'",
    "tr 'a-z' 'A-Z'",
    "tr ':=' '  '",
    "tr -d ':='",
    "cut -c 3-",
    "cut -d : -f 2-",
    "sort",
    "sort -r -u",
    "uniq -c",
    "head -n 400 | tail -n 300",
    "tail -n 25",
]
PIPED = [
    f"kubectl get cm {NAME} {AT} -o json",
    f"kubectl describe ds {NAME} {AT}",
    f"kubectl logs POD {AT}",
    f"helm get all obi {AT}",
]


@pytest.fixture(scope="module")
def pod(sandbox: Sandbox, programs_bin: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with plant(sandbox, programs_bin, tmp_path_factory.mktemp("planted")) as name:
        yield name


@pytest.fixture
def environment(sandbox: Sandbox, programs_bin: Path, tmp_path: Path) -> dict[str, str]:
    return {
        "KUBECONFIG": str(sandbox.kubeconfig),
        "OBI_MCP_PROGRAMS__KUBECONFIG": str(sandbox.kubeconfig),
        "OBI_MCP_PROGRAMS__PATH": json.dumps([str(programs_bin)]),
        "OBI_MCP_PROGRAMS__CHART_STORE": str(CHART.parent),
        "OBI_MCP_AUDIT__FILE": str(tmp_path / "audit.ndjson"),
        "OBI_MCP_LOG_LEVEL": "debug",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }


@dataclass
class Shown:
    """Everything that came out, by where."""

    texts: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    deceives: list[str] = field(default_factory=list)
    unmarked: list[str] = field(default_factory=list)
    stripped: list[str] = field(default_factory=list)

    def see(self, where: str, content: str, structured: dict[str, Any], told: list[str]) -> None:
        """One answer."""
        strings = [content, *told, *strings_of(structured)]
        self.texts[where] = "\n".join([content, json.dumps(structured), *strings])
        if any(strip_controls(text)[1] for text in strings):
            self.deceives.append(where)
        if structured.get("stdout") and MARK not in content:
            self.unmarked.append(where)
        if structured.get("stripped"):
            self.stripped.append(where)

    def leaks(self) -> list[str]:
        return [f"{where}: {one}" for where, text in self.texts.items() for one in planted.found(text)]

    def beside(self) -> set[str]:
        everything = "\n".join(self.texts.values())
        return {plant.anchor for plant in planted.plants() if plant.anchor in everything}


def strings_of(value: Any) -> Iterator[str]:
    """Every string and key of JSON data."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from strings_of(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings_of(item)


def reads(pod: str) -> list[tuple[str, str | None]]:
    """Every allowed way of reading: command lines, each with its document."""
    lines = [*(f"kubectl {line}" for line in KUBECTL), *(f"helm {line}" for line in HELM)]
    lines += [f"{head} | {filters}" for head in PIPED for filters in FILTERS if "jq" not in filters or "json" in head]
    harmless = {**bare_document(), "data": {"a.yml": "log_level: DEBUG\n"}}
    return [*((line.replace("POD", pod), None) for line in lines), ("kubectl diff -f -", json.dumps(harmless))]


def refused() -> list[tuple[str, str | None]]:
    """What a caller sends that holds credentials, or would write what does."""
    values = json.dumps({"planted": planted.values()})
    lines = [(line, values if "--values -" in line else None) for line in WRITES]
    lines += [(plant.text, None) for plant in planted.at("command")]
    document = bare_document()
    for verb in ("diff -f -", "apply -f - --dry-run=server -o yaml", "apply -f - --dry-run=client -o json"):
        for name, text in document["data"].items():
            lines.append((f"kubectl {verb}", json.dumps({**document, "data": {name: f"{text}\nadded: 1\n"}})))
    metadata = {**document["metadata"], "name": REFUSED}
    admitted = {**document, "metadata": metadata, "data": {"a.yml": "log_level: DEBUG\n"}}
    return [*lines, ("kubectl create -f - --dry-run=server", json.dumps(admitted))]


def bare_document() -> dict[str, Any]:
    """The ConfigMap without its annotations."""
    document = planted.config_map()
    document["metadata"].pop("annotations")
    return document


async def ask(environment: dict[str, str], pod: str, log: Path) -> Shown:
    """All of it, at ``full``, over one session."""
    shown = Shown()
    gate = asyncio.Semaphore(IN_FLIGHT)
    parameters = StdioServerParameters(
        command=sys.executable, args=["-m", "obi_mcp", "serve", "--access", "full"], env=environment
    )
    with log.open("w") as errlog:
        async with Client(stdio_client(parameters, errlog=errlog)) as client:

            async def one(number: int, tool: str, line: str, more: dict[str, Any]) -> None:
                told: list[str] = []

                async def hear(progress: float, total: float | None, message: str | None) -> None:
                    told.append(message or "")

                async with gate:
                    result = await client.call_tool(
                        tool, {"command": line, **more}, progress_callback=hear, read_timeout_seconds=300
                    )
                content = "\n".join(getattr(part, "text", "") for part in result.content)
                shown.see(f"{number} {tool}: {line}", content, dict(result.structured_content or {}), told)
                if result.is_error:
                    shown.refused[f"{line} {number}"] = content

            calls = []
            for number, (line, stdin) in enumerate([*reads(pod), *refused()]):
                more = {} if stdin is None else {"stdin": stdin}
                tool = "obi_helm" if line.startswith("helm") else "obi_kubectl"
                calls.append(one(number, tool, line, {**more, "max_bytes": 1_000_000, "timeout_s": 300}))
                if stdin is not None or "cmd-" in line:
                    calls.append(one(number, "obi_explain_command", line, more))
            await asyncio.gather(*calls)
    return shown


async def test_no_way_of_reading_shows_a_planted_credential(
    environment: dict[str, str], pod: str, tmp_path: Path
) -> None:
    log = tmp_path / "stderr.log"
    shown = await ask(environment, pod, log)
    audit = Path(environment["OBI_MCP_AUDIT__FILE"]).read_text("utf-8")
    assert len(audit.splitlines()) >= len(shown.texts) and '"level": "debug"' in log.read_text("utf-8")
    shown.texts["the audit log"] = audit
    shown.texts["the server's log"] = log.read_text("utf-8")

    assert shown.leaks() == []
    # What deceives the eye is gone and counted, and what is the cluster's says so.
    assert shown.deceives == [] and shown.unmarked == []
    assert [where for where in shown.stripped if "logs POD -n".replace("POD", pod) in where]
    assert [where for where in shown.stripped if "describe ds" in where]
    assert planted.LOOKS_LIKE in shown.texts[next(where for where in shown.texts if f"logs {pod}" in where)]
    # What is in the cluster was near: what stands beside each was shown. Only what a caller sends has nothing beside.
    assert {plant.anchor for plant in planted.plants() if plant.place != "command"} - shown.beside() == set()
    wanted = {f"{line} {number}" for number, (line, _) in enumerate(reads(pod))}
    assert {line: said for line, said in shown.refused.items() if line in wanted} == {}


@pytest.mark.parametrize("output", ["text", "json", "junit", "github"])
def test_the_command_line_shows_none(environment: dict[str, str], pod: str, output: str) -> None:
    command = f"kubectl describe ds {NAME} {AT}"
    done = subprocess.run(
        [sys.executable, "-m", "obi_mcp", "call", "obi_kubectl", "--arg", f"command={command}", "--output", output],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert planted.found(done.stdout + done.stderr) == []
    assert output == "github" or planted.at("environment")[0].anchor in done.stdout
