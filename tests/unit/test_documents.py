"""The documents are true: every snippet is run, judged or parsed; what they quote, the product says; links lead on.

The marks that stand above the blocks, ``<!-- test: … -->``:

``run``                    commands of obi-mcp with what they print (``…``: anything)
``parse``                  a shell block whose obi-mcp commands are taken, with their tools, arguments and policy
``policy allow LEVEL``     lines ``TOOL: COMMAND`` that the policy allows at that level
``policy deny LEVEL RULE`` lines that this rule refuses
``call``                   a tool call that fits the tool's schema; with ``cluster``, ``local``: and is made by
                           ``tests/integration/test_documents.py`` (``refused``: and is an error)
``answer``                 lines of the answer to the call above, checked there
``shell``, ``shows``       a shell script that is run there, and what it prints
``client KEY``             a client's configuration; our servers in it are started there
``config``, ``obi-config`` settings of this server; a configuration of OBI's
``manifest LEVEL``         documents that may be applied at that level
``says``                   text of the product: it stands in its source or data, with other values
``skip REASON``            why nothing can be tested
"""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.documents import checks, tables
from tests.documents.blocks import DOCS, ROOT, Block, all_documents, blocks, marked, marked_documents
from tests.documents.fitting import fits
from tests.documents.wording import is_said
from tests.unit.documentation import run_cli, shown_in
from tests.unit.policy.policies import built_in

from obi_mcp.config import load_settings
from obi_mcp.config_table import SETTINGS
from obi_mcp.errors import ConfigError
from obi_mcp.obi.config import validate
from obi_mcp.policy.model import Access

# The language that a block of each kind has.
LANGUAGES = {
    "run": "console",
    "parse": "sh",
    "policy": "tools",
    "call": "json",
    "answer": "text",
    "shell": "sh",
    "shows": "text",
    "client": "json",
    "config": "yaml",
    "obi-config": "yaml",
    "manifest": "yaml",
    "says": "text",
    "skip": None,
}
MOST_SKIPPED = 2
_LINK = re.compile(r"(?<!`)\]\((?!\w+:|<)(?P<path>[^)#\s]*)(?:#(?P<anchor>[^)\s]+))?\)")
_HEADING = re.compile(r"^#{1,6} (?P<title>.+)$", re.MULTILINE)
_FENCED = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)


def named(block: Block) -> str:
    return str(block)


def of(*kinds: str) -> pytest.MarkDecorator:
    """One test for each block of these kinds."""
    return pytest.mark.parametrize("block", marked(*kinds), ids=named)


def test_every_block_says_how_it_is_tested() -> None:
    unknown = [
        f"{block}: {block.mark or 'no mark'}"
        for path in marked_documents()
        for block in blocks(path)
        if block.kind not in LANGUAGES or LANGUAGES[block.kind] not in {None, block.language}
    ]
    assert unknown == []
    counted = Counter(block.kind for path in marked_documents() for block in blocks(path))
    assert counted.keys() == LANGUAGES.keys()
    assert counted["skip"] <= MOST_SKIPPED
    assert all(len(block.words) > 5 for block in marked("skip"))


@of("run")
def test_a_command_prints_what_is_shown(block: Block, tmp_path: Path) -> None:
    shown = shown_in(block.text)
    assert shown
    for one in shown:
        done = run_cli(shlex.split(one.command), OBI_MCP_AUDIT__FILE=str(tmp_path / "audit.ndjson"))
        assert one.exit_code is None or done.returncode == one.exit_code, one.command
        printed = (done.stdout + done.stderr).splitlines()
        assert fits(one.output, printed), f"{one.command} prints\n" + "\n".join(printed)


def test_commands_of_shell_blocks_are_taken_as_they_stand() -> None:
    """Not only in the marked documents: in all of them."""
    wrong = []
    for path in all_documents():
        for block in blocks(path):
            if block.language in {"sh", "bash", "shell"}:
                called = list(checks.command_lines(block.text))
                wrong += [f"{block}: {problem}" for words in called if (problem := checks.line_problem(words))]
                assert called or block.kind != "parse", f"{block}: nothing of it is checked"
    assert wrong == []


