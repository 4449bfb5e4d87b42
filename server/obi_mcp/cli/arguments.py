"""What the verbs' argument parsers share: one clear error, and the flags that are settings."""

from __future__ import annotations

import argparse
import sys
from argparse import Namespace
from typing import NoReturn

from obi_mcp.config_reader import Loaded, read_settings
from obi_mcp.config_table import SETTINGS, Setting


class VerbParser(argparse.ArgumentParser):
    """A parser that takes no abbreviations, and whose errors are one line and the way out (exit 2)."""

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\nhint: {self._way_out(message)}\n")

    def _way_out(self, message: str) -> str:
        _, found, words = message.partition("unrecognized arguments: ")
        known = [name for action in self._actions for name in action.option_strings]
        if found and words.startswith("-"):
            import difflib

            if nearest := difflib.get_close_matches(words.split()[0].split("=")[0], known, n=1, cutoff=0.6):
                return f"did you mean {nearest[0]}?"
        return f"`{self.prog} --help` shows what it takes"


def add_settings_flags(parser: argparse.ArgumentParser, *only: str) -> None:
    """``--config``, and a flag for each setting that has one; ``only``: just for these, by name or attribute."""
    parser.add_argument("--config", metavar="FILE", help="the configuration file")
    for setting in SETTINGS:
        if setting.flag and (not only or setting.key in only or ".".join(setting.path) in only):
            parser.add_argument(
                setting.flag,
                dest=_destination(setting.key),
                metavar=setting.key.rpartition(".")[2].upper(),
                choices=setting.choices or None,
                help=_help(setting).replace("%", "%%"),
            )


def _help(setting: Setting) -> str:
    """The table's sentence in the form of argparse's own: it begins small and has no full stop."""
    said = f"{setting.doc[0].lower()}{setting.doc[1:].removesuffix('.')}"
    return f"{said} ({', '.join(setting.choices)})" if setting.choices else said


def settings_from(args: Namespace) -> Loaded:
    """The effective settings with the flags of this command line; what there is to say of the file goes to standard
    error. Raises: ConfigError."""
    flags = {setting.key: getattr(args, _destination(setting.key), None) for setting in SETTINGS}
    loaded = read_settings(config_path=args.config, flags=flags)
    for notice in loaded.notices:
        print(f"obi-mcp: {notice}", file=sys.stderr)
    return loaded


def _destination(key: str) -> str:
    return "setting_" + key.replace(".", "__")


def read_input(path: str) -> str:
    """The text of a file, or of standard input for ``-``. Raises: OSError."""
    if path == "-":
        return sys.stdin.buffer.read().decode("utf-8")
    with open(path, encoding="utf-8") as stream:
        return stream.read()
