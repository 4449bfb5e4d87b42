"""A server on the recorded road, as a process of its own: what ends it, and what it says. Not the product's road."""

from __future__ import annotations

import sys

from tests.unit.recorded_road import RecordedRoad, services

from obi_mcp.app import ObiServer
from obi_mcp.log import StderrWriter, start_logging
from obi_mcp.transport import serve_stdio

if __name__ == "__main__":
    stderr = StderrWriter()
    start_logging("info", stderr)
    road = RecordedRoad()
    server = ObiServer(services(road))

    async def close() -> None:
        await server.end_calls()
        await road.close()

    def finish() -> None:
        stderr.write(f"finished: cancelled {road.cancelled}, closed {road.closed}".encode())
        stderr.flush(1.0)

    print("this must not reach the protocol", file=sys.stderr)
    serve_stdio(server, close=close, finish=finish)
