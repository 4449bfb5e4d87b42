"""The server under exactly the rights that ``obi-mcp rbac`` writes: what its level needs works, what is above it the
cluster itself refuses, whatever access the server was started with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.integration.conftest import Serve
from tests.sandbox.sandbox import Sandbox

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

SPACE = "observability"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def kubeconfig(sandbox: Sandbox, programs_bin: Path, directory: Path, access: str) -> Path:
    """Applies the rights of that level as administrator, and gives a kubeconfig of the account."""
    command = [sys.executable, "-m", "obi_mcp", "rbac", "--access", access, "--namespace", SPACE, "--everywhere"]
    made = subprocess.run(command, capture_output=True, text=True, check=True)
    environment = {**os.environ, "KUBECONFIG": str(sandbox.kubeconfig)}

    def kubectl(*words: str, stdin: str = "") -> str:
        done = subprocess.run(
            [programs_bin / "kubectl", *words], env=environment, input=stdin, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    # Whatever a level before had must not help this one.
    kubectl("delete", "clusterrole,clusterrolebinding", "obi-mcp", "--ignore-not-found")
    kubectl("delete", "role,rolebinding", "obi-mcp", "-n", SPACE, "--ignore-not-found")
    kubectl("apply", "-f", "-", stdin=made.stdout)
    token = kubectl("create", "token", "obi-mcp", "-n", SPACE)
    config: dict[str, Any] = yaml.safe_load(sandbox.kubeconfig.read_text())
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
    path = directory / f"kubeconfig-{access}"
    path.write_text(yaml.safe_dump(config))
    path.chmod(0o600)
    return path


def as_account(path: Path) -> dict[str, str]:
    return {
        "KUBECONFIG": str(path),
        "OBI_MCP_PROGRAMS__KUBECONFIG": str(path),
        "OBI_MCP_TOOLSETS": '["kubernetes"]',
    }


READS = (
    "get pods -A -o json | jq '.items | length'",
    f"logs -n {SPACE} -l app.kubernetes.io/part-of=obi --tail=5",
    f"get ds,cm,svc -n {SPACE} -o json",
    "get nodes -o wide",
    f"describe ds obi -n {SPACE}",
    f"rollout status ds/obi -n {SPACE} --timeout=20s",
    f"top pods -n {SPACE} -l app.kubernetes.io/part-of=obi",
)


async def test_read_only_rights_read_everything_and_change_nothing(
    serve: Serve, sandbox: Sandbox, programs_bin: Path, tmp_path: Path
) -> None:
    path = kubeconfig(sandbox, programs_bin, tmp_path, "read-only")
    async with serve("full", **as_account(path)) as session:
        for command in READS:
            outcome = await session.kubectl(command)
            assert not outcome.is_error, f"{command}: {outcome.text}"
        for tool in ("obi_k8s_status", "obi_k8s_logs", "obi_k8s_aggregate_metrics"):
            answer = await session.client.call_tool(tool, {})
            assert not answer.is_error, tool
        for command in (
            f"rollout restart ds/obi -n {SPACE}",
            f"delete ds obi -n {SPACE}",
            f"label ds obi team=a -n {SPACE}",
        ):
            outcome = await session.kubectl(command)
            failed = outcome.is_error or outcome.structured["exit_code"]
            assert failed and "forbidden" in outcome.text.lower(), f"{command}: {outcome.text}"


@pytest.mark.parametrize("access", ["non-destructive", "full"])
async def test_a_level_can_do_what_it_says(
    serve: Serve, sandbox: Sandbox, programs_bin: Path, tmp_path: Path, access: str
) -> None:
    path = kubeconfig(sandbox, programs_bin, tmp_path, access)
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "obi-rights", "namespace": SPACE, "labels": {"app.kubernetes.io/part-of": "obi"}},
        "data": {"obi.yml": "open_port: 8080\nprometheus_export: {port: 9400}\n"},
    }
    async with serve("full", **as_account(path)) as session:
        ready = await session.client.call_tool("obi_k8s_preflight", {"namespace": SPACE})
        assert (ready.structured_content or {})["ready"], ready.content
        for command in READS:
            outcome = await session.kubectl(command)
            assert not outcome.is_error, f"{command}: {outcome.text}"
        outcome = await session.kubectl("apply -f -", stdin=json.dumps(config))
        assert not outcome.is_error, outcome.text
        outcome = await session.kubectl(f"label cm obi-rights team=a -n {SPACE}")
        assert not outcome.is_error, outcome.text
        outcome = await session.helm(f"list -n {SPACE}")
        assert not outcome.is_error, outcome.text
        outcome = await session.kubectl(f"delete cm obi-rights -n {SPACE}")
        assert outcome.is_error is (access != "full"), outcome.text
    if access != "full":
        sandbox.api.request("DELETE", f"/api/v1/namespaces/{SPACE}/configmaps/obi-rights")
