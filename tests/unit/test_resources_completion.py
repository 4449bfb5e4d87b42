"""Completion of the words of a resource's address, with a cluster that answers and one that is silent."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from mcp import Client
from mcp_types import ResourceTemplateReference
from tests.unit.recorded_road import NARROWED, RecordedRoad, services
from tests.unit.resource_clients import CLUSTERS, LOGS, PODS, STATUS, each_generation, until, with_client

from obi_mcp.enforcer.model import Call
from obi_mcp.enforcer.reading import Reading
from obi_mcp.enforcer.watching import Contexts
from obi_mcp.errors import ClusterUnreachable
from obi_mcp.policy.scope import DEFAULT_SELECTORS, Scope


class Silent(RecordedRoad):
    """A cluster that never answers."""

    async def read(self, call: Call) -> Reading:
        self.calls.append(call)
        self.started.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.append(call.command)
        raise AssertionError("it never answers")


@each_generation
def test_completion_of_contexts_and_namespaces_and_pods(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WAIT_S", "FRESH_S"):
        monkeypatch.setattr(f"obi_mcp.resources.completion.{name}", 3_600.0)
    road = RecordedRoad(known=Contexts("dev", ("prod-a", "prod-b")))
    everywhere = f"kubectl get daemonsets -A -l '{DEFAULT_SELECTORS[0]}' -o json"
    road.readings[everywhere] = Reading(({"metadata": {"name": "obi", "namespace": "tracing"}},), NARROWED)
    pods = [{"metadata": {"name": f"obi-{number:03}", "namespace": "obi"}} for number in range(150)]
    road.readings[PODS] = Reading(tuple(pods), NARROWED)

    async def use(client: Client) -> None:
        async def complete(template: str, word: str, begin: str, **given: str) -> tuple[list[str], int | None, Any]:
            ref = ResourceTemplateReference(uri=template)
            found = (await client.complete(ref, {"name": word, "value": begin}, given or None)).completion
            return found.values, found.total, found.has_more

        assert client.server_capabilities.completions is not None
        assert await complete(STATUS, "context", "") == (["dev", "prod-a", "prod-b", "current"], 4, False)
        assert await complete(STATUS, "context", "prod") == (["prod-a", "prod-b"], 2, False)
        names, _, _ = await complete(STATUS, "namespace", "", context="prod-a")
        assert names == ["tracing", "observability", "obi", "obi-system", "opentelemetry", "monitoring"]
        assert road.calls[-1].context == "prod-a"
        names, total, more = await complete(LOGS, "pod", "obi-", context="prod-a", namespace="obi")
        assert (names[0], len(names), total, more) == ("obi-000", 100, 150, True)
        asked = len(road.calls)
        assert (await complete(LOGS, "pod", "obi-14", context="prod-a", namespace="obi"))[1] == 10
        assert len(road.calls) == asked  # remembered for a moment
        for nothing in (
            (LOGS, "pod", ""),
            (STATUS, "pod", ""),
            ("obi://x/{context}", "context", ""),
            (STATUS, "x", ""),
        ):
            assert await complete(*nothing) == ([], 0, False)

    road.readings[PODS.replace("-n obi ", "-n observability ")] = ClusterUnreachable("it is down", "wait")
    with_client(mode, services(road, CLUSTERS), use)


def test_completion_does_not_wait_for_a_cluster_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("obi_mcp.resources.completion.WAIT_S", 0.0)
    road = Silent()

    async def use(client: Client) -> None:
        ref = ResourceTemplateReference(uri=LOGS)
        for word, expected in (("pod", []), ("namespace", list(Scope().namespaces)), ("pod", [])):
            found = await client.complete(ref, {"name": word, "value": ""}, {"namespace": "obi"})
            assert found.completion.values == expected
        await until(lambda: len(road.calls) == 2)  # the pods are asked for once

    with_client("auto", services(road, CLUSTERS), use)
    assert len(road.cancelled) == 2  # nothing is read on when the server has ended
