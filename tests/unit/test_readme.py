"""The README and the small documents beside it are true: commands run, snippets parse, links and lists are complete."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
from tests.unit.documentation import ROOT, Shown, fenced, run_cli, transcripts
from tests.unit.policy.policies import built_in

from obi_mcp.cli.verbs import VERBS
from obi_mcp.policy.model import Access

README = ROOT / "README.md"
DOCUMENTS = sorted((*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")))
_LINK = re.compile(r"\]\((?!\w+:)(?P<path>[^)#]+)")
_CLIENTS = re.compile(r"<!-- clients: (?P<names>[^>]+) -->\n```json\n(?P<text>.*?)```", re.DOTALL)


@pytest.mark.parametrize("shown", transcripts(README), ids=lambda shown: shown.command)
def test_a_command_prints_what_the_readme_shows(shown: Shown) -> None:
    done = run_cli(shlex.split(shown.command))
    assert (done.returncode, tuple(done.stdout.splitlines()), done.stderr) == (shown.exit_code, shown.output, "")


def test_every_verb_is_in_the_table() -> None:
    named = set(re.findall(r"^\| `obi-mcp (\w+)", README.read_text(encoding="utf-8"), re.MULTILINE))
    assert named == {verb.name for verb in VERBS}


@pytest.mark.parametrize("verb", [verb.name for verb in VERBS])
def test_every_verb_has_help(verb: str) -> None:
    done = run_cli(["obi-mcp", verb, "--help"])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: obi-mcp {verb}")


@pytest.mark.parametrize(
    "words",
    [
        ["tools"],
        ["tools", "--json"],
        ["config", "show"],
        ["completion", "bash"],
        ["completion", "zsh"],
        ["completion", "fish"],
        ["policy", "list"],
        ["policy", "explain", "kubectl.logs"],
        ["--version"],
    ],
    ids=" ".join,
)
def test_a_command_of_the_table_runs(words: list[str]) -> None:
    done = run_cli(["obi-mcp", *words])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_client_snippets_start_the_server_as_the_client_expects() -> None:
    keys = {"Claude Desktop, Claude Code, Cursor": "mcpServers", "VS Code": "servers"}
    found = {one["names"]: json.loads(one["text"]) for one in _CLIENTS.finditer(README.read_text(encoding="utf-8"))}
    assert found.keys() == keys.keys()
    for names, key in keys.items():
        assert found[names].keys() == {key}
        server = found[names][key]["obi"]
        assert server.get("type") == ("stdio" if names == "VS Code" else None)
        # The flags are those that serve takes.
        assert run_cli(["obi-mcp", *server["args"], "--help"]).returncode == 0
    assert len(fenced(README, "json")) == len(keys)


def test_the_access_levels_are_those_of_the_code_in_every_document() -> None:
    for document in (README, ROOT / "docs" / "policy.md"):
        named = re.findall(r"^\| `(read-only|non-destructive|full)` \|", document.read_text("utf-8"), re.MULTILINE)
        assert named == [level.label for level in Access], document.name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    links = [found["path"] for found in _LINK.finditer(document.read_text(encoding="utf-8"))]
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"^make (\w[\w-]*)", "\n".join(fenced(README, "sh")), re.MULTILINE))
    assert {"demo", "test", "setup"} <= named
    for target in named:
        assert re.search(rf"^{target}:.*## \S", makefile, re.MULTILINE), target


def test_every_runtime_dependency_has_its_cost() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = [re.split(r"[<>=~ ]", one)[0] for one in project["dependencies"]]
    rows = re.findall(r"^\| `([\w.-]+)` \|", (ROOT / "docs" / "dependencies.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(rows) == sorted(declared)


def test_every_decision_is_in_the_index() -> None:
    folder = ROOT / "docs" / "decisions"
    files = sorted(path for path in folder.glob("*.md") if path.name != "README.md")
    rows = []
    for path in files:
        heading = re.fullmatch(r"# (?P<number>[1-9]\d*)\. (?P<title>.+)", path.read_text("utf-8").splitlines()[0])
        assert heading is not None, path.name
        assert path.name.startswith(f"{int(heading['number']):04d}-")
        rows.append(f"| {heading['number']} | [{heading['title']}]({path.name}) |")
    index = (folder / "README.md").read_text(encoding="utf-8")
    assert [line for line in index.splitlines() if re.match(r"\| \d", line)] == rows


def test_every_command_of_the_first_hour_is_allowed() -> None:
    policy = built_in()
    lines = [line for block in fenced(ROOT / "docs" / "first-hour.md", "tools") for line in block.splitlines()]
    assert len(lines) > 20
    refused = []
    for line in lines:
        tool, _, command = line.partition(": ")
        assert tool in {"obi_kubectl", "obi_helm", "obi_explain_command"}
        decision = policy.decide(command, access=Access.NON_DESTRUCTIVE)
        if not decision.allowed:
            refused.append((command, decision.reason))
    assert refused == []


def test_the_first_hour_needs_more_than_read_only_for_changes_alone() -> None:
    policy = built_in()
    text = (ROOT / "docs" / "first-hour.md").read_text(encoding="utf-8")
    looking, _, changing = text.partition("\n## A change\n")
    needed = {
        policy.decide(command, access=Access.FULL).access
        for command in re.findall(r"^obi_(?:kubectl|helm): (.+)$", looking, re.MULTILINE)
    }
    assert needed == {Access.READ_ONLY}
    assert "At `non-destructive`." in changing
