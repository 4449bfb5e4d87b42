"""What ``doctor`` finds of programs: which are there, in versions that the policy knows, and credential plugins."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Container, Iterator, Mapping

from obi_mcp.cli.findings import CALLER, Finding, of_error
from obi_mcp.config import Settings
from obi_mcp.enforcer.model import Call
from obi_mcp.errors import ObiMcpError
from obi_mcp.process.kubeconfig import Context, file_error, kubeconfig_paths, read_kubeconfig
from obi_mcp.process.obstacle import context_file_error, plugin_step, unsent_credentials
from obi_mcp.process.programs import FILTERS, HEADS, HELPERS, Programs, find_programs
from obi_mcp.toolsets.base import Road

VERSIONS: Mapping[str, str] = {
    "kubectl": "kubectl version --client -o json | jq -r .clientVersion.gitVersion",
    "helm": "helm version --short",
}
"""Questions whose answer also shows that the program is held to be the one that the policy's grammar describes."""

TIMEOUT_S = 15.0


def program_findings(settings: Settings, environ: Mapping[str, str] | None = None) -> Iterator[Finding]:
    """Which programs are there and where; a missing one keeps the commands that need it from working."""
    programs = find_programs(settings, environ)
    missing = set(programs.missing())
    for name in HEADS:
        if name in missing:
            yield _missing(name)
        else:
            yield Finding(name, "ok", programs.get(name).path)
    helpers = [name for name in (*FILTERS, *HELPERS) if name in missing]
    yield from (_missing(name) for name in helpers)
    if not helpers:
        yield Finding("filters", "ok", f"{', '.join(FILTERS)} and diff are there")
    if "obi" in programs.found:
        yield Finding("obi", "ok", programs.get("obi").path)
    else:
        yield Finding("obi", "ok", "not on this host; configurations are validated and migrated by the server itself")
    yield from _plugins(settings, programs, os.environ if environ is None else environ)


def _missing(name: str) -> Finding:
    step = f"install {name}, or name its directory in programs.path"
    return Finding(name, "problem", "is not installed where the server looks", step)


def _plugins(settings: Settings, programs: Programs, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Credential plugins of the contexts in scope: kubectl starts them, so they have to be where the server looks."""
    paths = kubeconfig_paths(settings.programs.kubeconfig, environ)
    try:
        kubeconfig = read_kubeconfig(paths)
    except ObiMcpError as error:
        if not any(map(file_error, paths)):  # else kubeconfig_findings says so
            yield of_error("kubeconfig file", error)
        return
    for name in settings.scope.contexts or (kubeconfig.current,):
        context = kubeconfig.context(name)
        if context is not None:
            yield from _credentials(context, environ)
            yield from _plugin(context, programs, environ)


def _credentials(context: Context, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Files that the context names and that cannot be read, and credentials that are never sent."""
    errors = [context_file_error(context, file, environ) for file in context.files]
    for error in (*errors, unsent_credentials(context)):
        if error is not None:
            yield of_error(f"credentials of {context.name}", error)


def _plugin(context: Context, programs: Programs, environ: Mapping[str, str]) -> Iterator[Finding]:
    plugin = context.plugin
    if plugin is None:
        return
    subject = f"credentials of {context.name}"
    found = programs.look_up(plugin.command) if not os.path.isabs(plugin.command) else plugin.command
    if found and os.access(found, os.X_OK):
        yield Finding(subject, "ok", f"the plugin {found}")
    else:
        step = plugin_step(plugin.install_hint or None, environ)
        yield Finding(subject, "problem", f"the kubeconfig's plugin {plugin.command} is not there", step)


async def version_findings(road: Road, there: Container[str]) -> AsyncIterator[Finding]:
    """The versions of those programs that run first in a pipe and are there, asked on the guarded road."""
    for name in filter(there.__contains__, VERSIONS):
        try:
            answer = await road.run(Call(VERSIONS[name], "doctor", timeout_s=TIMEOUT_S, caller=CALLER))
        except ObiMcpError as error:
            yield of_error(f"{name} version", error)
            continue
        said = answer.stdout.strip()
        if answer.exit_code or not said:
            evidence = answer.stderr.strip()[:300] or "says nothing"
            yield Finding(f"{name} version", "problem", evidence, f"run `{name} version` yourself")
        else:
            yield Finding(f"{name} version", "ok", said.splitlines()[0])
