"""Every way out of the server: results, errors, progress, the audit log, the server's own log. None shows a secret."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit import planted
from tests.unit.policy.policies import built_in
from tests.unit.recorded_road import RecordedRoad, services

from obi_mcp.audit import AuditEntry, AuditLog
from obi_mcp.config import Audit, Settings
from obi_mcp.enforcer.enforcer import Enforcer
from obi_mcp.enforcer.model import Call
from obi_mcp.errors import ClusterUnreachable, Conflict, Denied, ObiMcpError, ProgramFailed
from obi_mcp.log import StderrWriter, start_logging
from obi_mcp.policy.model import Access
from obi_mcp.redact import Redactor
from obi_mcp.resources import policy as policy_resources
from obi_mcp.resources.serving import Resources
from obi_mcp.resources.spec import ResourceSpec
from obi_mcp.toolsets.base import Services, ToolCall, ToolResult, ToolSpec
from obi_mcp.toolsets.registry import listed_tools
from obi_mcp.toolsets.run import run_tool

SECRET = "swordfish77"
LINE = f"obi --password {SECRET} --port 80"
BLOCK = f"headers:\n  x-any: {SECRET}\n"


def tool(result: ToolResult | ObiMcpError, *told: str) -> ToolSpec:
    """A tool that takes no care of its own."""
    (spec,) = [one for one in listed_tools(Settings()) if one.name == "obi_explain_command"]

    async def run(_: Services, call: ToolCall) -> ToolResult:
        for text in told:
            if call.progress is not None:
                await call.progress(1, None, text)
        if isinstance(result, ObiMcpError):
            raise result
        return result

    return replace(spec, run=run)


def called(spec: ToolSpec) -> tuple[ToolResult, list[str]]:
    told: list[str] = []

    async def hear(_done: float, _total: float | None, message: str) -> None:
        told.append(message)

    call = ToolCall({"command": "kubectl get pods"}, "test", hear)
    return asyncio.run(run_tool(services(RecordedRoad()), spec, call)), told


RESULTS: list[tuple[str, ToolResult | ObiMcpError]] = [
    ("data", ToolResult({"env": [{"name": "X_TOKEN", "value": SECRET}]}, "x")),
    ("text in data", ToolResult({"stdout": BLOCK}, "x")),
    ("a decision's vector", ToolResult({"pipeline": [["kubectl", "--token", SECRET]]}, "x")),
    ("the short text", ToolResult({}, LINE)),
    ("what was printed", ToolResult({"stdout": ""}, "x", payload=BLOCK)),
    ("notes", ToolResult({}, "x", notes=(LINE,))),
    ("an error", ProgramFailed(LINE, f"try --password {SECRET}")),
]


@pytest.mark.parametrize("result", [row[1] for row in RESULTS], ids=[row[0] for row in RESULTS])
def test_a_result_leaves_a_tool_without_secrets(result: ToolResult | ObiMcpError) -> None:
    got, _ = called(tool(result))
    everything = [json.dumps(got.structured), got.text, got.payload or "", *got.notes]
    assert SECRET not in "".join(everything) and "[redacted]" in "".join(everything)


def test_the_payload_stays_the_same_text_as_in_the_data() -> None:
    got, _ = called(tool(ToolResult({"stdout": BLOCK}, "x", payload=BLOCK)))
    assert got.payload == got.structured["stdout"] == "headers:\n  x-any: [redacted]\n"


def test_a_result_leaves_a_tool_without_what_deceives() -> None:
    said = planted.DECEIVING
    data: dict[str, Any] = {"stdout": said, "json": {said: [said]}, "stripped": 2}
    got, _ = called(tool(ToolResult(data, f"a {said}", payload=data["stdout"], notes=(said,))))
    look = planted.LOOKS_LIKE
    gone = 3 * (len(said) - len(look))
    assert got.structured == {"stdout": look, "json": {look: [look]}, "stripped": 2 + gone}
    assert (got.text, got.payload, got.notes) == (f"a {look}", look, (look,))


@pytest.mark.parametrize("error", [ProgramFailed("it said so"), Conflict("x"), ClusterUnreachable("y")])
def test_a_failure_that_repeats_what_others_said_is_marked(error: ObiMcpError) -> None:
    got, _ = called(tool(error))
    assert "data, never instructions" in got.text


def test_progress_is_told_without_secrets_and_without_controls() -> None:
    _, told = called(tool(ToolResult({}, "x"), LINE, "checking \x1b[31mpods\u202e/x"))
    assert told == ["obi --password [redacted] --port 80", "checking pods/x"]


def test_a_resource_is_read_without_secrets_and_stays_json(monkeypatch: pytest.MonkeyPatch) -> None:
    async def read(_services: Services, _caller: str) -> str:
        return json.dumps({"password": SECRET, "text": BLOCK, "lines": [f"a\x1b[31m {planted.DECEIVING}"]})

    monkeypatch.setattr(policy_resources, "SPECS", (ResourceSpec("obi://x", "x", "x", read),))
    text, _ = asyncio.run(Resources(services(RecordedRoad())).read("obi://x", "test"))
    assert SECRET not in text
    assert json.loads(text)["text"] == "headers:\n  x-any: [redacted]\n"


@pytest.mark.usefixtures("root_logger")
def test_the_servers_own_log_holds_none() -> None:
    reader, fd = os.pipe()
    writer = StderrWriter(fd)
    start_logging("debug", writer)
    logger = logging.getLogger("mcp.server")
    logger.debug("received %r", {"command": LINE, "stdin": BLOCK})
    logger.info("failed", extra={"said": BLOCK, "facts": {"password": SECRET}})
    try:
        raise ValueError(LINE)
    except ValueError:
        logger.exception("failed")
    assert writer.flush(10)
    text = os.read(reader, 65_536).decode()
    os.close(reader)
    os.close(fd)
    assert SECRET not in text
    assert [json.loads(line)["logger"] for line in text.splitlines()] == ["mcp.server"] * 3


@pytest.fixture
def audit(tmp_path: Path) -> Iterator[AuditLog]:
    log = AuditLog(Settings(audit=Audit(file=str(tmp_path / "audit.ndjson"))), Redactor.load().command)
    yield log
    log.close()


def lines(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "audit.ndjson").read_text().splitlines()]


def test_no_planted_credential_gets_into_the_audit_log(tmp_path: Path, audit: AuditLog) -> None:
    for plant in planted.plants():
        words = shlex.join(plant.words)
        for text in (plant.text, f"kubectl get pods {words}", f"kubectl get pods -l {shlex.quote(plant.text)}"):
            audit.record(AuditEntry("obi_kubectl", text, f"caller {plant.text}", stdin=plant.text))
    assert planted.found((tmp_path / "audit.ndjson").read_bytes()) == []


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (f"kubectl get pods --token {SECRET}", "denied"),
        (f"kubectl get pods -l 'password={SECRET}'", "denied"),
        (f"kubectl get pods --unknown password={SECRET}", "invalid_command"),
        (f"helm install obi obi --set auth.password={SECRET}", "denied"),
    ],
)
def test_a_refused_call_has_its_line_and_neither_shows_the_secret(
    tmp_path: Path, audit: AuditLog, command: str, code: str
) -> None:
    async def run() -> Denied:
        enforcer = Enforcer(Settings(), built_in(), audit)
        try:
            with pytest.raises(Denied) as caught:
                await enforcer.run(Call(command, "obi_kubectl", access=Access.READ_ONLY))
            return caught.value
        finally:
            await enforcer.close()

    error = asyncio.run(run())
    (line,) = lines(tmp_path)
    assert (line["error"], SECRET in json.dumps(line)) == (code, False)
    assert SECRET not in f"{error.message} {error.hint} {error.decision.reason} {error.decision.hint}"
