"""Holds our reading of a line against the program's own: as written, as rebuilt, and as the policy lets it run."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tests.fuzz.generator import Line
from tests.fuzz.oracle import Oracles, Reading
from tests.fuzz.readers import is_for_shell, shell_words, shlex_words

from obi_mcp.command.grammar import CommandSpec, Grammars
from obi_mcp.command.lexer import lex
from obi_mcp.command.model import Command, Pipeline
from obi_mcp.command.parser import parse
from obi_mcp.errors import InvalidCommand
from obi_mcp.policy.engine import Policy
from obi_mcp.policy.hard import MAX_VERBOSITY
from obi_mcp.policy.model import Access, Decision

# Written down here once more on purpose: it must not be taken from the code that is judged.
ROOT_FLAGS_ALLOWED = {
    "kubectl": {"namespace", "context", "request-timeout", "warnings-as-errors", "v"},
    "helm": {"namespace", "kube-context"},
    "obi": set[str](),
}
_APPENDED = frozenset({"stringSlice", "stringArray", "postRendererArgsSlice"})
_CANONICAL = frozenset({"bool", "int", "int32", "int64", "uint", "tristate"})
_QUOTED = re.compile(
    r"\"(?:[^\"\\]|\\.)*\"|'[^']*'|strconv\.\w+: |time: .*|\{Name:.* (?=Type)|(?<=flag: ).*(?= must be)"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """A line on which we and the program differ. ``kind`` is stable, ``says`` is for people."""

    kind: str
    text: str
    says: str


@dataclass(slots=True)
class Tally:
    """What was seen: ``counts`` by kind of line, ``rejected`` what the program refuses although we read it."""

    counts: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    allowed_rejected: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Take in what another part of the run saw."""
        self.counts += other.counts
        self.rejected += other.rejected
        self.allowed_rejected += other.allowed_rejected
        self.examples = other.examples | self.examples
        self.findings.extend(other.findings)


@dataclass(frozen=True, slots=True)
class _Case:
    line: Line
    pipeline: Pipeline
    decision: Decision


