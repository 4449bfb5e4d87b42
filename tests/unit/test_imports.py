"""Imports go down only, heavy libraries stay where they belong, and importing does no work."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "server/obi_mcp"

LAYERS = (
    # from the top down; a module may import its own layer and those below it
    ("cli", "__main__"),
    ("app",),
    ("transport", "asking"),
    ("resources",),
    ("toolsets",),
    ("telemetry", "containers"),
    ("enforcer",),
    ("audit", "audit_chain"),
    ("process", "agent", "redact", "log", "lines", "repeated"),
    ("config_reader", "config_predecessor", "config_values", "config_table", "config_yaml"),
    ("obi",),
    ("config",),
    ("policy",),
    ("command",),
    ("errors", ""),
)

# Pairs that point up at run time, each with the reason why it must.
UPWARD = {
    ("config", "config_reader"),  # load_settings is where everybody looks for the reader
}

MCP = re.compile(r"mcp(_types)?(\.|$)")
HOMES = {
    "mcp": {"app.py", "asking.py", "transport.py", "resources/serving.py"},
    "pydantic": set[str](),
    "yaml": {
        "config_yaml.py",
        "obi/config_text.py",
        "obi/splice.py",
        "policy/yaml_reader.py",
        "policy/yaml_writer.py",
        "process/kubeconfig.py",
        "redact/meaning.py",
        "redact/redactor.py",
    },
    "jsonschema": {"policy/loader.py"},
}


@cache
def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


@cache
def imported(path: Path, *, at_run_time: bool = True) -> tuple[str, ...]:
    """Names of modules that a file imports, those for type checkers left out. Several tests ask for each file."""
    return tuple(_imported(path, at_run_time=at_run_time))


def _imported(path: Path, *, at_run_time: bool) -> Iterator[str]:
    tree = ast.parse(path.read_text())
    skipped = {id(node) for guard in ast.walk(tree) if _is_type_guard(guard) for node in ast.walk(guard)}
    for node in ast.walk(tree):
        if at_run_time and id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports are absolute"
            if node.module == "obi_mcp" or node.module in {"obi_mcp.policy", "obi_mcp.command", "obi_mcp.toolsets"}:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            else:
                yield node.module


def _is_type_guard(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def libraries(path: Path) -> set[str]:
    """The names under which the libraries that a file imports stand in ``HOMES``."""
    return {"mcp" if MCP.match(name) else name.split(".")[0] for name in imported(path)}


def layer_of(name: str) -> str:
    """The layer of ``obi_mcp.policy.engine`` is ``policy``; that of ``obi_mcp`` itself is empty."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] != "__version__" else ""


def rank(layer: str) -> int:
    found = [number for number, names in enumerate(LAYERS) if layer in names]
    assert found, f"{layer} has no place among the layers: add it to LAYERS"
    return found[0]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_only(path: Path) -> None:
    own = layer_of(".".join(["obi_mcp", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__"))
    for name in imported(path):
        if not (name == "obi_mcp" or name.startswith("obi_mcp.")):
            continue
        other = layer_of(name)
        if (own, other) not in UPWARD:
            assert rank(other) >= rank(own), f"{path.name} ({own}) imports {name} ({other}), which is above it"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_libraries_stay_in_their_homes(path: Path) -> None:
    here = str(path.relative_to(PACKAGE))
    assert {library for library in libraries(path) if here not in HOMES.get(library, {here})} == set()


def test_the_lists_name_nothing_that_has_gone() -> None:
    used = {(library, str(path.relative_to(PACKAGE))) for path in modules() for library in libraries(path)}
    assert {(library, home) for library, homes in HOMES.items() for home in homes} - used == set()
    there = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in modules()} | {""}
    assert {layer for names in LAYERS for layer in names} - there == set()


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_shell_and_no_evaluation(path: Path) -> None:
    text = path.read_text()
    for word in ("shell=True", "os.system(", "os.popen(", "eval(", "exec("):
        for line in text.splitlines():
            code = line.split("#")[0]
            assert not re.search(rf"(?<![\w.\"'`_]){re.escape(word)}", code), f"{path.name}: {line.strip()}"


# --- what a verb loads ---

HEAVY = ("mcp", "mcp_types", "pydantic", "pydantic_core", "jsonschema", "anyio", "httpx", "starlette")
LIGHT: list[tuple[str, list[str], tuple[str, ...]]] = [
    # what, the command line, further modules that it must not load
    ("--version", ["--version"], ("argparse", "dataclasses_json", "yaml", "asyncio")),
    ("--help", ["--help"], ("argparse", "yaml", "asyncio")),
    ("tools", ["tools", "--json"], ("yaml",)),
    ("config", ["config", "show"], ("yaml", "asyncio")),
    ("completion", ["completion", "bash"], ()),
    ("policy check", ["policy", "check", "kubectl get pods -A"], ("asyncio",)),
    ("policy check refused", ["policy", "check", "kubectl get secrets"], ("asyncio",)),
]


def loaded_by(argv: list[str]) -> set[str]:
    """Names of the modules that ``obi-mcp ARGV`` imports."""
    run = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "obi_mcp", *argv],
        env={"PYTHONPATH": str(PACKAGE.parent), "HOME": "/nonexistent", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode in {0, 3}, run.stderr[-2000:]
    return {line.rpartition("|")[2].strip() for line in run.stderr.splitlines() if line.startswith("import time:")}


@pytest.mark.parametrize(("what", "argv", "further"), LIGHT, ids=[row[0] for row in LIGHT])
def test_only_serve_loads_the_protocol(what: str, argv: list[str], further: tuple[str, ...]) -> None:
    loaded_by(argv)  # the policy's compiled form is made by the first run
    names = {name.split(".")[0] for name in loaded_by(argv)}
    assert "obi_mcp" in names
    assert not names & {*HEAVY, *further}
