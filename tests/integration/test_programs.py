"""The built programs are the pinned ones, the committed grammars are theirs, and a build that breaks leaves nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.process.processes import wait_until

ROOT = Path(__file__).resolve().parents[2]
GRAMMARS = ROOT / "policy" / "grammar"
FILTERS: dict[str, dict[str, object]] = json.loads((GRAMMARS / "filters.json").read_text())["programs"]
GETOPT = sorted(name for name, entry in FILTERS.items() if entry["style"] == "getopt")
NAMES = sorted({*FILTERS, "kubectl", "helm", "diff"})

pytestmark = pytest.mark.integration


def programs(*arguments: str, checkout: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``image/programs.py`` of a checkout to its end."""
    argv = [sys.executable, str(checkout / "image/programs.py"), *arguments]
    return subprocess.run(argv, env=os.environ | environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def bin_directory() -> Path:
    done = programs("--print-bin")
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the builds and the grammars are made from."""
    copied = tmp_path / "checkout"
    shutil.copytree(ROOT / "image", copied / "image", ignore=shutil.ignore_patterns("__pycache__", "chart"))
    shutil.copytree(GRAMMARS, copied / "policy/grammar")
    return copied


def output(binary: Path, *arguments: str, cwd: Path) -> str:
    """Standard output and error of a program that may only see an empty directory."""
    environment = {"HOME": str(cwd), "PATH": "/nonexistent", "LC_ALL": "C"}
    argv = [str(binary), *arguments]
    done = subprocess.run(
        argv,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=120,
    )
    return done.stdout


def test_the_directory_holds_exactly_the_allowed_programs(bin_directory: Path) -> None:
    assert sorted(path.name for path in bin_directory.iterdir()) == NAMES
    assert all(os.access(path, os.X_OK) and path.resolve().is_file() for path in bin_directory.iterdir())


@pytest.mark.parametrize(
    ("name", "arguments", "pattern"),
    [
        ("kubectl", ("version", "--client"), r"^Client Version: v(.+)$"),
        ("helm", ("version", "--template", "v{{.Version}}"), r"^vv(.+)$"),
        ("jq", ("--version",), r"^jq-(.+)$"),
    ],
)
def test_a_program_is_of_the_version_that_its_grammar_describes(
    name: str, arguments: tuple[str, ...], pattern: str, bin_directory: Path, tmp_path: Path
) -> None:
    found = re.search(pattern, output(bin_directory / name, *arguments, cwd=tmp_path), re.MULTILINE)
    described = FILTERS[name] if name in FILTERS else json.loads((GRAMMARS / f"{name}.json").read_text())
    assert found is not None
    assert found[1] == described["version"]


def test_a_second_run_gives_the_same_directory_and_builds_nothing(bin_directory: Path) -> None:
    again = programs("--print-bin")
    assert (again.returncode, again.stdout, again.stderr) == (0, f"{bin_directory}\n", "")


def test_the_committed_grammars_are_what_the_pinned_programs_give() -> None:
    done = programs("--grammar", "--check")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "line", "changed"),
    [
        ("kubectl", '"as": {"type": "string"}', '"as": {"type": "bool"}'),
        ("helm", '"kube-token": {"type": "string"},\n', ""),
    ],
)
def test_a_grammar_that_differs_is_shown_and_can_be_written_again(
    name: str, line: str, changed: str, checkout: Path
) -> None:
    grammar = checkout / "policy/grammar" / f"{name}.json"
    committed = grammar.read_text()
    assert line in committed
    grammar.write_text(committed.replace(line, changed, 1))
    falsified = grammar.read_text()

    checked = programs("--grammar", "--check", checkout=checkout)
    assert checked.returncode == 1
    assert f"+    {line.strip()}" in checked.stdout
    assert f"{name}.json is not what {name}" in checked.stdout
    assert grammar.read_text() == falsified

    assert programs("--grammar", checkout=checkout).returncode == 0
    assert grammar.read_text() == committed


@pytest.mark.parametrize(
    ("file", "addition", "affected"),
    [
        ("image/tools/kubectl/cmd/kubectl/main.go", "\n// changed\n", {"kubectl"}),
        ("image/tools/kubectl/cmd/grammar/main.go", "\n// changed\n", {"kubectl-grammar"}),
        ("image/tools/kubectl/go.sum", "\n", {"kubectl", "kubectl-grammar"}),
        ("image/tools/helm/go.mod", "\n", {"helm", "helm-grammar"}),
        ("image/tools/grammar/grammar.go", "\n// changed\n", {"kubectl-grammar", "helm-grammar"}),
        ("image/programs.py", "\n# changed\n", set()),
    ],
)
def test_a_change_rebuilds_only_what_it_goes_into(file: str, addition: str, affected: set[str], checkout: Path) -> None:
    before = keys(checkout)
    with (checkout / file).open("a") as target:
        target.write(addition)
    after = keys(checkout)
    assert {name for name in before if before[name] != after[name]} == affected


def keys(checkout: Path) -> dict[str, str]:
    """The names under which a checkout's builds are kept."""
    script = """
import json, pathlib
from recipes import golang
from recipes.store import Store
tools, store = pathlib.Path("tools").resolve(), Store(pathlib.Path("/nonexistent"))
made = [make(tools) for make in (golang.kubectl, golang.helm)]
recipes = [one for program in made for one in (program.recipe(tools, store), program.grammar_recipe(tools, store))]
print(json.dumps({one.name: one.key for one in recipes}))
"""
    argv = [sys.executable, "-c", script]
    done = subprocess.run(argv, cwd=checkout / "image", capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


STORE_SCRIPT = """
import pathlib, signal, sys
from recipes.step import BuildFailed
from recipes.store import Recipe, Store
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
root, command = pathlib.Path(sys.argv[1]), sys.argv[2]
def build(work):
    work.steps.run(["sh", "-c", command, "sh", str(work.out / "result")], cwd=work.scratch)
try:
    print(Store(root).get(Recipe("thing", "1.0", "result", (), build)).read_text())
except BuildFailed as failure:
    print(failure)
    sys.exit(1)
"""


def start_build(root: Path, command: str) -> subprocess.Popen[str]:
    """A process that gets one thing from a store, making it by a shell command whose ``$1`` is the result."""
    argv = [sys.executable, "-c", STORE_SCRIPT, str(root), command]
    pipe = subprocess.PIPE
    return subprocess.Popen(argv, cwd=ROOT / "image", stdout=pipe, stderr=pipe, text=True)


def left_in(root: Path) -> list[str]:
    """What a store holds besides its locks."""
    return sorted(path.name for path in root.iterdir() if not path.name.endswith(".lock"))


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    """A named pipe: a build that reads it waits there until the test writes."""
    path = tmp_path / "gate"
    os.mkfifo(path)
    yield path
    path.unlink()


def test_two_runs_at_once_build_once(tmp_path: Path, gate: Path) -> None:
    command = f'echo built >> {tmp_path}/count; read line < {gate}; echo "$line" > "$1"'
    first = start_build(tmp_path / "store", command)
    assert first.stderr is not None
    assert "building" in first.stderr.readline()
    second = start_build(tmp_path / "store", command)
    assert second.stderr is not None
    assert second.stderr.readline() == "thing 1.0: waiting for another run that builds it\n"
    gate.write_text("made by the first\n")
    outputs = [run.communicate(timeout=180)[0].strip() for run in (first, second)]
    assert outputs == ["made by the first"] * 2
    assert (tmp_path / "count").read_text() == "built\n"


def test_a_failed_build_says_why_and_leaves_only_its_log(tmp_path: Path) -> None:
    run = start_build(tmp_path, 'echo half > "$1"; echo the disk is full >&2; exit 7')
    said = run.communicate(timeout=180)[0]
    assert run.returncode == 1
    assert "thing 1.0: sh -c" in said
    assert "ended with 7" in said
    assert "the disk is full" in said
    assert left_in(tmp_path) == ["thing.log"]


def test_a_build_that_is_stopped_takes_its_children_with_it(tmp_path: Path, gate: Path) -> None:
    started = tmp_path / "started"
    os.mkfifo(started)
    command = f'sh -c "echo \\$\\$ > {started}; read line < {gate}" & wait'
    run = start_build(tmp_path / "store", command)
    grandchild = int(started.read_text())
    assert Path(f"/proc/{grandchild}").exists()
    run.send_signal(signal.SIGTERM)
    run.communicate(timeout=180)
    assert run.returncode == 143
    # Killed it is; that the kernel is done with it may take a moment on a busy machine.
    wait_until(lambda: not is_running(grandchild), f"{grandchild} has ended")
    assert left_in(tmp_path / "store") == ["thing.log"]


def is_running(pid: int) -> bool:
    """Whether a process still runs; one that only waits to be reaped by its new parent does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rsplit(")", 1)[1].split()[0] != "Z"


def test_what_a_killed_run_left_is_cleared_by_the_next(tmp_path: Path) -> None:
    (tmp_path / ".thing.abc.tmp" / "out").mkdir(parents=True)
    run = start_build(tmp_path, 'echo whole > "$1"')
    assert run.communicate(timeout=180)[0].strip() == "whole"
    assert [re.sub(r"-[0-9a-f]{16}$", "-KEY", name) for name in left_in(tmp_path)] == ["thing-KEY", "thing.log"]


def long_kind(binary: Path, flag: str, cwd: Path) -> str:
    """bool, required, optional or unknown: how a getopt program takes a long option."""
    said = output(binary, f"--{flag}=", "--help", cwd=cwd)
    if "doesn't allow an argument" in said:
        return "bool"
    if "unrecognized option" in said or "is ambiguous" in said:
        return "unknown"
    return "required" if "requires an argument" in output(binary, f"--{flag}", cwd=cwd) else "optional"


def short_kind(binary: Path, letter: str, cwd: Path) -> str:
    """value, bool or unknown: a letter that takes a value swallows the --help after it."""
    said = output(binary, f"-{letter}", "--help", cwd=cwd)
    if "invalid option" in said:
        return "unknown"
    return "bool" if "display this help" in said or "(GNU " in said else "value"


def described_kind(flag: dict[str, object]) -> str:
    if flag["type"] == "bool":
        return "bool"
    return "optional" if "optional" in flag else "required"


@pytest.mark.parametrize("name", GETOPT)
def test_the_long_options_of_a_filter_are_described_as_they_are(name: str, bin_directory: Path, tmp_path: Path) -> None:
    flags = FILTERS[name]["flags"]
    assert isinstance(flags, dict)
    long = {flag: described_kind(entry) for flag, entry in flags.items() if len(flag) > 1}
    # --follow without --help to end it would wait for more input.
    found = {flag: "optional" if flag == "follow" else long_kind(bin_directory / name, flag, tmp_path) for flag in long}
    assert found == long


@pytest.mark.parametrize("name", GETOPT)
def test_the_short_options_of_a_filter_are_all_described(name: str, bin_directory: Path, tmp_path: Path) -> None:
    version = output(bin_directory / name, "--version", cwd=tmp_path).splitlines()[0]
    if not version.endswith(f" {FILTERS[name]['version']}"):
        pytest.skip(f"the grammar describes {FILTERS[name]['version']}, this machine has {version}")
    flags = FILTERS[name]["flags"]
    assert isinstance(flags, dict)
    # What GNU's sort takes after the obsolete -y depends on whether it is digits.
    described = {
        entry["short"]: "bool" if entry["type"] == "bool" or flag == "y" else "value"
        for flag, entry in flags.items()
        if "short" in entry
    }
    letters = [chr(code) for start in "aA" for code in range(ord(start), ord(start) + 26)]
    kinds = {letter: short_kind(bin_directory / name, letter, tmp_path) for letter in letters}
    assert {letter: kind for letter, kind in kinds.items() if kind != "unknown"} == described


@pytest.mark.parametrize("name", GETOPT)
def test_the_help_of_a_filter_names_no_option_that_is_not_described(
    name: str, bin_directory: Path, tmp_path: Path
) -> None:
    version = output(bin_directory / name, "--version", cwd=tmp_path).splitlines()[0]
    if not version.endswith(f" {FILTERS[name]['version']}"):
        pytest.skip(f"the grammar describes {FILTERS[name]['version']}, this machine has {version}")
    flags = FILTERS[name]["flags"]
    assert isinstance(flags, dict)
    named = set(re.findall(r"(?<![\w-])--([a-z][a-z0-9-]*)", output(bin_directory / name, "--help", cwd=tmp_path)))
    assert named - flags.keys() == set()


def test_the_help_of_jq_names_no_option_that_is_not_described(bin_directory: Path, tmp_path: Path) -> None:
    flags = FILTERS["jq"]["flags"]
    assert isinstance(flags, dict)
    said = output(bin_directory / "jq", "--help", cwd=tmp_path)
    assert set(re.findall(r"^ +(?:-\w, )?--([a-z0-9-]+)", said, re.MULTILINE)) - flags.keys() == set()
    pairs = re.findall(r"^ +-(\w), --([a-z0-9-]+)", said, re.MULTILINE)
    assert {flag: short for short, flag in pairs} == {
        flag: entry["short"] for flag, entry in flags.items() if "short" in entry and not entry.get("hidden")
    }


def test_jq_takes_the_words_after_an_option_that_the_grammar_says(bin_directory: Path, tmp_path: Path) -> None:
    flags = FILTERS["jq"]["flags"]
    assert isinstance(flags, dict)
    described = {flag: entry.get("nargs", 1) for flag, entry in flags.items() if entry["type"] == "string"}
    words = {"takes one parameter": 1, "takes a parameter": 1, "takes two parameters": 2}
    found = {}
    for flag in flags:
        said = output(bin_directory / "jq", f"--{flag}", cwd=tmp_path)
        for text, count in words.items():
            if text in said:
                found[flag] = count
    assert found == described
