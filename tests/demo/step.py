"""What a step of the demo is, and what it works with. Steps are data; ``session.py`` lists them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from mcp import Client
from tests.demo.place import Needs, Place
from tests.demo.transcript import Transcript


class StepFailed(Exception):
    """A step did not end as expected; the text says how."""


@dataclass(slots=True)
class Stage:
    """One session: the client, the cluster it speaks about, and what was learned so far.

    ``facts`` fill the ``{names}`` in commands and expectations. ``answers`` holds every text that the server gave.
    """

    client: Client
    place: Place
    transcript: Transcript
    facts: dict[str, str]
    answers: list[str] = field(default_factory=list)
    commands: int = 0
    """How many command lines were called; each has its line in the audit log, a tool that plans has several."""

    def fill(self, text: str) -> str:
        """``text`` with every known ``{name}`` in it replaced."""
        for name, value in self.facts.items():
            text = text.replace(f"{{{name}}}", value)
        return text

    async def call(self, tool: str, command: str, stdin: str | None = None) -> Answer:
        """Call a tool for command lines as any client would, and keep what came back."""
        arguments = {"command": command}
        if stdin is not None:
            arguments["stdin"] = stdin
        self.commands += 1
        answer, _ = await self.ask(tool, arguments)
        return answer

    async def ask(self, tool: str, arguments: Mapping[str, Any]) -> tuple[Answer, str]:
        """Call any tool of this place's cluster; the answer, and its text."""
        context = {"context": self.place.context} if self.place.context is not None else {}
        result = await self.client.call_tool(tool, {**arguments, **context})
        answer = Answer(result.structured_content or {}, bool(result.is_error))
        self.answers.append(result.model_dump_json())
        return answer, "\n".join(getattr(part, "text", "") for part in result.content)


