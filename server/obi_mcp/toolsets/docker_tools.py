"""What the docker tools do: arguments → effect → the guarded road → the engine → data and a short text."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from obi_mcp.agent.logs import parse_since
from obi_mcp.containers.compose import compose_text, effect_of_compose
from obi_mcp.containers.engine import MAX_LOG_BYTES, Engine
from obi_mcp.containers.failures import unfit
from obi_mcp.containers.model import NOBODY, Container, EngineFacts
from obi_mcp.containers.watching import TAIL, Watched, how_it_ended, problems, watch
from obi_mcp.enforcer.effects import Asked, EffectRoad
from obi_mcp.errors import Denied, InvalidArgument, NotFound
from obi_mcp.obi.log_lines import LogRecord, severity
from obi_mcp.policy.effects import ApprovedEffect, ContainerRead, ContainerRun, ContainerStop, EffectT
from obi_mcp.policy.model import Access
from obi_mcp.toolsets import docker_rendering as rendering
from obi_mcp.toolsets.base import Services, ToolCall, ToolResult
from obi_mcp.toolsets.capturing import capture_row, captured_by
from obi_mcp.toolsets.docker_wish import planned

T = TypeVar("T")

DEPLOY, STATUS, LOGS = "obi_docker_deploy", "obi_docker_status", "obi_docker_logs"
STOP, COMPOSE = "obi_docker_stop", "obi_docker_generate_compose"

PULL_WITHIN_S = 300.0
READY_WITHIN_S = 15.0
STOP_WITHIN_S = 60.0
_SEARCHED_LINES = 5_000
"""Of the engine's log, when records are searched for and not just the last ones."""
_LIST = "obi_docker_status lists OBI's containers"


async def deploy(services: Services, call: ToolCall) -> ToolResult:
    """``obi_docker_deploy``."""
    engine = Engine(services.settings)
    facts = await engine.facts()
    if (problem := unfit(facts)) is not None:
        raise problem
    before = await engine.find(call.arguments.get("name", "obi")) if call.arguments.get("replace", False) else None
    given = await _with_capture(services, call.arguments, facts)
    made, notes = await asyncio.to_thread(planned, given, facts, before.proof if before else NOBODY)
    effects = services.effects
    if call.arguments.get("dry_run", False):
        decision = await asyncio.to_thread(effects.explain, made.effect)
        return rendering.dry_run(made, notes, decision, services.settings.access, effects.plain)

    async def perform(approved: ApprovedEffect[ContainerRun]) -> tuple[Watched, tuple[str, ...]]:
        started = await engine.run(approved)
        seen = await watch(engine, approved, started.container, made.asks, within_s=READY_WITHIN_S)
        if before is not None:
            await engine.settle(approved, before, started.container, keep=seen.ready)
        return seen, started.left_out

    asked = _asked(DEPLOY, call, PULL_WITHIN_S)
    seen, left_out = await _judged(effects, made.effect, asked, made.effect.name, perform)
    if before is not None and not seen.ready:
        notes.insert(0, f"taken back: {before.name} runs again as it did before ({before.id[:12]})")
    notes += [f"{path} was not mounted: the engine's host does not have it" for path in left_out]
    return rendering.deployed(made, notes, seen, effects.plain)


async def _with_capture(services: Services, given: Mapping[str, Any], facts: EngineFacts) -> Mapping[str, Any]:
    """The arguments, with OBI's variables for the built-in receiver where ``capture`` asks for it."""
    if given.get("capture", False) and not facts.local:
        raise InvalidArgument(
            "capture listens on this host's loopback, and the engine is on another host",
            "give otlp_endpoint: a collector that the engine's host reaches",
        )
    captured = await captured_by(services, given)
    if not captured:
        return given
    return {**given, "env": {**given.get("env", {}), **captured}}


async def status(services: Services, call: ToolCall) -> ToolResult:
    """``obi_docker_status``."""
    engine, effects = Engine(services.settings), services.effects

    async def perform(approved: ApprovedEffect[ContainerRead]) -> ToolResult:
        facts, ours, capture = await asyncio.gather(engine.facts(), engine.ours(), capture_row(services))
        rows = await asyncio.gather(*(row(approved, one) for one in ours.containers))
        return rendering.status(facts, list(rows), ours.foreign, capture)

    async def row(approved: ApprovedEffect[ContainerRead], one: Container) -> dict[str, Any]:
        lines, used = await asyncio.gather(engine.log(approved, one, tail=TAIL), engine.usage(one))
        return rendering.container_row(one, used, how_it_ended(one), problems(one, lines), effects.plain)

    return await effects.run(ContainerRead("status"), _asked(STATUS, call), perform)


