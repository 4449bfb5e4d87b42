"""The chart as files: the one that ships with the server, called as the caller likes and with the caller's defaults.

Its templates are the shipped ones, byte for byte: what was shown to pass the policy's scan and the manifest check is
what is given away.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from obi_mcp.errors import InvalidArgument
from obi_mcp.obi.chart.values import CHART, overrides, shipped_text
from obi_mcp.obi.edit import merge_patch
from obi_mcp.policy.chart_files import read_chart
from obi_mcp.policy.shipped import shipped_charts

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,51}[a-z0-9])?")
_VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]{1,64})?(\+[0-9A-Za-z.-]{1,64})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartRequest:
    """A chart that is asked for. ``version`` empty: that of the shipped chart. ``app_version`` empty: likewise.

    ``values`` become its defaults; what they do not say stays as it is shipped.
    """

    name: str = CHART
    version: str = ""
    app_version: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)


def chart_files(request: ChartRequest) -> dict[str, str]:
    """Every file by its path below the directory that holds the chart: ``obi/Chart.yaml``.

    Raises: InvalidArgument for what helm would take for no name or version.
    """
    if not _NAME.fullmatch(request.name):
        raise InvalidArgument(f"{request.name[:80]!r} is no chart name", "lower-case letters, digits and '-'")
    if request.version and not _VERSION.fullmatch(request.version):
        raise InvalidArgument(f"{request.version[:80]!r} is no chart version", "a semantic version such as 1.0.0")
    files = {path: data.decode("utf-8") for path, data in read_chart(shipped_charts() / CHART).items()}
    files["Chart.yaml"] = merge_patch(shipped_text("Chart.yaml"), _metadata(request)).text
    files["values.yaml"] = merge_patch(shipped_text("values.yaml"), overrides(request.values)).text
    files["README.md"] = files["README.md"].replace(f"./{CHART} ", f"./{request.name} ")
    return {f"{request.name}/{path}": text for path, text in sorted(files.items())}


def _metadata(request: ChartRequest) -> dict[str, Any]:
    said = {"name": request.name, "version": request.version, "appVersion": request.app_version}
    return {key: value for key, value in said.items() if value}
