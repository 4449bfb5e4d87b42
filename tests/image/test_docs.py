"""docs/image.md shows the flags that the tests run with, and clients the same ones."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from layout import Settings
from parts.description import COMMAND, ENTRYPOINT, ENVIRONMENT, USER, Origin
from parts.platform import AMD64, this_machine
from tests.daemon import ROOT, DockerDaemon
from tests.image.container import HARDENED, ORIGIN, copy_project
from tests.image.test_session import INITIALIZE, KUBECONFIG
from tests.unit.documentation import fenced, run_cli

DOCUMENT = ROOT / "docs" / "image.md"
# The user is the reader's own, so that a kubeconfig of mode 0600 can be read.
OTHERS = {flag for flag in HARDENED if not flag.startswith("--user=")}
_CLIENT = re.compile(r"<!-- clients: (?P<names>[^>]+) -->\n```json\n(?P<text>.*?)```", re.DOTALL)


def described() -> Settings:
    return Origin("0.1.0", "abc", 0, "https://example.com").settings(AMD64)


def test_the_command_has_every_flag_of_the_tests_and_explains_it() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    words = shlex.split(fenced(DOCUMENT, "sh")[0].replace("\\\n", " "))
    assert set(words) >= OTHERS
    rows = "".join(line for line in text.splitlines() if line.startswith("| `-"))
    explained = {flag.partition("=")[0] for flag in re.findall(r"`(-[^` ]+)", rows)}
    flags = {word.partition("=")[0] for word in words if word.startswith("-")}
    assert flags == explained


@pytest.mark.parametrize(
    "found", list(_CLIENT.finditer(DOCUMENT.read_text(encoding="utf-8"))), ids=lambda one: one["names"]
)
def test_a_client_starts_it_with_the_same_flags(found: re.Match[str]) -> None:
    content = json.loads(found["text"])
    server = content["servers" if found["names"] == "VS Code" else "mcpServers"]["obi"]
    words = server["args"]
    assert server["command"] == "docker" and words[:2] == ["run", "-i"]
    assert set(words) >= OTHERS
    assert "-t" not in words and not any("$" in word for word in words)
    after = words[words.index(f"obi-mcp:{version()}") + 1 :]
    assert run_cli(["obi-mcp", *after, "--help"]).returncode == 0


def version() -> str:
    found = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    return found[1]


@pytest.mark.image
@pytest.mark.skipif(this_machine() is not AMD64, reason="the README builds for amd64")
def test_the_commands_of_the_readme_serve_mcp(daemon: DockerDaemon, output: Path, shared: Path) -> None:
    project = copy_project(output)
    kubeconfig = shared / ".kube/config"
    kubeconfig.parent.mkdir()
    kubeconfig.write_text(json.dumps(KUBECONFIG), encoding="utf-8")
    own = {"$HOME": str(shared), "$(id -u)": str(os.getuid()), "$(id -g)": str(os.getgid())}
    block = next(one for one in fenced(ROOT / "README.md", "sh") if "docker run" in one)
    commands = [shlex.split(line, comments=True) for line in block.replace("\\\n", " ").splitlines()]
    assert [words[:2] for words in commands] == [["make", "image"], ["docker", "load"], ["docker", "run"]]
    # Set-up has been done, or this test would not run.
    making = ["make", "--silent", "--old-file=venv", f"VENV={sys.prefix}", *commands[0][1:]]
    made = subprocess.run(making, cwd=project, env=os.environ | ORIGIN, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    daemon.docker(*commands[1][1:], cwd=project)
    line = re.sub("|".join(map(re.escape, own)), lambda found: own[found[0]], shlex.join(commands[2][1:]))
    served = daemon.docker(*shlex.split(line), input=f"{json.dumps(INITIALIZE)}\n")
    assert json.loads(served.stdout)["result"]["serverInfo"]["name"] == "obi-mcp"


def test_the_dockerfile_says_the_same_as_the_layout() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    set_there = dict(
        re.findall(r"([A-Z_]+)=(\S+)", next(line for line in text.splitlines() if line.startswith("ENV ")))
    )
    assert set_there == ENVIRONMENT
    labels = re.findall(r"(org\.opencontainers\.image\.\w+)=", text)
    assert set(labels) == set(described().labels)
    lines = text.splitlines()
    assert f"ARG VERSION={version()}" in lines
    assert lines[-4:] == [
        f"USER {USER}",
        "WORKDIR /",
        f"ENTRYPOINT {json.dumps(list(ENTRYPOINT))}",
        f"CMD {json.dumps(list(COMMAND))}",
    ]
