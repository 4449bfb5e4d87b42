"""The policy decision point: text to ``Decision``, and a decision with its proved checks to ``Approved``.

Static decisions and checks are separate. ``Policy.decide`` looks at text only, never raises for what a caller sends,
and lists the checks; the enforcer proves them and asks ``Policy.approve``.

INVARIANT: this module alone constructs ``Approved`` and ``ApprovedEffect``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from obi_mcp.command.grammar import Grammars
from obi_mcp.command.model import Command, Flag, Pipeline
from obi_mcp.command.parser import parse
from obi_mcp.errors import Denied, InvalidCommand, NotFound, UnknownProgram
from obi_mcp.policy.approval import refuse_derived, refuse_head, refuse_stdin
from obi_mcp.policy.documents import canonical
from obi_mcp.policy.draft import Call
from obi_mcp.policy.hard_names import HARD
from obi_mcp.policy.held import DELETE, ROLLOUTS, held_write, refuse_held
from obi_mcp.policy.hints import hint_for, is_command
from obi_mcp.policy.index import RuleIndex
from obi_mcp.policy.judge import CONTEXT_FLAGS, Judge
from obi_mcp.policy.model import Access, Approved, CheckResult, Decision, Document, Output, Place
from obi_mcp.policy.places import located

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from obi_mcp.config import Settings
    from obi_mcp.policy.chart_remote import RemoteChart
    from obi_mcp.policy.effect_judge import EffectJudge
    from obi_mcp.policy.effects import ApprovedEffect, EffectT, Host
    from obi_mcp.policy.grounds import Grounds
    from obi_mcp.policy.held import Held
    from obi_mcp.policy.pins import Pin
    from obi_mcp.policy.resource import ResourceTable
    from obi_mcp.policy.scope import Scope

_LONGEST_REASON = 1000
FetchStep = Literal["update", "pull"]


class Policy:
    """All rules over one scope. INVARIANT: never changed after it was built, save for its memories."""

    def __init__(
        self,
        index: RuleIndex,
        grammars: Grammars,
        grounds: Grounds,
        deadline_s: float = 30.0,
        effect_rules: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self._effect_rules = effect_rules
        self.index = index
        self.grammars = grammars
        self.grounds = grounds
        self.deadline_s = deadline_s
        self.judge = Judge(index, grammars, grounds)

    @classmethod
    def load(cls, settings: Settings) -> Policy:
        """The policy of these settings: every file validated, every example run. Raises: PolicyError."""
        from obi_mcp.policy.assembly import load_policy

        return load_policy(settings)

    @classmethod
    def load_compiled(cls, settings: Settings) -> Policy:
        """The same from the compiled form, which is made (with everything that ``load`` does) where it is missing."""
        from obi_mcp.policy.assembly import load_compiled_policy

        return load_compiled_policy(settings)

    @property
    def scope(self) -> Scope:
        """The scope that counts: the configuration's, and what the operator's policy directory adds."""
        return self.grounds.scope

    @property
    def resources(self) -> ResourceTable:
        """The table of kinds."""
        return self.grounds.resources

    def over(self, scope: Scope) -> Policy:
        """The same rules over another scope."""
        return Policy(self.index, self.grammars, self.grounds.over(scope), self.deadline_s, self._effect_rules)

    def with_place(self, namespace: str, names: AbstractSet[str] = frozenset()) -> Policy:
        """The same rules, with that namespace and these names of cluster-wide objects in scope."""
        scope = self.scope
        wider = replace(
            scope,
            namespaces=tuple(dict.fromkeys((*scope.namespaces, namespace))),
            instrumented_namespaces=tuple(dict.fromkeys((*scope.instrumented_namespaces, namespace))),
            cluster_objects=tuple(sorted(scope.known_cluster_objects() | names)),
        )
        return self.over(wider)

    @cached_property
    def effects(self) -> EffectJudge:
        """The rules about effects on this host; made when first asked, for a command line needs none of it."""
        from obi_mcp.policy.effect_judge import EffectJudge
        from obi_mcp.policy.effect_rule import EffectRule

        return EffectJudge(EffectRule.from_data(rule) for rule in self._effect_rules)

    # --- deciding ---

    def decide(
        self,
        command: str,
        *,
        stdin: str | None = None,
        access: Access,
        context: str | None = None,
        timeout_s: float | None = None,
    ) -> Decision:
        """What the policy says of a command line at a caller's level; never raises for what the caller sends.

        ``context`` is a kubeconfig context given beside the line. ``timeout_s`` is the call's deadline, which durations
        are clamped to.
        """
        try:
            pipeline = parse(command, self.grammars)
            pipeline = _in_context(pipeline, context)
        except InvalidCommand as error:
            return self._unreadable(error)
        call = Call(access, stdin, self.deadline_s if timeout_s is None else timeout_s)
        try:
            draft = self.judge.head(pipeline.head, call)
        except Denied as denied:
            return self._refused(denied, command, pipeline, call, 0)
        for stage, command_of_stage in enumerate(pipeline.filters, 1):
            try:
                self.judge.filter(command_of_stage, call, stage)
            except Denied as denied:
                return self._refused(denied, command, pipeline, call, stage)
        return Decision(
            effect="narrow" if draft.added else "allow",
            rule=draft.rule.id,
            reason=draft.reason or draft.rule.because,
            access=draft.needed,
            added=tuple(draft.added),
            checks=tuple(draft.checks),
            pipeline=Pipeline(draft.rebuilt(), pipeline.filters),
            documents=draft.documents,
            output=draft.output,
        )

    def _unreadable(self, error: InvalidCommand) -> Decision:
        """A line that does not parse, or names a program that does not exist here."""
        unknown = isinstance(error, UnknownProgram)
        hint = error.hint
        if hint is not None and is_command(hint):
            # The parser lists what the program knows; what is allowed of it is of more use.
            path = error.path or (hint.split()[0],)
            hint = self.judge.allowed_flags(Command(path[0], path[1:]))
        return Decision(
            effect="deny",
            rule="hard.program" if unknown else "syntax",
            reason=_short(f"{error.message}: {HARD['hard.program'].because}" if unknown else error.message),
            hint=hint,
            at=Place(stage=error.stage, word=error.word, column=error.column),
        )

    def _refused(self, denied: Denied, text: str, pipeline: Pipeline, call: Call, stage: int) -> Decision:
        refusal = denied.decision
        return Decision(
            effect="deny",
            rule=refusal.rule,
            reason=_short(refusal.reason),
            access=refusal.access,
            hint=hint_for(refusal, pipeline, call, stage, self.judge),
            at=located(refusal.at, text, pipeline.stages()[stage], stage),
            pipeline=pipeline,
        )

    # --- approving ---

    def approve(
        self,
        decision: Decision,
        *,
        access: Access,
        results: Sequence[CheckResult],
        heads: Sequence[tuple[str, ...]] | None = None,
        stdin: bytes | None = None,
        skipped: int = 0,
        members: AbstractSet[str] | None = None,
    ) -> Approved:
        """The decision as something that may run: allowed at this level, with a passed result for every check.

        ``heads`` replaces the head's argument vector where a check resolved it (one run for each pod, a chart's path,
        a private file for ``obi config … -``, the judged change of one state of an object). ``stdin`` replaces the
        decision's own documents: by some of them, or by the same for one state of the objects.

        Raises: Denied; NotFound where a check found nothing or nothing of OBI's.
        """
        pipeline = decision.pipeline
        if not decision.allowed or pipeline is None or decision.access is None:
            raise Denied(decision)
        if decision.access > access:
            raise Denied(_denied(decision, f"this needs the access level {decision.access.label}"))
        # What failed is said before what was not made: checks end with the first that fails.
        for result in results:
            _refuse_failed(decision, result, access)
        for check in decision.checks:
            found = [result for result in results if result.check == check]
            if not found:
                raise Denied(_denied(decision, f"the {check.kind} check of {check.target} was not made"))
        vectors = (pipeline.head.argv(),) if heads is None else tuple(heads)
        for vector in vectors:
            reason = refuse_head(decision, vector, self.grammars, self.resources)
            if reason is not None:
                raise Denied(_denied(decision, f"the vector {' '.join(vector)!r} may not run: {reason}"))
        if stdin is not None and (reason := refuse_stdin(decision, stdin)) is not None:
            raise Denied(_denied(decision, f"what was to be written may not be: {reason}"))
        body = canonical(decision.documents) if stdin is None and decision.documents else stdin
        return Approved(
            decision=decision,
            heads=vectors,
            filters=tuple(command.argv() for command in pipeline.filters),
            stdin=body,
            # What was looked up by name is told by its uid, too: another object of that name is not shown.
            output=replace(decision.output, confine=True) if members and _reads_json(decision) else decision.output,
            skipped=skipped,
            members=frozenset(members) if members is not None else None,
        )

    def parts(self, approved: Approved) -> tuple[Approved, ...]:
        """What was approved, program by program, for the server to read what each of them prints."""
        raw = Output(head="raw")
        return tuple(Approved(approved.decision, (head,), (), approved.stdin, raw) for head in approved.heads)

    def derive(
        self, decision: Decision, head: tuple[str, ...], *, stdin: bytes | None = None, output: Output | None = None
    ) -> Approved:
        """One of the server's own reads with the real program, in the course of proving a decision's checks.

        The head is the decided command as the server's own dry run, or a read of a release, a rendering or an object.

        Raises: Denied for every other head, and for a decision that is itself a denial.
        """
        if not decision.allowed or decision.pipeline is None:
            raise Denied(decision)
        reason = refuse_derived(decision.pipeline.head, head, self.grammars)
        if reason is not None:
            raise Denied(_denied(decision, reason))
        return Approved(decision, (head,), (), stdin, output or Output())

    def approve_namespaces(self, decision: Decision, *, access: Access) -> Approved:
        """The Namespaces of a first deployment alone, by the decided command: what goes into them cannot be dry-run
        before they exist. They have been judged from their text and by their own dry run.

        Raises: Denied unless the decision is an apply or create at this level that brings a Namespace.
        """
        pipeline, namespaces = decision.pipeline, _namespaces(decision)
        if not decision.allowed or pipeline is None or decision.access is None or decision.access > access:
            raise Denied(decision)
        head = pipeline.head
        if head.path not in {("apply",), ("create",)} or decision.access is Access.READ_ONLY or not namespaces:
            raise Denied(_denied(decision, "only an apply or create that brings a Namespace makes it first"))
        return Approved(decision, (head.argv(),), (), canonical(namespaces), Output(head="raw"))

    def approve_removal(self, decision: Decision, names: Sequence[str]) -> Approved:
        """Takes back Namespaces that ``approve_namespaces`` made for this decision and that are empty.

        Raises: Denied for a Namespace that the decision does not bring.
        """
        made = [document for document in _namespaces(decision) if document.name in names]
        if decision.pipeline is None or not made or len(made) != len(set(names)):
            raise Denied(_denied(decision, "only a Namespace that this call made is taken back"))
        context = decision.pipeline.head.value("context")
        flags = (*((f"--context={context}",) if context else ()), "--wait=false", "--filename=-")
        return Approved(decision, (("kubectl", "delete", *flags),), (), canonical(made), Output(head="raw"))

    def approve_fetch(self, decision: Decision, remote: RemoteChart, step: FetchStep, folder: Path) -> Approved:
        """One step of fetching the chart that the decision names from its configured repository into a private folder,
        in the course of proving the decision's checks.

        Raises: Denied unless the decision is about exactly that chart in that version.
        """
        head = decision.pipeline.head if decision.pipeline else None
        if head is None or not decision.allowed:
            raise Denied(decision)
        named = [operand.text for operand in head.operands[-1:]] == [f"{remote.repository}/{remote.name}"]
        configured = self.scope.repositories.get(remote.repository) == remote.url
        if head.program != "helm" or not named or not configured or head.value("version") != remote.version:
            raise Denied(_denied(decision, "only the chart that the command names is fetched"))
        argv = remote.update(folder) if step == "update" else remote.pull(folder)
        return Approved(decision, (("helm", *argv),), (), None, Output(head="raw"))

    def approve_held(self, decision: Decision, *, access: Access, held: Held, pin: Pin) -> Approved:
        """A deletion or rollout of one object that the decision's checks were about, in the state that they saw.

        Raises: Denied unless the decision is such a write at this level, no dry run, and about that object.
        """
        head = decision.pipeline.head if decision.pipeline else None
        if head is None or not decision.allowed or decision.access is None or decision.access > access:
            raise Denied(decision)
        written = head.path == DELETE or head.path in ROLLOUTS
        if not written or decision.access is Access.READ_ONLY or head.flag("dry-run"):
            raise Denied(_denied(decision, "only a deletion or a rollout is made object by object"))
        if reason := refuse_held(decision, held):
            raise Denied(_denied(decision, reason))
        vector, stdin = held_write(head, held, pin)
        return Approved(decision, (vector,), (), stdin, Output(head="raw"))

    # --- effects on this host ---

    def decide_effect(self, effect: EffectT, *, access: Access, host: Host) -> Decision:
        """What the policy says of an effect at a caller's level; never raises for what the caller sends."""
        return self.effects.decide(effect, access=access, scope=self.scope, host=host)

    def approve_effect(self, effect: EffectT, *, access: Access, host: Host) -> ApprovedEffect[EffectT]:
        """The effect as something that may be performed. Raises: Denied."""
        from obi_mcp.policy.effects import ApprovedEffect

        decision = self.decide_effect(effect, access=access, host=host)
        if not decision.allowed:
            raise Denied(decision)
        return ApprovedEffect(effect, decision, access)


