"""The built-in receiver: spans of a real SDK at a steady rate, what becomes of them, and what a query over them takes.

``python -m tests.bench.receiving [--rate 10000] [--seconds 60]`` measures this alone.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.bench.memory import peak_mb
from tests.bench.table import Bar, Row, print_table
from tests.unit.telemetry.messages import START_NS, span, traces

from obi_mcp.telemetry.counts import Counts
from obi_mcp.telemetry.receiver import Receiver
from obi_mcp.telemetry.settings import CaptureSettings

RATE = 10_000
SECONDS = 60.0
MILLION = 1_000_000
_BATCH = 1_000
SENDERS = 2
"""One SDK in Python makes about 15,000 such spans a second at most."""
PERCENTILES = (
    "SELECT http_route, count(*), quantile_cont(duration_ns, [0.5, 0.95, 0.99]) FROM spans GROUP BY 1 ORDER BY 2 DESC"
)


@dataclass(frozen=True, slots=True)
class Received:
    """What was sent, as the senders count it, and what the receiver says of it.

    ``counts``: when the senders had ended. ``asked``: how many spans the query was over.
    """

    made: int
    sent: int
    failed: int
    seconds: float
    counts: Counts
    peak_mb: float
    cpu_s: float
    asked: int
    query_ms: float
    peak_after_query_mb: float


async def receive(
    rate: float, seconds: float, settings: CaptureSettings | None = None, *, fill_to: int = 0
) -> Received:
    """Let senders send, add bare requests until there are ``fill_to`` spans, and ask for percentiles over them."""
    async with Receiver(settings) as receiver:
        assert receiver.pid is not None
        sent = await asyncio.gather(*(_send(receiver.endpoint, rate / SENDERS, seconds) for _ in range(SENDERS)))
        peak, cpu = peak_mb(receiver.pid), _cpu_s(receiver.pid)
        counts = await receiver.counts()
        if (missing := fill_to - counts.traces.kept) > 0:
            await asyncio.to_thread(_fill, receiver.endpoint, missing)
        asked = (await receiver.counts()).traces.kept
        started = time.perf_counter()
        await receiver.query(PERCENTILES)
        spent = time.perf_counter() - started
        return Received(
            made=sum(int(one["made"]) for one in sent),
            sent=sum(int(one["sent"]) for one in sent),
            failed=sum(int(one["failed"]) for one in sent),
            seconds=max(one["seconds"] for one in sent),
            counts=counts,
            peak_mb=peak,
            cpu_s=cpu,
            asked=asked,
            query_ms=spent * 1000,
            peak_after_query_mb=peak_mb(receiver.pid),
        )


async def measure(rate: float = RATE, seconds: float = SECONDS) -> tuple[Row, ...]:
    """The rows for the table."""
    found = await receive(rate, seconds, fill_to=MILLION)
    traces = found.counts.traces
    # What the senders gave up was refused by the receiver, and is in its counts as requests.
    uncounted = found.sent - traces.received
    unsent = found.made - found.sent - found.failed
    note = f"{found.made:,} spans of {SENDERS} SDKs in {found.seconds:.0f} s, refused {found.counts.refused or 'none'}"
    note += f"; {unsent:,} never left the SDKs" if unsent else ""
    return (
        Row("receiver: spans taken", traces.received / found.seconds, "/s", Bar(rate * 0.99, least=True), note),
        Row("receiver: lost without a count", uncounted, "failures", Bar(0), f"kept {traces.kept:,}"),
        Row("receiver: peak memory", found.peak_mb, "MB", Bar(300), "its own process"),
        Row("receiver: processor", found.cpu_s / found.seconds, "×", None, "of one core"),
        Row("receiver: percentiles by route", found.query_ms, "ms", Bar(2000), f"over {found.asked:,} spans"),
        Row("receiver: peak memory with the query", found.peak_after_query_mb, "MB", Bar(300)),
    )


def _fill(endpoint: str, spans: int) -> None:
    """The same request again and again, as fast as it is taken."""
    draw = random.Random(1)
    batch = (
        span(
            number, end_time_unix_nano=START_NS + number + int(draw.lognormvariate(15, 1)), attributes=_attributes(draw)
        )
        for number in range(1, _BATCH + 1)
    )
    body = traces(*batch).SerializeToString()
    connection = http.client.HTTPConnection(endpoint.removeprefix("http://"), timeout=30)
    for _ in range(-(-spans // _BATCH)):
        connection.request("POST", "/v1/traces", body, {"Content-Type": "application/x-protobuf"})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, f"the receiver answered {answer.status}"
    connection.close()


def _attributes(draw: random.Random) -> dict[str, str | int]:
    route = f"/items/{draw.randrange(20)}"
    return {"http.request.method": "GET", "http.route": route, "http.response.status_code": 200, "url.path": route}


async def _send(endpoint: str, rate: float, seconds: float) -> dict[str, float]:
    sender = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.sender", endpoint, str(rate), str(seconds)),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    output, _ = await sender.communicate()
    assert sender.returncode == 0, f"the sender ended with {sender.returncode}"
    sent: dict[str, float] = json.loads(output)
    return sent


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rate", type=float, default=RATE)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    arguments = parser.parse_args()
    print_table(asyncio.run(measure(arguments.rate, arguments.seconds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
