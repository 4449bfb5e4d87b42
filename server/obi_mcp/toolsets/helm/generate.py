"""``obi_helm_generate_chart``, ``obi_helm_generate_values``, ``obi_helm_template``: charts, values and what they make.

Nothing is written anywhere: a chart is files in the answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from obi_mcp.config import Settings
from obi_mcp.enforcer.model import Answer, Call
from obi_mcp.errors import InvalidArgument, InvalidDocument, ProgramFailed
from obi_mcp.obi.chart.names import Delivery, PresetName
from obi_mcp.toolsets.base import Schema, Services, ToolCall, ToolResult, ToolSpec
from obi_mcp.toolsets.helm.values import PLACE, VALUES, Wanted, refusals, requested_values
from obi_mcp.toolsets.kubernetes.place import name
from obi_mcp.toolsets.kubernetes.schema import arguments, result
from obi_mcp.toolsets.rendering import MAX_TEXT

CHART = "obi_helm_generate_chart"
GENERATE_VALUES = "obi_helm_generate_values"
TEMPLATE = "obi_helm_template"
PLACEHOLDER = "oci://registry.example.org/charts"
"""Stands where the caller named no repository; the answer says that it is to be replaced."""
MAX_OBJECTS = 200
_TEXT: Schema = {"type": "string", "maxLength": 253}
_REMARKS: dict[str, Schema] = {"warnings": {"type": "array"}, "notes": {"type": "array"}}


def chart_spec(settings: Settings) -> ToolSpec:
    """The tool that gives a chart away."""
    properties: dict[str, Schema] = {
        "name": {**_TEXT, "default": "obi"},
        "version": {**_TEXT, "description": "Of the chart."},
        **PLACE,
        **VALUES,
    }
    return ToolSpec(
        name=CHART,
        title="Write a helm chart for OBI",
        description=(
            "Writes the files of the server's own chart, under a name and with defaults of yours; installs nothing. "
            "For values alone use obi_helm_generate_values, to see what it makes obi_helm_template."
        ),
        input_schema=arguments(properties),
        output_schema=result("files", "object", **_REMARKS),
        run=_run_chart,
        open_world=False,
    )


def values_spec(settings: Settings) -> ToolSpec:
    """The tool that gives values for a platform."""
    properties: dict[str, Schema] = {
        **PLACE,
        **VALUES,
        "format": {"type": "string", "enum": [str(form) for form in Delivery], "default": "values"},
        "repository": {**_TEXT, "description": "https:// or oci://, for helmrelease and argocd."},
        "chart": {**_TEXT, "default": "obi"},
        "version": {**_TEXT, "description": "Of the chart."},
    }
    return ToolSpec(
        name=GENERATE_VALUES,
        title="Write helm values for OBI on a platform",
        description=(
            "Writes values of OBI's chart for a platform, each with its source, and says what the platform forbids; "
            "as values.yaml, Flux HelmRelease or Argo CD Application. Applies nothing."
        ),
        input_schema=arguments(properties),
        output_schema=result("files", "object", settings={"type": "array"}, **_REMARKS),
        run=_run_values,
        open_world=False,
    )


def template_spec(settings: Settings) -> ToolSpec:
    """The tool that renders the chart with the real helm."""
    properties: dict[str, Schema] = {
        **PLACE,
        **VALUES,
        "chart": {**_TEXT, "default": "obi"},
        "version": {**_TEXT, "description": "Of the chart."},
    }
    return ToolSpec(
        name=TEMPLATE,
        title="Render OBI's chart",
        description=(
            "Renders a chart of OBI's with helm, a preset and values, judges every object, and gives them with "
            "findings; needs no cluster."
        ),
        input_schema=arguments(properties),
        output_schema=result("objects", "array", findings={"type": "array"}, **_REMARKS),
        run=_run_template,
        open_world=False,
    )


async def _run_chart(services: Services, call: ToolCall) -> ToolResult:
    from obi_mcp.obi.chart.files import ChartRequest, chart_files

    given = call.arguments
    wanted = requested_values(services, given, preset=PresetName.PRODUCTION)
    version = given.get("app_version", "")
    values = dict(wanted.complete)
    if version and values.get("image", {}).get("tag") == version:
        values["image"] = {**values["image"], "tag": ""}
    chart = given.get("name", "obi")
    request = ChartRequest(name=chart, version=given.get("version", ""), app_version=version, values=values)
    files = chart_files(request)
    notes = [*wanted.notes, *_unknown_chart(services, wanted, chart)]
    said = {**wanted.as_json(), "notes": notes}
    lines = [f"made, not written: {len(files)} files: {', '.join(files)}", *wanted.lines, *notes[len(wanted.notes) :]]
    return ToolResult({"files": files, "warnings": said["warnings"], "notes": notes}, "\n".join(lines))


async def _run_values(services: Services, call: ToolCall) -> ToolResult:
    given = call.arguments
    wanted = requested_values(services, given, preset=PresetName.PRODUCTION)
    chart = name(given.get("chart", "obi"), "chart")
    refused = await refusals(services, call, GENERATE_VALUES, wanted, "obi")
    file, text, notes = _delivered(given, wanted, chart)
    notes = (*notes, *refused)
    said = wanted.as_json()
    lines = (*wanted.lines, *notes)
    return ToolResult(
        {"files": {file: text}, **said, "notes": [*said["notes"], *notes]},
        "\n".join([f"made, not applied: {file}", *lines, *_beginning(text)]),
        payload=text,
        notes=lines,
    )


async def _run_template(services: Services, call: ToolCall) -> ToolResult:
    given = call.arguments
    wanted = requested_values(services, given)
    line = f"helm template {wanted.install.name} {_chart_word(given)} -n {wanted.install.namespace}"
    if "version" in given:
        line += f" --version {name(given['version'], 'chart version')}"
    asked = Call(
        f"{line} --values -",
        TEMPLATE,
        stdin=wanted.document or "{}\n",
        caller=call.caller,
        max_bytes=services.settings.limits.max_max_bytes,
    )
    answer = await services.enforcer.run(asked, call.progress)
    objects = list(_objects(answer))
    findings = [finding for body in objects for finding in _findings(body, wanted)]
    said = wanted.as_json()
    rows = [f"{body['kind']} {_place_and_name(body['metadata'])}" for body in objects]
    lines = [f"{entry['severity']}: {entry['object']}: {entry['what']}" for entry in findings]
    return ToolResult(
        {
            "objects": objects,
            "findings": findings,
            "warnings": said["warnings"],
            "notes": [*said["notes"], *answer.notes],
        },
        "\n".join([f"{len(objects)} objects, each of which may be written here:", *rows, *lines, *wanted.lines]),
        payload=answer.stdout,
        notes=(*lines, *wanted.lines, *answer.notes),
    )


def _beginning(text: str) -> tuple[str, ...]:
    """For clients that read only text, as much as of any output (docs/decisions/0002)."""
    more = len(text) - MAX_TEXT
    return (text,) if more <= 0 else (text[:MAX_TEXT], f"… {more:,} more characters, all of them in files")


def _place_and_name(metadata: Mapping[str, Any]) -> str:
    return "/".join(filter(None, (metadata.get("namespace"), metadata["name"])))


def _delivered(given: Mapping[str, Any], wanted: Wanted, chart: str) -> tuple[str, str, tuple[str, ...]]:
    """The name of the file, its text, and what is to be said about it."""
    from obi_mcp.obi.chart.delivery import ChartSource, helm_application, helm_release, stream
    from obi_mcp.obi.chart.values import chart_version

    form = Delivery(given.get("format", "values"))
    if form is Delivery.VALUES:
        return "values.yaml", wanted.document or "{}\n", ()
    url = given.get("repository", PLACEHOLDER)
    if not url.startswith(("https://", "oci://")):
        raise InvalidArgument(f"{url[:80]!r} is no chart repository", "an address that begins with https:// or oci://")
    source = ChartSource(url=url, chart=chart, version=given.get("version", chart_version()))
    replaced = f"replace {PLACEHOLDER} by the repository that holds the chart {chart} {source.version}"
    notes = (replaced,) if url == PLACEHOLDER else ()
    if form is Delivery.ARGOCD:
        application = helm_application(wanted.install, source, wanted.values)
        kept = "Argo CD renders the chart and applies that: helm list and the obi_helm tools see no release"
        return "application.yaml", stream([application]), (*notes, kept)
    return "helmrelease.yaml", stream(helm_release(wanted.install, source, wanted.values)), notes


def _chart_word(given: Mapping[str, Any]) -> str:
    """The chart as a word of a command line; what it may be, the policy decides."""
    repository, slash, chart = str(given.get("chart", "obi")).rpartition("/")
    return f"{name(repository, 'chart repository')}/{name(chart, 'chart')}" if slash else name(chart, "chart")


def _unknown_chart(services: Services, wanted: Wanted, chart: str) -> list[str]:
    """Whether this server would take the chart for OBI's, were it in its chart store."""
    scope = services.settings.scope
    if chart in scope.releases.get(wanted.install.name, ()):
        return []
    return [
        f"scope.releases has no release {wanted.install.name} of the chart {chart}: this server would not install it; "
        "the chart store is set by programs.chart_store"
    ]


