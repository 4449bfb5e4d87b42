"""Where the data that ships with the server lies: in the wheel beside the code, in a checkout at its top."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent
_CHECKOUT = _PACKAGE.parent.parent


def shipped_policy() -> Path:
    """The built-in ``policy/`` directory: rules, grammars, tables, OBI's config keys."""
    return _shipped(_PACKAGE / "_policy", _CHECKOUT / "policy")


def shipped_charts() -> Path:
    """The built-in chart store: a directory of charts, each in a directory of its own name."""
    return _shipped(_PACKAGE / "_chart", _CHECKOUT / "image" / "chart")


def _shipped(packaged: Path, checkout: Path) -> Path:
    # hatchling's force-include reaches wheels but not editable installs: there only the checkout has the files.
    return packaged if packaged.is_dir() else checkout
