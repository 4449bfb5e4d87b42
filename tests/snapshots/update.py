"""What is generated from the code and kept in the tree: ``.venv/bin/python tests/snapshots/update.py`` writes it anew.

The settings table of ``docs/configuration.md``, the verbs and exit codes of ``docs/cli.md``, the public definition of
each tool in ``tests/snapshots/tools``, and generated manifests and values in ``tests/snapshots/manifests``. Tests
compare the tree with what this gives.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "server"))

from obi_mcp.cli.verbs import EXIT_CODES, VERBS  # noqa: E402
from obi_mcp.config import Settings  # noqa: E402
from obi_mcp.config_table import SETTINGS, Setting, setting_default  # noqa: E402
from obi_mcp.obi.capabilities import Feature  # noqa: E402
from obi_mcp.obi.chart.delivery import ChartSource, helm_application, helm_release, stream  # noqa: E402
from obi_mcp.obi.chart.names import PresetName  # noqa: E402
from obi_mcp.obi.chart.presets import preset_of  # noqa: E402
from obi_mcp.obi.chart.values import overrides  # noqa: E402
from obi_mcp.obi.manifests.install import Environment, Format, Install  # noqa: E402
from obi_mcp.obi.manifests.render import render  # noqa: E402
from obi_mcp.obi.manifests.sidecar import Sidecar, sidecar_patch  # noqa: E402
from obi_mcp.policy.model import Access  # noqa: E402
from obi_mcp.policy.yaml_writer import to_yaml  # noqa: E402
from obi_mcp.toolsets.registry import ALL, listed_tools  # noqa: E402

TOOLS = ROOT / "tests/snapshots/tools"
MANIFESTS = ROOT / "tests/snapshots/manifests"
HELM = MANIFESTS / "helm"
DOCUMENTS = {
    "settings": ROOT / "docs/configuration.md",
    "verbs": ROOT / "docs/cli.md",
    "exit-codes": ROOT / "docs/cli.md",
}


def settings_table() -> str:
    """One row per setting."""
    rows = ["| setting | what it means | default | environment variable | flag |", "| --- | --- | --- | --- | --- |"]
    return "\n".join([*rows, *map(_setting_row, SETTINGS)])


def _setting_row(setting: Setting) -> str:
    default = setting_default(setting)
    value = default.label if isinstance(default, Access) else default
    shown = "" if value is None else f"`{json.dumps(value)}`"
    unit = f" {setting.unit}" if setting.unit else ""
    bounds = []
    if setting.minimum is not None:
        bounds.append(f"at least {setting.minimum:,.15g}")
    if setting.maximum is not None:
        bounds.append(f"at most {setting.maximum:,.0f}")
    if setting.choices:
        bounds.append("one of " + ", ".join(f"`{choice}`" for choice in setting.choices))
    meaning = " ".join([setting.doc, *([f"({'; '.join(bounds)})"] if bounds else [])])
    flag = f"`{setting.flag}`" if setting.flag else ""
    return f"| `{setting.key}` | {meaning} | {shown}{unit} | `{setting.variable}` | {flag} |"


def verbs_table() -> str:
    """One row per verb."""
    rows = [f"| `obi-mcp {verb.name}` | {verb.summary} |" for verb in VERBS]
    return "\n".join(["| verb | what it does |", "| --- | --- |", *rows])


def exit_codes_table() -> str:
    """One row per exit code."""
    rows = [f"| {code} | {meaning} |" for code, meaning in EXIT_CODES]
    return "\n".join(["| exit code | meaning |", "| --- | --- |", *rows])


def with_table(document: str, name: str, table: str) -> str:
    """The document with what stands between the marks of that name replaced."""
    start, end = f"<!-- generated: {name} -->\n", f"<!-- end: {name} -->"
    before, found, rest = document.partition(start)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"the document has no marks for {name}")
    return f"{before}{start}{table}\n{end}{after}"


def documents() -> Mapping[Path, str]:
    """Every document with generated parts, as it should be."""
    tables = {"settings": settings_table(), "verbs": verbs_table(), "exit-codes": exit_codes_table()}
    found: dict[Path, str] = {}
    for name, path in DOCUMENTS.items():
        found[path] = with_table(found.get(path) or path.read_text(), name, tables[name])
    return found


def tool_snapshots() -> Mapping[Path, str]:
    """The public definition of every tool on a server that allows everything, one file each."""
    settings = Settings(access=Access.FULL, toolsets=(ALL,))
    return {
        TOOLS / f"{spec.name}.json": json.dumps(spec.public(Access.FULL), indent=2, ensure_ascii=False) + "\n"
        for spec in listed_tools(settings)
    }


def manifest_snapshots() -> Mapping[Path, str]:
    """What the manifest generator writes for some installations, each format once."""
    production = Install(
        features=(Feature.APPLICATION, Feature.CONTEXT_PROPAGATION, Feature.NETWORK),
        otlp_endpoint="http://${HOST_IP}:4318",
        service_monitor=True,
        cache=True,
    )
    development = Install(environment=Environment.DEVELOPMENT, privileged=True)
    made: dict[Path, str] = {}
    for folder, install, form in (
        ("production", production, Format.YAML),
        ("development", development, Format.YAML),
        ("kustomize", production, Format.KUSTOMIZE),
        ("argocd", development, Format.ARGOCD),
        ("flux", development, Format.FLUX),
        ("helmrelease", production, Format.HELMRELEASE),
    ):
        # The files of a chart that are not YAML, and its templates, are those that are shipped: a test of the chart.
        written = {name: text for name, text in render(install, form).items() if name.endswith(".yaml")}
        made |= {MANIFESTS / folder / name: text for name, text in written.items() if "/templates/" not in name}
    sidecar = Sidecar(deployment="shop", namespace="shop", open_port="8080")
    made[MANIFESTS / "sidecar.yaml"] = to_yaml(sidecar_patch(sidecar))
    return made | _helm_snapshots(production)


def _helm_snapshots(install: Install) -> dict[Path, str]:
    """Values of each preset, and what Flux and Argo CD read of one."""
    made: dict[Path, str] = {}
    for name in PresetName:
        preset = preset_of(name)
        made[HELM / f"{name}.yaml"] = to_yaml(overrides(preset.values(install)))
    values = overrides(preset_of(PresetName.PRODUCTION).values(install))
    for form, url in (("oci", "oci://registry.example.org/charts"), ("https", "https://charts.example.org")):
        source = ChartSource(url=url, chart="obi", version="0.2.0")
        made[HELM / f"helmrelease-{form}.yaml"] = stream(helm_release(install, source, values))
        made[HELM / f"application-{form}.yaml"] = stream([helm_application(install, source, values)])
    return made


if __name__ == "__main__":
    wanted = {**documents(), **tool_snapshots(), **manifest_snapshots()}
    for stale in {*TOOLS.glob("*.json"), *MANIFESTS.rglob("*.yaml")} - set(wanted):
        stale.unlink()
    for path, text in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(path.relative_to(ROOT))
