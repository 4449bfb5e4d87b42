"""A file of the TypeScript obi-mcp where this server's is expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from obi_mcp.cli.arguments import VerbParser, add_settings_flags, settings_from
from obi_mcp.cli.config import main
from obi_mcp.config_reader import read_settings
from obi_mcp.errors import ConfigError
from obi_mcp.policy.model import Access

CLIENT = """{"mcpServers": {
  "files": {"command": "npx"},
  "obi": {"command": "node", "args": ["/opt/obi-mcp-server/dist/index.js"], "env": {"LOG_LEVEL": "warn", "TOKEN": "x"}}
}}"""
SERVER = """toolsets:
  local: {enabled: true, options: {verbose: true}}
  docker: {enabled: false}
  fleet: {}
port: 3000
"""
OBIS = "network: {enable: true}\nexport: {otlp: {endpoint: 'c:4317'}}\n"

TAKEN: list[tuple[str, tuple[str, ...], str, list[str]]] = [
    # the file, the toolsets, the log level, what is said after the first line
    (
        SERVER,
        ("command", "local"),
        "info",
        [
            'taken: toolsets is ["command", "local"]',
            "left out: toolsets.local.options (line 2): its options were never read",
            "left out: toolsets.fleet (line 4): there is no such toolset here",
            "left out: port (line 5): it was never read",
        ],
    ),
    (
        CLIENT,
        ("command", "local", "kubernetes", "helm", "docker"),
        "warning",
        [
            'taken: toolsets is ["command", "local", "kubernetes", "helm", "docker"]',
            'taken: log_level is "warning"',
            "left out: mcpServers.files (line 2): it is the entry of another server",
            "left out: mcpServers.obi.env.TOKEN (line 3): nothing reads it here",
        ],
    ),
    ("toolsets: {}\n", ("command",), "info", ['taken: toolsets is ["command"]']),
    ('{"mcpServers": {}}', ("command", "local", "kubernetes"), "info", []),
]


def file(tmp_path: Path, text: str) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(("text", "toolsets", "level", "said"), TAKEN)
def test_it_is_taken_and_that_is_said(
    text: str, toolsets: tuple[str, ...], level: str, said: list[str], tmp_path: Path
) -> None:
    path = file(tmp_path, text)
    loaded = read_settings(config_path=path, environ={})
    assert (loaded.settings.toolsets, loaded.settings.log_level) == (toolsets, level)
    assert loaded.settings.access is Access.READ_ONLY
    first, *rest, last = loaded.notices
    assert first.startswith(f"{path} is a file of the TypeScript obi-mcp; `obi-mcp config migrate {path}`")
    assert last.startswith("it had no access levels")
    assert len(rest) == len(said)
    assert all(notice.startswith(start) for notice, start in zip(sorted(rest), sorted(said), strict=True))


def test_flags_and_environment_win_over_it(tmp_path: Path) -> None:
    environ = {"OBI_MCP_LOG_LEVEL": "error"}
    loaded = read_settings(config_path=file(tmp_path, CLIENT), flags={"access": "full"}, environ=environ)
    assert (loaded.settings.log_level, loaded.settings.access) == ("error", Access.FULL)


def test_obis_own_configuration_is_no_servers(tmp_path: Path) -> None:
    path = file(tmp_path, OBIS)
    with pytest.raises(ConfigError, match="is OBI's configuration as the TypeScript obi-mcp wrote it") as caught:
        read_settings(config_path=path, environ={})
    assert f"obi-mcp config migrate {path}" in str(caught.value.hint)


@pytest.mark.parametrize("text", ["access: full\n", "toolsets: [local]\n", ""])
def test_a_file_of_today_has_no_notice(text: str, tmp_path: Path) -> None:
    assert read_settings(config_path=file(tmp_path, text), environ={}).notices == ()


def test_every_verb_says_it_on_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = VerbParser("obi-mcp serve", "")
    add_settings_flags(parser)
    settings_from(parser.parse_args(["--config", file(tmp_path, SERVER)]))
    out, err = capsys.readouterr()
    assert out == ""
    assert "obi-mcp: left out: port (line 5): it was never read" in err.splitlines()


@pytest.mark.parametrize(
    ("text", "printed", "said", "exit_code"),
    [
        (SERVER, "toolsets: [command, local]\n", "left out: port (line 5): it was never read", 1),
        (OBIS, "network: {enable: true}\notel_metrics_export:", "moved: export.otlp is", 0),
        ("network: {enable: true}\nopen_port: 80\n", "file_format:", "v1 is obi-v2 now", 0),
    ],
)
def test_config_migrate_writes_it_anew(
    text: str, printed: str, said: str, exit_code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["migrate", file(tmp_path, text)]) == exit_code
    out, err = capsys.readouterr()
    assert out.startswith(printed)
    assert said in err


@pytest.mark.parametrize("words", [["migrate"], ["show", "file"]])
def test_config_takes_a_file_for_migrate_alone(words: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
