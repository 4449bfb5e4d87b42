"""Charts of configured repositories: a real index over HTTP and a real registry, fetched by the real helm, judged like
charts of the store."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.bundle.programs import carrying_programs, registry
from tests.integration.conftest import Serve, Session
from tests.integration.test_helm_tools import AT, HELM, NAMED, empty_space, refused, releases, space
from tests.integration.test_plans import carried_out, planned
from tests.sandbox.sandbox import Sandbox

from obi_mcp.policy.shipped import shipped_charts

pytestmark = [pytest.mark.integration, pytest.mark.anyio]
__all__ = ["empty_space", "space"]

VERSION = yaml.safe_load((shipped_charts() / "obi" / "Chart.yaml").read_text())["version"]
SHOW = f"show chart web/obi --version {VERSION}"
LOGIN = "harbour", "CANARY-of-a-login"
BCRYPT = "$2b$04$hcDU7Wo8jJUt5TvTk9BOweiYvOdXJXloQ8Ft5DK94E5Y7bWVEtDBC"
"""The login's password, as a registry's htpasswd file has it."""


@dataclass
class Repository:
    """A repository on loopback: its folder is what it serves."""

    folder: Path
    helm: Callable[..., None]
    asked: list[str] = field(default_factory=list)
    login: tuple[str, str] | None = None
    port: int = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def archive(self) -> Path:
        return self.folder / f"obi-{VERSION}.tgz"

    def publish(self, more: str = "", *, index: bool = True) -> None:
        """Package the shipped chart, with a line more of its values, and write the index."""
        chart = self.folder.parent / "chart"
        shutil.rmtree(chart, ignore_errors=True)
        shutil.copytree(shipped_charts() / "obi", chart / "obi", dirs_exist_ok=True)
        with (chart / "obi" / "values.yaml").open("a") as file:
            file.write(more)
        self.helm("package", str(chart / "obi"), "--destination", str(self.folder))
        if index:
            self.helm("repo", "index", str(self.folder))

    def change_index(self, **fields: Any) -> None:
        """Other fields of the chart's entry."""
        path = self.folder / "index.yaml"
        index = yaml.safe_load(path.read_text())
        index["entries"]["obi"][0] |= fields
        path.write_text(yaml.safe_dump(index))


class _Handler(SimpleHTTPRequestHandler):
    repository: Repository

    def do_GET(self) -> None:
        self.repository.asked.append(self.path)
        login = self.repository.login
        wanted = f"Basic {base64.b64encode(':'.join(login).encode()).decode()}" if login else None
        if wanted is not None and self.headers["Authorization"] != wanted:
            self.send_error(401)
            return
        super().do_GET()

    def log_message(self, *said: object) -> None:
        pass


def run_helm(program: Path, home: Path, *arguments: str) -> None:
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
    subprocess.run([str(program), *arguments], env=environment, check=True, capture_output=True)


@pytest.fixture
def repository(programs_bin: Path, tmp_path: Path) -> Iterator[Repository]:
    folder = tmp_path / "served"
    folder.mkdir()
    made = Repository(folder, partial(run_helm, programs_bin / "helm", tmp_path))
    made.publish()
    handler = type("Handler", (_Handler,), {"repository": made})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder))) as server:
        made.port = server.server_port
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield made
        server.shutdown()
        thread.join()


@pytest.fixture
def at(serve: Serve) -> Callable[..., Any]:
    """A session of a server that knows the repository ``web``."""

    @asynccontextmanager
    async def start(address: str, access: str = "read-only", **scope: Any) -> AsyncIterator[Session]:
        settings = {f"OBI_MCP_SCOPE__{name.upper()}": json.dumps(value) for name, value in scope.items()}
        repositories = json.dumps({"web": address})
        async with serve(access, OBI_MCP_SCOPE__REPOSITORIES=repositories, **settings, **HELM) as session:
            yield session

    return start


async def test_a_chart_is_fetched_judged_and_rendered(at: Callable[..., Any], repository: Repository) -> None:
    async with at(repository.address) as session:
        shown = await session.helm(SHOW)
        rendered = await session.helm(f"template obi web/obi -n observability --version {VERSION} | grep -c ^kind:")
        none = await session.helm("show chart web/obi --version 9.9.9")
    assert f"version: {VERSION}" in shown.stdout, shown.text
    assert rendered.stdout.strip() == "5", rendered.text
    assert none.code == "denied" and "repository web has no obi 9.9.9" in none.text
    assert set(repository.asked) == {"/index.yaml", f"/{repository.archive.name}"}