class Judge:
    """Judges lines in batches. ``oracles`` stays the caller's."""

    def __init__(self, policy: Policy, oracles: Oracles, grammars: Grammars | None = None) -> None:
        self.policy = policy
        self.grammars: Grammars = grammars or policy.grammars
        self.oracles = oracles

    def judge(self, lines: Sequence[Line], *, with_shell: bool = True) -> Tally:
        """Everything that is wrong with the reading of these lines."""
        tally = Tally()
        cases = [case for line in lines if (case := self._read(line, tally)) is not None]
        if with_shell:
            self._compare_words(cases, tally)
        vectors: list[tuple[str, ...]] = []
        for case in cases:
            written = tuple(token.text for token in lex(case.line.text)[0])
            decided = case.decision.pipeline if case.decision.allowed else None
            rebuilt = case.pipeline.head.argv()
            vectors += [written, rebuilt, decided.head.argv() if decided else rebuilt]
        readings = self.oracles.read(vectors)
        for at, case in enumerate(cases):
            for finding in self._compare(case, readings[3 * at : 3 * at + 3], tally):
                tally.findings.append(finding)
        return tally

    def _read(self, line: Line, tally: Tally) -> _Case | None:
        tally.counts["lines"] += 1
        try:
            pipeline = parse(line.text, self.grammars)
        except InvalidCommand:
            tally.counts["refused by lexer or parser"] += 1
            return None
        tally.counts["read"] += 1
        for command in pipeline.stages():
            again = self._again(command)
            if again != command.argv():
                tally.findings.append(Finding("rebuilt", line.text, f"{command.argv()} is read again as {again}"))
        stdin = _DOCUMENT if _wants_document(pipeline.head) else None
        decision = self.policy.decide(line.text, stdin=stdin, access=Access.FULL)
        if decision.allowed:
            tally.counts["allowed at full"] += 1
            if pipeline.filters:
                tally.counts["allowed with filters"] += 1
        return _Case(line, pipeline, decision)

    def _again(self, command: Command) -> tuple[str, ...] | str:
        quoted = " ".join("'" + word.replace("'", "'\\''") + "'" for word in command.argv())
        is_filter = command.program in self.grammars.filters
        try:
            read = parse(f"obi | {quoted}" if is_filter else quoted, self.grammars)
        except InvalidCommand as error:
            return f"an error: {error.message}"
        return read.stages()[1 if is_filter else 0].argv()

    # --- words ---

    def _compare_words(self, cases: Sequence[_Case], tally: Tally) -> None:
        """Our words against the ones meant, and against a POSIX shell's (one stage) or Python's shlex (several)."""
        ours = [tuple(tuple(token.text for token in stage) for stage in lex(case.line.text)) for case in cases]
        single = [at for at, stages in enumerate(ours) if len(stages) == 1 and is_for_shell(cases[at].line.text)]
        shell = dict(zip(single, shell_words([cases[at].line.text for at in single]), strict=True))
        for at, (case, stages) in enumerate(zip(cases, ours, strict=True)):
            readers = {"meant": case.line.words, "shell": (shell[at],) if at in shell else None}
            if at not in shell:
                readers["shlex"] = shlex_words(case.line.text)
            for reader, words in readers.items():
                if words is not None:
                    tally.counts[f"words compared with {reader}"] += 1
                if words is not None and words != stages:
                    tally.findings.append(Finding(f"words.{reader}", case.line.text, f"{stages} is {words}"))

    # --- readings ---

    def _compare(self, case: _Case, readings: Sequence[Reading], tally: Tally) -> Iterator[Finding]:
        head, text = case.pipeline.head, case.line.text
        written, rebuilt, decided = readings
        spec = self._spec(head)
        if written.error:
            self._note_rejected(case, written.error, tally)
            if _COLOR in written.error:
                # Only helm's first pass can find a colour where there is none: --version --color x.
                tally.counts["helm's first pass mended by rebuilding"] += 1
            elif not rebuilt.error:
                yield Finding("mended", text, f"refused as written ({written.error}), read as {head.argv()}")
        else:
            if difference := _difference(head, spec, written):
                yield Finding("written", text, difference)
            if rebuilt.error and _COLOR not in rebuilt.error:
                yield Finding("broken", text, f"{head.argv()} is refused: {rebuilt.error}")
        if not rebuilt.error:
            if difference := _difference(head, spec, rebuilt):
                yield Finding("rebuilt", text, f"{head.argv()}: {difference}")
            for kind, says in _outside_cobra(self.grammars, head, rebuilt):
                yield Finding(kind, text, f"{head.argv()}: {says}")
            if written.first_pass != rebuilt.first_pass and not written.error:
                tally.counts["helm's first pass mended by rebuilding"] += 1
        if case.decision.allowed:
            yield from self._compare_decided(case, decided, tally)

    def _compare_decided(self, case: _Case, reading: Reading, tally: Tally) -> Iterator[Finding]:
        pipeline = case.decision.pipeline
        assert pipeline is not None
        head, text = pipeline.head, case.line.text
        if reading.error:
            key = f"{head.program} {_generic(reading.error)}"
            tally.allowed_rejected[key] += 1
            tally.examples.setdefault(f"allowed: {key}", text)
            return
        tally.counts["allowed and read alike"] += 1
        if difference := _difference(head, self._spec(head), reading):
            yield Finding("allowed", text, f"{head.argv()}: {difference}")
        for kind, says in _outside_cobra(self.grammars, head, reading):
            yield Finding(f"allowed.{kind}", text, f"{head.argv()}: {says}")
        root = set(self.grammars.heads[head.program].root.persistent)
        for name in sorted((set(reading.values) & root) - ROOT_FLAGS_ALLOWED[head.program]):
            yield Finding("allowed.root", text, f"{head.argv()} sets --{name}")
        if set(reading.values.get("filename", ())) - {"-"}:
            yield Finding("allowed.file", text, f"{head.argv()} reads {reading.values['filename']}")

    def _note_rejected(self, case: _Case, error: str, tally: Tally) -> None:
        key = f"{case.pipeline.head.program} {_generic(error)}"
        tally.rejected[key] += 1
        tally.examples.setdefault(key, case.line.text)

    def _spec(self, command: Command) -> CommandSpec:
        spec = self.grammars.heads[command.program].root
        for name in command.path:
            child = spec.child(name)
            assert child is not None
            spec = child
        return spec


