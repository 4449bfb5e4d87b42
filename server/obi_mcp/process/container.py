"""Whether this process runs in a container, and what that changes about the way out of an error.

Source of fact: docker leaves ``/.dockerenv``, podman ``/run/.containerenv``; our own image sets a variable, and 0 in it
says that this is none.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from obi_mcp.config_reader import CONTAINER_VARIABLE

_MARKS = ("/.dockerenv", "/run/.containerenv")
_LOOPBACK = re.compile(r"(?<![\w.-])(?:127(?:\.\d{1,3}){3}|localhost|\[?::1\]?)(?![\w.-])")

HOST_NETWORK = (
    "in a container that is the container itself: start it with --network=host, "
    "or name the address that the cluster has on the container's network (kind: kind get kubeconfig --internal)"
)


def in_container(environ: Mapping[str, str] | None = None) -> bool:
    """``environ`` None: the process's own."""
    values = os.environ if environ is None else environ
    said = values.get(CONTAINER_VARIABLE)
    return said != "0" if said else any(map(os.path.exists, _MARKS))


def names_loopback(text: str) -> bool:
    """Whether an address of this very host stands in it."""
    return _LOOPBACK.search(text) is not None


def unreachable_step(message: str, environ: Mapping[str, str] | None = None) -> str:
    """What to do when nothing answers at the address in ``message``."""
    if not names_loopback(message):
        return "check that the address in the kubeconfig can be reached from here, and a proxy in programs.environment"
    if in_container(environ):
        return HOST_NETWORK
    return "start the cluster, or name another context; a server in a container needs --network=host for this address"