@of("policy")
def test_the_policy_judges_as_is_said(block: Block) -> None:
    verdict, level, *rule = block.words
    for line in block.lines:
        tool, _, command = line.partition(": ")
        assert tool in checks.COMMAND_TOOLS
        decision = built_in().decide(command, access=Access.parse(level))
        assert decision.allowed == (verdict == "allow"), f"{command}: {decision.reason}"
        assert verdict == "allow" or [decision.rule] == rule


@of("call")
def test_a_call_fits_its_tool(block: Block) -> None:
    assert checks.tool_call_problem(json.loads(block.text)) is None


@of("client")
def test_a_clients_configuration_is_one(block: Block) -> None:
    (key,) = block.words
    assert checks.client_problem(block.text, key) is None
    for server in json.loads(block.text)[key].values():
        if checks.our_arguments(server) is None:
            known = another_servers(server)
            given = [word.partition("=")[0] for word in server["args"] if word.startswith("--") and word != "--rm"]
            assert set(given) <= set(known["flags"]) and server.get("env", {}).keys() <= set(known["variables"])


def another_servers(server: dict[str, Any]) -> Any:
    """What was seen of the server that an entry starts, in the version that was seen."""
    words = " ".join(server["args"])
    for seen in checks.other_servers()["servers"]:
        if "package" in seen and f"{seen['package']}@{seen['version']}" in words.split():
            return seen
        if "image" in seen and f"{seen['image']}:latest" in words.split():
            return seen
    raise AssertionError(f"nothing is known of {words}")


