"""The list of tools, given again by the thread that reads: when it is, when it is not, and that it is the same."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import pytest

from obi_mcp.lines import MAX_UNREAD_BYTES, LineWriter
from obi_mcp.repeated import RepeatedLists

TOOLS = '"result":{"tools":[{"name":"obi_kubectl"}]}}\n'


def asks(number: Any, params: Any = None, **more: Any) -> bytes:
    """A request for the list."""
    given = {"jsonrpc": "2.0", "id": number, "method": "tools/list", **more}
    return json.dumps(given if params is None else {**given, "params": params}).encode()


def told(number: Any) -> str:
    """Its answer."""
    return f'{{"jsonrpc":"2.0","id":{json.dumps(number, ensure_ascii=False)},{TOOLS}'


def play(*lines: bytes | str) -> list[bool]:
    """For each line that came whether it was answered at once; texts are what the server answers. Everything that was
    written is compared with what a server would have written."""

    async def run() -> list[bool]:
        reading, writing = os.pipe()
        try:
            lists = RepeatedLists(LineWriter(writing))
            answered = []
            expected = b""
            for line in lines:
                if isinstance(line, str):
                    await lists.write(line)
                    expected += line.encode()
                    continue
                answered.append(lists.answer(line))
                if answered[-1]:
                    expected += told(json.loads(line)["id"]).encode()
            found = b""
            while len(found) < len(expected):
                found += await asyncio.to_thread(os.read, reading, len(expected))
            assert found == expected
            return answered
        finally:
            os.close(reading)

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("lines", "answered"),
    [
        ((asks(1), told(1), asks(2), asks("a"), asks('ü",')), [False, True, True, True]),
        ((asks("é,"), told("é,"), asks(2)), [False, True]),
        ((asks(1), asks(2), told(2), told(1), asks(3)), [False, False, True]),
        ((asks(1, {}), told(1), asks(2, {}), asks(3), asks(4, {"cursor": "x"})), [False, True, False, False]),
        ((asks(1, {"_meta": {"a": 1, "b": 2}}), told(1), asks(2, {"_meta": {"b": 2, "a": 1}})), [False, True]),
        # An error is not kept, nor what answers something else.
        ((asks(1), '{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":""}}\n', asks(2)), [False, False]),
        ((asks(1), told(11), asks(2), told(1), asks(3)), [False, False, True]),
        # A new session may get another answer, also where the old one's is still under way.
        ((asks(1), told(1), b'{"method":"initialize"}', asks(2)), [False, False, False]),
        ((asks(1), b'{"method":"initialize"}', told(1), asks(2)), [False, False, False]),
        # What is no such request is the server's business.
        ((asks(1), told(1), asks(2, id=None), asks(2, id=True), asks(2, id=1.5)), [False, False, False, False]),
        ((asks(1), told(1), asks(2, jsonrpc="1.0"), asks(2, more=1), b'["tools/list"]'), [False] * 4),
        ((asks(1), told(1), b'{"method":"tools/list"}', b'{"method":"tools/list"', b'"tools/list"'), [False] * 4),
        ((asks(1), told(1), asks(2, {"cursor": "x" * 5000})), [False, False]),
        ((asks(1), told(1), asks(2, method="tools/call", params={"name": "tools/list"})), [False, False]),
    ],
)
def test_a_list_is_told_again_to_whoever_has_been_told_it(lines: tuple[bytes | str, ...], answered: list[bool]) -> None:
    assert play(*lines) == answered


def test_a_client_that_reads_nothing_gets_no_more_of_it() -> None:
    async def run() -> bool:
        reading, writing = os.pipe()
        writer = LineWriter(writing)
        lists = RepeatedLists(writer)
        assert not lists.answer(asks(1))
        await lists.write(told(1))
        writer.put(b"x" * (MAX_UNREAD_BYTES + 100_000))
        answered = lists.answer(asks(2))
        os.close(reading)
        return answered

    assert not asyncio.run(run())
