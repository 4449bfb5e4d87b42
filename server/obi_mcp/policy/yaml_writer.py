"""Objects as YAML, laid out as kubectl lays them out: lists not indented, text of several lines as a block."""

from __future__ import annotations

from typing import Any

import yaml

_TEXT = "tag:yaml.org,2002:str"
_Base: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _Dumper(_Base):  # type: ignore[misc]  # the C dumper where libyaml is there
    def ignore_aliases(self, data: Any) -> bool:
        """JSON has no aliases, and equal parts of an object are not one thing."""
        return True


def _represent_text(dumper: Any, text: str) -> Any:
    """As go-yaml does: a block for several lines, double quotes for what would be read as something else."""
    style = "|" if "\n" in text else None
    if style is None and dumper.resolve(yaml.ScalarNode, text, (True, False)) != _TEXT:
        style = '"'
    return dumper.represent_scalar(_TEXT, text, style=style)


_Dumper.add_representer(str, _represent_text)


def to_yaml(value: Any) -> str:
    """The value as one YAML document without a marker, ending in a newline."""
    text: str = yaml.dump(
        value, Dumper=_Dumper, default_flow_style=False, allow_unicode=True, sort_keys=False, width=2**31 - 1
    )
    return text
