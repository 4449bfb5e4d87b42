"""``obi-mcp config show``: every value, where it came from, and no secret."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from obi_mcp.cli.config import main
from obi_mcp.config_table import SETTINGS

SECRETS = """\
access: full
scope:
  repositories: {a: "https://user:hunter2@charts.example.com/x?token=hunter2"}
  endpoints: ["https://user:hunter2@tempo.example.com:4318"]
programs:
  environment: {HTTPS_PROXY: "http://user:hunter2@proxy:3128", AWS_SECRET_ACCESS_KEY: hunter2}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    file = tmp_path / "config.yaml"
    file.write_text(SECRETS)
    monkeypatch.setenv("OBI_MCP_LOG_LEVEL", "debug")
    return str(file)


def test_json_names_value_and_source_of_every_setting(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "--json", "--config", config, "--audit-file", "/tmp/a"]) == 0
    text = capsys.readouterr().out
    shown = json.loads(text)
    assert shown["file"] == config
    assert list(shown["settings"]) == [setting.key for setting in SETTINGS]
    assert shown["settings"]["access"] == {"value": "full", "source": "file", "place": f"{config}:1"}
    assert shown["settings"]["log_level"] == {"value": "debug", "source": "environment", "place": "OBI_MCP_LOG_LEVEL"}
    assert shown["settings"]["audit.file"] == {"value": "/tmp/a", "source": "flag", "place": "--audit-file"}
    assert shown["settings"]["limits.timeout_s"] == {"value": 30.0, "source": "default", "place": None}


def test_secrets_are_not_shown(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    for form in ([], ["--json"]):
        assert main(["show", *form, "--config", config]) == 0
        text = capsys.readouterr().out
        assert "hunter2" not in text
        assert "https://[redacted]@charts.example.com/x?[redacted]" in text
        assert "https://[redacted]@tempo.example.com:4318" in text
        assert "http://[redacted]@proxy:3128" in text


def test_text_has_one_line_for_every_setting(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "--config", config]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == f"# configuration file: {config}"
    assert [line.partition(":")[0] for line in lines] == [setting.key for setting in SETTINGS]
    assert f'access: "full"  # file {config}:1' in lines
