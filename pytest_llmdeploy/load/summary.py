"""From the ledger to the numbers of a run, in one pass and with flat memory."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_llmdeploy.config.objectives import Objective
from pytest_llmdeploy.load.controller import TrafficResult
from pytest_llmdeploy.load.counts import Count, Counts
from pytest_llmdeploy.load.definitions import NoUsageError, is_judged, value_of
from pytest_llmdeploy.load.judging import Judged, judge_count, judge_rate
from pytest_llmdeploy.load.ledger import EndClass, Record, read_ledger
from pytest_llmdeploy.verdicts.histogram import Histogram
from pytest_llmdeploy.verdicts.shares import order_statistic_ranks

FROM_LEDGER = ("ttft", "ttfr", "tpot", "e2e", "queueing")
CDFS = ("ttft", "e2e")
BATCHES = 20
"""Stretches of time by which rates are judged."""
MOST_BINS = 150
MOST_DETAILS = 20
MOST_KINDS = 100
"""Different versions and failure texts that are told apart; further ones are counted together."""
_WIDTHS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
_CDF_POINTS = 120


class Spread:
    """The values of one latency: finite ones by bucket, and the number of the others."""

    def __init__(self) -> None:
        self.histogram = Histogram()
        self.n = 0

    def add(self, value: float | None) -> None:
        """Count a value; None is none."""
        if value is not None:
            self.n += 1
            if math.isfinite(value):
                self.histogram.add(value)

    def quantile(self, q: float) -> float | None:
        """Return a quantile over all values; None where it is infinite, or nothing is there."""
        return self.histogram.quantile(q, self.n) if self.n else None

    def bounds(self, q: float, confidence: float) -> tuple[float | None, float | None]:
        """Return what bounds a quantile from below and from above, by order statistics.

        None where the values are too few for a bound, or where it is infinite.
        """
        ranks = order_statistic_ranks(self.n, q, confidence)
        lower, upper = (rank and self.histogram.at_rank(rank) for rank in ranks)
        return lower, upper

    def to_json(self) -> dict[str, Any]:
        """Return the numbers that reports show."""
        finite = self.histogram.total
        whole = 0 < finite == self.n  # else the longest, and with it the mean, is infinite
        return {
            "n": self.n,
            "finite": finite,
            "mean": self.histogram.mean if whole else None,
            **{f"p{p}": self.quantile(p / 100) for p in (50, 90, 95, 99)},
            "max": self.histogram.highest if whole else None,
        }

    def cdf(self) -> list[list[float]]:
        """Return points (seconds, share of all values) of the distribution."""
        points, seen, step = [], 0, max(self.n / _CDF_POINTS, 1)
        due = 0.0
        keys = sorted(self.histogram.counts)
        for key in keys:
            seen += self.histogram.counts[key]
            if seen >= due or key == keys[-1]:
                points.append([round(Histogram.value_of(key), 6), round(seen / self.n, 5)])
                due = seen + step
        return points


class Tally:
    """Everything that is counted of a run's requests."""

    def __init__(
        self,
        objectives: Sequence[Objective],
        good: Mapping[str, float],
        warmup: float,
        duration: float,
    ) -> None:
        """`duration` is the traffic's, in seconds; what is counted per second lies within it."""
        self.counts = Counts(objectives, good, warmup)
        self.objectives = objectives
        self.warmup = warmup
        self.duration = duration
        self.intended = self.judged = self.judged_ok = self.sent = 0
        self.classes: Counter[str] = Counter()
        self.details: Counter[tuple[str, str]] = Counter()
        self.versions: Counter[str] = Counter()
        self.clients: dict[str, Counter[str]] = defaultdict(Counter)
        self.tokens: Counter[str] = Counter()
        self.spreads = {name: Spread() for name in FROM_LEDGER}
        self.from_sent = {name: Spread() for name in CDFS}
        self._answers = [0.0] * BATCHES
        self._output = [0.0] * BATCHES
        self._in_window: Counter[str] = Counter()
        self._without_usage = 0
        self._timeline = Timeline(duration)

    @property
    def window(self) -> float:
        """Seconds that are judged."""
        return max(self.duration - self.warmup, 1e-9)

    def add(self, record: Record) -> None:
        """Count a request."""
        self.intended += 1
        self.sent += "sent" in record
        end = record["class"]
        self.classes[end] += 1
        if detail := record.get("detail"):
            _count(self.details, (end, detail), (end, "other details"))
        if version := record.get("version"):
            _count(self.versions, version, "other versions")
        if client := record.get("client"):
            self.clients[client]["intended"] += 1
            self.clients[client]["ok"] += end == EndClass.OK
        for key, name in _TOKENS.items():
            if key in record:
                self.tokens[name] += record[key]
        self._timeline.add(record)
        self._add_rates(record)
        if is_judged(record, self.warmup):
            self._add_judged(record)

    def _add_judged(self, record: Record) -> None:
        self.judged += 1
        self.judged_ok += record["class"] == EndClass.OK
        self.counts.add(record)
        for name, spread in self.spreads.items():
            try:
                spread.add(value_of(name, record))
            except NoUsageError:
                continue
        if "sent" in record:
            for name, spread in self.from_sent.items():
                spread.add(value_of(name, record, since="sent"))

    def _add_rates(self, record: Record) -> None:
        if self.warmup <= record.get("at", 0.0) <= self.duration:
            self._in_window["intended"] += 1
        if record["class"] == EndClass.OK:
            place = self._batch(record["end"])
            if place is not None:
                self._answers[place] += 1
                self._without_usage += "tokens" not in record
        if tokens := record.get("tokens"):
            # Tokens are credited to the time in which they came, evenly.
            last: float = record["last"] if "last" in record else record["end"]
            first = min([last, *(record[key] for key in ("first", "reason") if key in record)])
            for part in range(BATCHES):
                place = self._batch(first + (last - first) * (part + 0.5) / BATCHES)
                if place is not None:
                    self._output[place] += tokens / BATCHES

    def _batch(self, moment: float) -> int | None:
        place = math.floor((moment - self.warmup) / self.window * BATCHES)
        return place if 0 <= place < BATCHES else None

    def judge(self, objective: Objective, confidence: float, gaps: Histogram) -> Judged:
        """Return the verdict on one objective."""
        per_batch = self.window / BATCHES
        if objective.metric == "throughput":
            return judge_rate(objective, [n / per_batch for n in self._answers], confidence)
        if objective.metric == "token_throughput":
            if self._without_usage:
                count = Count(int(sum(self._answers)) - self._without_usage)
                count.unknown = self._without_usage
                return judge_count(objective, count, confidence, None)
            return judge_rate(objective, [n / per_batch for n in self._output], confidence)
        count = self.counts.of[objective.name]
        if objective.percentile is None:
            return judge_count(objective, count, confidence, None)
        q = objective.percentile / 100
        if objective.metric == "itl":  # gaps of one request are not independent: no bounds
            return judge_count(objective, count, confidence, gaps.quantile(q))
        spread = self.spreads[objective.metric]
        value, bounds = spread.quantile(q), spread.bounds(q, confidence)
        return judge_count(objective, count, confidence, value, bounds)

    def to_json(self, gaps: Histogram, token_gaps: Histogram | None = None) -> dict[str, Any]:
        """Return the run's numbers for reports; the gaps are between pieces, and by token."""
        # Where all failed, whether they would have reasoned is not known.
        measured = {name: each.n for name, each in self.spreads.items()}
        measured["ttfr"] = self.spreads["ttfr"].histogram.total
        latencies = {name: self.spreads[name].to_json() for name, n in measured.items() if n}
        for name, spread in self.from_sent.items():
            if name in latencies:
                latencies[name]["from_sent"] = spread.to_json()
        for name, histogram in (("itl", gaps), ("itl_per_token", token_gaps)):
            if histogram is not None and histogram.total:
                spread = Spread()
                spread.histogram, spread.n = histogram, histogram.total
                latencies[name] = spread.to_json()
        shown = [name for name in CDFS if self.spreads[name].histogram.total]
        return {
            "window": [self.warmup, self.duration],
            "intended": self.intended,
            "judged": self.judged,
            "sent": self.sent,
            "classes": dict(self.classes),
            "versions": dict(self.versions),
            "clients": {name: dict(counts) for name, counts in self.clients.items()},
            "tokens": {name: self.tokens.get(name) for name in _TOKENS.values()},
            "rates": {
                "intended": self._in_window["intended"] / self.window,
                "ok": sum(self._answers) / self.window,
                "tokens": sum(self._output) / self.window if "completion" in self.tokens else None,
            },
            "latencies": latencies,
            "cdf": {
                name: {"intended": self.spreads[name].cdf(), "sent": self.from_sent[name].cdf()}
                for name in shown
            },
            "timeline": self._timeline.to_json(),
            "failures": [
                {"class": end, "count": count, "detail": detail}
                for (end, detail), count in self.details.most_common(MOST_DETAILS)
            ],
        }


