"""``obi-mcp config show``: the effective settings, and where each value came from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from obi_mcp.cli.arguments import VerbParser, add_settings_flags, settings_from
from obi_mcp.config_reader import Loaded
from obi_mcp.config_table import SETTINGS, Setting, setting_value
from obi_mcp.config_values import Origin
from obi_mcp.policy.model import Access

REDACTED = "[redacted]"
DEFAULT = Origin("default")


def parser() -> VerbParser:
    """The arguments of ``config``."""
    made = VerbParser("obi-mcp config", "Shows the effective settings and where each value came from.")
    made.add_argument("action", choices=["show"])
    made.add_argument("--json", action="store_true", help="as JSON: value, source and place of every setting")
    add_settings_flags(made)
    return made


def main(argv: Sequence[str]) -> int:
    """Prints every setting; secrets are redacted."""
    args = parser().parse_args(argv)
    loaded = settings_from(args)
    if args.json:
        print(json.dumps(as_json(loaded), indent=2))
        return 0
    print(f"# configuration file: {loaded.settings.source or 'none found'}")
    for setting in SETTINGS:
        origin = loaded.origins.get(setting.key, DEFAULT)
        place = f"{origin.kind} {origin.detail}".strip()
        print(f"{setting.key}: {json.dumps(shown_value(loaded, setting))}  # {place}")
    return 0


def as_json(loaded: Loaded) -> dict[str, Any]:
    """Every setting by name: ``{"value", "source", "place"}``, and the file."""
    settings: dict[str, Any] = {}
    for setting in SETTINGS:
        origin = loaded.origins.get(setting.key, DEFAULT)
        settings[setting.key] = {
            "value": shown_value(loaded, setting),
            "source": origin.kind,
            "place": origin.detail or None,
        }
    return {"file": str(loaded.settings.source) if loaded.settings.source else None, "settings": settings}


def shown_value(loaded: Loaded, setting: Setting) -> Any:
    """The value as JSON data, without what is secret in it."""
    value = setting_value(loaded.settings, setting)
    if isinstance(value, Access):
        return value.label
    if isinstance(value, dict):
        return {name: _redacted(text) if setting.secret else text for name, text in value.items()}
    if isinstance(value, tuple):
        return [_without_login(item) for item in value]
    return value


def _redacted(text: str) -> str:
    """An address without its login; any other value not at all."""
    return _without_login(text) if "://" in text else REDACTED


def _without_login(text: str) -> str:
    if "://" not in text:
        return text
    parts = urlsplit(text)
    host = parts.netloc.rpartition("@")
    netloc = f"{REDACTED}@{host[2]}" if host[1] else parts.netloc
    query = REDACTED if parts.query else ""
    return parts._replace(netloc=netloc, query=query, fragment="").geturl()
