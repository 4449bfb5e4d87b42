"""The verbs of the command line, and the dispatch to them. A verb's module is imported only when it is called."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

from obi_mcp import __version__
from obi_mcp.errors import ObiMcpError

INTERRUPTED = 130
READER_GONE = 141


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb: the module that has ``main(argv) -> exit code``, and one line of help."""

    name: str
    module: str
    summary: str


VERBS = (
    Verb("serve", "serve", "serve MCP on standard input and output"),
    Verb("call", "call", "call one tool, as an MCP client would"),
    Verb("tools", "tools", "list the tools and their schemas"),
    Verb("policy", "policy", "check, test, list and explain what may be run"),
    Verb("doctor", "doctor", "look for what keeps this server from working, and say what to do"),
    Verb("rbac", "rbac", "write the least rights in a cluster for this server"),
    Verb("config", "config", "show the effective settings and where each came from; or write an older file anew"),
    Verb("audit", "audit", "verify an audit log"),
    Verb("completion", "completion", "print a completion script for bash, zsh or fish"),
)

EXIT_CODES = (
    (0, "good"),
    (1, "the program or tool failed, or something was found (call, doctor, audit verify, policy test, config migrate)"),
    (2, "usage or configuration"),
    (3, "denied by the policy"),
    (4, "cluster or daemon unreachable"),
    (5, "timeout"),
)


def run(argv: Sequence[str]) -> int:
    """Runs the verb; its errors become one message on standard error and their exit code."""
    try:
        return _dispatch(argv)
    except ObiMcpError as error:
        print_error(f"obi-mcp {argv[0]}", error)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else Python complains once more when it flushes at exit
        return READER_GONE


def print_error(where: str, error: ObiMcpError) -> None:
    """The message of an error and the way out, on standard error."""
    print(f"{where}: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"hint: {error.hint}", file=sys.stderr)


def help_text() -> str:
    """What ``obi-mcp --help`` prints."""
    width = max(len(verb.name) for verb in VERBS)
    verbs = "\n".join(f"  {verb.name:<{width}}  {verb.summary}" for verb in VERBS)
    codes = "\n".join(f"  {code}  {meaning}" for code, meaning in EXIT_CODES)
    return (
        "usage: obi-mcp VERB [arguments]\n\n"
        "Runs OBI (OpenTelemetry eBPF Instrumentation) through kubectl, helm and obi for an AI agent, behind a policy\n"
        "that lets nothing else through.\n\n"
        f"verbs:\n{verbs}\n\n"
        "`obi-mcp VERB --help` says more; `obi-mcp --version` prints the version.\n\n"
        f"exit codes:\n{codes}\n"
    )


def _dispatch(argv: Sequence[str]) -> int:
    if not argv:
        print(help_text(), file=sys.stderr, end="")
        return 2
    first, *rest = argv
    if first in {"-h", "--help", "help"}:
        print(help_text(), end="", flush=True)
        return 0
    if first in {"-V", "--version", "version"}:
        print(f"obi-mcp {__version__}", flush=True)
        return 0
    for verb in VERBS:
        if verb.name == first:
            code = import_module(f"obi_mcp.cli.{verb.module}").main(rest)
            sys.stdout.flush()
            return int(code)
    print(f"obi-mcp: there is no verb {first!r}\nhint: {_nearest(first)}", file=sys.stderr)
    return 2


def _nearest(word: str) -> str:
    import difflib

    names = [verb.name for verb in VERBS]
    nearest = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"did you mean {nearest[0]}?" if nearest else f"use one of {', '.join(names)}"
