"""Looking at what an agent serves and where it sends, by short connections of the server's own."""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import dataclass

from obi_mcp.agent.asks import Port

TIMEOUT_S = 1.0
_MAX_BYTES = 4_194_304
_LOOPBACK = "127.0.0.1"
_SAMPLE = re.compile(rb"^([A-Za-z_:][A-Za-z0-9_:]*)(?:\{.*\})? (\S+)", re.M)
_OF_THE_RUNTIME = (b"go_", b"process_", b"promhttp_")
_URL = re.compile(r"(?:(?P<scheme>https?)://)?(?P<host>\[[0-9A-Fa-f:]+\]|[^/:?#\s]+)(?::(?P<port>\d{1,5}))?")
_DEFAULT_PORTS = {"http": 4318, "https": 443, None: 4317}


@dataclass(frozen=True, slots=True)
class Scraped:
    """What a Prometheus port gave: ``families`` counts samples by name, without those of the Go runtime; ``sums`` adds
    up those whose name ends with ``_total``. ``problem`` is empty when it answered."""

    port: int
    status: int = 0
    families: tuple[tuple[str, int], ...] = ()
    sums: tuple[tuple[str, float], ...] = ()
    problem: str = ""


async def answers(port: Port) -> bool:
    """Whether the port on loopback answers HTTP."""
    try:
        status, _ = await _get(port, most=1)
    except (OSError, TimeoutError, ValueError, IndexError):
        return False
    return status > 0


async def scrape(port: Port) -> Scraped:
    """The metrics that the agent serves on loopback."""
    try:
        status, body = await _get(port, most=_MAX_BYTES)
    except (OSError, TimeoutError, ValueError, IndexError) as error:
        return Scraped(port.number, problem=str(error) or type(error).__name__)
    counts: dict[str, int] = {}
    sums: dict[str, float] = {}
    for match in _SAMPLE.finditer(body):
        if match[1].startswith(_OF_THE_RUNTIME):
            continue
        name = match[1].decode("ascii")
        counts[name] = counts.get(name, 0) + 1
        if name.endswith("_total"):
            sums[name] = sums.get(name, 0.0) + _number(match[2])
    return Scraped(port.number, status, tuple(counts.items()), tuple(sums.items()))


async def reachable(endpoint: str) -> str:
    """``reachable``, or why not: a connection to the endpoint is opened and closed again, nothing is sent."""
    match = _URL.match(endpoint)
    if match is None:
        return "it is no address"
    port = int(match["port"] or _DEFAULT_PORTS[match["scheme"]])
    try:
        async with asyncio.timeout(TIMEOUT_S):
            _, writer = await asyncio.open_connection(match["host"].strip("[]"), port)
    except TimeoutError:
        return f"no answer within {TIMEOUT_S:g} s"
    except OSError as error:  # asyncio's own text repeats the address and leaves the reason out
        return os.strerror(error.errno).lower() if error.errno and error.errno > 0 else error.strerror or str(error)
    writer.close()
    return "reachable"


async def _get(port: Port, *, most: int) -> tuple[int, bytes]:
    async with asyncio.timeout(TIMEOUT_S):
        reader, writer = await asyncio.open_connection(_LOOPBACK, port.number)
        try:
            request = f"GET {port.path} HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            writer.write(request.encode("ascii", "replace"))
            await writer.drain()
            line = await reader.readline()
            status = int(line.split()[1])
            body = bytearray()
            while len(body) < most and (piece := await reader.read(65_536)):
                body += piece
        finally:
            writer.close()
    return status, bytes(body).partition(b"\r\n\r\n")[2]


def _number(text: bytes) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
