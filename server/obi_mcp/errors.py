"""Every error this package raises on purpose, as one tree.

::

    ObiMcpError
    ├── InvalidCommand        the text is not a command line we read (code invalid_command, exit 3)
    │   └── UnknownProgram    a stage names a program that does not exist here
    ├── InvalidArgument       a tool argument is unknown, missing, of the wrong type or too large
    ├── InvalidDocument       a document on standard input cannot be read
    ├── Denied                the policy refuses; carries the decision (exit 3)
    │   └── SyntaxDenied      the line does not parse (code invalid_command)
    ├── Declined              nobody confirmed what the operator wants confirmed; nothing was written (exit 3)
    ├── NotFound              no such object, or not OBI's: the caller gets the same answer for both
    ├── Conflict              the cluster changed between check and use
    ├── CallTimeout           the deadline of the call passed (exit 5)
    ├── CallCancelled         the caller took the call back
    ├── HostUnfit             this host cannot run OBI as asked: said before the start
    ├── Busy                  too many calls are waiting
    ├── ClusterUnreachable    no answer from the API server (exit 4)
    ├── EngineUnreachable     no usable answer from the Docker engine (exit 4)
    ├── ImageMissing          the engine has no such image and cannot get it
    ├── ProgramMissing        kubectl, helm, jq or a filter is not there (exit 2)
    ├── ProgramFailed         a program of ours failed where we needed its answer (exit 1)
    ├── ConfigError           the configuration is wrong (exit 2)
    ├── PolicyError           a rule file is wrong, or one of its examples fails (exit 2)
    └── AuditError            the audit log cannot be written or does not verify

``code`` never changes: clients match on it. ``hint`` says what to do instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from obi_mcp.policy.model import Decision


class ObiMcpError(Exception):
    """Base of all errors raised on purpose: a stable code, a sentence, and a way out."""

    code: ClassVar[str] = "internal"
    exit_code: ClassVar[int] = 1
    audited = False
    """Whether the audit log has the line of the call that ended so."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InvalidCommand(ObiMcpError):
    """The text is not a command line that we read.

    ``stage`` and ``word`` count from 0 (the program is word 0); ``column`` counts characters from 1. ``path`` is the
    program and command whose flags were read, where it is a flag that is unknown.
    """

    code = "invalid_command"
    exit_code = 3

    def __init__(
        self,
        message: str,
        hint: str | None = None,
        *,
        stage: int = 0,
        word: int | None = None,
        column: int | None = None,
        path: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message, hint)
        self.path = path
        self.stage = stage
        self.word = word
        self.column = column


class UnknownProgram(InvalidCommand):
    """A stage names a program that does not exist here (``awk``, ``sh``, ``/usr/bin/kubectl``, ``Kubectl``)."""

    def __init__(self, message: str, hint: str, *, stage: int, word: int, column: int, program: str) -> None:
        super().__init__(message, hint, stage=stage, word=word, column=column)
        self.program = program


class InvalidArgument(ObiMcpError):
    """A tool argument is unknown, missing, of the wrong type or too large."""

    code = "invalid_argument"
    exit_code = 2


class InvalidDocument(ObiMcpError):
    """A document on standard input cannot be read. ``document`` counts from 0; ``line`` from 1."""

    code = "invalid_document"
    exit_code = 3

    def __init__(
        self,
        message: str,
        hint: str | None = None,
        *,
        document: int | None = None,
        path: str | None = None,
        line: int | None = None,
    ) -> None:
        super().__init__(message, hint)
        self.document = document
        self.path = path
        self.line = line


class Denied(ObiMcpError):
    """The policy refuses. The decision says which rule, why, where, and what would be allowed."""

    code = "denied"
    exit_code = 3

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision.reason, decision.hint)
        self.decision = decision


class SyntaxDenied(Denied):
    """The line does not parse, so nothing could be judged. The decision says where."""

    code = "invalid_command"


class Declined(ObiMcpError):
    """The operator wants a person to confirm the change, and none did: declined, dismissed, unanswered, or this client
    cannot ask. Nothing was written."""

    code = "declined"
    exit_code = 3


class NotFound(ObiMcpError):
    """No such object, or an object that is not OBI's: both get this same answer."""

    code = "not_found"

    def __init__(self, target: str, namespace: str | None, hint: str | None = None) -> None:
        where = f" in namespace {namespace}" if namespace else ""
        super().__init__(
            f"{target} was not found{where}, or is not OBI's",
            hint or "list what is OBI's: kubectl get pods,daemonsets -l app.kubernetes.io/part-of=obi -A",
        )
        self.target = target
        self.namespace = namespace


class Conflict(ObiMcpError):
    """The cluster changed between check and use; nothing was written."""

    code = "conflict"


class CallTimeout(ObiMcpError):
    """The call's deadline passed; its processes have been ended. ``stdout`` and ``stderr``: what they had printed."""

    code = "timeout"
    exit_code = 5

    def __init__(self, message: str, hint: str | None = None, *, stdout: str = "", stderr: str = "") -> None:
        super().__init__(message, hint)
        self.stdout = stdout
        self.stderr = stderr


class CallCancelled(ObiMcpError):
    """The caller took the call back; its processes have been ended."""

    code = "cancelled"


class Busy(ObiMcpError):
    """Too many calls are waiting for a place."""

    code = "busy"


class HostUnfit(ObiMcpError):
    """This host, or what the server was given of it, cannot run OBI as asked; nothing was started."""

    code = "host_unfit"


class ClusterUnreachable(ObiMcpError):
    """The API server gave no usable answer. ``stdout``: what the program had printed until then."""

    code = "cluster_unreachable"
    exit_code = 4
    stdout = ""


class EngineUnreachable(ObiMcpError):
    """The Docker engine is not there, does not answer, refuses us, or is too old."""

    code = "engine_unreachable"
    exit_code = 4


class ImageMissing(ObiMcpError):
    """The engine has no such image, and no registry gave it one."""

    code = "image_missing"


class ProgramMissing(ObiMcpError):
    """A program that the command needs is not installed where the server looks."""

    code = "program_missing"
    exit_code = 2


class ProgramFailed(ObiMcpError):
    """A program of ours failed where its answer was needed to judge or to continue. ``stdout``: what it had printed."""

    code = "program_failed"
    stdout = ""


class ConfigError(ObiMcpError):
    """A setting is unknown, of the wrong type, or contradicts another."""

    code = "config_error"
    exit_code = 2


class PolicyError(ObiMcpError):
    """A policy file is invalid, or an example in it fails: the server does not start."""

    code = "policy_error"
    exit_code = 2


class AuditError(ObiMcpError):
    """The audit log cannot be written, is held by another server, or does not verify."""

    code = "audit_error"
    audited = True  # there is no log that it could stand in
