"""The Docker engine: looks at OBI's containers, makes one, stops one. Its client blocks, so it works in threads.

INVARIANT: what changes something, or shows a log, takes an approved effect and nothing else. A container is acted on
by the id that was judged: a container's image and labels never change, and an id is never used again.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from obi_mcp.config import Settings
from obi_mcp.containers import failures, reading, replacing
from obi_mcp.containers.address import Address, engine_address
from obi_mcp.containers.creation import config_archive, create_arguments
from obi_mcp.containers.model import Container, EngineFacts, Usage
from obi_mcp.errors import Conflict, ImageMissing, NotFound
from obi_mcp.policy.effects import CONTAINER_MARK, ApprovedEffect, ContainerRead, ContainerRun, ContainerStop
from obi_mcp.policy.image import is_obi_image, parse_image

if TYPE_CHECKING:
    from docker import APIClient

T = TypeVar("T")

STOP_WITHIN_S = 20
"""OBI takes 8.5 s to take its probes back, and gives up after 10."""
MAX_LOG_BYTES = 4 * 1024 * 1024
_TIMEOUT_S, _CONNECT_S = 30, 5
_SAMPLE_S = 0.25
_MAX_MISSING_MOUNTS = 8


@dataclass(frozen=True, slots=True)
class Made:
    """A container that was made and started. ``left_out``: mounts that the engine's host does not have."""

    container: Container
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ours:
    """OBI's containers that a server of ours made. ``foreign``: others that only carry the mark."""

    containers: tuple[Container, ...]
    foreign: int


