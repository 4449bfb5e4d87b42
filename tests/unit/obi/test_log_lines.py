"""Lines that OBI and Beyla printed, as records."""

from __future__ import annotations

import pytest

from obi_mcp.obi.log_lines import LogRecord, parse_line, severity, version_in

FLOW = (
    "network_flow: transport=6 obi.ip=10.99.0.1 iface= iface_direction=1 src.address=10.99.0.1 dst.address=10.99.0.2 "
    "src.port=45122 dst.port=18082"
)
SPAN = (
    "2026-11-21 07:32:14.112173214 (355.066µs[248.614µs]) HTTP(subType=0) 200 GET /hello(/hello) "
    "[127.0.0.1 as 127.0.0.1:34924]->[127.0.0.1 as goserver:18080] contentLen:0B responseLen:0B svc=[goserver go]"
)
LINES: list[tuple[str, str, LogRecord]] = [
    (
        "the first line",
        'time=2026-11-21T07:32:48.106Z level=INFO msg="OpenTelemetry eBPF Instrumentation" Version=v0.5.0 '
        'Revision=d12e1612 "OpenTelemetry SDK Version"=1.39.0',
        LogRecord(
            "",
            "log",
            "2026-11-21T07:32:48.106Z",
            "INFO",
            "OpenTelemetry eBPF Instrumentation",
            "",
            {"Version": "v0.5.0", "Revision": "d12e1612", "OpenTelemetry SDK Version": "1.39.0"},
        ),
    ),
    (
        "an escaped error",
        r'time=2026-11-21T07:34:23.102Z level=ERROR msg="Unable" component=discover.X error="in \"sys_bind\": no"',
        LogRecord(
            "", "log", "2026-11-21T07:34:23.102Z", "ERROR", "Unable", "discover.X", {"error": 'in "sys_bind": no'}
        ),
    ),
    (
        "JSON",
        '{"time":"2026-11-21T07:34:23.018Z","level":"DEBUG","msg":"found","component":"H","hosts":["a","b"],"n":3}',
        LogRecord("", "log", "2026-11-21T07:34:23.018Z", "DEBUG", "found", "H", {"hosts": '["a", "b"]', "n": "3"}),
    ),
    ("a level between", "time=x level=DEBUG-4 msg=m", LogRecord("", "log", "x", "DEBUG", "m")),
    (
        "a flow",
        FLOW,
        LogRecord(
            "",
            "flow",
            fields={
                "transport": "6",
                "obi.ip": "10.99.0.1",
                "iface": "",
                "iface_direction": "1",
                "src.address": "10.99.0.1",
                "dst.address": "10.99.0.2",
                "src.port": "45122",
                "dst.port": "18082",
            },
        ),
    ),
    ("a span as text", SPAN, LogRecord("", "span")),
    ("a batch of spans as JSON", '[{"type":"HTTP","peer":"127.0.0.1"}]', LogRecord("", "span")),
    ("an indented span", '  "type": "HTTP",', LogRecord("", "span")),
    ("the start of an indented batch", "[", LogRecord("", "span")),
    ("a panic", "panic: runtime error: index out of range", LogRecord("", "other")),
    ("broken JSON", '{"level":', LogRecord("", "other")),
    ("nothing", "", LogRecord("", "other")),
]


@pytest.mark.parametrize(("what", "line", "wanted"), LINES, ids=[row[0] for row in LINES])
def test_a_line_is_told_from_others(what: str, line: str, wanted: LogRecord) -> None:
    found = parse_line(line + "\n")
    assert found.text == line
    assert LogRecord("", found.kind, found.time, found.level, found.message, found.component, found.fields) == wanted


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ('time=x level=INFO msg="OpenTelemetry eBPF Instrumentation" Version=v0.5.0', "v0.5.0"),
        ('time=x level=INFO msg="Grafana Beyla" Version=v1.8.0 Revision=unset', "v1.8.0"),
        ('time=x level=INFO msg="starting Beyla in Network metrics mode" Version=v9', None),
        ("Version=v1", None),
    ],
)
def test_the_version_stands_in_the_first_line_alone(line: str, version: str | None) -> None:
    assert version_in(parse_line(line)) == version


def test_levels_are_ranked_and_a_long_line_is_read_in_linear_time() -> None:
    assert [severity(level) for level in ("DEBUG", "INFO", "", "WARN", "ERROR")] == [0, 1, 1, 2, 3]
    for line in ("time=" + 'a="' * 500_000, "{" * 100_000, "network_flow: " + "=" * 1_000_000):
        assert parse_line(line).kind in {"log", "other", "flow"}
