"""Metrics of many pods as one: sums, histograms by bucket, and the pods that are out of line.

Counters and histograms are added, gauges are given as their least, median and most: a sum of them means nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median

MAX_LABELS = 8
_OUT_OF_LINE = 5.0
"""Median absolute deviations from the median; a normal distribution has one of two million values beyond."""
_FEWEST = 5
# The scale that makes the median absolute deviation comparable with a standard deviation.
_SCALE = 1.4826


@dataclass(frozen=True, slots=True)
class Outlier:
    """A pod whose total of a metric is far from the others'."""

    metric: str
    pod: str
    value: float
    median: float


@dataclass(slots=True)
class Family:
    """One metric over all pods. ``by_pod``: its total per pod; ``buckets``: cumulative counts by upper bound."""

    name: str
    kind: str
    by_pod: dict[str, float] = field(default_factory=dict)
    series: int = 0
    buckets: dict[float, float] = field(default_factory=dict)
    count: float = 0.0
    sum: float = 0.0

    @property
    def total(self) -> float:
        return sum(self.by_pod.values())

    def quantile(self, q: float) -> float | None:
        """By linear interpolation within the bucket, as Prometheus does; None where nothing was counted."""
        bounds = sorted(self.buckets)
        if not bounds or self.buckets[bounds[-1]] <= 0:
            return None
        rank, below, lower = q * self.buckets[bounds[-1]], 0.0, 0.0
        for bound in bounds:
            if self.buckets[bound] >= rank:
                if bound == float("inf"):
                    return lower
                inside = self.buckets[bound] - below
                return lower + (bound - lower) * ((rank - below) / inside if inside else 1.0)
            below, lower = self.buckets[bound], bound
        return lower


def merge_metrics(pods: Mapping[str, str], wanted: Iterable[str] = ()) -> list[Family]:
    """Every family over all pods, by name. ``pods``: the exposition text of each; ``wanted``: prefixes of names, all if
    empty.

    Raises: ValueError naming the pod whose text is no exposition.
    """
    found: dict[str, Family] = {}
    for pod, text in pods.items():
        add_pod(found, pod, text, tuple(wanted))
    return [found[name] for name in sorted(found)]


def add_pod(found: dict[str, Family], pod: str, text: str, prefixes: tuple[str, ...] = ()) -> None:
    """Adds what one pod serves to the families ``found`` so far, all of it or nothing.

    Raises: ValueError where its text is no exposition.
    """
    from prometheus_client.parser import text_string_to_metric_families

    try:
        families = list(text_string_to_metric_families(text))
        for sample in (sample for family in families for sample in family.samples):
            float(sample.labels.get("le", "inf"))  # the reader takes any text for a bound
    except (ValueError, KeyError, IndexError) as error:
        raise ValueError(f"what {pod} serves is no Prometheus text: {error}") from None
    for family in families:
        if not prefixes or family.name.startswith(prefixes):
            own = found.setdefault(family.name, Family(family.name, family.type))
            for sample in family.samples:
                _add(own, pod, sample.name, sample.labels, float(sample.value))


def outliers(families: Iterable[Family]) -> list[Outlier]:
    """Pods whose total is more than five median absolute deviations from the median; none among fewer than five."""
    found = []
    for family in families:
        values = family.by_pod
        if len(values) < _FEWEST:
            continue
        middle = median(values.values())
        spread = median(abs(value - middle) for value in values.values()) * _SCALE
        if spread > 0:
            found += [
                Outlier(family.name, pod, value, middle)
                for pod, value in sorted(values.items())
                if abs(value - middle) / spread > _OUT_OF_LINE
            ]
    return found


def gauge_spread(family: Family) -> dict[str, float]:
    """Least, median and most over the pods."""
    values = list(family.by_pod.values())
    return {"min": min(values), "median": median(values), "max": max(values)}


def _add(family: Family, pod: str, name: str, labels: Mapping[str, str], value: float) -> None:
    if name.endswith("_created"):
        return  # the time at which a counter began
    if family.kind == "histogram":
        if name.endswith("_bucket"):
            bound = float(labels.get("le", "inf"))
            family.buckets[bound] = family.buckets.get(bound, 0.0) + value
            return
        if name.endswith("_sum"):
            family.sum += value
            return
        family.count += value
    family.series += 1
    family.by_pod[pod] = family.by_pod.get(pod, 0.0) + value