_TOKENS = {"prompt_tokens": "prompt", "tokens": "completion", "cached_tokens": "cached"}


def _count(counter: Counter[Any], key: Any, otherwise: Any) -> None:
    """Count `key`, or `otherwise` where the service makes up ever new ones."""
    counter[key if key in counter or len(counter) < MOST_KINDS else otherwise] += 1


class Timeline:
    """What happened when, in bins of the intended time."""

    def __init__(self, duration: float) -> None:
        wanted = max(duration, 1e-9) / MOST_BINS
        self.bin = next((width for width in _WIDTHS if width >= wanted), wanted)
        bins = max(1, math.ceil(duration / self.bin - 1e-9))
        self.intended = [0] * bins
        self.ok = [0] * bins
        self._open = [0] * (bins + 1)
        self._ttft = [Spread() for _ in range(bins)]
        self._e2e = [Spread() for _ in range(bins)]

    def add(self, record: Record) -> None:
        """Count a request."""
        at: float = record["at"] if "at" in record else record["end"]
        place = self._place(at)
        self._open[place] += 1
        # What ends after the last bin is open to its end.
        last = len(self.intended) - 1
        self._open[min(math.floor(record["end"] / self.bin), last + 1)] -= 1
        self.intended[place] += 1
        self.ok[place] += record["class"] == EndClass.OK
        self._ttft[place].add(value_of("ttft", record))
        self._e2e[place].add(value_of("e2e", record))

    def _place(self, moment: float) -> int:
        return min(max(math.floor(moment / self.bin), 0), len(self.intended) - 1)

    def to_json(self) -> dict[str, Any]:
        """Return one list per curve, an entry per bin."""
        open_now, in_flight = 0, []
        for change in self._open[:-1]:
            open_now += change
            in_flight.append(open_now)
        return {
            "bin": self.bin,
            "start": 0.0,
            "intended": self.intended,
            "ok": self.ok,
            "failed": [n - ok for n, ok in zip(self.intended, self.ok, strict=True)],
            "in_flight": in_flight,
            "ttft_p50": [spread.quantile(0.5) for spread in self._ttft],
            "ttft_p95": [spread.quantile(0.95) for spread in self._ttft],
            "e2e_p95": [spread.quantile(0.95) for spread in self._e2e],
        }


def tally(
    result: TrafficResult,
    objectives: Sequence[Objective],
    good: Mapping[str, float],
    warmup: float,
    duration: float,
) -> Tally:
    """Count the requests of a finished run."""
    whole = Tally(objectives, good, warmup, duration)
    for record in read_ledger(result.ledger):
        whole.add(record)
    return whole
