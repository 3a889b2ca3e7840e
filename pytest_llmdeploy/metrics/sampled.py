"""From samples to figures, alike for a Prometheus and for texts that were scraped here."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pytest_llmdeploy.errors import NoDataError, NotMeasuredError
from pytest_llmdeploy.metrics.buckets import QUANTILES, from_cumulative, number, quantile
from pytest_llmdeploy.metrics.history import Between, History
from pytest_llmdeploy.metrics.limits import Limits
from pytest_llmdeploy.metrics.presets import Family, Match, Preset
from pytest_llmdeploy.ports import Buckets, Reading, Subject, Tally


@dataclass(frozen=True, slots=True)
class Found:
    """Where a family's series of one version are."""

    histories: dict[str, History]
    """By target."""
    names: tuple[str, ...]
    """Names of the series; the first that is there counts."""
    matches: tuple[tuple[Match, ...], ...]
    """Alternatives of conditions; the first that is there counts."""
    query: str
    stale_after: float
    """Seconds from the latest sample to the span's end beyond which it is stale."""
    silent: tuple[str, ...] = ()
    """Replicas that should have fresh samples, and have none."""


@dataclass(frozen=True, slots=True)
class Row:
    """One series in a span."""

    target: str
    labels: dict[str, str]
    value: float
    """A counter's increase, or a gauge's latest value."""
    seconds: float
    """Seconds between the two samples behind it."""


@dataclass(slots=True)
class Rows:
    """The series of one family and version in a span."""

    query: str
    """The question, and the samples that answered it."""
    rows: list[Row] = field(default_factory=list)

    def total(self, keep: Callable[[Row], bool] | None = None) -> float:
        """Return the sum of the increases; raise NoDataError where one is no number."""
        rows = self.rows if keep is None else filter(keep, self.rows)
        return math.fsum(finite(row.value, self.query) for row in rows)

    def rate(self) -> float:
        """Return the increase per second, the targets added up."""
        return math.fsum(finite(row.value, self.query) / row.seconds for row in self.rows)


def finite(value: float, query: str) -> float:
    """Return a number; raise NoDataError for NaN and infinity."""
    if not math.isfinite(value):
        raise NoDataError(f"{query}: the value is {value}, which is no measurement")
    return value


def moments(since: float, until: float) -> str:
    """Return a span for people."""
    begin, end = (datetime.fromtimestamp(time, UTC) for time in (since, until))
    return f"{begin:%H:%M:%S.%f}"[:-5] + f" to {end:%H:%M:%S.%f}"[:-5] + " UTC"


def rows_of(found: Found, since: float, until: float, *, gauges: bool = False) -> Rows:
    """Return the series in a span; raise NoDataError where there is none, or one is too old."""
    latest = max((at for one in found.histories.values() if (at := one.latest)), default=None)
    if latest is None:
        raise NoDataError(f"{found.query}: no such series")
    if until - latest > found.stale_after:
        raise NoDataError(
            f"{found.query}: stale: the latest sample is {until - latest:.0f} s old, "
            f"more than {found.stale_after:g} s"
        )
    if found.silent:
        raise NoDataError(
            f"{found.query}: stale: no sample of the last {found.stale_after:g} s of "
            f"{' and '.join(found.silent)}: {'is it' if len(found.silent) == 1 else 'are they'} "
            "scraped?"
        )
    spans = {name: one.between(since, until) for name, one in found.histories.items()}
    used = {
        name: span
        for name, span in spans.items()
        if span is not None and (gauges or span.last > span.first)
    }
    if not used:
        raise NoDataError(
            f"{found.query}: the {until - since:.0f} s of {moments(since, until)} have fewer than "
            f"{'one sample' if gauges else 'two samples'}"
        )
    begin, end = min(s.begin for s in used.values()), max(s.end for s in used.values())
    result = Rows(f"{found.query}, samples of {moments(begin, end)}")
    for name in found.names:
        for matches in found.matches:
            result.rows = list(_rows(found, used, name, matches, gauges=gauges))
            if result.rows:
                return result
    raise NoDataError(f"{result.query}: no such series")


def _rows(
    found: Found, used: dict[str, Between], name: str, matches: Sequence[Match], *, gauges: bool
) -> Iterable[Row]:
    for target, span in used.items():
        history = found.histories[target]
        for key, value in history.gauges(span) if gauges else history.increases(span):
            labels = dict(key[1])
            if key[0] == name and all(match.holds(labels) for match in matches):
                yield Row(target, labels, value, span.seconds)


