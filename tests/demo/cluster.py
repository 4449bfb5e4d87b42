"""The part of the session that is about deploying: tools that plan first, on the cluster that the rest is about."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.demo.place import Needs
from tests.demo.step import Answer, Stage, StepFailed
from tests.demo.transcript import Transcript

NAME, SPACE, PORT = "beyla", "opentelemetry", 9191
NAMED = {"name": NAME, "namespace": SPACE}
SHOWN = 12

Arguments = Callable[[Stage], dict[str, Any]]
Show = Callable[[Mapping[str, Any]], Sequence[str]]


@dataclass(frozen=True, slots=True)
class ToolStep:
    """One call of a tool of the toolset kubernetes. ``learn``: names of the answer's texts that become facts.

    ``refused``: the code with which it is to be refused; the answer then has to say each of ``says``.
    """

    title: str
    tool: str
    arguments: Arguments
    show: Show
    says: tuple[str, ...] = ()
    refused: str | None = None
    learn: tuple[str, ...] = ()
    needs: Needs = Needs.SANDBOX
    wants: tuple[str, ...] = ()

    async def play(self, stage: Stage) -> None:
        arguments = self.arguments(stage)
        told = ", ".join(f"{name}={_short(value)}" for name, value in arguments.items())
        stage.transcript.command(self.tool, told, None)
        answer, text = await stage.ask(self.tool, arguments)
        if answer.is_error is (self.refused is None):
            raise StepFailed(f"it was {'not ' if self.refused is None else ''}to be refused: {text[:600]}")
        if self.refused is not None and answer.content.get("code") != self.refused:
            raise StepFailed(f"the code was to be {self.refused}, and is {answer.failure()}")
        if missing := [word for word in self.says if word not in text]:
            raise StepFailed(f"the answer was to say {missing}: {text[:600]}")
        stage.facts |= {name: str(answer.content[name]) for name in self.learn}
        self._tell(answer, stage.transcript)

    def _tell(self, answer: Answer, transcript: Transcript) -> None:
        if self.refused is not None:
            transcript.refusal(str(answer.content.get("code")), str(answer.content.get("message")))
        for line in list(self.show(answer.content))[:SHOWN]:
            transcript.line(line)
        if self.refused is not None:
            transcript.note(f"hint: {answer.content.get('hint')}")


def _short(value: object) -> str:
    text = str(value).replace("\n", "⏎")
    return text if len(text) <= 60 else f"{text[:59]}…"


def _findings(content: Mapping[str, Any]) -> list[str]:
    return [f"{finding['severity']}: {finding['what']}" for finding in content["findings"]]


def _changes(content: Mapping[str, Any]) -> list[str]:
    return [f"{change['action']} {change['object']}" for change in content["changes"]]


def _metrics(content: Mapping[str, Any]) -> list[str]:
    rows = [f"{row['name']} total={row.get('total')} of {row['pods']} pods" for row in content["metrics"]]
    return [*rows, *(f"not read: {entry['pod']}" for entry in content["unread"])]


def _pods(content: Mapping[str, Any]) -> list[str]:
    return [f"{pod['name']} on {pod['node']}: {'ready' if pod['ready'] else 'not ready'}" for pod in content["pods"]]


def _taken_back(content: Mapping[str, Any]) -> list[str]:
    return [f"taken back: {_short(command)}" for command in content["taken_back"]]


def _nothing(_: Mapping[str, Any]) -> list[str]:
    return []


def _installation(stage: Stage) -> dict[str, Any]:
    """OBI's own configuration in this sandbox, on another port: two on one node cannot share it."""
    return {**NAMED, "features": ["network"], "privileged": True, "prometheus_port": PORT, "config": _config(stage)} | {
        "environment": "development"
    }


def _config(stage: Stage) -> str:
    sandbox = stage.place.sandbox
    if sandbox is None:
        raise StepFailed("only the sandbox has a configuration that its agent can run")
    path = "/api/v1/namespaces/observability/configmaps/obi"
    data = sandbox.api.get(path).require("read OBI's configuration")["data"]
    return str(next(iter(data.values()))).replace("9090", str(PORT))


def _with_a_mistake(stage: Stage) -> dict[str, Any]:
    return {**NAMED, "config": _config(stage).replace("prometheus_export", "promtheus_export")}


def _fixed(**arguments: Any) -> Arguments:
    return lambda _: arguments


def _of_the_plan(**more: Any) -> Arguments:
    return lambda stage: {"plan_id": stage.facts["plan_id"], **more}


STEPS: tuple[ToolStep, ...] = (
    ToolStep(
        "On Kubernetes: can OBI run here, and may this server put it here?",
        "obi_k8s_preflight",
        _fixed(**NAMED, features=["network"], prometheus_port=PORT),
        _findings,
        says=("OBI can run here",),
    ),
    ToolStep(
        "A plan for OBI in a namespace of its own: nothing is written yet",
        "obi_k8s_deploy",
        _installation,
        _changes,
        says=(f"create DaemonSet {SPACE}/{NAME}",),
        learn=("plan_id",),
    ),
    ToolStep("The plan is carried out", "obi_k8s_deploy", _of_the_plan(), _nothing, says=("done:",)),
    ToolStep(
        "Every node is covered, or it is said why not",
        "obi_k8s_status",
        _fixed(namespace=SPACE),
        _pods,
        says=("nodes covered, ",),
    ),
    ToolStep(
        "Metrics of all its pods, merged",
        "obi_k8s_aggregate_metrics",
        _fixed(namespace=SPACE, metrics=["beyla_network_flow_bytes"]),
        _metrics,
        says=("beyla_network_flow_bytes", "total="),
        needs=Needs.ANSWERING_POD,
    ),
    ToolStep(
        "A configuration with a mistake is refused, by key and line",
        "obi_k8s_config",
        _with_a_mistake,
        _nothing,
        says=("promtheus_export", "line 15"),
        refused="invalid_document",
    ),
    ToolStep(
        "One that is valid and breaks the pods is planned",
        "obi_k8s_config",
        _fixed(**NAMED, patch={"prometheus_export": {"port": PORT + 1}}),
        _changes,
        learn=("plan_id",),
        needs=Needs.ANSWERING_POD,
    ),
    ToolStep(
        "and taken back, because they do not become ready",
        "obi_k8s_config",
        _of_the_plan(wait_s=3),
        _taken_back,
        says=("taken back",),
        refused="program_failed",
        needs=Needs.ANSWERING_POD,
    ),
)
