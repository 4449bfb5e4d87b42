"""A racing writer beside helm, which takes no preconditions: what it stored and what stands there is read again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.racing import CANARY, Start, starting
from tests.integration.test_planted import PLANTED, Tenant, rewrite
from tests.sandbox.sandbox import Sandbox

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

STORE = Path(__file__).parents[1] / "cases" / "charts" / "tpl"
RELEASE = "opentelemetry"
MAPS = f"/api/v1/namespaces/{RELEASE}/configmaps"


@pytest.fixture
def start(sandbox: Sandbox, programs_bin: Path, tmp_path: Path) -> Start:
    return starting(sandbox, programs_bin, tmp_path)


@pytest.fixture
def tenant(sandbox: Sandbox, programs_bin: Path) -> Tenant:
    return Tenant(programs_bin, sandbox.kubeconfig)


@pytest.fixture
def release(sandbox: Sandbox, tenant: Tenant) -> Iterator[str]:
    """A release of OBI's with two revisions, and a ConfigMap of somebody else's beside it."""
    tenant.kubectl("create", "namespace", RELEASE)
    for command in (["install"], ["upgrade"]):
        tenant.run("helm", *command, "obi", str(STORE / "obi"), "-n", RELEASE)
    tenant.kubectl("create", "configmap", "settings", "-n", RELEASE, f"--from-literal=a={CANARY}")
    yield RELEASE
    tenant.kubectl("delete", "namespace", RELEASE)


def make_map(tenant: Tenant, name: str) -> None:
    tenant.kubectl("create", "configmap", name, "-n", RELEASE, "--from-literal=a=mine")


def poisoned(tenant: Tenant, revision: int) -> None:
    """Somebody who may write Secrets there puts their own object into what helm stored."""
    rewrite(tenant, RELEASE, f"sh.helm.release.v1.obi.v{revision}", manifest=PLANTED)


async def test_helm_installs_over_nothing_that_came_to_be(start: Start, sandbox: Sandbox, tenant: Tenant) -> None:
    tenant.kubectl("create", "namespace", RELEASE)
    try:
        async with start(STORE) as raced:
            code, said = await raced.run(
                f"helm install obi obi -n {RELEASE}",
                None,
                lambda: make_map(tenant, "obi"),
            )
        assert code == "1", said
        assert sandbox.api.get(f"{MAPS}/obi").body["data"] == {"a": "mine"}
    finally:
        tenant.kubectl("delete", "namespace", RELEASE)


async def test_helm_installs_the_chart_that_was_judged(
    start: Start, sandbox: Sandbox, tenant: Tenant, tmp_path: Path
) -> None:
    """Whoever may write into the chart store changes the chart when it has been judged: helm reads a private copy."""
    shutil.copytree(STORE, tmp_path / "store")
    template = tmp_path / "store" / "obi" / "templates" / "late.yaml"

    def strike() -> None:
        template.write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: late}\n")

    tenant.kubectl("create", "namespace", RELEASE)
    try:
        async with start(tmp_path / "store") as raced:
            code, said = await raced.run(f"helm install obi obi -n {RELEASE}", None, strike)
        assert code == "0" and template.exists(), said
        assert sandbox.api.get(f"{MAPS}/obi").status == 200 and sandbox.api.get(f"{MAPS}/late").status == 404
    finally:
        tenant.kubectl("delete", "namespace", RELEASE)


async def test_helm_upgrades_another_object_and_it_is_said(
    start: Start, sandbox: Sandbox, tenant: Tenant, release: str
) -> None:
    def swap() -> None:
        tenant.kubectl("delete", "configmap", "obi", "-n", release)
        make_map(tenant, "obi")

    async with start(STORE) as raced:
        code, said = await raced.run(f"helm upgrade obi obi -n {release}", None, swap)
    assert code in {"conflict", "1"}, said
    assert code == "1" or "another object than the one that was checked" in said, said


async def test_a_release_that_is_poisoned_after_it_was_judged_is_reported(
    start: Start, sandbox: Sandbox, tenant: Tenant, release: str
) -> None:
    """The remainder: who may write Secrets in the release's namespace can have helm write into an object there, by
    changing the stored revision between the check and helm's own look. It is not deleted on top of that."""
    async with start(STORE) as raced:
        code, said = await raced.run(f"helm rollback obi 1 -n {release}", None, lambda: poisoned(tenant, 1))
    assert (code, "not what was judged" in said, "settings" in said) == ("conflict", True, True), said
    assert sandbox.api.get(f"{MAPS}/settings").status == 200


async def test_helm_uninstalls_only_what_bears_its_marks(
    start: Start, sandbox: Sandbox, tenant: Tenant, release: str
) -> None:
    """Who may write Secrets in the release's namespace names an object in what helm stored, between the check and
    helm's own look: helm 4 leaves it, for it does not bear the release's name."""
    async with start(STORE) as raced:
        code, said = await raced.run(f"helm uninstall obi -n {release}", None, lambda: poisoned(tenant, 2))
    assert code == "0", said
    assert sandbox.api.get(f"{MAPS}/settings").body["data"] == {"a": CANARY}
