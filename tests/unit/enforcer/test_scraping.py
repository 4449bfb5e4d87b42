"""One endpoint of many pods: each pod's trouble is its own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from obi_mcp.enforcer.members import Found
from obi_mcp.enforcer.scraping import IN_FLIGHT, Scraped, Sink, Wanted, at_most, scrape
from obi_mcp.errors import ProgramFailed


def found(name: str, *, port: int | None = 9090) -> Found:
    body = {"metadata": {"name": name, "namespace": "obi"}, "spec": {"nodeName": f"on-{name}", "port": port}}
    return Found(body, True, "")


def port_of(pod: Mapping[str, Any]) -> int | None:
    port: int | None = pod["spec"]["port"]
    return port


class Pods:
    """What each pod does when it is asked: serves bytes, raises, or is silent; and how many are asked at once."""

    def __init__(self, served: dict[str, bytes | Exception | None]) -> None:
        self.served = served
        self.lines: list[str] = []
        self.at_once = self.most = 0
        self.taken: dict[str, bytes] = {}
        self.done: list[str] = []

    async def request(self, pod: Found, command: str, sink: Sink) -> None:
        self.lines.append(command)
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            await asyncio.sleep(0)
            what = self.served[pod.name]
            if what is None:
                await asyncio.Event().wait()
            elif isinstance(what, Exception):
                raise what
            else:
                at_most(sink, 10)(what)
        finally:
            self.at_once -= 1

    def sink(self, pod: str) -> Sink:
        def take(piece: bytes) -> None:
            if piece == b"html":
                raise ValueError("no sample: 'html'")
            self.taken[pod] = self.taken.get(pod, b"") + piece

        return take

    async def finished(self, scraped: Scraped) -> None:
        self.done.append(scraped.pod)

    def scraped(self, pods: list[Found], within_s: float = 60.0) -> dict[str, str | None]:
        wanted = Wanted("metrics", port_of, self.sink, self.finished)
        answer = asyncio.run(scrape(pods, wanted, self.request, within_s=within_s))
        assert [one.pod for one in answer] == sorted(pod.name for pod in pods) and sorted(self.done) == sorted(
            one.pod for one in answer
        )
        assert all(one.node == f"on-{one.pod}" for one in answer)
        return {one.pod: one.problem for one in answer}


def test_every_trouble_is_said_of_its_own_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("obi_mcp.enforcer.scraping.POD_S", 0.02)
    pods = Pods(
        {
            "a": b"fine",
            "b": ProgramFailed("connection refused"),
            "c": None,
            "d": b"far too much",
            "e": b"html",
            "g": b"fine",
        }
    )
    problems = pods.scraped([*map(found, reversed("abcdeg")), found("f", port=None)])
    assert problems == {
        "a": None,
        "b": "connection refused",
        "c": "no answer within 0.02 s",
        "d": "it serves more than 10 bytes",
        "e": "what it serves cannot be read: no sample: 'html'",
        "f": "it declares no port",
        "g": None,
    }
    assert pods.taken == {"a": b"fine", "g": b"fine"}
    assert "kubectl get --raw /api/v1/namespaces/obi/pods/a:9090/proxy/metrics" in pods.lines


def test_only_so_many_are_asked_at_once() -> None:
    names = [f"p{number:03}" for number in range(5 * IN_FLIGHT)]
    pods = Pods(dict.fromkeys(names, b"x"))
    assert set(pods.scraped([found(name) for name in names]).values()) == {None}
    assert pods.most == IN_FLIGHT and len(pods.taken) == len(names)


def test_who_is_not_reached_in_time_is_named() -> None:
    pods = Pods({"a": b"x"})
    assert pods.scraped([found("a")], within_s=0.0) == {"a": "it was not asked within 0 s"}
    assert pods.lines == []
