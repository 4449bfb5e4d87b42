"""Metrics of many pods as one: sums, histograms by bucket, and the pods that are out of line.

Counters and histograms are added, gauges are given as their least, median and most: a sum of them means nothing. Of a
summary only count and sum are added, since quantiles of several pods have no common one. What a pod serves is read as
it comes and only its sums are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import isnan

from obi_mcp.obi.exposition import Exposition, Kind, Sample

ITS_OWN = ("go_", "process_", "promhttp_")
"""What a Go program serves of itself: left out unless it is asked for."""
_OUT_OF_LINE = 5.0
"""Deviations from the median; a normal distribution has one of two million values beyond."""
_FEWEST = 5
# What makes the median, or the mean, of absolute deviations comparable with a standard deviation.
_MEDIAN_SCALE = 1.4826
_MEAN_SCALE = 1.2533
MAX_SERIES = 1_000_000
"""How many samples are remembered to tell what was added since."""


@dataclass(frozen=True, slots=True)
class Outlier:
    """A pod whose total of a metric is far from the others'. ``deviations``: how far, in deviations."""

    metric: str
    pod: str
    value: float
    median: float
    deviations: float


Layout = tuple[float, ...]
"""The upper bounds of a histogram, in order."""


@dataclass(slots=True)
class Family:
    """One metric over all pods. ``by_pod``: its total per pod (of a histogram: how many were counted); ``layouts``:
    cumulative counts by upper bound, for each set of bounds that was seen."""

    name: str
    kind: Kind
    by_pod: dict[str, float] = field(default_factory=dict)
    series: int = 0
    count: float = 0.0
    sum: float = 0.0
    layouts: dict[Layout, list[float]] = field(default_factory=dict)

    @property
    def total(self) -> float:
        return sum(self.by_pod.values())

    def buckets(self) -> dict[float, float]:
        """Cumulative counts at the bounds that all of its histograms have: between others nothing is known."""
        if not self.layouts:
            return {}
        common = set.intersection(*map(set, self.layouts))
        found = dict.fromkeys(sorted(common), 0.0)
        for bounds, counts in self.layouts.items():
            for bound, counted in zip(bounds, counts, strict=True):
                if bound in common:
                    found[bound] += counted
        return found

    def quantile(self, q: float) -> float | None:
        """By linear interpolation within the bucket, as Prometheus does; None where nothing was counted, or where no
        bound but infinity is common."""
        buckets = self.buckets()
        bounds = list(buckets)
        if not bounds or buckets[bounds[-1]] <= 0 or bounds == [float("inf")]:
            return None
        rank, below, lower = q * buckets[bounds[-1]], 0.0, 0.0
        for bound in bounds:
            if buckets[bound] >= rank:
                if bound == float("inf"):
                    return lower
                inside = buckets[bound] - below
                return lower + (bound - lower) * ((rank - below) / inside if inside else 1.0)
            below, lower = buckets[bound], bound
        return lower


class Before:
    """The samples of a first look, by pod: what a second one counts from."""

    def __init__(self) -> None:
        self._pods: dict[str, dict[int, float]] = {}
        self._left = MAX_SERIES

    def remember(self, pod: str, samples: Mapping[int, float]) -> None:
        """Raises: ValueError when there are too many."""
        self._left -= len(samples)
        if self._left < 0:
            raise ValueError(f"more than {MAX_SERIES} series: name the metrics that are wanted")
        self._pods[pod] = dict(samples)

    def of(self, pod: str) -> Mapping[int, float] | None:
        """None for a pod that was not there, or was not read."""
        return self._pods.get(pod)


