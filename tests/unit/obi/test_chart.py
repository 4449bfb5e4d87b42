"""The chart that is given away: what is shipped under another name, values that its schema takes, and presets."""

from __future__ import annotations

import itertools
import json
from typing import Any

import jsonschema
import pytest

from obi_mcp.errors import InvalidArgument, InvalidDocument
from obi_mcp.obi.capabilities import Feature, needed
from obi_mcp.obi.chart.files import ChartRequest, chart_files
from obi_mcp.obi.chart.names import PresetName
from obi_mcp.obi.chart.presets import WRITES_MEMORY, preset_of
from obi_mcp.obi.chart.values import app_version, defaults, overrides, shipped_text, values_of
from obi_mcp.obi.config import validate
from obi_mcp.obi.edit import merged
from obi_mcp.obi.manifests.install import Environment, Install
from obi_mcp.policy.chart_files import read_chart
from obi_mcp.policy.chart_scan import scan_files
from obi_mcp.policy.shipped import shipped_charts
from obi_mcp.policy.values import judge_values, read_values
from obi_mcp.policy.yaml_writer import to_yaml

SCHEMA = jsonschema.Draft7Validator(json.loads(shipped_text("values.schema.json")))
FEATURES = (*((feature,) for feature in Feature), (Feature.APPLICATION, Feature.NETWORK), tuple(Feature))
INSTALLS = [
    Install(environment=environment, features=features, privileged=more, cache=more, service_monitor=more)
    for environment, features, more in itertools.product(Environment, FEATURES, (False, True))
]
MORE = [
    Install(name="shop", namespace="obi-system"),
    Install(digest="sha256:" + "a" * 64, repository="registry.example.org/obi"),
    Install(version="main", env={"OTEL_EBPF_LOG_LEVEL": "DEBUG"}, image_pull_secrets=("mirror",)),
    Install(prometheus_port=None, otlp_endpoint="http://${HOST_IP}:4318"),
    Install(repository="grafana/beyla", version="1.8.0", otlp_endpoint="http://${HOST_IP}:4318"),
    Install(config="trace_printer: text\nopen_port: ${PORT}\n", prometheus_port=None),
]


def name_of(install: Install) -> str:
    return f"{install.name}-{install.environment}-{'+'.join(install.features)}-{install.cache}-{install.version}"


def test_the_shipped_chart_is_what_is_given_to_who_asks_for_nothing() -> None:
    shipped = {f"obi/{path}": data.decode() for path, data in read_chart(shipped_charts() / "obi").items()}
    assert chart_files(ChartRequest()) == shipped


def test_a_chart_of_another_name_differs_where_it_was_asked_to() -> None:
    install = Install(version="v0.12.2", features=(Feature.NETWORK,), prometheus_port=9400)
    values = {**values_of(install), "image": {"tag": ""}}
    request = ChartRequest(name="shop-obi", version="1.2.3", app_version="v0.12.2", values=values)
    files = {path.removeprefix("shop-obi/"): text for path, text in chart_files(request).items()}
    shipped = {path: data.decode() for path, data in read_chart(shipped_charts() / "obi").items()}
    assert {path for path in shipped if files[path] != shipped[path]} == {"Chart.yaml", "README.md", "values.yaml"}
    metadata = read_values(files["Chart.yaml"])
    assert (metadata["name"], metadata["version"], metadata["appVersion"]) == ("shop-obi", "1.2.3", "v0.12.2")
    assert read_values(files["values.yaml"]) == merged(defaults(), overrides(values))
    assert read_values(files["values.yaml"])["config"] == values["config"]
    # The comments say what a value is for, so they have to stay where they are.
    assert [line for line in files["values.yaml"].split("\n") if line.strip().startswith("#")] == [
        line for line in shipped["values.yaml"].split("\n") if line.strip().startswith("#")
    ]
    assert "./shop-obi " in files["README.md"]


@pytest.mark.parametrize(
    "request_",
    [
        ChartRequest(name="Obi"),
        ChartRequest(name="../obi"),
        ChartRequest(name="a" * 54),
        ChartRequest(version="1.0"),
        ChartRequest(version="latest"),
        ChartRequest(version="1.0.0\nname: x"),
    ],
    ids=repr,
)
def test_what_is_no_name_or_version_of_a_chart_is_refused(request_: ChartRequest) -> None:
    with pytest.raises(InvalidArgument):
        chart_files(request_)


@pytest.mark.parametrize("install", [*INSTALLS, *MORE], ids=name_of)
def test_values_fit_the_schema_and_the_chart_made_of_them_passes_the_scan(install: Install) -> None:
    wanted = values_of(install)
    whole = merged(defaults(), read_values(to_yaml(overrides(wanted))))
    assert list(SCHEMA.iter_errors(whole)) == []
    # helm merges what is said into the chart's own values: all that was wanted is there, and no other configuration.
    assert merged(whole, wanted) == whole
    assert all(whole[key] == wanted[key] for key in ("config", "env", "nodeSelector", "resources", "updateStrategy"))
    assert judge_values(whole) == ()
    files = {
        path.removeprefix("obi/"): text.encode() for path, text in chart_files(ChartRequest(values=wanted)).items()
    }
    assert list(scan_files(files)) == []


