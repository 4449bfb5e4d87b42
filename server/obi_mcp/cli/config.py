"""``obi-mcp config show``: the effective settings, and where each value came from. ``obi-mcp config migrate FILE``: an
older file in today's form."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from obi_mcp.cli.arguments import VerbParser, add_settings_flags, read_input, settings_from
from obi_mcp.config_reader import Loaded
from obi_mcp.config_table import SETTINGS, Setting, setting_value
from obi_mcp.config_values import Origin
from obi_mcp.errors import InvalidArgument
from obi_mcp.policy.model import Access

REDACTED = "[redacted]"
DEFAULT = Origin("default")


def parser() -> VerbParser:
    """The arguments of ``config``."""
    made = VerbParser(
        "obi-mcp config", "Shows the effective settings and where each came from; or writes an older file anew."
    )
    made.add_argument(
        "action", choices=["show", "migrate"], help="show: the settings in effect; migrate: FILE in today's form"
    )
    made.add_argument(
        "file", nargs="?", metavar="FILE", help="for migrate: a file of OBI's or of obi-mcp's; - for standard input"
    )
    made.add_argument("--json", action="store_true", help="as JSON: value, source and place of every setting")
    add_settings_flags(made)
    return made


def main(argv: Sequence[str]) -> int:
    """Prints every setting, secrets redacted; or the file in today's form."""
    made = parser()
    args = made.parse_args(argv)
    if args.action == "migrate":
        if args.file is None:
            made.error("migrate needs FILE")
        return _migrate(args.file)
    if args.file is not None:
        made.error(f"unrecognized arguments: {args.file}")
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


def _migrate(file: str) -> int:
    """Prints the new text, and on standard error what moved and what did not; exit 1 where something did not."""
    from obi_mcp.obi.migration import migrate

    try:
        text = read_input(file)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{file} cannot be read: {error}", "name a file of UTF-8 text") from error
    moved = migrate(text, environment={})
    if moved.problem is not None:
        raise InvalidArgument(f"{file}: {moved.problem}", "obi_migrate_config says more")
    sys.stdout.write(moved.text)
    print(f"{file}: {moved.source} is {moved.target} now", file=sys.stderr)
    for note in moved.notes:
        print(f"moved: {note}", file=sys.stderr)
    for one in moved.unmoved:
        where = f" (line {one.line})" if one.line else ""
        print(f"left out: {one.key}{where}: {one.reason}", file=sys.stderr)
    return 1 if moved.unmoved else 0


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
