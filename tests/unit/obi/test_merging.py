"""Logs and metrics of many pods as one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obi_mcp.obi.log_lines import LogRecord, parse_line
from obi_mcp.obi.log_merge import merged, patterns
from obi_mcp.obi.metric_merge import Family, gauge_spread, merge_metrics, outliers


def records(*lines: str) -> list[LogRecord]:
    return [parse_line(line) for line in lines]


def line(second: int, message: str, level: str = "INFO") -> str:
    return f'time=2026-11-21T12:00:{second:02}.000Z level={level} msg="{message}"'


def test_lines_come_by_time_and_what_has_none_stays_behind_its_line() -> None:
    one = records(line(1, "a"), "network_flow: x=1", line(4, "d"))
    two = records(line(2, "b"), line(3, "c"))
    got = [(entry.pod, entry.record.message or entry.record.text) for entry in merged([("p", one), ("q", two)])]
    assert got == [("p", "a"), ("p", "network_flow: x=1"), ("q", "b"), ("q", "c"), ("p", "d")]


def test_a_clock_that_is_set_back_does_not_break_the_order_of_a_pod() -> None:
    got = merged([("p", records(line(5, "a"), line(1, "b"))), ("q", records(line(3, "c")))])
    assert [entry.record.message for entry in got] == ["c", "a", "b"]


def test_patterns_count_what_differs_only_in_numbers_and_names() -> None:
    lines = [line(n, f"lost {n} spans of /var/run/{n}", "WARN") for n in range(3)]
    found = patterns(merged([("p", records(*lines)), ("q", records(line(1, "ready"), lines[0]))]))
    assert [(entry.level, entry.count, len(entry.pods)) for entry in found] == [("WARN", 4, 2), ("INFO", 1, 1)]
    assert found[0].text == "lost … spans of …"


@given(st.lists(st.lists(st.integers(0, 59)), max_size=5))
def test_no_line_is_lost_and_each_pod_keeps_its_order(pods: list[list[int]]) -> None:
    logs = [(f"p{number}", records(*(line(s, f"{s}") for s in seconds))) for number, seconds in enumerate(pods)]
    got = merged(logs)
    for pod, own in logs:
        assert [entry.record for entry in got if entry.pod == pod] == own


COUNTER = '# TYPE f_bytes_total counter\nf_bytes_total{{dst="{dst}"}} {value}\n'
HISTOGRAM = (
    "# TYPE d histogram\n"
    'd_bucket{{le="1"}} {a}\nd_bucket{{le="2"}} {b}\nd_bucket{{le="+Inf"}} {c}\nd_sum {s}\nd_count {c}\n'
)


def test_counters_are_added_over_pods_and_series() -> None:
    text = COUNTER.format(dst="a", value=10) + 'f_bytes_total{dst="b"} 5\n'
    (family,) = merge_metrics({"p": text, "q": COUNTER.format(dst="a", value=1)})
    assert (family.name, family.kind, family.total, family.series) == ("f_bytes", "counter", 16.0, 3)
    assert family.by_pod == {"p": 15.0, "q": 1.0}


def test_histograms_are_added_by_bucket_and_percentiles_follow_from_the_sum() -> None:
    pods = {"p": HISTOGRAM.format(a=10, b=10, c=10, s=5.0), "q": HISTOGRAM.format(a=0, b=10, c=10, s=15.0)}
    (family,) = merge_metrics(pods)
    assert family.buckets == {1.0: 10.0, 2.0: 20.0, float("inf"): 20.0}
    assert (family.count, family.sum) == (20.0, 20.0)
    # The average of both pods' own medians would be 1.0.
    assert (family.quantile(0.5), family.quantile(0.75), family.quantile(1.0)) == (1.0, 1.5, 2.0)


@pytest.mark.parametrize(
    ("buckets", "q", "expected"),
    [
        ({}, 0.5, None),
        ({1.0: 0.0, float("inf"): 0.0}, 0.5, None),
        ({1.0: 0.0, float("inf"): 4.0}, 0.99, 1.0),  # beyond the last bound nothing is known but the bound
        ({1.0: 4.0, float("inf"): 4.0}, 0.5, 0.5),
    ],
)
def test_percentiles_at_the_edges(buckets: dict[float, float], q: float, expected: float | None) -> None:
    assert Family("d", "histogram", buckets=buckets).quantile(q) == expected


def test_gauges_are_not_added() -> None:
    text = "# TYPE g gauge\ng {}\n"
    (family,) = merge_metrics({f"p{n}": text.format(n) for n in (1, 2, 9)})
    assert gauge_spread(family) == {"min": 1.0, "median": 2.0, "max": 9.0}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([10, 11, 12, 11, 10, 500], ["p5"]),
        ([10, 11, 12, 11, 10, 13], []),
        ([10, 10, 10, 10, 500], []),  # without any spread there is no measure
        ([1, 500, 1, 1], []),  # of four pods none is out of line
    ],
)
def test_pods_out_of_line(values: list[int], expected: list[str]) -> None:
    pods = {f"p{number}": COUNTER.format(dst="a", value=value) for number, value in enumerate(values)}
    assert [entry.pod for entry in outliers(merge_metrics(pods))] == expected


def test_prefixes_choose_and_what_is_no_exposition_is_named() -> None:
    assert [entry.name for entry in merge_metrics({"p": COUNTER.format(dst="a", value=1)}, ("x_",))] == []
    with pytest.raises(ValueError, match="what p serves is no Prometheus text"):
        merge_metrics({"p": "<html>{{{"})