def test_a_configuration_that_is_no_mapping_is_refused() -> None:
    with pytest.raises(InvalidDocument):
        values_of(Install(config="- a\n- b\n"))


# --- presets ---


@pytest.mark.parametrize("features", FEATURES, ids="+".join)
@pytest.mark.parametrize("name", PresetName)
def test_the_values_of_a_preset_fit_the_schema_and_obi_takes_its_configuration(
    name: PresetName, features: tuple[Feature, ...]
) -> None:
    # A platform is no reason for a configuration that OBI would not run with.
    values = preset_of(name).values(Install(features=features, otlp_endpoint="http://${HOST_IP}:4318"))
    assert list(SCHEMA.iter_errors(merged(defaults(), overrides(values)))) == []
    findings = validate(to_yaml(values["config"]), version=app_version().removeprefix("v"))
    assert [finding for finding in findings if finding.severity == "error"] == []


@pytest.mark.parametrize("name", PresetName)
def test_every_fact_of_a_preset_has_its_source(name: PresetName) -> None:
    preset = preset_of(name)
    sources = [*(entry.source for entry in preset.settings), *(entry.source for entry in preset.cautions)]
    assert all(source.startswith("https://") for source in sources)
    assert sources or name in {PresetName.DEVELOPMENT, PresetName.PRODUCTION}


TC = (Feature.APPLICATION, Feature.CONTEXT_PROPAGATION)


@pytest.mark.parametrize(
    ("name", "install", "path", "expected"),
    [
        ("development", Install(), "updateStrategy.rollingUpdate.maxUnavailable", "100%"),
        ("production", Install(), "updateStrategy.rollingUpdate.maxUnavailable", "10%"),
        ("production", Install(), "capabilities", list(needed([Feature.APPLICATION]).capabilities)),
        ("aws", Install(), "capabilities.6", "SYS_ADMIN"),
        ("aws", Install(version="v0.14.0"), "capabilities.6", None),
        ("aws", Install(version="v0.14.0", perf_event_paranoid=3), "capabilities.6", "SYS_ADMIN"),
        ("aws", Install(version="main"), "capabilities.6", "SYS_ADMIN"),
        ("azure", Install(features=(Feature.NETWORK,)), "capabilities", ["BPF", "PERFMON", "NET_RAW"]),
        ("azure", Install(), "tolerations.1.key", "kubernetes.azure.com/scalesetpriority"),
        ("aws", Install(), "tolerations.0.key", "node-role.kubernetes.io/control-plane"),
        ("gcp", Install(), "config.ebpf", None),
        ("gcp", Install(features=TC), "config.ebpf.traffic_control_backend", "tcx"),
        ("gcp", Install(features=TC), "config.ebpf.context_propagation", "all"),
        ("bottlerocket", Install(), "privileged", True),
        ("openshift", Install(), "capabilities", None),
    ],
)
def test_a_preset_sets_what_its_platform_needs(name: str, install: Install, path: str, expected: object) -> None:
    value: Any = preset_of(name).values(install)
    for step in path.split("."):
        value = (value[int(step)] if int(step) < len(value) else None) if isinstance(value, list) else value.get(step)
    assert value == expected


@pytest.mark.parametrize(
    ("name", "features", "blocks", "says"),
    [
        ("production", tuple(Feature), [], ""),
        ("aws", (Feature.APPLICATION,), [False, False], "Fargate"),
        ("gcp", (Feature.APPLICATION,), [], ""),
        ("gcp", TC, [False], "Cilium"),
        ("gcp", (Feature.LOG_ENRICHER,), [False], "Container-Optimized OS"),
        ("gcp-autopilot", (Feature.APPLICATION,), [True, False, False], "hostPID"),
        ("azure", (Feature.APPLICATION,), [False, False], "virtual nodes"),
        ("bottlerocket", (Feature.APPLICATION,), [False], "seLinuxOptions"),
        ("bottlerocket", (Feature.LOG_ENRICHER,), [False, False], "locked down"),
        ("openshift", (Feature.APPLICATION,), [True, False], "SecurityContextConstraints"),
    ],
)
def test_what_a_platform_does_not_allow_is_said(
    name: str, features: tuple[Feature, ...], blocks: list[bool], says: str
) -> None:
    warnings = preset_of(name).warnings(Install(features=features))
    assert [entry.forbids for entry in warnings] == blocks
    assert says in " ".join(entry.text for entry in warnings)


def test_a_locked_down_kernel_is_told_to_those_whom_it_concerns() -> None:
    concerned = {
        feature
        for feature in Feature
        if any(
            "locked down" in entry.text for entry in preset_of("bottlerocket").warnings(Install(features=(feature,)))
        )
    }
    assert concerned == WRITES_MEMORY


def test_there_is_no_other_preset() -> None:
    with pytest.raises(ValueError):
        preset_of("on-premises")
