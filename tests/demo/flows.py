"""The step that holds OBI to the truth: its flow metric has to grow by the bytes that were sent."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from tests.demo.place import Needs
from tests.demo.step import Stage, StepFailed
from tests.sandbox.traffic import Traffic, read_flows

REQUESTS = 40
BODY_BYTES = 20_000
WITHIN_S = 120.0
POLL_S = 0.25
TOLERANCE = 0.01
"""Share by which the metric may differ. Both sides count whole Ethernet frames on the same link, which carries nothing
else, so they are equal to the byte unless the machine is so busy that the agent's buffer in the kernel runs full."""


@dataclass(frozen=True, slots=True)
class FlowMeasurement:
    """Reads the metric, sends traffic whose size the link's counters know, reads again until the metric has caught up.

    ``command`` reads the metric.
    """

    title: str
    tool: str
    command: str
    needs: Needs = Needs.COUNTED_TRAFFIC
    wants: tuple[str, ...] = ("port",)

    async def play(self, stage: Stage) -> None:
        sandbox = stage.place.sandbox
        if sandbox is None:
            raise StepFailed("only the sandbox knows what was sent")
        stage.transcript.command(self.tool, stage.fill(self.command), None)
        before = await self._read(stage)
        sent = await asyncio.to_thread(sandbox.traffic, REQUESTS, BODY_BYTES)
        expected = {(sent.client, sent.server): sent.sent_bytes, (sent.server, sent.client): sent.received_bytes}
        deadline = time.monotonic() + WITHIN_S
        while True:
            after = await self._read(stage)
            grown = {pair: after.get(pair, 0) - before.get(pair, 0) for pair in expected}
            if all(grown[pair] >= expected[pair] * (1 - TOLERANCE) for pair in expected):
                break
            if time.monotonic() > deadline:
                raise StepFailed(f"after {WITHIN_S:.0f} s the metric had grown by {grown}; sent were {expected}")
            await asyncio.sleep(POLL_S)
        for pair, count in expected.items():
            if grown[pair] > count * (1 + TOLERANCE):
                raise StepFailed(f"the metric has grown by {grown}, more than the {expected} that were sent")
        _show(stage, sent, expected, grown)

    async def _read(self, stage: Stage) -> dict[tuple[str, str], int]:
        answer = await stage.call(self.tool, stage.fill(self.command))
        if answer.is_error:
            raise StepFailed(f"reading the metric gave {answer.failure()}")
        flows: dict[tuple[str, str], int] = {}
        for flow in read_flows(answer.stdout):
            pair = (flow.source, flow.destination)
            flows[pair] = flows.get(pair, 0) + flow.bytes
        return flows


def _show(stage: Stage, sent: Traffic, expected: dict[tuple[str, str], int], grown: dict[tuple[str, str], int]) -> None:
    stage.transcript.note(f"then {sent.requests} HTTP requests were made, {sent.body_bytes:,} bytes of answers")
    for (source, destination), count in expected.items():
        seen = grown[source, destination]
        stage.transcript.line(
            f"{source} → {destination}: link counter {count:,} bytes, OBI's metric {seen:,} "
            f"({(seen - count) / count:+.2%}, allowed ±{TOLERANCE:.0%})"
        )
