"""``obi-mcp policy``: the contract for CI."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.in_process import run_verb

from obi_mcp.policy.hard_names import HARD

LINE = "kubectl get pods -n observability -l app=obi"
CONFIG = """apiVersion: v1
kind: ConfigMap
metadata: {name: obi-config, namespace: observability, labels: {app: obi}}
data: {obi-config.yml: "log_level: INFO"}
"""
KEYS = {"effect", "access", "rule", "reason", "hint", "at", "pipeline", "added", "checks"}


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def run(cache: Path, tmp_path: Path) -> Any:
    """Runs ``obi-mcp policy …`` away from anybody's own configuration."""

    environment = {"PATH": os.environ["PATH"], "XDG_CACHE_HOME": str(cache), "HOME": str(tmp_path)}

    def running(*argv: str, stdin: str | bytes = "") -> subprocess.CompletedProcess[str]:
        given = stdin if isinstance(stdin, bytes) else stdin.encode()
        return run_verb(("policy", *argv), given, environment)

    return running


def test_the_program_that_people_run_says_the_same(run: Any, cache: Path, tmp_path: Path) -> None:
    line = ["policy", "check", "--json", "kubectl get pods,secrets"]
    server = str(Path(__file__).parents[3] / "server")
    environment = {
        "PATH": os.environ["PATH"],
        "XDG_CACHE_HOME": str(cache),
        "PYTHONPATH": server,
        "HOME": str(tmp_path),
    }
    done = subprocess.run([sys.executable, "-m", "obi_mcp", *line], env=environment, capture_output=True, check=False)
    here = run(*line[1:])
    assert (done.returncode, done.stdout.decode(), done.stderr.decode()) == (3, here.stdout, here.stderr)


def test_an_allowed_line_is_one_line_of_effect_and_rule_then_the_reason(run: Any) -> None:
    done = run("check", LINE)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "allow kubectl.get",
        "what OBI runs and how it is configured is its own business",
    ]


def test_a_narrowed_line_is_exit_zero(run: Any) -> None:
    done = run("check", "kubectl get pods")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "narrow kubectl.get")


def test_a_denied_line_is_exit_three_with_reason_and_hint(run: Any) -> None:
    done = run("check", "kubectl get pods,secrets")
    assert done.returncode == 3
    assert done.stdout.splitlines() == [
        "deny hard.credentials",
        "'secrets' names secrets: secrets, tokens and certificates are never read or made",
        "hint: kubectl get pods",
    ]


def test_the_checks_of_a_run_are_listed(run: Any) -> None:
    done = run("check", "kubectl describe ds/obi")
    assert done.stdout.splitlines()[2].startswith("check: membership of daemonsets/obi in observability: ")


@pytest.mark.parametrize("line", ["", "kubectl get pods; id", "kubectl foo", "kubectl get 'x"])
def test_a_line_that_does_not_parse_is_denied_by_syntax(run: Any, line: str) -> None:
    done = run("check", "--json", line)
    decision = json.loads(done.stdout)
    assert (done.returncode, decision["effect"], decision["rule"], decision["pipeline"]) == (3, "deny", "syntax", [])
    assert decision["at"]["stage"] == 0


def test_json_has_the_promised_keys_and_no_others(run: Any) -> None:
    decision = json.loads(run("check", "--json", "kubectl get pods").stdout)
    assert set(decision) == KEYS
    assert decision["added"] == ["-l", "app.kubernetes.io/part-of in (obi, beyla)"]