def _objects(answer: Answer) -> Iterator[dict[str, Any]]:
    """The objects of a rendering. Raises: ProgramFailed for one that failed or was cut."""
    from obi_mcp.policy.yaml_reader import read_stream

    if answer.exit_code or answer.truncated:
        raise ProgramFailed(f"helm template: {(answer.stderr or answer.cut or '')[:600]}", "mend what it names")
    size = len(answer.stdout.encode())
    try:
        bodies: Sequence[tuple[int, int, Any]] = list(
            read_stream(answer.stdout, max_bytes=size, max_documents=MAX_OBJECTS, max_aliases=20)
        )
    except InvalidDocument as error:
        raise ProgramFailed(f"what helm rendered cannot be read: {error.message}", "use obi_helm template") from None
    yield from (body for _, _, body in bodies if body is not None)


def _findings(body: Mapping[str, Any], wanted: Wanted) -> Iterator[dict[str, str]]:
    """What is to be known about an object, though it may be written."""
    from obi_mcp.obi.capabilities import needed
    from obi_mcp.obi.config import validate
    from obi_mcp.obi.manifests.own_config import FILE_NAME

    label = f"{body['kind']} {body['metadata']['name']}"
    if body["kind"] == "ConfigMap":
        for text in (text for key, text in body.get("data", {}).items() if key == FILE_NAME):
            for finding in validate(text, version=wanted.install.version.removeprefix("v")):
                yield {"severity": str(finding.severity), "object": label, "what": str(finding)}
    if body["kind"] == "DaemonSet":
        for container in body["spec"]["template"]["spec"]["containers"]:
            if (container.get("securityContext") or {}).get("privileged"):
                least = ", ".join(needed(wanted.install.features).capabilities)
                what = f"the container {container['name']} is privileged; for {', '.join(wanted.install.features)} "
                yield {"severity": "warning", "object": label, "what": f"{what}{least} would be enough"}
    if body["kind"] in {"ServiceMonitor", "PodMonitor"}:
        what = "needs the Prometheus operator's custom resource definitions in the cluster"
        yield {"severity": "info", "object": label, "what": what}
