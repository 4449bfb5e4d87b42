"""One container in the place of another: the old one steps aside, and comes back when the new one does not come up.

Both want the same name and the same ports, so the old one is stopped first. If the server dies in between, the old one
is still there under its second name, and ``obi_docker_status`` shows it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from obi_mcp.containers.model import Container

if TYPE_CHECKING:
    from docker import APIClient

STOP_WITHIN_S = 20


def aside_name(name: str) -> str:
    """The name of the old container while the new one has its own."""
    return f"{name}.before"


def step_aside(client: APIClient, old: Container) -> None:
    """Stops the old container and gives it its second name."""
    client.rename(old.id, aside_name(old.name))
    client.stop(old.id, timeout=STOP_WITHIN_S)


def come_back(client: APIClient, old: Container) -> None:
    """The old container as it was before ``step_aside``; it runs again if it ran."""
    client.rename(old.id, old.name)
    if old.state in ("running", "restarting"):
        client.start(old.id)


def settle(client: APIClient, before: Container, made: Container, *, keep: bool) -> None:
    """The end of a replacement, for better or worse."""
    if keep:
        client.remove_container(before.id, force=True, v=True)
    else:
        client.remove_container(made.id, force=True, v=True)
        come_back(client, before)
