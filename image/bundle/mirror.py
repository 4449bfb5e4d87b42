"""The images that a site has to mirror for OBI itself: where the policy's scope and the shipped chart say they are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

_DEFAULT_REGISTRY = "docker.io"
_BEYLA = re.compile(r"beyla")

_HEAD = """\
# Images that a cluster pulls when OBI is installed. This bundle has obi-mcp; it has none of these.
# Copy them into your own registry where there is a network, for example with
#   skopeo copy --all docker://IMAGE docker://REGISTRY/PATH:TAG
# then name the copies in the configuration: scope.images. docs/air-gap.md has the whole road.
"""


def image_list(repositories: Sequence[str], version: str) -> str:
    """``images.txt``. ``repositories`` are the scope's, ``version`` the tag that the chart installs by default.

    One reference a line, complete with its registry; what is not needed for a default installation is a comment.
    """
    needed, *others = sorted(map(_complete, repositories), key=lambda name: _rank(name, repositories))
    lines = [_HEAD, "# What the chart of obi-mcp installs:", f"{needed}:{version}", "", "# Where you use them:"]
    lines += [f"# {name}:{'VERSION' if _BEYLA.search(name) else version}" for name in others]
    return "\n".join(lines) + "\n"


def chart_image(chart: Path) -> tuple[str, str]:
    """Repository and tag of the shipped chart's default image. Raises: ValueError when they are not where they were."""
    version = re.search(r"^appVersion: (\S+)$", (chart / "Chart.yaml").read_text(encoding="utf-8"), re.MULTILINE)
    values = (chart / "values.yaml").read_text(encoding="utf-8")
    repository = re.search(r"^image:\n  repository: (\S+)$", values, re.MULTILINE)
    if version is None or repository is None:
        raise ValueError(f"{chart} does not say which image it installs")
    return repository[1], version[1]


def _complete(repository: str) -> str:
    """With its registry, as Docker's own rule has it: a first part with a dot, a colon, or localhost is one."""
    first = repository.partition("/")[0]
    return repository if {".", ":"} & set(first) or first == "localhost" else f"{_DEFAULT_REGISTRY}/{repository}"


def _rank(name: str, repositories: Sequence[str]) -> int:
    return [_complete(one) for one in repositories].index(name)
