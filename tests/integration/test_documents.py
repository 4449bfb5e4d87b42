"""The documents' walk-throughs, as they stand: clients start our servers, scripts and tool calls run on the sandbox."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from mcp import Client, StdioServerParameters
from tests.documents import checks
from tests.documents.blocks import DOCS, ROOT, Block, blocks, marked
from tests.integration.conftest import Serve
from tests.integration.local_host import CONFIG, local_host, real_agent
from tests.integration.test_kubernetes import ask, until_namespaces_are_settled
from tests.sandbox.sandbox import Sandbox

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

WITHIN_S = 180.0
NAME, SPACE = "obi-two", "obi"
PAGES = sorted({block.path for block in marked("shell")})
# What every `docker run` of a client's configuration has to take from the container.
HELD = {"-i", "--rm", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"}
FILES = ("--audit-file", "--kubeconfig", "--config")
_NUMBER = re.compile(r"\b[0-9a-f]{20}\b|\d[\d.,]*")


# --- clients


def our_servers() -> list[tuple[str, Mapping[str, Any]]]:
    """Every server of ours that a client's configuration in the documents starts."""
    return [
        (f"{block} {name}", server)
        for block in marked("client")
        for name, server in json.loads(block.text)[block.words[0]].items()
        if checks.our_arguments(server) is not None
    ]


def as_started(server: Mapping[str, Any]) -> tuple[str, ...]:
    """Its arguments without the values of files: those that are alike are started once."""
    arguments = checks.our_arguments(server) or []
    return tuple(word for before, word in zip(["", *arguments], arguments, strict=False) if before not in FILES)


async def test_every_client_gets_its_server(sandbox: Sandbox, tmp_path: Path) -> None:
    """The image is not built here: a ``docker run`` is held to its flags, and the server of this checkout started with
    the arguments behind the image's name."""
    few = asyncio.Semaphore(3)

    async def starts(number: int, server: Mapping[str, Any]) -> list[str]:
        folder = tmp_path / str(number)
        folder.mkdir()
        words = [sys.executable, "-m", "obi_mcp", *here(checks.our_arguments(server) or [], folder, sandbox)]
        environment = {"KUBECONFIG": str(sandbox.kubeconfig), "PATH": os.environ["PATH"], "HOME": str(folder)}
        async with few, Client(StdioServerParameters(command=words[0], args=words[1:], env=environment)) as client:
            return [tool.name for tool in (await client.list_tools()).tools]

    servers = our_servers()
    assert len(servers) > 8
    for where, server in servers:
        assert server["command"] != "docker" or set(server["args"]) >= HELD, where
    different = {as_started(server): (where, server) for where, server in servers}.values()
    lists = await asyncio.gather(*(starts(number, server) for number, (_, server) in enumerate(different)))
    for (where, _), names in zip(different, lists, strict=True):
        assert "obi_kubectl" in names, where


def here(arguments: list[str], folder: Path, sandbox: Sandbox) -> list[str]:
    """The arguments, with files of this machine in the place of the reader's."""
    config = folder / "config.yaml"
    config.write_text("access: read-only\n", encoding="utf-8")
    config.chmod(0o600)
    files = dict(zip(FILES, (folder / "audit.ndjson", sandbox.kubeconfig, config), strict=True))
    return [
        str(files[before]) if before in files else word
        for before, word in zip(["", *arguments], arguments, strict=False)
    ]


