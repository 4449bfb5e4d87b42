"""Other readers of the same text: a POSIX shell for lines of one stage, Python's shlex for pipes."""

from __future__ import annotations

import re
import shlex
import subprocess
import tempfile
from collections.abc import Sequence

SHELL = "/bin/dash"
_END = "\x01"
# shlex knows only two of the four characters that a backslash protects within double quotes.
_NOT_SHLEX = re.compile(r"\\[$`]")
# Within double quotes we read these as themselves, where a shell would act on them.
_ACTED_ON = re.compile(r"(?<!\\)(?:\\\\)*[$`]")


def shell_words(texts: Sequence[str]) -> list[tuple[str, ...]]:
    """The words of each text as a shell reads it, by functions named like the programs that print their words.

    The texts are ones that our lexer accepts, so that nothing in them is acted on; should that be wrong, the shell has
    no programs, an empty directory that it may not write to, and its answer differs.
    """
    if not texts:
        return []
    functions = "".join(f"{name}() {{ printf '%s\\000' {name} \"$@\"; }}\n" for name in ("kubectl", "helm", "obi"))
    script = "set -f\n" + functions + "".join(f"{text}\nprintf '\\001'\n" for text in texts)
    with tempfile.TemporaryDirectory() as empty:
        done = subprocess.run(
            [SHELL],
            input=script.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=empty,
            env={"PATH": "/nonexistent", "HOME": "/nonexistent"},
            check=False,
        )
    answers = done.stdout.decode("utf-8", "replace").split(_END)[:-1]
    if len(answers) == len(texts):
        return [tuple(answer.split("\0")[:-1]) for answer in answers]
    if len(texts) == 1:
        return [("the shell cannot read it",)]
    middle = len(texts) // 2  # one of them broke the script for those after it
    return shell_words(texts[:middle]) + shell_words(texts[middle:])


def is_for_shell(text: str) -> bool:
    """Whether a shell would read the text by the rules that are ours."""
    return '"' not in text or not _ACTED_ON.search(text)


def shlex_words(text: str) -> tuple[tuple[str, ...], ...] | None:
    """The stages as Python's shlex reads them, None where it reads other rules than POSIX's."""
    if _NOT_SHLEX.search(text):
        return None
    lexer = shlex.shlex(text, posix=True, punctuation_chars="|")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, ""
    stages: list[list[str]] = [[]]
    quoted_bar = False
    for word in lexer:
        if word == "|":
            stages.append([])
        else:
            quoted_bar = quoted_bar or "|" in word
            stages[-1].append(word)
    # A quoted bar that is a word of its own cannot be told from the operator.
    return None if quoted_bar or re.search(r"['\"\\]\|", text) else tuple(tuple(stage) for stage in stages)
