"""A service-level objective as it is written: ``ttft_p95 <= 800 ms``."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from pytest_llmdeploy.config.sentences import suggestion

LATENCIES = ("ttft", "ttfr", "tpot", "itl", "e2e", "queueing")
"""Metrics of which a percentile can be asked, in seconds."""
SHARES = ("error_rate", "goodput")
RATES = ("throughput", "token_throughput")
"""Answered requests, and tokens in them, per second."""
_AT_MOST = frozenset({*LATENCIES, "error_rate"})
_FORM = re.compile(
    r"\s*(?P<name>[a-z_0-9]+?(_p(?P<percentile>\d{1,3}(\.\d{1,3})?))?)\s*"
    r"(?P<operator><=|>=|==|<|>|=)\s*(?P<number>\d+(\.\d+)?)\s*(?P<unit>ms|s|%|/s)?\s*"
)
_UNITS = {"ms": 1e-3, "s": 1.0, "%": 1e-2, "/s": 1.0}


@dataclass(frozen=True, slots=True)
class Objective:
    """What one number of a load run must be."""

    name: str
    """The metric with its percentile, such as ttft_p95; it becomes the test's name."""
    metric: str
    percentile: float | None
    """Above 0 and below 100; None for shares and rates."""
    at_most: bool
    """The number must be `limit` at most; else it must be `limit` at least."""
    limit: float
    """Seconds, a share from 0 to 1, or a number per second."""

    @property
    def text(self) -> str:
        """The objective in base units, as `parse_objective` reads it."""
        number = f"{self.limit:.12f}".rstrip("0").rstrip(".")
        return f"{self.name} {'<=' if self.at_most else '>='} {number}"


def parse_objective(text: str) -> Objective:
    """Return the objective that `text` states; raise ValueError with what would do instead."""
    form = _FORM.fullmatch(text)
    if form is None:
        raise ValueError(f"expected an objective such as 'ttft_p95 <= 0.8', got '{text}'")
    name, number, unit = form["name"], float(form["number"]), form["unit"]
    percentile = float(form["percentile"]) if form["percentile"] else None
    metric = name.rpartition("_p")[0] if percentile is not None else name
    _check_metric(name, metric, percentile)
    at_most = metric in _AT_MOST
    wanted = "<=" if at_most else ">="
    if form["operator"] != wanted:
        raise ValueError(f"'{metric}' takes {wanted}, not {form['operator']}")
    allowed = _units_of(metric)
    if unit is not None and unit not in allowed:
        raise ValueError(f"'{metric}' has no unit '{unit}'; it takes {' or '.join(allowed)}")
    if percentile is not None:
        if not 0 < percentile < 100:
            raise ValueError("a percentile lies above 0 and below 100")
        name = f"{metric}_p{percentile:g}"
    limit = round(number * _UNITS[unit] if unit else number, 12)
    _check_limit(metric, limit, at_most=at_most)
    return Objective(name, metric, percentile, at_most, limit)


def _check_limit(metric: str, limit: float, *, at_most: bool) -> None:
    """Refuse limits that cannot be missed, and those that cannot be met."""
    if not math.isfinite(limit):
        raise ValueError("the limit is larger than any number can be")
    if metric in SHARES:
        if limit > 1:
            instead = f": write {limit / 100:g} or {limit:g}%" if limit <= 100 else ""
            raise ValueError(f"'{metric}' is a share from 0 to 1{instead}")
        if limit == (1 if at_most else 0):
            raise ValueError(f"'{metric}' is never {'above 1' if at_most else 'below 0'}: no test")
    elif limit == 0:
        raise ValueError(
            f"'{metric}' is {'never at most' if at_most else 'always at least'} 0: "
            "give a limit above 0"
        )


def _units_of(metric: str) -> tuple[str, ...]:
    if metric in LATENCIES:
        return ("ms", "s")
    return ("%",) if metric in SHARES else ("/s",)


def _check_metric(name: str, metric: str, percentile: float | None) -> None:
    if metric in LATENCIES:
        if percentile is None:
            raise ValueError(f"'{metric}' needs a percentile, such as {metric}_p95")
        return
    if metric in (*SHARES, *RATES):
        if percentile is not None:
            raise ValueError(f"'{metric}' has no percentiles: write '{metric}'")
        return
    known = [*(f"{metric}_p95" for metric in LATENCIES), *SHARES, *RATES]
    near = suggestion(name, known) or f", expected one of: {', '.join(known)}"
    raise ValueError(f"unknown metric '{name}'{near}")