def _write(name: str, data: bytes) -> Callable[[Repository], Any]:
    return lambda repository: (repository.folder / name).write_bytes(data)


_ARCHIVE = f"obi-{VERSION}.tgz"
NOT_MEANT: list[tuple[str, Callable[[Repository], Any], str]] = [
    ("digest", lambda repository: repository.publish("# other bytes\n", index=False), "and the index says sha256:"),
    ("host", lambda repository: repository.change_index(urls=["https://files.example.net/o.tgz"]), "scope.chart_hosts"),
    ("port", lambda repository: repository.change_index(urls=["http://127.0.0.1:9/obi.tgz"]), "scope.chart_hosts"),
    ("garbage", _write(_ARCHIVE, b"no archive"), "and the index says sha256:"),
    ("large", _write(_ARCHIVE, bytes(11 << 20)), "larger than"),
    ("no index", _write("index.yaml", b"entries: {obi: [" * 200), "did not give obi"),
    ("large index", _write("index.yaml", b"# large\n" * (33 << 17)), "did not give obi"),
]


async def test_what_is_not_the_chart_that_was_meant_is_refused(at: Callable[..., Any], repository: Repository) -> None:
    answers: dict[str, tuple[str, str]] = {}
    async with at(repository.address) as session:
        for name, change, _ in NOT_MEANT:
            repository.publish()
            change(repository)
            outcome = await session.helm(SHOW)
            answers[name] = (outcome.code, outcome.text)
        repository.publish()
        whole = await session.helm(SHOW)
    for name, _, says in NOT_MEANT:
        code, text = answers[name]
        assert code == "denied" and says in text, f"{name}: {text}"
    assert f"version: {VERSION}" in whole.stdout, whole.text


async def test_a_pinned_archive_and_a_login_of_the_operator(at: Callable[..., Any], repository: Repository) -> None:
    repository.login = LOGIN
    digest = hashlib.sha256(repository.archive.read_bytes()).hexdigest()
    pin = {f"web/obi@{VERSION}": f"sha256:{digest}"}
    async with at(repository.address.replace("//", f"//{':'.join(LOGIN)}@"), chart_digests=pin) as session:
        shown = await session.helm(SHOW)
        repository.publish("# other bytes\n")
        pinned = await session.helm(SHOW)
        repository.login = ("another", "word")
        refusal = await session.helm(SHOW)
        written = session.audit.read_text()
    assert f"version: {VERSION}" in shown.stdout, shown.text
    assert refusal.code == "denied" and "401" in refusal.text
    assert pinned.code == "denied" and f"not sha256:{digest} as pinned" in pinned.text
    assert LOGIN[1] not in f"{shown.text}{refusal.text}{refusal.structured}{written}"


async def test_what_is_published_anew_is_not_what_was_planned(
    at: Callable[..., Any], repository: Repository, sandbox: Sandbox, space: str
) -> None:
    chart = {"chart": "web/obi", "version": VERSION}
    async with at(repository.address, "full") as session:
        plan = await planned(session, "obi_helm_install", **NAMED, **chart)
        repository.publish("# another line\n")
        code, text = await refused(session, "obi_helm_install", plan_id=plan["plan_id"])
        assert code == "conflict" and "the chart is not the one that it was" in text
        assert releases(sandbox) == []
        plan = await planned(session, "obi_helm_install", **NAMED, **chart)
        await carried_out(session, "obi_helm_install", plan)
        plan = await planned(session, "obi_helm_uninstall", **AT)
        await carried_out(session, "obi_helm_uninstall", plan)


async def test_a_chart_of_a_registry(
    at: Callable[..., Any], repository: Repository, programs_bin: Path, tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("Debian's registry is unpacked as root")
    carrying_programs()
    user, word = LOGIN
    with registry(tmp_path / "registry", netns=None, login=f"{user}:{BCRYPT}") as address:
        push = ("push", str(repository.archive), f"oci://{address}/charts", "--plain-http")
        run_helm(programs_bin / "helm", tmp_path, *push, f"--username={user}", f"--password={word}")
        async with at(f"oci://{user}:{word}@{address}/charts") as session:
            shown = await session.helm(SHOW)
            none = await session.helm("show chart web/obi --version 9.9.9")
        async with at(f"oci://{address}/charts") as session:
            stranger = await session.helm(SHOW)
    assert f"version: {VERSION}" in shown.stdout, shown.text
    assert none.code == "denied" and "did not give obi 9.9.9" in none.text
    assert stranger.code == "denied" and "credential not found" in stranger.text, stranger.text
    assert word not in f"{shown.text}{none.text}{none.structured}"