class Engine:
    """One engine. Nothing is asked of it before a method is called."""

    def __init__(self, settings: Settings, environ: Mapping[str, str] | None = None) -> None:
        self._settings = settings
        self._environ = os.environ if environ is None else environ

    async def facts(self) -> EngineFacts:
        """What the engine is. Raises: EngineUnreachable, ConfigError."""
        return await self._ask(self._facts)

    async def ours(self) -> Ours:
        """OBI's containers, running or not, by mark and image. Raises: EngineUnreachable, ConfigError."""
        return await self._ask(self._ours)

    async def find(self, name: str) -> Container | None:
        """The container of that name or id, whoever's it is; None when there is none."""
        return await self._ask(lambda client: _inspect(client, name))

    async def usage(self, container: Container) -> Usage | None:
        """What it uses now; None when it does not run."""
        return await self._ask(lambda client: _usage(client, container))

    async def run(self, approved: ApprovedEffect[ContainerRun]) -> Made:
        """Makes the container and starts it; what was made is removed when that fails or is given up.

        Raises: Conflict, ImageMissing, HostUnfit, EngineUnreachable, ProgramFailed.
        """
        given_up = threading.Event()
        try:
            return await self._ask(lambda client: self._run(client, approved, given_up))
        except asyncio.CancelledError:
            given_up.set()
            raise

    async def settle(
        self, approved: ApprovedEffect[ContainerRun], before: Container, made: Container, *, keep: bool
    ) -> None:
        """After a replacement: removes the old container where the new one is kept, else the new one, and the old one
        is again as it was. Raises: EngineUnreachable, ProgramFailed, NotFound."""
        if before.proof != approved.effect.replaces:
            raise NotFound(before.name, None)
        await self._ask(lambda client: replacing.settle(client, before, made, keep=keep))

    async def stop(self, approved: ApprovedEffect[ContainerStop]) -> Container:
        """Stops it, removes it where that was asked, and gives how it ended. Raises: NotFound, EngineUnreachable."""
        return await self._ask(lambda client: _stop(client, approved.effect))

    async def log(
        self,
        approved: ApprovedEffect[ContainerRead] | ApprovedEffect[ContainerRun],
        container: Container,
        *,
        tail: int,
        since_s: float | None = None,
    ) -> tuple[str, ...]:
        """The last lines of its log, at most ``MAX_LOG_BYTES`` of them. ``since_s``: seconds since 1970.

        ``container`` is the one that was judged, one of ``ours``, or the one that the approved effect made.
        """
        judged = approved.effect.proof.id if isinstance(approved.effect, ContainerRead) else ""
        # A look at all of them is approved without a proof, and shows OBI's only.
        if judged != container.id and (judged or not self._is_ours(container)):
            raise NotFound(container.name, None)
        return await self._ask(lambda client: _log(client, container.id, tail, since_s))

    async def _ask(self, work: Callable[[APIClient], T]) -> T:
        return await asyncio.to_thread(self._work, work)

    def _work(self, work: Callable[[APIClient], T]) -> T:
        import docker.errors
        import requests

        address = engine_address(self._settings, self._environ)
        try:
            with _client(address) as client:
                return work(client)
        except (requests.RequestException, docker.errors.DockerException, OSError) as error:
            if isinstance(error, docker.errors.APIError):
                raise failures.refused(str(error.explanation or error), self._known(address)) from None
            raise failures.unreachable(error, address) from None

    def _known(self, address: Address) -> EngineFacts:
        """The engine for the text of an error; without its version when it does not answer any more."""
        import docker.errors
        import requests

        try:
            with _client(address) as client:
                return self._facts(client)
        except (requests.RequestException, docker.errors.DockerException, OSError):
            return EngineFacts(address.url)

    def _facts(self, client: APIClient) -> EngineFacts:
        address = engine_address(self._settings, self._environ)
        facts = reading.engine_facts(address, client.version(), client.info())
        if (problem := failures.too_old(facts)) is not None:
            raise problem
        return facts

    def _ours(self, client: APIClient) -> Ours:
        listed = client.containers(all=True, filters={"label": CONTAINER_MARK})
        found = [one for entry in listed if (one := _inspect(client, entry["Id"])) is not None]
        ours = [replace(one, digests=_digests(client, one)) for one in found if self._is_ours(one)]
        return Ours(tuple(sorted(ours, key=lambda one: one.name)), len(found) - len(ours))

    def _is_ours(self, container: Container) -> bool:
        return CONTAINER_MARK in dict(container.labels) and is_obi_image(container.image, self._settings.scope)

    def _run(self, client: APIClient, approved: ApprovedEffect[ContainerRun], given_up: threading.Event) -> Made:
        facts = self._facts(client)
        if (problem := failures.unfit(facts)) is not None:
            raise problem
        run = approved.effect
        there = _inspect(client, run.name)
        if there is not None and there.id != run.replaces.id:
            raise _taken(there, self._is_ours(there))
        _ensure_image(client, run.image, given_up)
        if there is not None:
            replacing.step_aside(client, there)
        try:
            return self._made(client, approved, given_up)
        except BaseException:
            if there is not None:
                replacing.come_back(client, there)
            raise

    def _made(self, client: APIClient, approved: ApprovedEffect[ContainerRun], given_up: threading.Event) -> Made:
        run = approved.effect
        left_out: frozenset[str] = frozenset()
        for _ in range(_MAX_MISSING_MOUNTS):
            missing = _create_and_start(client, approved, left_out, given_up)
            if missing is None:
                break
            left_out |= {missing}
        made = _inspect(client, run.name)
        if made is None:
            raise NotFound(run.name, None, "it was removed while it started; look at the engine's log")
        return Made(made, tuple(sorted(left_out)))


@contextmanager
def _client(address: Address) -> Iterator[APIClient]:
    import docker
    from docker.tls import TLSConfig

    # The client leaves its socket open when nothing listens; and asked this way, the reason is plain.
    if address.socket:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(_TIMEOUT_S)
            probe.connect(address.socket)
    else:
        parts = urlsplit(address.url)
        socket.create_connection((parts.hostname or "", parts.port or 0), _CONNECT_S).close()
    tls: Any = False
    if address.certificates:
        folder = address.certificates
        tls = TLSConfig(
            client_cert=(f"{folder}/cert.pem", f"{folder}/key.pem"), ca_cert=f"{folder}/ca.pem", verify=True
        )
    with closing(docker.APIClient(base_url=address.url, tls=tls, timeout=_TIMEOUT_S)) as client:
        yield client


def _inspect(client: APIClient, name: str) -> Container | None:
    import docker.errors

    try:
        found = reading.container(client.inspect_container(name))
    except docker.errors.NotFound:
        return None
    # The engine also takes the beginning of an id for a name; a caller's word must not.
    return found if name in (found.name, found.id) else None


def _digests(client: APIClient, container: Container) -> tuple[str, ...]:
    import docker.errors

    try:
        return tuple(client.inspect_image(container.image_id).get("RepoDigests") or ())  # type: ignore[no-untyped-call]
    except docker.errors.NotFound:
        return ()


