"""Resources as MCP has them, in both protocol generations.

The older one subscribes by ``resources/subscribe`` and is told on its connection, the newer one listens by
``subscriptions/listen`` to a bus of the SDK's. INVARIANT: nothing else in this package knows of MCP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any

from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.server.mcpserver import MCPServer
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ResourceUpdated
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CompleteRequestParams,
    CompleteResult,
    Completion,
    EmptyResult,
    ResourceTemplate,
    SubscribeRequestParams,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
    UnsubscribeRequestParams,
)
from mcp_types import Resource as McpResource

from obi_mcp.audit import AuditEntry
from obi_mcp.errors import NotFound, ObiMcpError
from obi_mcp.resources import local, policy
from obi_mcp.resources.looks import looked_at
from obi_mcp.resources.spec import READ, ReadRefused, ResourceSpec, Source
from obi_mcp.resources.subscriptions import PACE, Pace, Subscriptions
from obi_mcp.toolsets.base import Services
from obi_mcp.toolsets.registry import enabled_toolsets
from obi_mcp.toolsets.rendering import render_error
from obi_mcp.toolsets.run import plain_text

if TYPE_CHECKING:
    from obi_mcp.resources.kubernetes import ClusterResources

MAX_CALLER = 100
TELL_S = 5.0
"""How long a client may take to take a notification before it counts as gone."""
_SUBSCRIBED = "obi-mcp: leaves its subscriptions when it ends"
_WRONG = frozenset({"not_found", "invalid_argument"})


class Resources:
    """The resources of one server, and who wants to hear of their changes."""

    def __init__(self, services: Services, *, pace: Pace = PACE) -> None:
        names = {toolset.name for toolset in enabled_toolsets(services.settings)}
        self._services = services
        self._clusters = _of_clusters(services) if "kubernetes" in names else None
        specs = (
            *(local.SPECS if "local" in names else ()),
            *(self._clusters.specs if self._clusters else ()),
            *policy.SPECS,
        )
        self._specs: Mapping[str, ResourceSpec] = {spec.uri: spec for spec in specs}
        self.bus = InMemorySubscriptionBus()
        self._listen_handler = ListenHandler(self.bus)
        self._subscriptions = Subscriptions(self._source, self._tell, pace=pace)

    async def listed(self) -> list[McpResource]:
        """For ``resources/list``; no cluster is asked."""
        concrete = await self._clusters.listed() if self._clusters else ()
        return [
            McpResource(
                uri=spec.uri, name=spec.name, title=spec.title, description=spec.description, mime_type=spec.mime_type
            )
            for spec in (*self._specs.values(), *concrete)
        ]

    def templates(self) -> list[ResourceTemplate]:
        """For ``resources/templates/list``."""
        return [
            ResourceTemplate(
                uri_template=spec.uri,
                name=spec.name,
                title=spec.title,
                description=spec.description,
                mime_type=spec.mime_type,
            )
            for spec in (self._clusters.templates if self._clusters else ())
        ]

    async def read(self, uri: str, caller: str) -> tuple[str, str]:
        """The text of a resource and its type. Raises: MCPError with the code and the hint of what refuses it."""
        spec = self._specs.get(uri) or (self._clusters.spec(uri) if self._clusters else None)
        try:
            if spec is None:
                raise self._unknown(uri)
            return plain_text(await spec.read(self._services, caller)), spec.mime_type
        except ReadRefused as refused:
            raise _refusal(refused.answer) from None
        except ObiMcpError as error:
            if spec is not None and not error.audited:
                self._services.audit.record(AuditEntry(READ, uri, caller, error=error.code))
            raise self._as_answer(error) from None

    async def close(self) -> None:
        """Ends every watch and everything that is being read for a completion."""
        await self._subscriptions.close()
        if self._clusters is not None:
            await self._clusters.completer.close()

    def serve(self, server: MCPServer[Any]) -> None:
        """Has the methods served that the SDK's high-level server has no public way for.

        For this the SDK's private attribute is used, as in ``transport.serve_lines``; ``tests/unit/test_resources.py``
        fails when it goes.
        """
        low: Server[Any] = server._lowlevel_server
        low.add_request_handler("resources/subscribe", SubscribeRequestParams, self._subscribe)
        low.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, self._unsubscribe)
        low.add_request_handler("subscriptions/listen", SubscriptionsListenRequestParams, self._listen)
        if self._clusters is not None:
            low.add_request_handler("completion/complete", CompleteRequestParams, self._complete)

    # --- the older generation ---

    async def _subscribe(self, context: ServerRequestContext[Any], params: SubscribeRequestParams) -> EmptyResult:
        connection = _connection(context)
        await self._join(str(params.uri), connection, caller_of(context))
        if not connection.state.get(_SUBSCRIBED):
            connection.state[_SUBSCRIBED] = True
            connection.exit_stack.callback(self._subscriptions.leave_all, connection)
        return EmptyResult()

    async def _unsubscribe(self, context: ServerRequestContext[Any], params: UnsubscribeRequestParams) -> EmptyResult:
        self._subscriptions.leave(str(params.uri), _connection(context))
        return EmptyResult()

    # --- the newer generation ---

    async def _listen(
        self, context: ServerRequestContext[Any], params: SubscriptionsListenRequestParams
    ) -> SubscriptionsListenResult:
        """The SDK's own handler, and the watches that it needs for as long as it lasts."""
        listener = object()
        try:
            for uri in params.notifications.resource_subscriptions or ():
                await self._join(str(uri), listener, caller_of(context))
            return await self._listen_handler(context, params)
        finally:
            self._subscriptions.leave_all(listener)

    # --- both ---

    async def _join(self, uri: str, subscriber: Hashable, caller: str) -> None:
        try:
            await self._subscriptions.join(uri, subscriber, caller)
        except ObiMcpError as error:
            raise self._as_answer(error) from None

    async def _source(self, uri: str, caller: str) -> Source:
        """What is watched for an address. Raises: NotFound for an address that is none; what refuses it."""
        spec = self._specs.get(uri)
        if spec is not None:
            return looked_at(uri, self._services, spec.stamp) if spec.stamp else Source(uri)
        source = await self._clusters.source(uri, caller) if self._clusters else None
        if source is None:
            raise self._unknown(uri)
        return source

    async def _tell(self, uri: str) -> None:
        for subscriber in self._subscriptions.wanting(uri):
            if isinstance(subscriber, Connection):
                try:
                    async with asyncio.timeout(TELL_S):
                        await subscriber.send_resource_updated(uri)
                except TimeoutError:
                    self._subscriptions.leave_all(subscriber)
        await self.bus.publish(ResourceUpdated(uri))

    async def _complete(self, context: ServerRequestContext[Any], params: CompleteRequestParams) -> CompleteResult:
        template = getattr(params.ref, "uri", None)
        if self._clusters is None or template is None:
            return CompleteResult(completion=Completion(values=[], total=0, has_more=False))
        given = (params.context.arguments if params.context else None) or {}
        found = await self._clusters.completer.complete(
            str(template), params.argument.name, params.argument.value, given, caller_of(context)
        )
        more = found.total > len(found.values)
        return CompleteResult(completion=Completion(values=list(found.values), total=found.total, has_more=more))

    def _unknown(self, uri: str) -> NotFound:
        templates = self._clusters.templates if self._clusters else ()
        return NotFound(uri[:200], None, f"resources: {', '.join((*self._specs, *(spec.uri for spec in templates)))}")

    def _as_answer(self, error: ObiMcpError) -> MCPError:
        return _refusal(render_error(error, self._services.settings.access).structured)


def _of_clusters(services: Services) -> ClusterResources:
    from obi_mcp.resources.kubernetes import ClusterResources  # with its tools, where their toolset is on

    return ClusterResources(services)


def caller_of(context: Any) -> str:
    """Who calls, as the client names itself: a claim, not an identity. ``context``: of a request, or None."""
    params = context.session.client_params if context is not None else None
    if params is None:
        return "mcp"
    name = f"{params.client_info.name}/{params.client_info.version}"
    return "".join(letter for letter in name if letter.isprintable())[:MAX_CALLER]


def _connection(context: ServerRequestContext[Any]) -> Connection:
    """The connection of a request: the same for all of them, while their sessions are one each. The SDK keeps it in a
    private attribute, and has no other name for it."""
    connection: Connection = context.session._connection
    return connection


def _refusal(answer: Mapping[str, Any]) -> MCPError:
    """A tool's refusal as an error of the protocol: the code, the hint and the decision go along."""
    data = {word: value for word, value in answer.items() if word != "message" and value is not None}
    code = INVALID_PARAMS if answer.get("code") in _WRONG else INTERNAL_ERROR
    return MCPError(code=code, message=plain_text(str(answer.get("message"))), data=data)
