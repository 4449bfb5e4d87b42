"""The commands of the CI examples under ``docs/ci``, and how a CI system runs them. Not a test.

GitHub runs a step by ``bash -e``, GitLab a job's script line by line in one shell that stops at the first failure.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "ci"
IMAGE = "MCP_IMAGE"

_DOCKER = '''#!{python}
"""docker run as far as the examples use it, with the server of this checkout in the image's place."""
import os, sys
words = sys.argv[1:]
assert words.pop(0) == "run", sys.argv
mounts, given, flags = {{}}, {{}}, set()
while words and words[0].startswith("-"):
    flag = words.pop(0)
    flags.add(flag.partition("=")[0])
    if flag in ("--tmpfs", "--user", "-v", "-e"):
        value = words.pop(0)
        if flag == "-v":
            source, target = value.split(":")[:2]
            assert os.path.exists(source), value
            mounts[target] = source
        elif flag == "-e":
            name, mark, text = value.partition("=")
            given[name] = text if mark else os.environ[name]
assert flags >= {{"-i", "--rm", "--read-only", "--cap-drop", "--security-opt", "--user"}}, flags
image = words.pop(0)
assert image == os.environ["MCP_IMAGE"], image
given = {{name: mounts.get(value, value) for name, value in given.items()}}
given["KUBECONFIG"] = mounts.get("/kube/config", "/kube/config")
given["PATH"] = {path!r}
given["PYTHONPATH"] = {server!r}
given["HOME"] = os.environ["HOME"]
os.execve({python!r}, [{python!r}, "-m", "obi_mcp", *words], given)
'''


@dataclass(frozen=True, slots=True)
class Step:
    """One step of GitHub or one job of GitLab: its shell text, and the variables that the file gives it."""

    name: str
    script: str
    environment: Mapping[str, str]

    def run(self, folder: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """In ``folder``, which is the checkout; the image's name is the file's unless ``environment`` has one."""
        (folder / "ops").mkdir(exist_ok=True)
        if not (folder / "ops" / "runbook.txt").exists():
            (folder / "ops" / "runbook.txt").write_bytes((EXAMPLES / "runbook.txt").read_bytes())
        return subprocess.run(
            ["bash", "-e", "-c", self.script],
            cwd=folder,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )


def github_steps() -> dict[str, Step]:
    """Every step with a ``run``, by its name."""
    workflow = yaml.safe_load((EXAMPLES / "github-actions.yml").read_text(encoding="utf-8"))
    return {
        step["name"]: Step(step["name"], step["run"], {IMAGE: workflow["env"][IMAGE]})
        for job in workflow["jobs"].values()
        for step in job["steps"]
        if "run" in step
    }


def gitlab_jobs() -> dict[str, Step]:
    """Every job with a script, by its name."""
    pipeline = yaml.safe_load((EXAMPLES / "gitlab-ci.yml").read_text(encoding="utf-8"))
    return {
        name: Step(name, "\n".join(job["script"]), {IMAGE: pipeline["variables"][IMAGE]})
        for name, job in pipeline.items()
        if isinstance(job, dict) and "script" in job
    }


def local_docker(folder: Path, *, programs: str = "/usr/bin:/bin") -> Path:
    """A directory with a ``docker`` that runs this checkout's server, which finds its programs in ``programs``."""
    folder.mkdir(exist_ok=True)
    file = folder / "docker"
    file.write_text(_DOCKER.format(python=sys.executable, path=programs, server=str(ROOT / "server")))
    file.chmod(0o755)
    return folder


def environment_with(docker: Path, home: Path) -> dict[str, str]:
    """What a runner's shell has: the ``docker`` of that directory first."""
    return {"PATH": f"{docker}:{os.environ['PATH']}", "HOME": str(home)}
