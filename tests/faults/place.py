"""A place for faults: a kubectl that is a DOUBLE and fails as it is told, and the real road from a tool to it.

The double stands for a kubectl that misbehaves in ways which the real one cannot be made to on purpose; everything else
(policy, enforcer, runner, launcher, sandbox, filters, redaction, audit log) is the product's own.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.unit.process.processes import nothing_left

from obi_mcp.cli.services import build_services
from obi_mcp.config import Audit, Limits, Programs, Settings
from obi_mcp.log import StderrWriter
from obi_mcp.process.runner import Runner, shipped_versions
from obi_mcp.redact import Redactor
from obi_mcp.toolsets.base import ToolCall, ToolResult
from obi_mcp.toolsets.registry import listed_tools
from obi_mcp.toolsets.run import run_tool

PERL = "/usr/bin/perl"
REDACTOR = Redactor.load()
API_VERSIONS = "kubectl api-versions"
"""A command that is allowed as it stands and needs no check: what happens is kubectl's doing alone."""

# Says its version, and does what the file beside its kubeconfig says: a line of Perl. Perl is part of every Debian.
_DOUBLE = f"""#!{PERL}
$| = 1;
if ($ARGV[0] eq 'version') {{ print '{{"clientVersion":{{"gitVersion":"v%s"}}}}'; exit 0 }}
my $folder = $ENV{{KUBECONFIG}}; $folder =~ s{{/[^/]*$}}{{}};
open(my $file, '<', "$folder/behaviour") or die "no behaviour: $!";
my $code = <$file>;
eval $code; die $@ if $@;
"""

Call = Callable[..., Awaitable[ToolResult]]


@dataclass(frozen=True, slots=True)
class Place:
    """Folders of one test. ``runtime`` is where the server makes its private directory."""

    root: Path
    runtime: Path

    @property
    def programs(self) -> Path:
        return self.root / "programs"

    @property
    def kubectl(self) -> Path:
        return self.programs / "kubectl"

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kube" / "config"

    @property
    def audit(self) -> Path:
        return self.root / "audit.ndjson"

    def behave(self, code: str) -> None:
        """What kubectl does from now on."""
        (self.kubeconfig.parent / "behaviour").write_text(code.replace("\n", " ") + "\n")

    def environment(self) -> dict[str, str]:
        """For a server of this place, as a process."""
        return {
            "HOME": str(self.root),
            "PATH": "/usr/bin:/bin",
            "XDG_RUNTIME_DIR": str(self.runtime),
            "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")),
            "OBI_MCP_PROGRAMS__KUBECONFIG": str(self.kubeconfig),
            "OBI_MCP_PROGRAMS__PATH": json.dumps([str(self.programs)]),
            "OBI_MCP_AUDIT__FILE": str(self.audit),
        }

    def settings(self, **limits: Any) -> Settings:
        programs = Programs(path=(str(self.programs),), kubeconfig=str(self.kubeconfig))
        return Settings(programs=programs, limits=Limits(**limits), audit=Audit(file=str(self.audit)))


@contextmanager
def place() -> Iterator[Place]:
    """A place whose kubectl does nothing yet; afterwards nothing may be left in it that a server made for itself."""
    root = Path(tempfile.mkdtemp(prefix="faults-", dir="/tmp"))  # short enough for the paths of sockets
    try:
        made = Place(root, root / "run")
        for folder in (made.programs, made.kubeconfig.parent, made.runtime):
            folder.mkdir(mode=0o700)
        made.kubectl.write_text(_DOUBLE.replace("%s", shipped_versions()["kubectl"]))
        made.kubectl.chmod(0o755)
        write_kubeconfig(made.kubeconfig, "http://127.0.0.1:1")
        made.behave("exit 0")
        yield made
        assert os.listdir(made.runtime) == [], "the private directory is gone"
    finally:
        shutil.rmtree(root)


def write_kubeconfig(path: Path, server: str) -> None:
    """A kubeconfig of one context without credentials."""
    body = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "here"}}],
        "clusters": [{"name": "here", "cluster": {"server": server}}],
        "users": [{"name": "here", "user": {}}],
    }
    path.write_text(json.dumps(body))


@asynccontextmanager
async def road(settings: Settings, environ: dict[str, str]) -> AsyncIterator[tuple[Call, Runner]]:
    """The road from ``obi_kubectl`` down: what ``call(command, …)`` gives is what a caller sees."""
    runner = Runner(settings, REDACTOR, environ=environ)
    services = build_services(settings, StderrWriter(), runner)
    spec = next(spec for spec in listed_tools(settings) if spec.name == "obi_kubectl")

    async def call(command: str, **arguments: Any) -> ToolResult:
        return await run_tool(services, spec, ToolCall({"command": command, **arguments}, "tests"))

    try:
        yield call, runner
    finally:
        await services.enforcer.close()
        services.audit.close()


def on_the_road(
    at: Place, use: Callable[[Call], Awaitable[None]], settings: Settings | None = None, **limits: Any
) -> None:
    """Uses the road of a place; afterwards no process and no descriptor may be left."""
    asyncio.run(asyncio.sleep(0))

    async def main() -> None:
        async with road(settings or at.settings(**limits), at.environment()) as (call, runner):
            await use(call)
            private = runner.__dict__.get("directory")
            assert private is None or os.listdir(private.path("tmp")) == [], "no call's folder is left"

    with nothing_left():
        asyncio.run(main())