@dataclass(frozen=True, slots=True)
class Answer:
    """A tool's structured result."""

    content: Mapping[str, Any]
    is_error: bool

    @property
    def stdout(self) -> str:
        return str(self.content.get("stdout", ""))

    @property
    def decision(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.content.get("decision") or {}
        return found

    def failure(self) -> str:
        """Code and message in one line."""
        return f"{self.content.get('code')}: {self.content.get('message')}"


class Step(Protocol):
    """One step: it raises StepFailed, or is as expected."""

    @property
    def title(self) -> str: ...

    @property
    def needs(self) -> Needs: ...

    @property
    def wants(self) -> tuple[str, ...]:
        """Facts that must have been learned and not be empty; else the step is left out."""

    async def play(self, stage: Stage) -> None: ...


class Expectation(Protocol):
    """What an answer has to be."""

    def problem(self, answer: Answer, stage: Stage) -> str | None: ...

    def show(self, answer: Answer, transcript: Transcript) -> None: ...


@dataclass(frozen=True, slots=True)
class Runs:
    """The command runs and ends with 0.

    ``shows`` and ``hides`` are regular expressions that its output must and must not have; ``learn`` one whose named
    groups become facts. ``added`` is what narrowing must add, ``checks`` the kinds of checks that must be made.
    """

    shows: tuple[str, ...] = ()
    hides: tuple[str, ...] = ()
    learn: str | None = None
    added: str | None = None
    checks: tuple[str, ...] = ()

    def problem(self, answer: Answer, stage: Stage) -> str | None:
        if answer.is_error:
            return f"it was to run, and gave {answer.failure()}"
        if answer.content.get("exit_code") != 0:
            return f"it ended with {answer.content.get('exit_code')}: {answer.content.get('stderr')}"
        return self._of_output(answer, stage) or self._of_decision(answer)

    def _of_output(self, answer: Answer, stage: Stage) -> str | None:
        for wanted in self.shows:
            if re.search(stage.fill(wanted), answer.stdout, re.MULTILINE) is None:
                return f"its output does not match {stage.fill(wanted)}"
        for unwanted in self.hides:
            if re.search(stage.fill(unwanted), answer.stdout, re.MULTILINE) is not None:
                return f"its output matches {stage.fill(unwanted)}"
        if self.learn is not None:
            found = re.search(stage.fill(self.learn), answer.stdout, re.MULTILINE)
            if found is None:
                return f"its output does not match {stage.fill(self.learn)}"
            stage.facts.update(found.groupdict())
        return None

    def _of_decision(self, answer: Answer) -> str | None:
        added = " ".join(answer.decision.get("added", ()))
        if self.added is not None and self.added not in added:
            return f"{self.added!r} was to be added; added was {added!r}"
        made = {check["kind"] for check in answer.decision.get("checks", ())}
        if missing := set(self.checks) - made:
            return f"checks {sorted(missing)} were to be made; made were {sorted(made)}"
        return None

    def show(self, answer: Answer, transcript: Transcript) -> None:
        transcript.output(answer.stdout)
        decision = answer.decision
        if decision.get("added"):
            transcript.note(f"narrowed by {' '.join(decision['added'])}: {decision['reason']}")
        if answer.content.get("skipped"):
            transcript.note(f"{answer.content['skipped']} not OBI's were left out")
        for check in decision.get("checks", ()):
            transcript.note(f"checked: {check['kind']} of {check['target']}: {check['why']}")
        transcript.note(f"{decision.get('effect')} by {decision.get('rule')}, {answer.content.get('duration_ms')} ms")


@dataclass(frozen=True, slots=True)
class Explains:
    """The policy would allow it, subject to checks of these kinds."""

    checks: tuple[str, ...]

    def problem(self, answer: Answer, stage: Stage) -> str | None:
        if answer.is_error or answer.content.get("effect") != "allow":
            return f"it was to be allowed, and is not: {answer.content}"
        if missing := set(self.checks) - {check["kind"] for check in answer.content["checks"]}:
            return f"checks {sorted(missing)} were to be listed"
        return None

    def show(self, answer: Answer, transcript: Transcript) -> None:
        content = answer.content
        transcript.note(f"{content['effect']} by {content['rule']}, needs {content['access']}: {content['reason']}")
        for check in content["checks"]:
            transcript.note(f"would check: {check['kind']} of {check['target']}: {check['why']}")


@dataclass(frozen=True, slots=True)
class IsRefused:
    """The command is refused by ``rule`` (None: it is refused by a check, which gives ``not_found``), with a hint that
    matches ``hint``. Nothing runs."""

    code: str
    hint: str
    rule: str | None = None

    def problem(self, answer: Answer, stage: Stage) -> str | None:
        if not answer.is_error:
            return f"it was to be refused, and ran: {answer.stdout[:200]!r}"
        if answer.content.get("code") != self.code:
            return f"the code was to be {self.code}, and is {answer.failure()}"
        if self.rule is not None and answer.decision.get("rule") != self.rule:
            return f"{self.rule} was to refuse it; {answer.decision.get('rule')} did: {answer.failure()}"
        if re.search(stage.fill(self.hint), answer.content.get("hint") or "") is None:
            return f"the hint {answer.content.get('hint')!r} does not match {self.hint}"
        return None

    def show(self, answer: Answer, transcript: Transcript) -> None:
        transcript.refusal(str(answer.content.get("code")), str(answer.content.get("message")))
        if answer.decision:
            transcript.note(f"rule: {answer.decision.get('rule')}{_place(answer.decision.get('at'))}")
        transcript.note(f"hint: {answer.content.get('hint')}")


def _place(at: Mapping[str, Any] | None) -> str:
    if at is None:
        return ""
    if "path" in at:
        return f", document {at['document']}, {at['path']}"
    return f", column {at['column']}" if at.get("column") else ""


@dataclass(frozen=True, slots=True)
class CommandStep:
    """One call of one tool."""

    title: str
    tool: str
    command: str
    expect: Expectation
    stdin: str | None = None
    needs: Needs = Needs.NOTHING
    wants: tuple[str, ...] = ()

    async def play(self, stage: Stage) -> None:
        command = stage.fill(self.command)
        stage.transcript.command(self.tool, command, self.stdin)
        answer = await stage.call(self.tool, command, self.stdin)
        if (problem := self.expect.problem(answer, stage)) is not None:
            raise StepFailed(problem)
        self.expect.show(answer, stage.transcript)


@dataclass(frozen=True, slots=True)
class ToolList:
    """What the server offers."""

    title: str
    tools: tuple[str, ...]
    needs: Needs = Needs.NOTHING
    wants: tuple[str, ...] = ()

    async def play(self, stage: Stage) -> None:
        listed = (await stage.client.list_tools()).tools
        if missing := set(self.tools) - {tool.name for tool in listed}:
            raise StepFailed(f"{', '.join(sorted(missing))} are not listed")
        for tool in listed:
            stage.transcript.line(f"{tool.name:<27} {tool.title}")