@of("config")
def test_settings_are_settings(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(block.text, encoding="utf-8")
    path.chmod(0o600)
    assert load_settings(config_path=str(path), environ={}).source == path


@of("obi-config")
def test_a_configuration_of_obis_is_good(block: Block) -> None:
    assert [str(one) for one in validate(block.text, version="0.12.0") if one.severity == "error"] == []


@of("manifest")
def test_a_manifest_may_be_applied(block: Block) -> None:
    (level,) = block.words
    decision = built_in().decide("kubectl apply -f -", stdin=block.text, access=Access.parse(level))
    assert decision.allowed, decision.reason


@of("says")
def test_what_is_quoted_is_said(block: Block) -> None:
    assert [line for line in block.lines if not is_said(line)] == []


def test_what_is_not_said_is_found() -> None:
    """The check above can fail: a word that was changed, or a text of nothing but values, is not found."""
    for line in (
        "conflict: ConfigMap observability/obi has changed since the plan was given; nothing was ever written by it",
        "hint: make that plan again and again",
        "the audit log of yesterday was put away",
        "error: something is wrong",
    ):
        assert not is_said(line), line


WRONG_COMMANDS = [
    # a line of a shell block, what is said of it
    ("obi-mcp srve", "there is no verb srve"),
    ("sudo obi-mcp serve --acces full", "unrecognized arguments"),
    ("KUBECONFIG=x obi-mcp call obi_k8s_deploy", "needs --access non-destructive"),
    ("obi-mcp call obi_k8s_status --arg namespaces=a", "has no argument 'namespaces'"),
    ("obi-mcp call obi_kubectl --arg command='kubectl get secrets'", "hard.credentials"),
    ("for a in b; do kubectl get pods --namspace=x; done", "--namspace"),
    ("make bundel SIGN_KEY=x", "there is no target bundel"),
    ("true && obi-mcp policy chck 'kubectl get pods' | head -n 1", "there is no action"),
]


@pytest.mark.parametrize(("line", "problem"), WRONG_COMMANDS, ids=[row[0] for row in WRONG_COMMANDS])
def test_a_wrong_command_line_is_found(line: str, problem: str) -> None:
    (words,) = checks.command_lines(line)
    assert problem in (checks.line_problem(words) or "")


WRONG_JSON = [
    ({"name": "obi_k8s_stat", "arguments": {}}, "there is no tool"),
    ({"name": "obi_k8s_upgrade", "arguments": {"version": 12}}, "must be of type string"),
    ({"name": "obi_kubectl", "arguments": {"command": "kubectl exec obi -- sh"}}, "hard.exec"),
    ({"mcpServers": {"obi": {"command": "obi-mcp", "args": ["serve"], "environment": {}}}}, "environment"),
    ({"mcpServers": {"obi": {"command": "obi-mcp", "args": ["serve", "--toolset", "all"]}}}, "unrecognized"),
    ({"servers": {"obi": {"command": "obi-mcp", "args": ["serve"]}}}, "'type' is a required property"),
]


@pytest.mark.parametrize(("value", "problem"), WRONG_JSON, ids=[row[1] for row in WRONG_JSON])
def test_a_wrong_snippet_is_found(value: dict[str, Any], problem: str) -> None:
    block = Block(DOCS / "faq.md", 1, "json", json.dumps(value))
    assert problem in (json_problem(block) or "")


@pytest.mark.parametrize("name", ["ends", "symptoms"])
def test_the_tables_of_symptoms_are_the_products(name: str) -> None:
    shown = tables.section(tables.PAGE.read_text(encoding="utf-8"), name)
    assert shown == {"ends": tables.ends, "symptoms": tables.symptoms}[name]()


def test_no_tool_of_another_server_has_our_name() -> None:
    ours = set(checks.tools())
    assert all(name.startswith("obi_") for name in ours)
    theirs = {name for seen in checks.other_servers()["servers"] for names in seen["tools"].values() for name in names}
    assert len(theirs) > 40 and not theirs & ours
    guide = (DOCS / "guides" / "choosing-a-kubernetes-server.md").read_text(encoding="utf-8")
    for seen in checks.other_servers()["servers"]:
        assert seen["name"] in guide and f" {seen['version']}" in guide


@pytest.mark.parametrize("path", all_documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_anchors_lead_somewhere(path: Path) -> None:
    text = _FENCED.sub("", path.read_text(encoding="utf-8"))
    broken = []
    for link in _LINK.finditer(text):
        target = (path.parent / link["path"]).resolve() if link["path"] else path
        if not target.exists() or (link["anchor"] and link["anchor"] not in anchors(target)):
            broken.append(link[0])
    assert broken == []


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a document."""
    text = _FENCED.sub("", path.read_text(encoding="utf-8"))
    titles = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", found["title"]) for found in _HEADING.finditer(text)]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_index_names_every_document() -> None:
    index = DOCS / "README.md"
    linked = {(DOCS / link["path"]).resolve() for link in _LINK.finditer(index.read_text(encoding="utf-8"))}
    wanted = {path for path in DOCS.rglob("*.md") if "decisions" not in path.parts} - {index}
    assert sorted(str(path.relative_to(DOCS)) for path in wanted - linked) == []


def test_json_and_yaml_of_every_document_are_what_they_look_like(tmp_path: Path) -> None:
    """In all documents: tool calls, clients' configurations and settings of this server are told by their keys."""
    wrong = []
    for path in all_documents():
        for block in blocks(path):
            if block.language == "json":
                problem = json_problem(block)
            elif block.language == "yaml":
                problem = settings_problem(block, tmp_path / "config.yaml")
            else:
                continue
            wrong += [f"{block}: {problem}"] if problem else []
    assert wrong == []


def json_problem(block: Block) -> str | None:
    value = json.loads(block.text)
    if "arguments" in value:
        return checks.tool_call_problem(value)
    keys = [key for key in ("mcpServers", "servers") if key in value]
    return checks.client_problem(block.text, keys[0]) if keys else None


def settings_problem(block: Block, path: Path) -> str | None:
    """None too where the block is no mapping of settings: a manifest, a rule, a configuration of OBI's."""
    documents = list(yaml.safe_load_all(block.text))
    sections = {setting.key.partition(".")[0] for setting in SETTINGS}
    if len(documents) != 1 or not isinstance(documents[0], dict) or not documents[0].keys() <= sections:
        return None
    path.write_text(block.text, encoding="utf-8")
    path.chmod(0o600)
    try:
        load_settings(config_path=str(path), environ={})
    except ConfigError as error:
        return error.message
    return None
