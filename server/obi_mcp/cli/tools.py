"""``obi-mcp tools``: the tools that a server with these settings would offer."""

from __future__ import annotations

import json
from collections.abc import Sequence

from obi_mcp.cli.arguments import VerbParser, add_settings_flags, settings_from
from obi_mcp.toolsets.registry import listed_tools


def parser() -> VerbParser:
    """The flags of ``tools``."""
    made = VerbParser("obi-mcp tools", "Lists the tools that a server with these settings offers.")
    made.add_argument("--json", action="store_true", help="as in tools/list, with schemas and hints")
    add_settings_flags(made, "access", "toolsets")
    return made


def main(argv: Sequence[str]) -> int:
    """Prints one line per tool, or the JSON of ``tools/list``."""
    args = parser().parse_args(argv)
    settings = settings_from(args).settings
    specs = listed_tools(settings)
    if args.json:
        print(json.dumps({"tools": [spec.public(settings.access) for spec in specs]}, indent=2))
        return 0
    width = max(len(spec.name) for spec in specs)
    for spec in specs:
        print(f"{spec.name:<{width}}  up to {min(settings.access, spec.reaches).label:<15}  {spec.title}")
    return 0
