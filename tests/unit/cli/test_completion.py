"""``obi-mcp completion``: the scripts name what the parsers take, and bash completes by them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from obi_mcp.cli.completion import SHELLS, completed_verbs, main
from obi_mcp.cli.verbs import VERBS


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main([shell]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("shell", sorted(SHELLS))
def test_a_script_names_every_verb_and_every_flag(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = script(shell, capsys)
    for verb in completed_verbs():
        assert verb.verb in text
        for option in verb.options:
            assert (f"-l {option.name.removeprefix('--')}" if shell == "fish" else option.name) in text
        assert all(word in text for word in verb.words)
    assert [verb.verb for verb in completed_verbs()] == [verb.name for verb in VERBS]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_that_is_here_reads_its_script(shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    file = tmp_path / "script"
    file.write_text(script(shell, capsys))
    done = subprocess.run([program, "-n", str(file)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


COMPLETED: list[tuple[str, list[str]]] = [
    ("obi-mcp s", ["serve"]),
    ("obi-mcp serve --acc", ["--access"]),
    ("obi-mcp serve --access ", ["read-only", "non-destructive", "full"]),
    ("obi-mcp call obi_ku", ["obi_kubectl"]),
    ("obi-mcp call obi_kubectl --output ", ["text", "json", "junit", "github"]),
    ("obi-mcp policy ch", ["check"]),
    ("obi-mcp audit v", ["verify"]),
    ("obi-mcp completion z", ["zsh"]),
]


@pytest.mark.parametrize(("line", "words"), COMPLETED)
def test_bash_completes(line: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    typed = line.split(" ")
    listed = " ".join(f"'{word}'" for word in typed)
    ask = f"COMP_WORDS=({listed}); COMP_CWORD={len(typed) - 1}; _obi_mcp; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    done = subprocess.run(
        ["bash", "-c", script("bash", capsys) + ask], capture_output=True, text=True, check=True, cwd="/"
    )
    assert done.stdout.split() == words