def test_the_level_is_read_only_unless_one_is_given(run: Any, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("access: full\n")
    config.chmod(0o600)
    line = "kubectl delete ds/obi"
    assert run("check", line).returncode == 3
    assert run("check", "--config", str(config), line).returncode == 3
    assert run("check", "--access", "non-destructive", line).returncode == 3
    assert run("check", "--access", "full", line).returncode == 0
    assert run("check", "--access=full", line).returncode == 0


def test_a_document_comes_from_a_file_or_standard_input(run: Any, tmp_path: Path) -> None:
    line = "kubectl apply -f -"
    file = tmp_path / "config-map.yaml"
    file.write_text(CONFIG)
    assert run("check", "--access", "full", "--stdin", str(file), line).returncode == 0
    assert run("check", "--access", "full", "--stdin", "-", line, stdin=CONFIG).returncode == 0
    assert run("check", "--access", "full", line).returncode == 3
    denied = run(
        "check", "--access", "full", "--stdin", "-", "--json", line, stdin=CONFIG.replace("obi-config.yml", "x")
    )
    assert json.loads(denied.stdout)["at"]["path"].startswith("data")


def test_scope_comes_from_the_configuration_and_the_policy_directory(run: Any, tmp_path: Path) -> None:
    config, directory = tmp_path / "config.yaml", tmp_path / "policy"
    config.write_text("scope: {namespaces: [agents]}\n")
    config.chmod(0o600)
    directory.mkdir(mode=0o755)
    (directory / "scope.yaml").write_text("namespaces: [telemetry]\n")
    (directory / "scope.yaml").chmod(0o644)
    assert run("check", "kubectl get pod a -n agents").returncode == 3
    assert run("check", "--config", str(config), "kubectl get pod a -n agents").returncode == 0
    assert run("check", "--policy", str(directory), "kubectl get pod a -n telemetry").returncode == 0
    (directory / "scope.yaml").chmod(0o666)
    done = run("check", "--policy", str(directory), "kubectl get pod a -n telemetry")
    assert (done.returncode, done.stdout) == (2, "")
    assert "written by others" in done.stderr


USAGE = [
    ("check",),
    ("check", LINE, "more"),
    ("check", "--batch", LINE),
    ("check", "--batch", "--stdin", "-"),
    ("check", "--lines", "-", LINE),
    ("check", "--lines", "-", "--batch"),
    ("check", "--lines", "-", "--stdin", "-"),
    ("check", "--lines", "/nowhere/at/all"),
    ("check", "--lines", "-"),  # which holds nothing, as of a `docker run` without -i
    ("check", "--json", "--output", "junit", LINE),
    ("check", "--output", "xml", LINE),
    ("check", "--access", "root", LINE),
    ("check", "--acc", "full", LINE),
    ("check", "--stdin", "/nowhere/at/all", LINE),
    ("check", "--config", "/nowhere/at/all", LINE),
    ("check", "--policy", "/nowhere/at/all", LINE),
    ("check", "--unknown", LINE),
    ("explain",),
    ("explain", "kubectl.gets"),
    ("list", "--access", "x"),
    ("nonsense",),
    (),
]


@pytest.mark.parametrize("argv", USAGE, ids=" ".join)
def test_usage_and_configuration_errors_are_exit_two_and_say_so(run: Any, argv: tuple[str, ...]) -> None:
    done = run(*argv)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.strip()
    assert "Traceback" not in done.stderr


# --- batches ---


def batch(run: Any, *lines: Any, argv: tuple[str, ...] = ()) -> tuple[int, list[dict[str, Any]]]:
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    done = run("check", "--batch", *argv, stdin=text)
    assert done.stderr == ""
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_a_batch_gives_one_decision_a_line_in_order(run: Any) -> None:
    code, decisions = batch(
        run,
        {"command": LINE},
        {"command": "kubectl get secrets"},
        "",
        {"command": "kubectl get pods", "further": ["keys", "are ignored"], "expect": "x"},
        {"command": "kubectl delete ds/obi", "access": "full"},
        {"command": "kubectl delete ds/obi"},
        {"command": "kubectl apply -f -", "stdin": CONFIG, "access": "non-destructive"},
        {"command": "kubectl apply -f -", "stdin": None, "access": None},
        {"command": "kubectl get pods; id"},
    )
    assert code == 0
    assert [(decision["effect"], decision["rule"]) for decision in decisions] == [
        ("allow", "kubectl.get"),
        ("deny", "hard.credentials"),
        ("narrow", "kubectl.get"),
        ("allow", "kubectl.delete"),
        ("deny", "kubectl.delete"),
        ("allow", "kubectl.apply"),
        ("deny", "kubectl.apply"),
        ("deny", "syntax"),
    ]
    assert all(set(decision) == KEYS for decision in decisions)


def test_the_level_of_a_line_wins_over_the_batchs(run: Any) -> None:
    line = {"command": "kubectl delete ds/obi"}
    code, decisions = batch(run, line, {**line, "access": "read-only"}, argv=("--access", "full"))
    assert (code, [decision["effect"] for decision in decisions]) == (0, ["allow", "deny"])


WRONG = ["{", "[]", '"text"', "1", "null", "{}", '{"command": 1}', '{"command": null}', '{"command": "x", "stdin": 1}',
         '{"command": "x", "access": "root"}', '{"command": "x", "access": 1}', "[" * 100_000]  # fmt: skip


def test_a_line_that_is_no_such_object_is_an_error_and_the_rest_goes_on(run: Any) -> None:
    code, decisions = batch(run, *WRONG, {"command": LINE})
    assert code == 2
    assert [decision["effect"] for decision in decisions] == ["error"] * len(WRONG) + ["allow"]
    assert all(set(decision) == KEYS and decision["reason"] for decision in decisions)


def test_a_line_that_is_not_utf_8_is_an_error(run: Any) -> None:
    done = run("check", "--batch", stdin=b'{"command": "\xff"}\n')
    assert (done.returncode, json.loads(done.stdout)["effect"]) == (2, "error")


def test_an_empty_batch_is_good(run: Any) -> None:
    assert batch(run) == (0, [])


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_long_batch_has_the_same_answers_in_the_same_order(run: Any, cache: Path, tmp_path: Path, form: str) -> None:
    lines = [json.dumps({"command": f"kubectl get pods -n {name}{number}"}) for number in range(500) for name in "ab"]
    text = "\n".join([*lines, "", "{", *lines]).encode()
    # In memory nobody knows whether more will come, and so all of it is answered by one process.
    alone = run("check", "--batch", "--output", form, stdin=text)
    (tmp_path / "batch").write_bytes(text)
    argv = [sys.executable, "-m", "obi_mcp", "policy", "check", "--batch", "--output", form]
    server = str(Path(__file__).parents[3] / "server")
    environment = {"PATH": os.environ["PATH"], "XDG_CACHE_HOME": str(cache), "PYTHONPATH": server}
    with (tmp_path / "batch").open("rb") as given:
        done = subprocess.run(
            argv, stdin=given, env={**environment, "HOME": str(tmp_path)}, capture_output=True, check=False
        )
    assert done.stderr == b""
    assert (done.returncode, done.stdout.decode()) == (alone.returncode, alone.stdout)
    assert (alone.returncode, alone.stdout.count("\n") >= 2001) == (2, True)


# --- reports for CI ---

LINES = f"# what agents run\n\n{LINE}\r\n  kubectl get secrets\nkubectl get pods; id\n"
BATCH = '{"command": "kubectl get pods"}\n\n{"command": "kubectl delete ds/obi", "access": "full"}\n'
REPORTS: list[tuple[str, list[str], str, int, str]] = [
    # what, the arguments, standard input, the exit code, what stands on standard output
    ("lines", ["--lines", "-"], LINES, 3, "4: deny hard.credentials: kubectl get secrets\n   'secrets' names"),
    ("lines as JSON", ["--lines", "-", "--json"], LINES, 3, '"rule": "syntax"'),
    ("lines for JUnit", ["--lines", "-", "--output", "junit"], LINES, 3, 'tests="3" failures="2"'),
    ("their file", ["--lines", "-", "--output", "junit", "--source", "a"], LINES, 3, 'file="a" line="5"'),
    ("lines for GitHub", ["--lines", "-", "--output", "github", "--source", "a"], LINES, 3, "::error file=a,line=4,"),
    ("good lines", ["--lines", "-"], f"{LINE}\n", 0, "1: allow kubectl.get: kubectl get pods"),
    ("one line", ["--output", "junit", "kubectl get secrets"], "", 3, '<failure type="deny hard.credentials"'),
    ("one good line", ["--output", "github", LINE], "", 0, "passed  allow kubectl.get: kubectl get pods"),
    ("a batch", ["--batch", "--output", "junit"], BATCH, 0, 'name="kubectl delete ds/obi" line="3"'),
    ("a batch with a denial", ["--batch", "--output", "text"], '{"command": "id"}', 3, "1: deny hard.program: id"),
    ("a batch with an error", ["--batch", "--output", "junit"], '{"command": "id"}\n{}', 2, 'errors="1"'),
    ("a batch for GitHub", ["--batch", "--output", "github"], "{}", 2, "::error title=error%3A {}::the line is not"),
]


@pytest.mark.parametrize(("what", "argv", "stdin", "code", "said"), REPORTS, ids=[row[0] for row in REPORTS])
def test_a_report_is_made_of_lines_and_the_exit_code_says_how_they_ended(
    run: Any, what: str, argv: list[str], stdin: str, code: int, said: str
) -> None:
    done = run("check", *argv, stdin=stdin)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False)
    assert said in done.stdout