# --- scripts


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
async def test_a_script_does_what_is_shown(page: Path, sandbox: Sandbox, programs_bin: Path, tmp_path: Path) -> None:
    own = [block for block in blocks(page) if block.kind in {"shell", "shows"}]
    ours = tmp_path / "bin"
    ours.mkdir()
    (ours / "obi-mcp").write_text(f'#!/bin/sh\nPYTHONPATH={ROOT}/server exec {sys.executable} -m obi_mcp "$@"\n')
    (ours / "obi-mcp").chmod(0o755)
    environment = {
        "PATH": f"{ours}:{programs_bin}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "KUBECONFIG": str(sandbox.kubeconfig),
        "OBI_MCP_AUDIT__FILE": str(tmp_path / "audit.ndjson"),
        "OBI_MCP_PROGRAMS__PATH": json.dumps([str(programs_bin)]),
        # As the page's own settings have it.
        "OBI_MCP_SCOPE__CLUSTER_OBJECTS": '["obi", "obi-next"]',
    }
    script = "".join(block.text for block in own if block.kind == "shell")
    try:
        done = await asyncio.to_thread(
            subprocess.run,
            ["bash", "-eu", "-o", "pipefail", "-c", script],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        for kind in ("clusterroles", "clusterrolebindings"):
            sandbox.api.request("DELETE", f"/apis/rbac.authorization.k8s.io/v1/{kind}/obi-mcp")
        for kind in ("roles", "rolebindings"):
            path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/observability/{kind}/obi-mcp"
            sandbox.api.request("DELETE", path)
        sandbox.api.request("DELETE", "/api/v1/namespaces/observability/serviceaccounts/obi-mcp")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    printed = shape(done.stdout.replace(sandbox.instance.name, "docs"))
    for block in own:
        if block.kind == "shows":
            assert [line for line in block.lines if shape(line) not in printed] == [], done.stdout


def shape(text: str) -> str:
    """The text without what differs from run to run."""
    return _NUMBER.sub("#", text)


# --- tool calls


async def test_the_calls_of_the_cluster_example(serve: Serve, sandbox: Sandbox) -> None:
    """In the order of the page. The sandbox has an OBI already: this one gets another name, namespace and port."""
    config = sandbox.api.get("/api/v1/namespaces/observability/configmaps/obi").require("read it")["data"]
    deployed = {
        "name": NAME,
        "privileged": True,
        "prometheus_port": 9191,
        "config": next(iter(config.values())).replace("9090", "9191"),
    }
    until_namespaces_are_settled(sandbox)
    settings = {"OBI_MCP_SCOPE__CLUSTER_OBJECTS": f'["obi", "{NAME}"]', "OBI_MCP_TOOLSETS": '["kubernetes"]'}
    plan_id = ""
    try:
        async with serve("full", **settings) as session:
            for block, answer in calls(DOCS / "examples" / "kubernetes.md", "cluster"):
                call = json.loads(block.text)
                tool, given = call["name"], dict(call["arguments"])
                if given.get("plan_id") == checks.PLAN_ID:
                    given["plan_id"] = plan_id
                else:
                    given["namespace"] = SPACE
                    given |= deployed if tool == "obi_k8s_deploy" else {}
                    given |= {"prometheus_port": deployed["prometheus_port"]} if tool == "obi_k8s_preflight" else {}
                    if "name" in checks.tools()[tool].input_schema["properties"]:
                        given["name"] = NAME
                if tool == "obi_k8s_aggregate_metrics":
                    await asyncio.to_thread(sandbox.traffic)
                wanted = [shape(there(line)).strip() for line in answer.lines] if answer else []
                data, text, failed = await until(session, tool, given, wanted)
                assert failed == ("refused" in block.words), f"{block}: {text}"
                assert [line for line in wanted if line not in shaped(text)] == [], f"{block}:\n{text}"
                plan_id = data.get("plan_id", plan_id)
    finally:
        sandbox.api.request("DELETE", f"/api/v1/namespaces/{SPACE}")
        for kind in ("clusterroles", "clusterrolebindings"):
            sandbox.api.request("DELETE", f"/apis/rbac.authorization.k8s.io/v1/{kind}/{NAME}")
        until_namespaces_are_settled(sandbox)


async def until(session: Any, tool: str, given: dict[str, Any], wanted: list[str]) -> tuple[dict[str, Any], str, bool]:
    """The answer; of a tool that only looks, the first one that has what is wanted, while pods are becoming ready."""
    looks = checks.tools()[tool].reaches.label == "read-only"
    deadline = asyncio.get_running_loop().time() + WITHIN_S
    while True:
        data, text, failed = await ask(session, tool, **given)
        fits = all(line in shaped(text) for line in wanted)
        if not looks or (fits and not failed) or asyncio.get_running_loop().time() > deadline:
            return data, text, failed
        await asyncio.sleep(0.3)


def there(line: str) -> str:
    """A line of the page as it is in the sandbox, where name and namespace are others."""
    line = line.replace("observability/obi", f"{SPACE}/{NAME}")
    return re.sub(r"(ClusterRole(?:Binding)?) obi\b", rf"\1 {NAME}", line)


def shaped(text: str) -> list[str]:
    return [shape(line).strip() for line in text.splitlines()]


def calls(page: Path, where: str) -> Iterator[tuple[Block, Block | None]]:
    """The tool calls that are made there, each with the answer that the page shows."""
    own = blocks(page)
    for number, block in enumerate(own):
        if block.kind == "call" and where in block.words:
            follows = own[number + 1] if number + 1 < len(own) else None
            yield block, follows if follows is not None and follows.kind == "answer" else None


@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces and eBPF need root")
async def test_the_calls_of_the_local_example(tmp_path: Path) -> None:
    """In the order of the page, with a real agent; its host has one link, which the configuration names."""
    made = 0
    with local_host(f"documents-{os.getpid()}", tmp_path, real_agent()) as host:
        async with host.serve() as served:
            for block, _ in calls(DOCS / "examples" / "local.md", "local"):
                call = json.loads(block.text)
                more = {"config": CONFIG} if call["name"] == "obi_deploy_local" else {}
                answer = await served.call(call["name"], **call["arguments"], **more)
                assert not answer.is_error, f"{block}: {answer.text}"
                made += 1
            assert (await served.call("obi_get_status")).data["state"] == "stopped"
        assert host.processes() == []
    assert made >= 6


async def test_a_sidecar_where_nobody_said_that_obi_instruments_is_refused_with_the_setting(serve: Serve) -> None:
    (call,) = [
        json.loads(block.text)
        for block in blocks(DOCS / "examples" / "workflows.md")
        if block.kind == "call" and '"sidecar"' in block.text
    ]
    async with serve("full", OBI_MCP_TOOLSETS='["kubernetes"]') as session:
        refused, text, failed = await ask(session, call["name"], **call["arguments"])
        (line,) = [json.loads(line) for line in session.audit.read_text().splitlines()]
    assert failed and refused["code"] == line["error"] == "denied"
    assert "the namespace shop is not in scope.instrumented_namespaces" in text


def test_the_settings_of_the_pages_are_those_that_the_scripts_run_with() -> None:
    (block,) = [one for one in blocks(DOCS / "examples" / "workflows.md") if "cluster_objects" in one.text]
    assert yaml.safe_load(block.text)["scope"]["cluster_objects"] == ["obi", "obi-next"]
