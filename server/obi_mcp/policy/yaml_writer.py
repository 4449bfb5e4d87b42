"""Objects as YAML, laid out as kubectl lays them out: lists not indented, text of several lines as a block."""

from __future__ import annotations

from functools import cache
from typing import Any

_TEXT = "tag:yaml.org,2002:str"


def to_yaml(value: Any) -> str:
    """The value as one YAML document without a marker, ending in a newline."""
    import yaml

    text: str = yaml.dump(
        value, Dumper=_dumper(), default_flow_style=False, allow_unicode=True, sort_keys=False, width=2**31 - 1
    )
    return text


@cache
def _dumper() -> Any:
    """Made when it is first needed: listing tools imports their modules, and none of them writes YAML then."""
    import yaml

    base: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # the C dumper where libyaml is there

    class Dumper(base):  # type: ignore[misc]
        def ignore_aliases(self, data: Any) -> bool:
            """JSON has no aliases, and equal parts of an object are not one thing."""
            return True

    def represent_text(dumper: Any, text: str) -> Any:
        """As go-yaml does: a block for several lines, double quotes for what would be read as something else."""
        style = "|" if "\n" in text else None
        if style is None and dumper.resolve(yaml.ScalarNode, text, (True, False)) != _TEXT:
            style = '"'
        return dumper.represent_scalar(_TEXT, text, style=style)

    Dumper.add_representer(str, represent_text)
    return Dumper
