"""Policy files: validated, layered, compiled; anything wrong is an error that names the file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from obi_mcp import __version__
from obi_mcp.config import Settings
from obi_mcp.errors import PolicyError
from obi_mcp.policy import shipped
from obi_mcp.policy.compiled import as_plain, cache_directory, policy_key, read_compiled, write_compiled
from obi_mcp.policy.engine import Policy
from obi_mcp.policy.loader import read_policy
from obi_mcp.policy.model import Access
from obi_mcp.policy.scope import Scope

WHOAMI = """- id: kubectl.auth.whoami
  program: kubectl
  command: auth whoami
  access: read-only
  operands: none
  flags: {allow: [output]}
  output: [table, json, yaml]
  because: who the server is in the cluster says why a command fails
  hint: kubectl auth whoami
  examples:
    allow: [kubectl auth whoami, kubectl auth whoami -o yaml]
    deny: [kubectl auth whoami --as=x]
"""


def operator(tmp_path: Path, **files: str) -> Settings:
    """Settings with a policy directory that holds these files; ``__`` in a name stands for a slash."""
    directory = tmp_path / "policy"
    directory.mkdir(mode=0o755)
    for name, text in files.items():
        path = directory / f"{name.replace('__', '/')}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
        path.chmod(0o644)
    return Settings(policy_directory=str(directory))


def test_the_built_in_policy_loads_with_every_example_as_claimed() -> None:
    policy = Policy.load(Settings())
    assert policy.decide("kubectl get pods -l app=obi", access=Access.READ_ONLY).rule == "kubectl.get"


@pytest.mark.parametrize("place", ["own", "rules__own"])
def test_an_operator_adds_a_rule(tmp_path: Path, place: str) -> None:
    assert Policy.load(Settings()).decide("kubectl auth whoami", access=Access.FULL).effect == "deny"
    policy = Policy.load(operator(tmp_path, **{place: WHOAMI}))
    assert policy.decide("kubectl auth whoami", access=Access.READ_ONLY).rule == "kubectl.auth.whoami"


def test_an_operator_adds_scope_and_its_examples_run_over_it(tmp_path: Path) -> None:
    scope = (
        "namespaces: [telemetry]\nreleases: {agent: [obi]}\ncluster_objects: [agent]\nendpoints: [otel.example.org]\n"
    )
    policy = Policy.load(operator(tmp_path, scope=scope))
    assert policy.scope.namespaces[-1] == "telemetry"
    assert policy.scope.releases["agent"] == ("obi",)
    assert {"agent", "obi", "obi-opentelemetry-ebpf-instrumentation"} <= set(policy.scope.cluster_objects)
    assert policy.decide("kubectl get pod x -n telemetry", access=Access.READ_ONLY).allowed
    assert policy.decide("helm status agent -n telemetry", access=Access.READ_ONLY).allowed


def test_no_rule_lifts_a_hard_denial(tmp_path: Path) -> None:
    rule = (
        WHOAMI.replace("auth.whoami", "exec").replace("auth whoami", "exec").replace("operands: none", "operands: log")
    )
    rule = rule.replace(
        "flags: {allow: [output]}\n  output: [table, json, yaml]\n", "targets: {kinds: [pods], confine: [membership]}\n"
    )
    text = rule.replace("allow: [kubectl exec, kubectl exec -o yaml]", "allow: [kubectl exec obi-a -n observability]")
    with pytest.raises(PolicyError, match=r"deny by hard\.exec"):
        Policy.load(operator(tmp_path, own=text))


REFUSED = {
    "an example that fails": (
        WHOAMI.replace("allow: [kubectl auth whoami,", "allow: [kubectl auth whoami x,"),
        r"kubectl\.auth\.whoami: expected allowed",
    ),
    "a denied example that is allowed": (
        WHOAMI.replace("deny: [kubectl auth whoami --as=x]", "deny: [kubectl get nodes]"),
        "expected denied: kubectl get nodes",
    ),
    "a hint that is not allowed": (WHOAMI.replace("hint: kubectl auth whoami", "hint: kubectl get secrets"), "hint"),
    "an id of the built-in policy": (WHOAMI.replace("kubectl.auth.whoami", "kubectl.version"), "there twice"),
    "an unknown key": (WHOAMI + "  lift: [hard.exec]\n", "lift"),
    "an unknown flag": (WHOAMI.replace("[output]", "[outptu]"), "has no flag --outptu"),
    "an unknown command": (WHOAMI.replace("command: auth whoami", "command: auth whoareyou"), "has no command"),
    "an alias for a command": (
        WHOAMI.replace("command: auth whoami", "command: top pods").replace("operands: none", "operands: names"),
        "has no command top pods",
    ),
    "a kind that is never read": (
        WHOAMI.replace("  because", "  targets: {kinds: [secrets], confine: [membership]}\n  because"),
        "secrets are never read",
    ),
    "an unknown kind": (
        WHOAMI.replace("  because", "  targets: {kinds: [podz], confine: [membership]}\n  because"),
        "no kind podz",
    ),
    "a level that is none": (WHOAMI.replace("read-only", "readonly"), "readonly"),
    "no examples": (WHOAMI[: WHOAMI.index("  examples")], "examples"),
    "a key given twice": (WHOAMI + "  access: full\n", "twice"),
    "no YAML": ("- [", "own.yaml"),
    "nothing": ("", "own.yaml"),
    "a mapping": ("a: b\n", "own.yaml"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_wrong_rule_stops_the_start(tmp_path: Path, what: str) -> None:
    text, message = REFUSED[what]
    with pytest.raises(PolicyError, match=message):
        Policy.load(operator(tmp_path, own=text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("default_namespace: x\n", "default_namespace"),
        ("namespaces: [Kube]\n", "Kube"),
        ("selectors: []\n", "selectors"),
        ("repositories: {x: http://x}\n", "http://x"),
    ],
)
def test_a_wrong_scope_stops_the_start(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        Policy.load(operator(tmp_path, scope=text))


def test_what_others_may_write_is_refused(tmp_path: Path) -> None:
    settings = operator(tmp_path, rules__own=WHOAMI)
    directory = Path(settings.policy_directory or "")
    for path, mode in ((directory / "rules" / "own.yaml", 0o664), (directory / "rules", 0o777), (directory, 0o775)):
        before = path.stat().st_mode
        path.chmod(mode)
        for load in (Policy.load, Policy.load_compiled):
            with pytest.raises(PolicyError, match="written by others") as caught:
                load(settings)
            assert str(path) in caught.value.message
        path.chmod(before)
    assert Policy.load(settings)


def test_a_missing_empty_or_strange_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="is not there"):
        Policy.load(Settings(policy_directory=str(tmp_path / "none")))
    settings = operator(tmp_path)
    with pytest.raises(PolicyError, match=r"holds no \.yaml file"):
        Policy.load(settings)
    (tmp_path / "policy" / "rules.yml").write_text(WHOAMI)
    with pytest.raises(PolicyError, match="nothing else"):
        Policy.load(settings)


def test_both_kinds_of_install_find_their_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """hatchling's force-include puts policy/ into a wheel as _policy, and not into an editable install."""
    package = tmp_path / "site-packages" / "obi_mcp"
    (package / "_policy").mkdir(parents=True)
    monkeypatch.setattr(shipped, "_PACKAGE", package)
    assert shipped.shipped_policy() == package / "_policy"
    (package / "_policy").rmdir()
    assert shipped.shipped_policy() == Path(__file__).parents[3] / "policy"