def _reads_json(decision: Decision) -> bool:
    return decision.output.head == "json" and decision.access is Access.READ_ONLY


def _namespaces(decision: Decision) -> tuple[Document, ...]:
    return tuple(document for document in decision.documents if document.identity[:2] == ("v1", "Namespace"))


def _short(reason: str) -> str:
    """A reason of bounded length: it may quote a word of 64 KiB."""
    return reason if len(reason) <= _LONGEST_REASON else f"{reason[: _LONGEST_REASON - 1]}…"


def _in_context(pipeline: Pipeline, context: str | None) -> Pipeline:
    """The pipeline with the ``context`` argument as its head's flag. Raises: InvalidCommand where the two differ."""
    if context is None:
        return pipeline
    head = pipeline.head
    name = CONTEXT_FLAGS.get(head.program)
    if name is None:
        raise InvalidCommand(f"{head.program} has no contexts", "leave the context argument out", word=0)
    given = head.flag(name)
    if given is None:
        flags = (*head.flags, Flag(name, (context,)))
        made = Command(head.program, head.path, flags, head.operands, head.dash, head.style, head.short)
        return Pipeline(made, pipeline.filters)
    if given.value != context:
        raise InvalidCommand(
            f"the context argument says {context!r} and {given.spelled} says {given.value!r}",
            "name the context once",
            word=given.word,
        )
    return pipeline


def _denied(decision: Decision, reason: str, result: CheckResult | None = None) -> Decision:
    """The decision turned into a denial by what was found when it was proved."""
    return Decision(
        effect="deny",
        rule=decision.rule,
        reason=reason,
        access=decision.access,
        hint=result.hint if result else None,
        at=result.at if result else None,
        checks=decision.checks,
        pipeline=decision.pipeline,
    )


def _refuse_failed(decision: Decision, result: CheckResult, access: Access) -> None:
    """Raises: NotFound or Denied for a result that did not pass, or that needs more than the caller has."""
    check = result.check
    if not result.passed:
        if result.not_found:
            helm = decision.pipeline is not None and decision.pipeline.head.program == "helm"
            raise NotFound(check.target, check.namespace, result.hint or ("helm list -A" if helm else None))
        reason = result.reason or f"the {check.kind} check of {check.target} failed"
        raise Denied(_denied(decision, reason, result))
    if result.raised is not None and result.raised > access:
        raise Denied(
            _denied(
                decision,
                f"the change turned out to need the access level {result.raised.label}: {result.reason or check.why}",
                result,
            )
        )