# --- test, list, explain ---


def test_policy_test_runs_every_example(run: Any) -> None:
    done = run("test")
    assert done.returncode == 0
    assert done.stdout.endswith(" 0 failures\n")


def test_policy_test_names_the_example_that_fails(run: Any, tmp_path: Path) -> None:
    directory = tmp_path / "policy"
    directory.mkdir(mode=0o755)
    rule = {
        "id": "kubectl.own", "program": "kubectl", "command": "auth whoami", "access": "read-only", "operands": "none",
        "because": "who the server is", "examples": {"allow": ["kubectl auth whoami x"], "deny": ["kubectl get nodes"]},
    }  # fmt: skip
    (directory / "own.yaml").write_text(json.dumps([rule]))
    (directory / "own.yaml").chmod(0o644)
    done = run("test", str(directory))
    assert done.returncode == 1
    assert "kubectl.own: expected allowed by kubectl.own: kubectl auth whoami x" in done.stdout
    assert "kubectl.own: expected denied: kubectl get nodes" in done.stdout
    assert done.stdout.endswith(" 2 failures\n")
    (directory / "own.yaml").write_text("- {}\n")
    assert run("test", str(directory)).returncode == 2


def test_policy_list_shows_what_a_level_can_use(run: Any) -> None:
    def ids(level: str) -> set[str]:
        return {rule["id"] for rule in json.loads(run("list", "--access", level, "--json").stdout)}

    assert ids("read-only") < ids("non-destructive") < ids("full")
    assert "helm.uninstall" in ids("full") - ids("non-destructive")
    text = run("list").stdout
    assert all(rule in text for rule in ("kubectl.logs", "filter.jq", "obi.config.validate"))