def _ensure_image(client: APIClient, image: str, given_up: threading.Event) -> None:
    import docker.errors

    try:
        client.inspect_image(image)  # type: ignore[no-untyped-call]
        return
    except docker.errors.NotFound:
        pass
    reference = parse_image(image)
    try:
        wanted = f"{reference.repository}@{reference.digest}" if reference.digest else reference.repository
        tag = None if reference.digest else reference.tag or "latest"
        for step in client.pull(wanted, tag=tag, stream=True, decode=True):
            if given_up.is_set():
                return
            if "error" in step:
                raise _no_image(image, str(step["error"]))
    except docker.errors.APIError as error:
        raise _no_image(image, str(error.explanation or error)) from None


def _no_image(image: str, why: str) -> ImageMissing:
    return ImageMissing(
        f"the engine has no image {image} and cannot get it: {why[:300]}",
        f"check its name and version; without a registry, `docker save {image}` where it is and `docker load` here",
    )


def _create_and_start(
    client: APIClient, approved: ApprovedEffect[ContainerRun], left_out: frozenset[str], given_up: threading.Event
) -> str | None:
    """None when it runs; the mount that the engine's host does not have, when that is why it does not."""
    import docker.errors

    try:
        made = client.create_container(**create_arguments(client, approved, left_out))["Id"]
    except docker.errors.APIError as error:
        if (missing := failures.missing_mount(str(error.explanation or error))) is not None:
            return missing
        raise
    try:
        if approved.effect.config:
            client.put_archive(made, "/", config_archive(approved.effect.config))
        if not given_up.is_set():
            client.start(made)
    except BaseException as error:
        _remove(client, made)
        explanation = str(error.explanation or error) if isinstance(error, docker.errors.APIError) else ""
        if (missing := failures.missing_mount(explanation)) is not None:
            return missing
        raise
    if given_up.is_set():
        _remove(client, made)
    return None


def _remove(client: APIClient, container: str) -> None:
    import docker.errors
    import requests

    try:
        client.remove_container(container, force=True, v=True)
    except (docker.errors.DockerException, requests.RequestException, OSError):
        pass  # what stopped the start is what is told


def _taken(there: Container, ours: bool) -> Conflict:
    if ours:
        return Conflict(
            f"there is a container {there.name} of OBI's already ({there.state})",
            "put this one in its place with replace: true, or give another name",
        )
    return Conflict(f"the name {there.name} is taken by a container that is not OBI's", "give another name")


def _stop(client: APIClient, stop: ContainerStop) -> Container:
    import docker.errors

    try:
        client.stop(stop.proof.id, timeout=STOP_WITHIN_S)
        ended = reading.container(client.inspect_container(stop.proof.id))
        if stop.remove:
            client.remove_container(stop.proof.id, v=True, force=True)
    except docker.errors.NotFound:
        raise NotFound(
            stop.proof.name, None, "it was removed meanwhile; obi_docker_status shows what is there"
        ) from None
    return ended


def _usage(client: APIClient, container: Container) -> Usage | None:
    import docker.errors

    try:
        before, began = client.stats(container.id, stream=False, one_shot=True), time.monotonic()
        time.sleep(_SAMPLE_S)
        after, seconds = client.stats(container.id, stream=False, one_shot=True), time.monotonic() - began
    except docker.errors.APIError:
        return None  # it ended meanwhile
    return reading.usage(before, after, seconds, container.memory_limit_bytes)


def _log(client: APIClient, container: str, tail: int, since_s: float | None) -> tuple[str, ...]:
    import docker.errors

    blocks: deque[bytes] = deque()
    size = 0
    options: dict[str, Any] = {"since": since_s} if since_s is not None else {}
    try:
        stream = client.logs(container, stdout=True, stderr=True, stream=True, follow=False, tail=tail, **options)
        for block in stream:
            blocks.append(block)
            size += len(block)
            while size > MAX_LOG_BYTES and len(blocks) > 1:
                size -= len(blocks.popleft())
    except docker.errors.NotFound:
        raise NotFound(container[:12], None, "obi_docker_status shows what is there") from None
    return tuple(b"".join(blocks).decode("utf-8", "replace").splitlines())
