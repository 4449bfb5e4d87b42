#!/usr/bin/env python3
"""A test double of many agents' metrics endpoints: it replays recorded output of OBI at addresses of simulated pods.

``replay.py PORT FILE [ADDRESS=FILE]... [ADDRESS=silence]...``: every address of the network namespace answers
``GET /metrics`` with FILE, those that are named with theirs; a silent one takes the request and never answers.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

SILENCE = "silence"


async def main(port: int, words: list[str]) -> None:
    """Serves until it is stopped; says ``listening`` when it does."""
    default, *others = words
    texts = {"": Path(default).read_bytes()}
    for word in others:
        address, _, path = word.partition("=")
        texts[address] = b"" if path == SILENCE else Path(path).read_bytes()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        text = texts.get(writer.get_extra_info("sockname")[0], texts[""])
        try:
            while request := await reader.readuntil(b"\r\n\r\n"):
                if not text:
                    await reader.read()  # until the other side gives up
                    return
                found = request.startswith(b"GET /metrics ")
                body = text if found else b"no such path\n"
                kind = b"text/plain; version=0.0.4; charset=utf-8"
                status = b"200 OK" if found else b"404 Not Found"
                head = b"HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n" % (status, kind, len(body))
                writer.write(head + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "0.0.0.0", port, backlog=1024)
    print("listening", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2:]))