async def logs(services: Services, call: ToolCall) -> ToolResult:
    """``obi_docker_logs``."""
    engine, effects, given = Engine(services.settings), services.effects, call.arguments
    since = parse_since(given["since"]) if "since" in given else None
    tail = given.get("tail", 50)
    searches = any(name in given for name in ("level", "kind", "grep"))

    async def perform(approved: ApprovedEffect[ContainerRead]) -> ToolResult:
        lines = await engine.log(
            approved,
            chosen,
            tail=_SEARCHED_LINES if searches else tail + 1,
            since_s=since.timestamp() if since else None,
        )
        found = await asyncio.to_thread(
            lambda: [record for record in rendering.records_of(lines, effects.plain) if _fits(record, given)]
        )
        cut = len(lines) >= _SEARCHED_LINES or sum(map(len, lines)) >= MAX_LOG_BYTES * 0.9
        return rendering.logs(chosen, found[-tail:], len(found) > tail or cut)

    chosen = await _chosen(engine, given.get("name"))
    return await _judged(effects, ContainerRead("logs", chosen.proof), _asked(LOGS, call), given.get("name"), perform)


async def stop(services: Services, call: ToolCall) -> ToolResult:
    """``obi_docker_stop``."""
    engine = Engine(services.settings)
    name = call.arguments.get("name")
    chosen = await _chosen(engine, name)
    effect = ContainerStop(chosen.proof, call.arguments.get("remove", True))
    ended = await _judged(services.effects, effect, _asked(STOP, call, STOP_WITHIN_S), name, engine.stop)
    return rendering.stopped(ended, effect.remove)


async def generate_compose(services: Services, call: ToolCall) -> ToolResult:
    """``obi_docker_generate_compose``: what is written is read back and judged."""
    effects = services.effects

    def write() -> tuple[str, list[str]]:
        made, notes = planned(call.arguments, None)
        text = compose_text(made.effect)
        # Writing a file is a read; running it is not, so it is judged as if it were run.
        decision = effects.policy.decide_effect(
            effect_of_compose(text), access=Access.NON_DESTRUCTIVE, host=effects.host
        )
        if not decision.allowed:
            raise Denied(decision)
        return text, notes

    text, notes = await asyncio.to_thread(write)
    return rendering.compose(text, notes)


async def _chosen(engine: Engine, name: str | None) -> Container:
    """The container of that name, whoever's it is: the policy says whether it is ours. Without a name the only one."""
    if name is not None:
        found = await engine.find(name)
        if found is None:
            raise _not_found(name)
        return found
    ours = (await engine.ours()).containers
    if len(ours) > 1:
        raise InvalidArgument(f"OBI has {len(ours)} containers", f"name one of {', '.join(one.name for one in ours)}")
    if not ours:
        raise _not_found("a container")
    return ours[0]


async def _judged(
    effects: EffectRoad,
    effect: EffectT,
    asked: Asked,
    name: str | None,
    perform: Callable[[ApprovedEffect[EffectT]], Awaitable[T]],
) -> T:
    """As ``EffectRoad.run``; what is not OBI's is not found, and the audit log has the denial."""
    try:
        return await effects.run(effect, asked, perform)
    except Denied as denied:
        if denied.decision.rule != "hard.container":
            raise
        # By the caller's own word: a container that is not OBI's does not tell its name either.
        raise _not_found(name or "a container") from None


def _not_found(name: str) -> NotFound:
    return NotFound(name, None, _LIST)


def _asked(tool: str, call: ToolCall, timeout_s: float | None = None) -> Asked:
    return Asked(tool, call.caller, timeout_s=timeout_s, confirmed_by=call.confirmed_by)


def _fits(record: LogRecord, given: Any) -> bool:
    if "kind" in given and record.kind != given["kind"]:
        return False
    if "level" in given and (record.kind != "log" or severity(record.level) < severity(given["level"])):
        return False
    return "grep" not in given or given["grep"] in record.text