def test_policy_list_shows_what_is_always_denied(run: Any) -> None:
    for level in ("read-only", "full"):
        entries = json.loads(run("list", "--access", level, "--json").stdout)
        assert {tuple(entry) for entry in entries} == {tuple(entries[0])}
        assert {entry["id"] for entry in entries if entry["hard"]} == set(HARD)
        lines = run("list", "--access", level).stdout.splitlines()
        assert [line.split()[0] for line in lines if " always denied " in line] == list(HARD)


@pytest.mark.parametrize("name", ["kubectl.logs", "hard.credentials", "syntax", "filter.tr", "helm.list"])
def test_policy_explain_knows_every_name_that_a_decision_has(run: Any, name: str) -> None:
    done = run("explain", name)
    assert done.returncode == 0
    assert done.stdout.startswith(f"{name}: ")


def test_policy_explain_names_what_is_near(run: Any) -> None:
    assert "kubectl.get" in run("explain", "kubectl.gets").stderr
    assert "kubectl.rollout.undo" in run("explain", "kubectl.rollout").stderr


def test_every_rule_of_a_decision_is_known_to_explain() -> None:
    from tests.unit.policy.policies import built_in

    from obi_mcp.policy.explain import explained, names

    for name in names(built_in()):
        assert explained(built_in(), name)
