"""What on this host keeps a context from being spoken to, told before or after kubectl stumbles over it.

Source of fact: client-go's ``clientcmd`` (it falls to localhost:8080 where there is no kubeconfig, opens the files of a
context, and takes no credentials at all for a server without TLS); kubectl 1.36, helm 4.3.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from obi_mcp.errors import ConfigError, ObiMcpError, ProgramMissing
from obi_mcp.process.container import in_container
from obi_mcp.process.kubeconfig import SERVICE_ACCOUNT, Context, Kubeconfig, file_error

_ANY = re.compile(b"")
_NO_CURRENT = rb"localhost:8080|\[::1\]:8080|current-context is not set|no configuration has been provided"
_NO_KUBECONFIG = re.compile(_NO_CURRENT + rb"|context \S+ does not exist|context was not found")
_REFUSED = re.compile(rb"(?i)forbidden|unauthorized|must be logged in")

TOKEN = "kubectl create token ACCOUNT -n NAMESPACE"


@dataclass(frozen=True, slots=True)
class Obstacle:
    """One reason. ``shown_by``: what a program prints that failed for it; ``certain``: nothing works in spite of it."""

    error: ObiMcpError
    shown_by: re.Pattern[bytes] = _ANY
    certain: bool = True

    def explains(self, stderr: bytes) -> bool:
        """Whether a program that failed and printed this failed for this reason."""
        return self.shown_by.search(stderr) is not None


def find_obstacle(
    kubeconfig: Kubeconfig,
    context: Context | None,
    missing_plugin: ProgramMissing | None,
    environ: Mapping[str, str] | None = None,
) -> Obstacle | None:
    """The first of: no kubeconfig, no current context, a file of the context, its plugin, credentials that are never
    sent. Blocking.

    ``missing_plugin``: what ``Sandbox.missing_plugin`` says of the context. ``environ`` None: the process's own.
    """
    nothing = no_kubeconfig(kubeconfig, environ)
    if nothing is not None:
        return Obstacle(nothing, _NO_KUBECONFIG)
    if context is None:
        return _no_context(kubeconfig)
    for file in context.files:
        error = context_file_error(context, file, environ)
        if error is not None:
            return Obstacle(error, re.compile(re.escape(os.path.basename(file).encode())))
    if missing_plugin is not None:
        return Obstacle(ProgramMissing(missing_plugin.message, plugin_step(missing_plugin.hint, environ)))
    unsent = unsent_credentials(context)
    return Obstacle(unsent, _REFUSED, certain=False) if unsent is not None else None


def no_kubeconfig(kubeconfig: Kubeconfig, environ: Mapping[str, str] | None = None) -> ConfigError | None:
    """Why there is none: every named file is missing, or none is named; in a pod its account stands in for them."""
    if len(kubeconfig.missing) < len(kubeconfig.paths) or os.path.isfile(f"{SERVICE_ACCOUNT}/token"):
        return None
    if kubeconfig.paths:
        return file_error(kubeconfig.paths[0], environ)
    step = "name one: --kubeconfig, programs.kubeconfig or KUBECONFIG"
    if in_container(environ):
        step = "mount one and name it: -v $HOME/.kube/config:/kube/config:ro -e KUBECONFIG=/kube/config"
    return ConfigError("no kubeconfig is named, and ~/.kube/config is not there", step)


def _no_context(kubeconfig: Kubeconfig) -> Obstacle | None:
    """That there is no current context. None: there is, and another was asked for; or a pod's account serves."""
    if len(kubeconfig.missing) == len(kubeconfig.paths) or kubeconfig.current in kubeconfig.contexts:
        return None
    said, shown_by = f"the kubeconfig {':'.join(kubeconfig.paths)} has no current context", _NO_CURRENT
    if kubeconfig.current:
        said += f": {kubeconfig.current} is none of its contexts"
        shown_by = b"specified context: " + re.escape(kubeconfig.current.encode())
    step = "kubectl config use-context NAME, or name another file: --kubeconfig, programs.kubeconfig or KUBECONFIG"
    return Obstacle(ConfigError(said, step), re.compile(shown_by))


def context_file_error(context: Context, file: str, environ: Mapping[str, str] | None = None) -> ConfigError | None:
    """Why a certificate, key or token that the context names by its path cannot be read."""
    what = f"the file {file}, which the context {context.name} names,"
    step = "correct the path in the kubeconfig, or run the server as a user that may read it"
    if in_container(environ):
        folder = os.path.dirname(file)
        step = (
            "put certificates and keys into the kubeconfig itself: kubectl config view --minify --flatten > FILE; "
            f"or mount their folder under its own name: -v {folder}:{folder}:ro"
        )
    if not os.path.exists(file):
        return ConfigError(f"{what} is not there", step)
    if not os.path.isfile(file):
        return ConfigError(f"{what} is not a file", step)
    if not os.access(file, os.R_OK):
        return ConfigError(f"{what} may not be read by user {os.geteuid()}", step)
    return None


def plugin_step(hint: str | None, environ: Mapping[str, str] | None = None) -> str:
    """The way out for a credential plugin that is not there."""
    if not in_container(environ):
        return hint or "install it, or add its directory to programs.path"
    return (
        f"the image has no credential plugins: give the server a kubeconfig with a token ({TOKEN}), "
        "or mount the program and name its directory in programs.path"
    )


def unsent_credentials(context: Context) -> ConfigError | None:
    """That kubectl never sends this context's credentials, nor starts its plugin, since its server has no TLS."""
    if not context.server.lower().startswith("http://") or not context.credentials:
        return None
    return ConfigError(
        f"the context {context.name} has credentials ({context.credentials}) for {context.server}, and kubectl sends "
        "none to a server without TLS, nor starts a credential plugin for it",
        "correct the server's address to https://, or remove the credentials if the server wants none",
    )