def _difference(command: Command, spec: CommandSpec, reading: Reading) -> str:
    """How the program's reading differs from ours; empty where it does not."""
    if reading.path != command.path:
        return f"the command is {reading.path}, not {command.path}"
    names = tuple(name for name, _ in reading.flags)
    ours = tuple(flag.name for flag in command.flags)
    if names != ours:
        return f"the flags are {names}, not {ours}"
    if reading.operands != tuple(operand.text for operand in command.operands):
        return f"the operands are {reading.operands}"
    # Where the policy made a flag of an operand (the container of logs), fewer than dash are left.
    dash = -1 if command.dash is None else min(command.dash, len(command.operands))
    if command.style == "cobra" and reading.dash != dash:
        # What argv() adds by itself is the same for whoever asks how many operands stood before it.
        return f"{reading.dash} operands stand before --, not {command.dash}"
    for name, values in _values(command).items():
        wanted, got = _expected(spec, name, values, reading)
        if wanted != got:
            return f"--{name} is {got!r}, not {wanted!r}"
    extra = set(reading.values) - set(ours) - {name for name, _ in reading.first_pass}
    return f"{sorted(extra)} are set as well" if extra else ""


def _values(command: Command) -> dict[str, list[tuple[str, ...]]]:
    values: dict[str, list[tuple[str, ...]]] = {}
    for flag in command.flags:
        values.setdefault(flag.name, []).append(flag.values)
    return values


def _expected(
    spec: CommandSpec, name: str, values: Sequence[tuple[str, ...]], reading: Reading
) -> tuple[object, object]:
    """Our value of a flag and the program's, in a form in which they compare."""
    kind = spec.flags[name].type
    given = [text for flag, text in reading.flags if flag == name]
    if kind in _APPENDED and not any(flag == name for flag, _ in reading.first_pass):
        return [part for parts in values for part in parts], reading.values[name]
    if kind in _CANONICAL:
        return values[-1][0], reading.values[name]
    return [",".join(parts) for parts in values], given


def _outside_cobra(grammars: Grammars, command: Command, reading: Reading) -> Iterator[tuple[str, str]]:
    """What the program finds in the rebuilt vector outside cobra, and must not."""
    if command.program == "helm":
        root = grammars.heads["helm"].root.persistent
        both = tuple((name, text) for name, text in reading.flags if name in root and name != "help")
        if reading.first_pass != both and "stopped" not in reading.before:
            yield "two-pass", f"helm's first pass sets {reading.first_pass}, its second {both}"
        return
    before = reading.before
    scanned = before.get("verbosity", "0")
    if scanned.isascii() and scanned.isdigit() and scanned != command.value("v", "0") and int(scanned) > MAX_VERBOSITY:
        yield "verbosity", f"kubectl would log at {scanned}"
    if before.get("plugin"):
        yield "plugin", f"kubectl would look for the plugin {before['plugin']}"
    if before.get("kuberc") and not command.flag("kuberc"):
        yield "kuberc", f"kubectl would read preferences from {before['kuberc']}"


def _wants_document(head: Command) -> bool:
    return head.program == "obi" or any("-" in flag.values for flag in head.flags if flag.name in _DOCUMENT_FLAGS)


def _generic(error: str) -> str:
    """A program's message without what differs from line to line."""
    return _QUOTED.sub("…", error.split("\n", 1)[0])


_COLOR = "invalid color mode"
_DOCUMENT_FLAGS = frozenset({"filename", "values"})
_DOCUMENT = (
    '{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "obi", "namespace": "observability", '
    '"labels": {"app.kubernetes.io/part-of": "obi"}}}'
)

Examples = Mapping[str, str]
