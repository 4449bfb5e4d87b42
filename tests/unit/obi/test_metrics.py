"""Metrics of many pods as one: what is read, what is added, what has begun again, and who is out of line."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from obi_mcp.obi.exposition import Exposition
from obi_mcp.obi.metric_merge import Before, Family, PodMetrics, add_pod, gauge_spread, outliers

RECORDED = Path(__file__).parents[2] / "cases" / "obi-metrics"
INF = float("inf")


def merged(pods: dict[str, str], prefixes: tuple[str, ...] = (), before: Before | None = None) -> list[Family]:
    found: dict[str, Family] = {}
    for name, text in pods.items():
        pod = PodMetrics(name, prefixes, before=before.of(name) if before else None)
        pod.feed(text.encode())
        add_pod(found, pod.finish())
    return [found[name] for name in sorted(found)]


def remembered(pods: dict[str, str]) -> Before:
    before = Before()
    for name, text in pods.items():
        pod = PodMetrics(name, remembers=True)
        pod.feed(text.encode())
        pod.finish()
        before.remember(name, pod.seen)
    return before


COUNTER = '# TYPE f_bytes_total counter\nf_bytes_total{{dst="{dst}"}} {value}\n'


def histogram(counts: dict[str, float], total: float = 0.0, labels: str = "") -> str:
    rows = "".join(f'd_bucket{{{labels}le="{bound}"}} {count}\n' for bound, count in counts.items())
    return f"{rows}d_sum{{{labels}}} {total}\nd_count{{{labels}}} {max(counts.values())}\n"


def histograms(*parts: str) -> str:
    return "# TYPE d histogram\n" + "".join(parts)


@pytest.mark.parametrize("file", sorted(path.name for path in RECORDED.glob("*.prom")))
def test_recorded_output_is_read_as_the_reference_reads_it(file: str) -> None:
    text = (RECORDED / file).read_text()
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    reading = Exposition()
    found = [
        sample
        for size in (text.encode()[at : at + 777] for at in range(0, len(text), 777))
        for sample in reading.feed(size)
    ]
    found += reading.finish()
    assert len(found) == len(samples)
    assert sorted(sample.value for sample in found) == sorted(samples.values())
    assert {sample.series.partition("{")[0] for sample in found} == {name for name, _ in samples}
    bounds = sorted(float(dict(labels)["le"]) for name, labels in samples if name.endswith("_bucket"))
    assert sorted(sample.bound for sample in found if sample.role == "bucket") == bounds


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("a 1", 1.0),
        ("a{} 1", 1.0),
        ('a{b="c"} 1.5e3 1700000000000', 1500.0),
        ('a{b="c",} +Inf', INF),
        ('a{b="x} 7",c="\\"{,le=\\"1\\""} 2', 2.0),
        ("  a -4", -4.0),
        ("a 3\r", 3.0),
        ('a{b="c"} 1 # {trace_id="x"} 1.0', 1.0),
    ],
)
def test_forms_of_a_sample(line: str, value: float) -> None:
    reading = Exposition()
    (sample,) = [*reading.feed(f"{line}\n".encode()), *reading.finish()]
    assert (sample.family, sample.value) == ("a", value)


@pytest.mark.parametrize(
    "text",
    [
        "<html>{{{\n", "a\n", 'a{b="c} 1\n', "a one\n", 'a{b=c} 1\n', "{} 1\n", "\xff 1\n", "a 1 2 3 4\n",
        '# TYPE d histogram\nd_bucket{x="1"} 1\n', '# TYPE d histogram\nd_bucket{le="x"} 1\n', "a" * 70_000,
    ],
)  # fmt: skip
def test_what_is_no_exposition_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        merged({"p": text})


def test_the_value_of_a_label_is_not_taken_for_a_bound() -> None:
    text = histograms('d_bucket{path="x,le=",le="2"} 1\n', 'd_bucket{path="x,le=",le="+Inf"} 3\n')
    (family,) = merged({"p": text})
    assert family.buckets() == {2.0: 1.0, INF: 3.0}


def test_counters_are_added_over_pods_and_series() -> None:
    text = COUNTER.format(dst="a", value=10) + 'f_bytes_total{dst="b"} 5\n'
    (family,) = merged({"p": text, "q": COUNTER.format(dst="a", value=1)})
    assert (family.name, family.kind, family.total, family.series) == ("f_bytes_total", "counter", 16.0, 3)
    assert family.by_pod == {"p": 15.0, "q": 1.0}


def test_histograms_are_added_by_bucket_and_percentiles_follow_from_the_sum() -> None:
    pods = {
        "p": histograms(histogram({"1": 10, "2": 10, "+Inf": 10}, 5.0)),
        "q": histograms(histogram({"1": 0, "2": 10, "+Inf": 10}, 15.0)),
    }
    (family,) = merged(pods)
    assert family.buckets() == {1.0: 10.0, 2.0: 20.0, INF: 20.0}
    assert (family.count, family.sum) == (20.0, 20.0)
    # The average of both pods' own medians would be 1.0.
    assert (family.quantile(0.5), family.quantile(0.75), family.quantile(1.0)) == (1.0, 1.5, 2.0)


@pytest.mark.parametrize(
    ("one", "two", "buckets", "median"),
    [
        ({"1": 4, "2": 6, "+Inf": 8}, {"1": 1, "2": 2, "+Inf": 4}, {1.0: 5.0, 2.0: 8.0, INF: 12.0}, 4 / 3),
        # What is known of both is what stands at bounds that both have; the others' counts are not mixed.
        ({"1": 4, "2": 6, "+Inf": 8}, {"2": 2, "5": 4, "+Inf": 4}, {2.0: 8.0, INF: 12.0}, 1.5),
        ({"1": 4, "+Inf": 8}, {"3": 2, "+Inf": 4}, {INF: 12.0}, None),
    ],
)
def test_histograms_with_other_bounds(
    one: dict[str, float], two: dict[str, float], buckets: dict[float, float], median: float | None
) -> None:
    over_pods = merged({"p": histograms(histogram(one)), "q": histograms(histogram(two))})
    within_one = merged({"p": histograms(histogram(one, labels='a="1",'), histogram(two, labels='a="2",'))})
    for (family,) in (over_pods, within_one):
        assert family.buckets() == buckets and family.count == 12.0
        assert family.quantile(0.5) == (None if median is None else pytest.approx(median))


@pytest.mark.parametrize(
    ("buckets", "q", "expected"),
    [
        ({}, 0.5, None),
        ({1.0: 0.0, INF: 0.0}, 0.5, None),
        ({1.0: 0.0, INF: 4.0}, 0.99, 1.0),  # beyond the last bound nothing is known but the bound
        ({1.0: 4.0, INF: 4.0}, 0.5, 0.5),
    ],
)
def test_percentiles_at_the_edges(buckets: dict[float, float], q: float, expected: float | None) -> None:
    layouts = {tuple(buckets): list(buckets.values())} if buckets else {}
    assert Family("d", "histogram", layouts=layouts).quantile(q) == expected


def test_openmetrics_is_read_too() -> None:
    text = (
        '# TYPE f_bytes counter\n# UNIT f_bytes bytes\nf_bytes_total{a="1"} 5 # {trace_id="x"} 1.0 1700000000.5\n'
        'f_bytes_created{a="1"} 1700000000.1\n# TYPE d histogram\nd_bucket{le="+Inf"} 2 # {trace_id="y"} 0.3\n'
        "d_sum 1.5\nd_count 2\nd_created 1700000000.1\n# EOF\n"
    )
    d, f = merged({"p": text})
    assert (f.name, f.kind, f.total, f.series) == ("f_bytes", "counter", 5.0, 1)
    assert (d.count, d.sum, d.buckets()) == (2.0, 1.5, {INF: 2.0})


def test_gauges_are_not_added_and_what_is_no_number_is_left_out() -> None:
    text = "# TYPE g gauge\ng {}\n"
    (family,) = merged({f"p{n}": text.format(n) for n in (1, 2, 9, "NaN")})
    assert gauge_spread(family) == {"min": 1.0, "median": 2.0, "max": 9.0}


def test_of_summaries_count_and_sum_are_added_and_quantiles_are_not() -> None:
    text = '# TYPE s summary\ns{{quantile="0.5"}} {median}\ns_sum {sum}\ns_count {count}\n'
    pods = {"p": text.format(median=1, sum=10, count=4), "q": text.format(median="NaN", sum=0, count=0)}
    (family,) = merged(pods)
    assert (family.kind, family.count, family.sum, family.quantile(0.5)) == ("summary", 4.0, 10.0, None)


@pytest.mark.parametrize(
    ("before", "after", "increase"),
    [
        ([("a", 10)], [("a", 15)], 5.0),
        ([("a", 10)], [("a", 4)], 4.0),  # begun again: all that it has is new
        ([("a", 10), ("b", 3)], [("a", 2), ("b", 5)], 4.0),  # series by series, not by their sum
        ([("a", 10)], [("a", 10), ("b", 6)], 6.0),
        ([("a", 10), ("b", 3)], [("b", 3)], 0.0),  # one that went is no reset
    ],
)
def test_what_was_added_since(before: list[tuple[str, int]], after: list[tuple[str, int]], increase: float) -> None:
    first, second = ("".join(COUNTER.format(dst=d, value=v) for d, v in rows) for rows in (before, after))
    (family,) = merged({"p": second}, before=remembered({"p": first}))
    assert family.total == increase


def test_histograms_begin_again_too_and_gauges_are_as_they_are() -> None:
    first = histograms(histogram({"1": 8, "+Inf": 10}, 20.0)) + "# TYPE g gauge\ng 7\n"
    second = histograms(histogram({"1": 1, "+Inf": 2}, 3.0)) + "# TYPE g gauge\ng 5\n"
    d, g = merged({"p": second}, before=remembered({"p": first}))
    assert (d.buckets(), d.count, d.sum) == ({1.0: 1.0, INF: 2.0}, 2.0, 3.0)
    assert g.total == 5.0


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([10, 11, 12, 11, 10, 500], ["p5"]),
        ([10, 11, 12, 11, 10, 13], []),
        ([10, 11, 12, 11, 10, 500, -300], ["p5", "p6"]),  # the farthest first
        ([10, 10, 10, 10, 500], []),  # one of five equal ones may be anything
        ([0] * 20 + [7], ["p20"]),  # where more than half are equal, the mean of the deviations measures
        ([0] * 10 + [1] * 9, []),
        ([5] * 20, []),
        ([1, 500, 1, 1], []),  # of four pods none is out of line
    ],
)
def test_pods_out_of_line(values: list[int], expected: list[str]) -> None:
    pods = {f"p{number}": COUNTER.format(dst="a", value=value) for number, value in enumerate(values)}
    found = outliers(merged(pods))
    assert [entry.pod for entry in found] == expected and all(entry.deviations > 5 for entry in found)


def test_prefixes_choose_and_what_a_go_program_serves_of_itself_is_left_out() -> None:
    text = COUNTER.format(dst="a", value=1) + "go_threads 5\n"
    assert [family.name for family in merged({"p": text})] == ["f_bytes_total"]
    assert [family.name for family in merged({"p": text}, ("go_",))] == ["go_threads"]
    assert merged({"p": text}, ("x_",)) == []


def test_too_many_series_are_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("obi_mcp.obi.metric_merge.MAX_SERIES", 1)
    with pytest.raises(ValueError, match="name the metrics"):
        remembered({"p": COUNTER.format(dst="a", value=1) + 'f_bytes_total{dst="b"} 5\n'})
