"""helm on the guarded road: a release of OBI's from install to uninstall, and charts and releases that are refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.conftest import Serve
from tests.integration.test_road import kubectl
from tests.sandbox.sandbox import Sandbox

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

CHARTS = Path(__file__).parents[1] / "cases" / "charts"
NAMESPACE = "opentelemetry"
# The sandbox's own DaemonSet has the chart's default name, so the release's objects get the other one in scope.
NAMED = "--set fullnameOverride=obi-obi"


@pytest.fixture
def namespace(sandbox: Sandbox, programs_bin: Path) -> Iterator[str]:
    kubectl(programs_bin, sandbox, "create", "namespace", NAMESPACE)
    yield NAMESPACE
    kubectl(programs_bin, sandbox, "delete", "namespace", NAMESPACE)


async def test_a_release_lives_from_install_to_uninstall(serve: Serve, namespace: str) -> None:
    at = f"-n {namespace}"
    async with serve("full") as session:
        steps = [
            await session.helm(f"install obi obi {at} {NAMED}"),
            await session.helm(f"list {at}"),
            await session.helm(f"status obi {at} -o json | jq -r .info.status"),
            await session.helm(f"upgrade obi obi {at} {NAMED} --set config.log_level=DEBUG"),
            await session.helm(f"get values obi {at} | grep log_level"),
            await session.helm(f"history obi {at} -o json | jq length"),
            await session.helm(f"rollback obi 1 {at}"),
            await session.helm(f"uninstall obi {at}"),
        ]
    assert [step.text for step in steps if step.is_error] == []
    assert steps[1].structured["decision"]["effect"] == "narrow" and "obi-0." in steps[1].stdout
    assert steps[2].stdout.strip() == "deployed"
    assert "DEBUG" in steps[4].stdout
    assert steps[5].stdout.strip() == "2"


@pytest.mark.parametrize(
    ("store", "says"),
    [
        ("foreign-image", "image"),
        ("hook", "Job"),
        ("lookup", "lookup"),
        ("random", "rand"),
        ("crds", "crds"),
    ],
)
async def test_a_chart_is_refused_by_what_it_renders_or_uses(
    serve: Serve, namespace: str, sandbox: Sandbox, programs_bin: Path, store: str, says: str
) -> None:
    async with serve("full", OBI_MCP_PROGRAMS__CHART_STORE=str(CHARTS / store)) as session:
        outcome = await session.helm(f"install obi obi -n {namespace}")
    assert outcome.is_error and outcome.code == "denied", outcome.text
    assert says.lower() in outcome.text.lower()
    left = kubectl(programs_bin, sandbox, "get", "all,secrets", "-n", namespace, "-o", "json")
    assert json.loads(left)["items"] == []


async def test_a_foreign_release_named_obi_is_not_found(
    serve: Serve, namespace: str, sandbox: Sandbox, programs_bin: Path
) -> None:
    """Its name is in scope; its manifest holds a Secret, which ``get manifest`` would print."""
    helm(programs_bin, sandbox, "install", "obi", str(CHARTS / "foreign-release" / "obi"), "-n", namespace)
    async with serve("full") as session:
        answers = [
            await session.helm(f"{verb} obi -n {namespace}")
            for verb in ("get manifest", "get values", "status", "history", "uninstall")
        ]
    helm(programs_bin, sandbox, "uninstall", "obi", "-n", namespace)
    assert [answer.code for answer in answers] == ["not_found"] * 5
    assert "CANARY" not in "".join(answer.text + json.dumps(answer.structured) for answer in answers)


async def test_a_template_is_judged_and_given_as_rendered(serve: Serve) -> None:
    async with serve() as session:
        outcome = await session.helm("template obi obi -n observability | grep -c '^kind:'")
        level = await session.helm("install obi obi -n observability")
    assert outcome.stdout.strip() == "5", outcome.text
    assert level.code == "denied" and "non-destructive" in level.text


def helm(programs_bin: Path, sandbox: Sandbox, *arguments: str) -> None:
    """The real helm with the sandbox's own credentials."""
    import subprocess

    subprocess.run(
        [str(programs_bin / "helm"), f"--kubeconfig={sandbox.kubeconfig}", *arguments], check=True, capture_output=True
    )
