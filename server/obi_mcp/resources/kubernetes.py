"""OBI in clusters: addresses, listing, and reading by the tools of the toolset ``kubernetes``.

Listing touches no cluster; reading is the tool's own call, with its checks, its redaction and its audit lines.
"""

from __future__ import annotations

import json

from obi_mcp.audit import AuditEntry
from obi_mcp.errors import ConfigError
from obi_mcp.resources.address import CURRENT, LOGS_SAYS, STATUS_SAYS, TEMPLATES, Address
from obi_mcp.resources.changes import watched
from obi_mcp.resources.completion import Completer
from obi_mcp.resources.spec import READ, YAML, ReadRefused, ResourceSpec, Source
from obi_mcp.toolsets.base import Services, ToolCall, ToolResult, ToolSpec
from obi_mcp.toolsets.kubernetes import generate, logs, status
from obi_mcp.toolsets.run import run_tool


class ClusterResources:
    """What a server offers of clusters."""

    templates = TEMPLATES

    def __init__(self, services: Services) -> None:
        self._services = services
        self.specs = SPECS
        self.completer = Completer(services)

    async def listed(self) -> tuple[ResourceSpec, ...]:
        """What is known without asking a cluster: the status of the namespace where OBI is by default."""
        try:
            known = await self._services.enforcer.contexts()
        except ConfigError:  # whoever reads it is told
            return ()
        return (_spec(Address(known.current or CURRENT, self._services.settings.scope.default_namespace)),)

    def spec(self, uri: str) -> ResourceSpec | None:
        """The resource of an address of one of the templates; None for others."""
        address = Address.parse(uri)
        return _spec(address) if address else None

    async def source(self, uri: str, caller: str) -> Source | None:
        """What is watched for an address of one of the templates; None for others. Raises: as ``watched``."""
        address = Address.parse(uri)
        return await watched(address, self._services, caller) if address else None


def _spec(address: Address) -> ResourceSpec:
    async def read_it(services: Services, caller: str) -> str:
        return await read(services, address, caller)

    what = f"Log of {address.pod}" if address.pod else "OBI"
    title = f"{what} in {address.namespace} of {address.context}"
    return ResourceSpec(address.uri, title, LOGS_SAYS if address.pod else STATUS_SAYS, read_it)


async def read(services: Services, address: Address, caller: str) -> str:
    """What the tool gives, as JSON. Raises: ReadRefused with the tool's own answer; ConfigError."""
    given = {"namespace": address.namespace}
    if (context := address.argument(await services.enforcer.contexts())) is not None:
        given["context"] = context
    if address.pod:
        return json.dumps((await _called(services, logs.one_spec(), {**given, "pod": address.pod}, caller)).structured)
    return json.dumps((await _called(services, status.spec(), given, caller)).structured)


async def _daemonset(services: Services, caller: str) -> str:
    services.audit.record(AuditEntry(READ, "obi://k8s/daemonset/template", caller))
    return _files(await _called(services, generate.daemonset_spec(services.settings), {}, caller))


async def _sidecar(services: Services, caller: str) -> str:
    services.audit.record(AuditEntry(READ, "obi://k8s/sidecar/template", caller))
    return _files(await _called(services, generate.sidecar_spec(services.settings), sidecar_example(services), caller))


def sidecar_example(services: Services) -> dict[str, str]:
    """The arguments of the sidecar's template, which has none by default."""
    namespace = next(iter(services.settings.scope.instrumented_namespaces), "default")
    return {"deployment": "my-app", "namespace": namespace, "open_port": "8080"}


def _files(result: ToolResult) -> str:
    return "".join(result.structured["files"].values())


async def _called(services: Services, spec: ToolSpec, given: dict[str, str], caller: str) -> ToolResult:
    result = await run_tool(services, spec, ToolCall(given, caller))
    if result.is_error:
        raise ReadRefused(result.structured)
    return result


SPECS = (
    ResourceSpec(
        "obi://k8s/daemonset/template",
        "Manifests for OBI on every node",
        "What obi_k8s_generate_daemonset writes without arguments.",
        _daemonset,
        mime_type=YAML,
    ),
    ResourceSpec(
        "obi://k8s/sidecar/template",
        "Patch that adds OBI as a sidecar",
        "What obi_k8s_generate_sidecar writes for port 8080 of a Deployment my-app.",
        _sidecar,
        mime_type=YAML,
    ),
)
