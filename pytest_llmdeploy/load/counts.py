"""How many requests miss each objective: what verdicts are made of, and all that they need.

A percentile objective ``ttft_p95 <= 0.8`` holds where at most 5 % of the requests take longer, so
it is a share like the others, and its verdict needs counts alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pytest_llmdeploy.config.objectives import RATES, Objective
from pytest_llmdeploy.load.definitions import NoUsageError, is_good, is_judged, value_of
from pytest_llmdeploy.load.ledger import EndClass, Record
from pytest_llmdeploy.verdicts.shares import ClusterSums


@dataclass(slots=True)
class Count:
    """The requests that one objective is about."""

    n: int = 0
    bad: int = 0
    """Those that missed it, the failed ones among them."""
    unknown: int = 0
    """Those that could not be judged, for want of token counts."""
    gaps: ClusterSums = field(default_factory=ClusterSums)
    """Token gaps in place of requests, for `itl`."""

    def merge(self, other: Count) -> None:
        """Add the counts of another process."""
        self.n += other.n
        self.bad += other.bad
        self.unknown += other.unknown
        self.gaps.merge(other.gaps)


def allowed_share(objective: Objective) -> float:
    """Return the largest share of bad requests with which the objective holds."""
    if objective.percentile is not None:
        return round(1 - objective.percentile / 100, 12)
    return objective.limit if objective.at_most else round(1 - objective.limit, 12)


class Counts:
    """Counts for a run's objectives; those on rates have none."""

    def __init__(
        self, objectives: Sequence[Objective], good: Mapping[str, float], warmup: float
    ) -> None:
        self._objectives = [each for each in objectives if each.metric not in RATES]
        self._good = good
        self._warmup = warmup
        self.of = {objective.name: Count() for objective in self._objectives}

    def add(self, record: Record) -> None:
        """Count a request."""
        if not is_judged(record, self._warmup):
            return
        for objective in self._objectives:
            count = self.of[objective.name]
            if objective.metric == "itl":
                _add_gaps(count, objective, record)
                continue
            try:
                bad = self._is_bad(objective, record)
            except NoUsageError:
                count.unknown += 1
                continue
            if bad is not None:
                count.n += 1
                count.bad += bad

    def _is_bad(self, objective: Objective, record: Record) -> bool | None:
        if objective.metric == "error_rate":
            return bool(record["class"] != EndClass.OK)
        if objective.metric == "goodput":
            return not is_good(record, self._good)
        value = value_of(objective.metric, record)
        return None if value is None else value > objective.limit

    def merge(self, other: Counts) -> None:
        """Add the counts of another process."""
        for name, count in other.of.items():
            self.of[name].merge(count)

    def to_json(self) -> dict[str, Any]:
        """Return builtins."""
        return {name: asdict(count) for name, count in self.of.items()}

    def take(self, data: Mapping[str, Any]) -> None:
        """Take the counts that `to_json` gave, in place of those here."""
        for name, count in data.items():
            sums = ClusterSums(**count["gaps"])
            self.of[name] = Count(count["n"], count["bad"], count["unknown"], sums)


def _add_gaps(count: Count, objective: Objective, record: Record) -> None:
    """Count the gaps of one stream; those of a failed request are all bad, and one at least."""
    if record.get("stream") is False:
        return
    gaps = record.get("gaps", 0)
    if record["class"] != EndClass.OK:
        count.gaps.add(max(gaps, 1), max(gaps, 1))
    elif gaps:
        count.gaps.add(record["over"][repr(objective.limit)], gaps)
