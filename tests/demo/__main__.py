"""``python -m tests.demo``: a real MCP session against a real API server, printed as it happens.

Exit code 0 when every step was as expected, 1 when one was not (it is named), 2 for usage, 130 when interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from mcp.shared.exceptions import MCPError
from tests.demo import audit
from tests.demo.place import Place, named_cluster, sandbox_cluster
from tests.demo.server import ServerFiles, connect, program_directory, write_config
from tests.demo.session import STEPS
from tests.demo.step import Stage, Step, StepFailed
from tests.demo.transcript import Transcript
from tests.sandbox.instance import SandboxError


def main() -> int:
    """Plays the session; everything that was started is stopped before it returns."""
    arguments = _arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
    transcript = Transcript()
    try:
        with tempfile.TemporaryDirectory(prefix="obi-mcp-demo-") as directory, _place(arguments, transcript) as place:
            files = ServerFiles(Path(directory))
            write_config(files, place, program_directory())
            play(files, place, transcript)
    except (StepFailed, SandboxError, OSError) as problem:
        print(f"\nFAILED: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; everything was stopped", file=sys.stderr)
        return 130
    transcript.end()
    return 0


def _place(arguments: argparse.Namespace, transcript: Transcript) -> AbstractContextManager[Place]:
    if arguments.context is not None:
        transcript.progress(f"using the cluster of context {arguments.context}")
        return nullcontext(named_cluster(arguments.context, changes=arguments.changes))
    return sandbox_cluster(transcript.progress, real_node=not arguments.no_real_node)


def play(files: ServerFiles, place: Place, transcript: Transcript) -> None:
    """The session with the server of ``files``, then the audit log that it left. Raises: StepFailed naming the step."""
    try:
        calls, failure = asyncio.run(_session(files, place, transcript))
    except (ExceptionGroup, MCPError) as error:
        raise StepFailed(f"the server did not answer ({_first(error)}); its log ends:\n{files.log_end()}") from error
    if failure is not None:
        raise failure
    try:
        audit.play(files, transcript, calls=calls)
    except StepFailed as problem:
        raise StepFailed(f"step {transcript.number}, {audit.TITLE}: {problem}") from None


def _first(error: BaseException) -> str:
    """The innermost of the errors that task groups have wrapped."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)


async def _session(files: ServerFiles, place: Place, transcript: Transcript) -> tuple[int, StepFailed | None]:
    """Plays the steps up to the first that fails; the number of command lines, and that failure.

    It is not raised here, because the client's task groups would wrap it.
    """
    async with connect(files) as client:
        server = client.server_info
        transcript.progress(
            f"connected to {server.name if server else '?'} {server.version if server else '?'} over stdio, "
            f"MCP {client.protocol_version}, access level {'non-destructive' if place.changes else 'read-only'}"
        )
        stage = Stage(client, place, transcript, place.facts())
        for step in STEPS:
            try:
                await _play_step(step, stage)
            except StepFailed as problem:
                return stage.commands, problem
        return stage.commands, None


async def _play_step(step: Step, stage: Stage) -> None:
    lacking = stage.place.lacks(step.needs)
    if lacking is None and (unknown := [name for name in step.wants if not stage.facts.get(name)]):
        lacking = f"the pod that was looked at declares no {' and no '.join(unknown)}"
    if lacking is not None:
        stage.transcript.left_out(step.title, lacking)
        return
    stage.transcript.heading(step.title)
    known = len(stage.answers)
    try:
        await step.play(stage)
        for answer in stage.answers[known:]:
            if any(canary in answer for canary in stage.place.canaries):
                raise StepFailed("an answer shows a canary: a text that is not OBI's")
    except StepFailed as problem:
        raise StepFailed(f"step {stage.transcript.number}, {step.title}: {problem}") from None


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.demo", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--context", help="a cluster of your kubeconfig instead of the sandbox; nothing is changed there"
    )
    parser.add_argument("--changes", action="store_true", help="with --context: restart OBI there, too")
    parser.add_argument("--no-real-node", action="store_true", help="the sandbox with simulated nodes alone")
    arguments = parser.parse_args()
    if arguments.changes and arguments.context is None:
        parser.error("--changes goes with --context; in the sandbox everything may change")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
