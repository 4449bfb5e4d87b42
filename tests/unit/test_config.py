"""Settings: where they come from, which source wins, and what a wrong one is answered with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.snapshots.update import documents

from obi_mcp.config import Settings, load_settings
from obi_mcp.config_reader import find_config, read_settings
from obi_mcp.config_table import SETTINGS, declared_paths, setting_value
from obi_mcp.errors import ConfigError
from obi_mcp.policy.model import Access

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs/configuration.md"
EXAMPLE = ROOT / "docs/config.example.yaml"


def config(tmp_path: Path, text: str) -> str:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    return str(file)


def load(tmp_path: Path, text: str, environ: Mapping[str, str] | None = None) -> Settings:
    return load_settings(config_path=config(tmp_path, text), environ=environ or {})


def value_of(settings: Settings, key: str) -> Any:
    (setting,) = [entry for entry in SETTINGS if entry.key == key]
    return setting_value(settings, setting)


def test_without_any_source_everything_is_the_default() -> None:
    loaded = read_settings(environ={})
    assert loaded.settings == Settings()
    assert loaded.origins == {}


def test_flags_win_over_environment_over_file(tmp_path: Path) -> None:
    text = "access: read-only\nlog_level: error\nlimits: {timeout_s: 5}\n"
    environ = {"OBI_MCP_ACCESS": "non-destructive", "OBI_MCP_LOG_LEVEL": "debug"}
    loaded = read_settings(config_path=config(tmp_path, text), flags={"access": "full"}, environ=environ)
    assert loaded.settings.access is Access.FULL
    assert loaded.settings.log_level == "debug"
    assert loaded.settings.limits.timeout_s == 5.0
    assert {key: origin.kind for key, origin in loaded.origins.items()} == {
        "access": "flag",
        "log_level": "environment",
        "limits.timeout_s": "file",
    }
    assert loaded.origins["limits.timeout_s"].detail == f"{tmp_path}/config.yaml:3"


GOOD: list[tuple[str, str, str, Any]] = [
    # setting, in the file, in the environment, value
    ("access", "non-destructive", "non-destructive", Access.NON_DESTRUCTIVE),
    ("toolsets", "[command, local]", "command, local", ("command", "local")),
    ("policy", "/etc/obi-mcp/policy", "/etc/obi-mcp/policy", "/etc/obi-mcp/policy"),
    ("scope.namespaces", "[observability]", '["observability"]', ("observability",)),
    ("scope.endpoints", "[]", "", ()),
    ("scope.allow_privileged", "false", "no", False),
    ("scope.releases", "{obi: [obi, other]}", '{"obi": ["obi", "other"]}', {"obi": ("obi", "other")}),
    ("scope.repositories", "{a: 'oci://b/c'}", "a=oci://b/c", {"a": "oci://b/c"}),
    ("programs.environment", "{HTTPS_PROXY: 'http://p:1', N: ''}", "HTTPS_PROXY=http://p:1,N=", None),
    ("programs.kubeconfig", "/kube/config", "/kube/config", "/kube/config"),
    ("limits.timeout_s", "2.5", "2.5", 2.5),
    ("limits.max_children", "4", "4", 4),
    ("audit.file", "/var/log/a", "/var/log/a", "/var/log/a"),
    ("audit.file", "'-'", "-", None),
]


@pytest.mark.parametrize(("key", "written", "variable", "value"), GOOD, ids=[f"{row[0]}={row[1]}" for row in GOOD])
def test_file_and_environment_say_the_same(key: str, written: str, variable: str, value: Any, tmp_path: Path) -> None:
    section, _, name = key.rpartition(".")
    text = f"{section}:\n  {name}: {written}\n" if section else f"{name}: {written}\n"
    by_file = value_of(load(tmp_path, text), key)
    by_variable = value_of(load(tmp_path, "", {f"OBI_MCP_{key.replace('.', '__').upper()}": variable}), key)
    expected = {"HTTPS_PROXY": "http://p:1", "N": ""} if value is None and key != "audit.file" else value
    assert by_file == by_variable == expected


WRONG_FILES: list[tuple[str, str, str, str]] = [
    # what, the file, the message, the way out
    ("an unknown setting", "acess: full", "config.yaml:1: there is no setting acess", "did you mean access?"),
    ("one in a section", "limits:\n  timout_s: 3", "config.yaml:2: there is no setting limits.timout_s", "timeout_s?"),
    ("an unknown section", "zzz: {a: 1}", "config.yaml:1: there is no setting zzz", "config show"),
    ("text for a number", "limits:\n  timeout_s: soon", "limits.timeout_s must be a number, not 'soon'", "Deadline"),
    ("a bool for a number", "limits: {max_children: true}", "must be a whole number, not True", "Commands"),
    ("a fraction", "limits: {max_children: 1.5}", "must be a whole number, not 1.5", "Commands"),
    ("a number for text", "obi: {version: 0.12}", "obi.version must be text (quote it), not 0.12", "Version"),
    ("text for a list", "scope: {namespaces: obi}", "scope.namespaces must be a list of texts, not 'obi'", "Namesp"),
    ("a list of numbers", "scope: {namespaces: [1]}", "scope.namespaces must be a list of texts", "Namespaces"),
    ("a word for a bool", "scope: {allow_privileged: maybe}", "must be true or false, not 'maybe'", "privileged"),
    ("no such level", "access: admin", "access must be read-only, non-destructive or full", "How much"),
    ("no such log level", "log_level: loud", "config.yaml:1: log_level is 'loud'", "debug, info, warning, error"),
    ("lists by name", "scope: {releases: {obi: obi}}", "must have a list of texts for every name", "Helm release"),
    ("too little", "limits: {timeout_s: 0}", "limits.timeout_s is 0.0", "at least 0.1 s"),
    ("not a number at all", "limits: {timeout_s: .nan}", "limits.timeout_s is nan", "at least 0.1 s"),
    ("too much", "limits: {max_stdin_bytes: 99999999}", "limits.max_stdin_bytes is 99999999", "at most"),
    ("a key twice", "access: full\naccess: read-only", "config.yaml:2: access is set a second time", "line 1"),
    ("a section as text", "limits: 3", "the section limits must be a mapping", ""),
    ("a list", "- access", "config.yaml:1: the file must be a mapping", ""),
    ("no YAML", "access: [", "not YAML", ""),
    ("a tag", "access: !!python/name:os.system x", "access cannot be read", ""),
    (
        "deadlines crossed",
        "limits: {timeout_s: 400}",
        "limits.timeout_s 400 is above limits.max_timeout_s 300",
        "raise",
    ),
    ("budgets crossed", "limits: {max_max_bytes: 2000}", "limits.max_bytes 100000 is above", "raise"),
    ("no namespaces", "scope: {namespaces: []}", "scope.namespaces is empty", "at least one"),
    ("no selectors", "scope: {selectors: []}", "scope.selectors is empty", "at least one"),
    ("a default outside", "scope: {default_namespace: x}", "default_namespace x is not one of", "add it, or use"),
]


@pytest.mark.parametrize(("what", "text", "message", "hint"), WRONG_FILES, ids=[row[0] for row in WRONG_FILES])
def test_a_wrong_file_is_answered_with_the_place_and_the_way_out(
    what: str, text: str, message: str, hint: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, text)
    assert message in raised.value.message
    assert re.search(hint.replace("?", r"\?") if hint.endswith("?") else hint, raised.value.hint or "")


WRONG_VARIABLES: list[tuple[str, str, str]] = [
    ("OBI_MCP_ACESS", "full", "OBI_MCP_ACESS is no setting"),
    ("OBI_MCP_LIMITS__TIMEOUT_S", "soon", "OBI_MCP_LIMITS__TIMEOUT_S: limits.timeout_s must be a number"),
    ("OBI_MCP_SCOPE__NAMESPACES", "[obi", "starts with [ and so must be JSON"),
    ("OBI_MCP_SCOPE__RELEASES", "obi=obi", "must be a mapping of names to lists"),
    ("OBI_MCP_PROGRAMS__ENVIRONMENT", "hunter2", "must be NAME=VALUE pairs"),
]


@pytest.mark.parametrize(("name", "value", "message"), WRONG_VARIABLES)
def test_a_wrong_variable_is_named(name: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_settings(environ={name: value})
    assert message in raised.value.message
    assert "hunter2" not in raised.value.message


def test_the_variables_that_kubernetes_makes_of_a_service_are_no_settings() -> None:
    links = {"OBI_MCP_SERVICE_HOST": "10.0.0.1", "OBI_MCP_PORT": "tcp://10.0.0.1:80", "OBI_MCP_PORT_80_TCP": "x"}
    assert load_settings(environ=links) == Settings()


def test_a_file_that_everybody_may_write_is_refused(tmp_path: Path) -> None:
    path = Path(config(tmp_path, "access: full\n"))
    path.chmod(0o666)
    with pytest.raises(ConfigError, match="can be written by everybody"):
        load_settings(config_path=str(path), environ={})


@pytest.mark.parametrize("by", ["flag", "variable"])
def test_a_file_that_was_named_must_be_there(by: str, tmp_path: Path) -> None:
    missing = str(tmp_path / "none.yaml")
    named_by_flag = by == "flag"
    with pytest.raises(ConfigError, match="is not there"):
        load_settings(
            config_path=missing if named_by_flag else None,
            environ={} if named_by_flag else {"OBI_MCP_CONFIG": missing},
        )


def test_the_users_own_file_is_found(tmp_path: Path) -> None:
    file = tmp_path / "obi-mcp/config.yaml"
    file.parent.mkdir()
    file.write_text("")
    named = tmp_path / "named.yaml"
    named.write_text("")
    assert find_config(None, {"XDG_CONFIG_HOME": str(tmp_path)}) == file
    assert find_config(None, {"XDG_CONFIG_HOME": str(tmp_path), "OBI_MCP_CONFIG": str(named)}) == named
    assert find_config(str(file), {"OBI_MCP_CONFIG": str(named)}) == file
    home = tmp_path / "home"
    (home / ".config/obi-mcp").mkdir(parents=True)
    (home / ".config/obi-mcp/config.yaml").write_text("")
    assert find_config(None, {"HOME": str(home)}) == home / ".config/obi-mcp/config.yaml"


def test_the_default_namespace_follows_the_namespaces(tmp_path: Path) -> None:
    loaded = read_settings(config_path=config(tmp_path, "scope: {namespaces: [tracing, obi]}"), environ={})
    assert loaded.settings.scope.default_namespace == "tracing"
    assert loaded.origins["scope.default_namespace"].kind == "derived"


def test_a_setting_with_nothing_behind_it_keeps_its_default(tmp_path: Path) -> None:
    assert load(tmp_path, "access:\nlimits:\nscope:\n  # namespaces: [a]\n").limits == Settings().limits


# --- the table, the document and the example say the same as the code ---


def test_the_table_names_every_field_once() -> None:
    paths = [setting.path for setting in SETTINGS]
    assert sorted(paths) == sorted(declared_paths())
    assert len({setting.key for setting in SETTINGS}) == len(SETTINGS)


def test_the_documents_say_what_the_code_says() -> None:
    for path, text in documents().items():
        assert path.read_text() == text, "run tests/snapshots/update.py"
    assert DOCUMENT.read_text().count("\n| `") == len(SETTINGS)


def test_the_example_is_valid_and_complete_and_changes_nothing(tmp_path: Path) -> None:
    text = EXAMPLE.read_text()
    loaded = read_settings(config_path=str(EXAMPLE), environ={})
    assert loaded.settings == Settings(source=EXAMPLE)
    uncommented = re.sub(r"^( *)# ?(?=[a-z_]+:)", r"\1", text, flags=re.MULTILINE)
    whole = read_settings(config_path=config(tmp_path, uncommented), environ={})
    assert set(whole.origins) == {setting.key for setting in SETTINGS}
