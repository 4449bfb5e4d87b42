"""The list of tools, given again: what a client has been told once, the thread that reads it tells it from then on.

The list is the same as long as the server runs (it says ``listChanged: false``), and answering takes the event loop
eight rounds: behind a hundred calls that was a third of a second.
"""

from __future__ import annotations

import json
import threading
from typing import Any

from obi_mcp.lines import LineWriter

_METHOD = b'"tools/list"'
_MOST_BYTES = 4096
"""A longer request is none that was seen before."""
_MOST_KEPT = 8
_BEGIN, _RESULT = b'{"jsonrpc":"2.0","id":', b',"result":{'


class RepeatedLists:
    """Stands before the writer: learns the answers to ``tools/list`` as they go out, and gives them again.

    INVARIANT: an answer is given again only for equal parameters in the session in which the server gave it.
    """

    def __init__(self, writer: LineWriter) -> None:
        self._writer = writer
        self._lock = threading.Lock()
        self._asked: dict[str, str] = {}
        self._known: dict[str, bytes] = {}

    def answer(self, line: bytes) -> bool:
        """Whether the request has been answered by this; called by the thread that reads."""
        if b'"initialize"' in line:
            self._forget()
        if _METHOD not in line or len(line) > _MOST_BYTES or (request := _request(line)) is None:
            return False
        number, parameters = request
        with self._lock:
            rest = self._known.get(parameters)
            if rest is None:
                self._asked[number] = parameters
                if len(self._asked) > _MOST_KEPT:
                    self._asked.pop(next(iter(self._asked)))
        # A client that reads nothing gets no more of this: the event loop waits until it does.
        if rest is None or self._writer.is_behind:
            return False
        self._writer.put(_BEGIN + number.encode() + rest)
        return True

    async def write(self, text: str) -> None:
        """Takes a line for the client. Raises: OSError when nobody reads."""
        if self._asked:
            self._learn(text.encode())
        await self._writer.write(text)

    async def flush(self) -> None:
        """What was taken is on its way."""

    def _learn(self, line: bytes) -> None:
        with self._lock:
            for number, parameters in self._asked.items():
                begin = _BEGIN + number.encode()
                if line.startswith(begin + b","):
                    del self._asked[number]
                    if line.startswith(_RESULT, len(begin)) and len(self._known) < _MOST_KEPT:
                        self._known[parameters] = line[len(begin) :]
                    return

    def _forget(self) -> None:
        """Another session may speak another revision of the protocol."""
        with self._lock:
            self._asked.clear()
            self._known.clear()


def _request(line: bytes) -> tuple[str, str] | None:
    """The id of a request for the list, and its parameters, both as JSON; None: it is something else."""
    try:
        data: Any = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or data.keys() - {"params"} != {"jsonrpc", "id", "method"}:
        return None
    if data["method"] != "tools/list" or data["jsonrpc"] != "2.0" or type(data["id"]) not in (int, str):
        return None
    return json.dumps(data["id"], ensure_ascii=False), json.dumps(data.get("params"), sort_keys=True)