# --- the compiled form ---


def test_the_compiled_form_gives_the_same_policy(tmp_path: Path) -> None:
    data = read_policy(None)
    assert write_compiled(tmp_path / "cache", "k", data)
    again = read_compiled(tmp_path / "cache", "k")
    assert again is not None
    assert as_plain(again) == json.loads(json.dumps(as_plain(data)))
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "cache" / "policy-k.json").stat().st_mode & 0o777 == 0o600


def test_a_compiled_form_is_used_only_while_it_is_ours_alone(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    path = cache / "policy-k.json"
    assert read_compiled(cache, "k") is None
    write_compiled(cache, "k", read_policy(None))
    assert read_compiled(cache, "k") is not None
    assert read_compiled(cache, "other") is None
    for target, mode in ((path, 0o620), (cache, 0o777)):
        before = target.stat().st_mode
        target.chmod(mode)
        assert read_compiled(cache, "k") is None
        target.chmod(before)
    path.rename(tmp_path / "moved.json")
    path.symlink_to(tmp_path / "moved.json")
    assert read_compiled(cache, "k") is None
    path.unlink()
    for text in ("", "[]", '{"key": "k"}', '{"key": "k", "rules": 1, "surprise": 2}', '{"key": "x"}'):
        path.write_text(text)
        path.chmod(0o600)
        assert read_compiled(cache, "k") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_compiled_form_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    write_compiled(tmp_path / "cache", "k", read_policy(None))
    os.chown(tmp_path / "cache" / "policy-k.json", 12_345, 12_345)
    assert read_compiled(tmp_path / "cache", "k") is None


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    assert Policy.load_compiled(Settings()).decide("kubectl get nodes", access=Access.READ_ONLY).allowed


def test_the_key_changes_with_files_scope_and_version(tmp_path: Path) -> None:
    settings = operator(tmp_path, own=WHOAMI)
    directory = Path(settings.policy_directory or "")
    keys = [
        policy_key(None, Scope(), __version__),
        policy_key(directory, Scope(), __version__),
        policy_key(None, replace(Scope(), namespaces=("x",)), __version__),
        policy_key(None, Scope(), "0.0.0"),
    ]
    (directory / "own.yaml").write_text(WHOAMI + "# more\n")
    keys.append(policy_key(directory, Scope(), __version__))
    assert len(set(keys)) == len(keys)
    assert policy_key(None, Scope(), __version__) == keys[0]


def test_the_cache_lies_where_the_user_says() -> None:
    assert cache_directory({"XDG_CACHE_HOME": "/x", "HOME": "/h"}) == Path("/x/obi-mcp")
    assert cache_directory({"HOME": "/h"}) == Path("/h/.cache/obi-mcp")
    assert cache_directory({"XDG_CACHE_HOME": "relative"}) is None
    assert cache_directory({}) is None


def test_a_failing_example_is_never_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    settings = operator(tmp_path, own=WHOAMI.replace("allow: [kubectl auth whoami,", "allow: [kubectl auth whoami x,"))
    for _ in range(2):
        with pytest.raises(PolicyError):
            Policy.load_compiled(settings)
    assert not list(tmp_path.glob("cache/**/*.json"))


def test_policy_check_imports_nothing_that_takes_time(tmp_path: Path) -> None:
    code = (
        "import sys; from obi_mcp.__main__ import main; code = main(['policy', 'check', 'kubectl get pods | jq .']);"
        "heavy = {'mcp', 'mcp_types', 'pydantic', 'jsonschema', 'yaml', 'asyncio', 'anyio'} & set(sys.modules);"
        "sys.exit(code or (f'imported {sorted(heavy)}' if heavy else 0))"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    first, second = (
        subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
        for _ in range(2)
    )
    assert "imported" in first.stderr  # the first run reads YAML and writes the compiled form
    assert (second.returncode, second.stderr) == (0, "")
