"""Reads settings from the file, the environment and flags, and says of each value where it came from."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obi_mcp.config import Settings
from obi_mcp.config_table import SETTINGS, Setting
from obi_mcp.config_values import Given, Origin, convert
from obi_mcp.errors import ConfigError

if TYPE_CHECKING:
    from obi_mcp.config_yaml import Entry

PREFIX = "OBI_MCP_"
CONFIG_VARIABLE = "OBI_MCP_CONFIG"
CONTAINER_VARIABLE = "OBI_MCP_CONTAINER"
"""Set in the image, so that errors name a container's ways out; no setting."""
IMAGE_CONFIG = Path("/etc/obi-mcp/config.yaml")

# A Kubernetes service named obi-mcp puts these into every pod of its namespace; they are nobody's settings.
SERVICE_LINKS = ("OBI_MCP_SERVICE_", "OBI_MCP_PORT")


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and the origin of each that is not a default, by its name. ``notices``: what is to be told whoever
    starts the server of a file that was not in today's form."""

    settings: Settings
    origins: Mapping[str, Origin]
    notices: tuple[str, ...] = ()


def read_settings(
    *,
    config_path: str | None = None,
    flags: Mapping[str, str | None] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Loaded:
    """The effective settings with their origins. Raises: ConfigError."""
    env = os.environ if environ is None else environ
    path = find_config(config_path, env)
    given: dict[str, Given] = {}
    notices: list[str] = []
    if path is not None:
        given.update(_from_file(path, notices))
    given.update(_from_environment(env))
    given.update(_from_flags(flags or {}))
    settings = replace(Settings(), source=path)
    origins: dict[str, Origin] = {}
    for setting in SETTINGS:
        if (found := given.get(setting.key)) is None:
            continue
        settings = _put(settings, setting.path, convert(setting, found))
        origins[setting.key] = found.origin
    settings = _derive(settings, origins)
    _check_together(settings)
    return Loaded(settings, origins, tuple(notices))


def find_config(config_path: str | None, environ: Mapping[str, str]) -> Path | None:
    """The configuration file to read: the one named by flag or variable, else the first that exists of the user's and
    the image's. Raises: ConfigError when a named one is not there."""
    for named, by in ((config_path, "--config"), (environ.get(CONFIG_VARIABLE), CONFIG_VARIABLE)):
        if named:
            if not Path(named).is_file():
                raise ConfigError(f"the configuration file {named} ({by}) is not there", "name a file that exists")
            return Path(named)
    home = environ.get("XDG_CONFIG_HOME") or (f"{environ['HOME']}/.config" if environ.get("HOME") else "")
    candidates = [Path(home) / "obi-mcp/config.yaml"] if home else []
    return next((path for path in (*candidates, IMAGE_CONFIG) if path.is_file()), None)


# --- the three sources ---


def _from_file(path: Path, notices: list[str]) -> dict[str, Given]:
    try:
        if path.stat().st_mode & stat.S_IWOTH:
            raise ConfigError(f"{path} can be written by everybody on this machine", f"chmod o-w {path}")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    from obi_mcp.config_yaml import read_mapping

    entries = tuple(read_mapping(text, str(path), sections=_sections()))
    if _is_predecessor_file(entries):
        from obi_mcp.config_predecessor import taken

        if (found := taken(text, str(path), entries)) is not None:
            notices += found.notices
            return dict(found.given)
    given: dict[str, Given] = {}
    for entry in entries:
        where = f"{path}:{entry.line}"
        _known(entry.key, where)
        if entry.value is not None:  # `key:` with nothing behind it leaves the default
            given[entry.key] = Given(entry.value, Origin("file", where), is_text=False)
    return given


def _is_predecessor_file(entries: Sequence[Entry]) -> bool:
    """Whether the file may be one of the TypeScript obi-mcp."""
    return any(
        entry.key in {"mcpServers", "export"} or (entry.key == "toolsets" and isinstance(entry.value, Mapping))
        for entry in entries
    )


def _from_environment(environ: Mapping[str, str]) -> dict[str, Given]:
    given: dict[str, Given] = {}
    variables = {setting.variable: setting for setting in SETTINGS}
    for name, value in environ.items():
        if (
            not name.startswith(PREFIX)
            or name in {CONFIG_VARIABLE, CONTAINER_VARIABLE}
            or name.startswith(SERVICE_LINKS)
        ):
            continue
        if name not in variables:
            raise ConfigError(
                f"the environment variable {name} is no setting of obi-mcp",
                _did_you_mean(name, [*variables, CONFIG_VARIABLE]),
            )
        given[variables[name].key] = Given(value, Origin("environment", name), is_text=True)
    return given


def _from_flags(flags: Mapping[str, str | None]) -> dict[str, Given]:
    given: dict[str, Given] = {}
    for key, value in flags.items():
        setting = _known(key, "command line")
        if value is not None:
            given[key] = Given(value, Origin("flag", setting.flag or key), is_text=True)
    return given


def _sections() -> frozenset[str]:
    return frozenset(setting.key.split(".")[0] for setting in SETTINGS if "." in setting.key)


def _known(key: str, where: str) -> Setting:
    for setting in SETTINGS:
        if setting.key == key:
            return setting
    raise ConfigError(f"{where}: there is no setting {key}", _did_you_mean(key, [setting.key for setting in SETTINGS]))


def _did_you_mean(word: str, known: list[str]) -> str:
    import difflib

    nearest = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {nearest[0]}?" if nearest else "`obi-mcp config show` lists every setting"


# --- into the settings ---


def _put(owner: Any, path: tuple[str, ...], value: Any) -> Any:
    name, *rest = path
    return replace(owner, **{name: _put(getattr(owner, name), tuple(rest), value) if rest else value})


# --- what settings say together ---


def _derive(settings: Settings, origins: dict[str, Origin]) -> Settings:
    scope = settings.scope
    follows = "scope.namespaces" in origins and "scope.default_namespace" not in origins
    if follows and scope.namespaces and scope.default_namespace not in scope.namespaces:
        origins["scope.default_namespace"] = Origin("derived", "scope.namespaces")
        settings = replace(settings, scope=replace(scope, default_namespace=scope.namespaces[0]))
    if settings.audit.file == "-":
        settings = replace(settings, audit=replace(settings.audit, file=None))
    return settings


def _check_together(settings: Settings) -> None:
    limits, scope = settings.limits, settings.scope
    if not scope.namespaces:
        raise ConfigError("scope.namespaces is empty", "name at least one namespace where OBI may be installed")
    if not scope.selectors:
        raise ConfigError("scope.selectors is empty", "name at least one label selector that OBI's objects carry")
    if scope.default_namespace not in scope.namespaces:
        raise ConfigError(
            f"scope.default_namespace {scope.default_namespace} is not one of scope.namespaces",
            f"add it, or use one of {', '.join(scope.namespaces)}",
        )
    if limits.timeout_s > limits.max_timeout_s:
        raise ConfigError(
            f"limits.timeout_s {limits.timeout_s:g} is above limits.max_timeout_s {limits.max_timeout_s:g}",
            "raise the second or lower the first",
        )
    if limits.max_bytes > limits.max_max_bytes:
        raise ConfigError(
            f"limits.max_bytes {limits.max_bytes} is above limits.max_max_bytes {limits.max_max_bytes}",
            "raise the second or lower the first",
        )