class SampledSource:
    """What sources of samples share; `_find` says where a version's samples are."""

    name = ""

    def __init__(self, preset: Preset, limits: Limits) -> None:
        self._preset = preset
        self._limits = limits

    def _find(
        self, family: Family, subject: Subject, since: float, until: float, *, gauge: bool = False
    ) -> Found:
        """Return where a family's series are; raise NotMeasuredError."""
        raise NotImplementedError

    def offers(self, signal: str) -> bool:
        """Whether the preset names the metrics of a signal, and its limit is known."""
        preset = self._preset
        if signal in QUANTILES:
            return getattr(preset, QUANTILES[signal][0]) is not None
        if signal == "cpu_usage":
            return preset.cpu is not None and bool(self._limits.cpu_cores)
        if signal == "memory_usage":
            return preset.memory is not None and bool(self._limits.memory_bytes)
        if signal == "tokens_per_second":
            return preset.tokens is not None
        return signal in ("error_rate", "throughput", "tally")

    def read(self, signal: str, subject: Subject, since: float, until: float) -> Reading:
        """Return a signal over a span of time."""
        if not SampledSource.offers(self, signal):
            raise NotMeasuredError(f"{self.name}: {signal} is not among what its preset names")
        if until <= since:
            raise NoDataError(f"{self.name}: {signal}: the span is empty")
        if signal in QUANTILES:
            return self._quantile(signal, subject, since, until)
        if signal == "cpu_usage":
            return self._cpu(subject, since, until)
        if signal == "memory_usage":
            return self._memory(subject, since, until)
        if signal == "tokens_per_second":
            assert self._preset.tokens is not None
            found = self._rows(self._preset.tokens, subject, since, until)
            return Reading(found.rate(), found.query)
        found = self._rows(self._preset.requests, subject, since, until)
        requests, errors = self._counted(found)
        if signal == "throughput":
            return Reading(found.rate(), found.query, requests)
        if not requests:
            raise NoDataError(f"{found.query}: 0 of 0 requests: there was none")
        return Reading(errors / requests, found.query, requests)

    def tally(self, subject: Subject, since: float, until: float) -> Tally:
        """Return what happened to the requests in a span of time."""
        found = self._rows(self._preset.requests, subject, since, until)
        requests, errors = self._counted(found)
        if not requests:
            raise NoDataError(f"{found.query}: 0 of 0 requests: there was none")
        parts: dict[str, Buckets] = {}
        query = found.query
        for what in ("latency", "ttft"):
            family: Family | None = getattr(self._preset, what)
            if family is None:
                continue
            try:
                parts[what] = self._buckets(family, subject, since, until)[0]
            except NoDataError as error:
                query += f"; without {what}: {error}"
        return Tally(requests=requests, errors=errors, query=query, **parts)

    def _rows(
        self, family: Family, subject: Subject, since: float, until: float, *, gauge: bool = False
    ) -> Rows:
        found = self._find(family, subject, since, until, gauge=gauge)
        return rows_of(found, since, until, gauges=gauge)

    def _counted(self, found: Rows) -> tuple[int, int]:
        """Return the requests and the errors among them."""
        preset = self._preset
        wrong = Match("of", preset.errors)

        def failed(row: Row) -> bool:
            for label in preset.error_labels:
                if label in row.labels:
                    return wrong.holds({"of": row.labels[label]})
            raise NotMeasuredError(
                f"{found.query}: a series has none of the labels "
                f"{', '.join(preset.error_labels)}, so nothing tells errors"
            )

        errors = round(found.total(failed))
        return max(errors, round(found.total())), errors

    def _buckets(
        self, family: Family, subject: Subject, since: float, until: float
    ) -> tuple[Buckets, str]:
        found = self._rows(family.buckets(), subject, since, until)
        series: dict[object, dict[float, float]] = defaultdict(dict)
        for row in found.rows:
            try:
                edge = float(row.labels["le"])
            except (KeyError, ValueError):
                raise NotMeasuredError(
                    f"{found.query}: a bucket's upper edge is {row.labels.get('le')!r}"
                ) from None
            own = frozenset(item for item in row.labels.items() if item[0] != "le")
            series[row.target, own][edge] = finite(row.value, found.query)
        # Each series for itself: their edges may differ.
        alone: dict[float, float] = defaultdict(float)
        for counts in series.values():
            before = 0.0
            for edge in sorted(counts):
                alone[edge] += max(0.0, counts[edge] - before)
                before = max(before, counts[edge])
        sums, so_far = {}, 0.0
        for edge in sorted(alone):
            so_far += alone[edge]
            sums[edge] = so_far
        return from_cumulative(sums, family.seconds), found.query

    def _quantile(self, signal: str, subject: Subject, since: float, until: float) -> Reading:
        what, q = QUANTILES[signal]
        family: Family = getattr(self._preset, what)
        buckets, query = self._buckets(family, subject, since, until)
        n = number(buckets)
        if not n:
            raise NoDataError(f"{query}: 0 of 0 values: there was none")
        value = quantile(buckets, q)
        if value is None:
            highest = max((edge for edge, _ in buckets if math.isfinite(edge)), default=0.0)
            raise NoDataError(
                f"{query}: quantile {q:g} of {n} lies above the highest bucket, {highest:g} s: "
                "give the histogram higher buckets"
            )
        return Reading(value, query, n)

    def _cpu(self, subject: Subject, since: float, until: float) -> Reading:
        assert self._preset.cpu is not None
        assert self._limits.cpu_cores
        found = self._rows(self._preset.cpu, subject, since, until)
        replicas: dict[str, float] = defaultdict(float)
        for row in found.rows:
            replicas[_replica(row)] += finite(row.value, found.query) / row.seconds
        cores = math.fsum(replicas.values()) / len(replicas)
        query = f"{found.query}, per second, mean of {len(replicas)}, of {self._limits.cpu_cores:g}"
        return Reading(cores / self._limits.cpu_cores, f"{query} cores")

    def _memory(self, subject: Subject, since: float, until: float) -> Reading:
        assert self._preset.memory is not None
        assert self._limits.memory_bytes
        found = self._rows(self._preset.memory, subject, since, until, gauge=True)
        replicas: dict[str, float] = defaultdict(float)
        for row in found.rows:
            replicas[_replica(row)] += finite(row.value, found.query)
        query = f"{found.query}, largest of {len(replicas)}, of {self._limits.memory_bytes:g} bytes"
        return Reading(max(replicas.values()) / self._limits.memory_bytes, query)


def _replica(row: Row) -> str:
    return row.labels.get("pod") or row.target