class PodMetrics:
    """What one pod serves, read in pieces. ``before``: what it served a while ago; then counters and histograms are
    what was added since, where a value that has fallen has begun again at zero."""

    def __init__(
        self,
        pod: str,
        prefixes: tuple[str, ...] = (),
        *,
        before: Mapping[int, float] | None = None,
        remembers: bool = False,
    ) -> None:
        self.pod = pod
        self.seen: dict[int, float] = {}
        self._text = Exposition(prefixes, () if prefixes else ITS_OWN)
        self._before = before
        self._remembers = remembers
        self._families: dict[str, Family] = {}
        self._open: tuple[Family, list[float], list[float]] | None = None

    def feed(self, chunk: bytes) -> None:
        """Raises: ValueError where it is no exposition."""
        self._take(self._text.feed(chunk))

    def finish(self) -> list[Family]:
        """Its families. Raises: ValueError where the text is no exposition."""
        self._take(self._text.finish())
        self._close()
        return list(self._families.values())

    def _take(self, samples: Iterator[Sample]) -> None:
        for sample in samples:
            value = self._since(sample)
            family = self._families.get(sample.family)
            if family is None:
                family = self._families[sample.family] = Family(sample.family, sample.kind)
            if sample.role == "bucket":
                self._bucket(family, sample.bound, value)
                continue
            if sample.role == "quantile" or isnan(value):
                continue
            if sample.role == "sum":
                family.sum += value
                continue
            if sample.role == "count":
                family.count += value
            family.series += 1
            family.by_pod[self.pod] = family.by_pod.get(self.pod, 0.0) + value

    def _since(self, sample: Sample) -> float:
        if sample.kind not in {"counter", "histogram", "summary"} or not (self._remembers or self._before is not None):
            return sample.value
        key = hash(sample.series)
        if self._remembers:
            self.seen[key] = sample.value
        before = self._before.get(key, 0.0) if self._before is not None else 0.0
        return sample.value - before if sample.value >= before else sample.value

    def _bucket(self, family: Family, bound: float, value: float) -> None:
        """The buckets of one series stand one below the other, in the order of their bounds."""
        if self._open is None or self._open[0] is not family or bound <= self._open[1][-1]:
            self._close()
            self._open = (family, [bound], [value])
            return
        self._open[1].append(bound)
        self._open[2].append(value)

    def _close(self) -> None:
        if self._open is not None:
            family, bounds, counts = self._open
            _add_counts(family.layouts, tuple(bounds), counts)
        self._open = None


def add_pod(found: dict[str, Family], families: Iterable[Family]) -> None:
    """Adds what one pod has served to the families ``found`` so far."""
    for family in families:
        own = found.setdefault(family.name, Family(family.name, family.kind))
        own.series += family.series
        own.count += family.count
        own.sum += family.sum
        for pod, value in family.by_pod.items():
            own.by_pod[pod] = own.by_pod.get(pod, 0.0) + value
        for bounds, counts in family.layouts.items():
            _add_counts(own.layouts, bounds, counts)


def outliers(families: Iterable[Family]) -> list[Outlier]:
    """Pods whose total is more than five deviations from the median, the farthest first; none among fewer than five.

    A deviation is 1.4826 × the median of the absolute deviations from the median; where more than half of the pods are
    equal that is zero, and it is 1.2533 × the mean of them.
    """
    from statistics import fmean, median

    found = []
    for family in families:
        values = family.by_pod
        if len(values) < _FEWEST:
            continue
        middle = median(values.values())
        away = {pod: abs(value - middle) for pod, value in values.items()}
        unit = median(away.values()) * _MEDIAN_SCALE or fmean(away.values()) * _MEAN_SCALE
        if unit > 0:
            found += [
                Outlier(family.name, pod, values[pod], middle, distance / unit)
                for pod, distance in away.items()
                if distance / unit > _OUT_OF_LINE
            ]
    return sorted(found, key=lambda entry: (-entry.deviations, entry.metric, entry.pod))


def gauge_spread(family: Family) -> dict[str, float]:
    """Least, median and most over the pods."""
    from statistics import median

    values = list(family.by_pod.values())
    return {"min": min(values), "median": median(values), "max": max(values)}


def _add_counts(layouts: dict[Layout, list[float]], bounds: Layout, counts: list[float]) -> None:
    known = layouts.get(bounds)
    layouts[bounds] = list(counts) if known is None else [a + b for a, b in zip(known, counts, strict=True)]
