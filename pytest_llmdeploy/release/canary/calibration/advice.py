"""Sentences that follow from the figures: what to change, and what that costs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from pytest_llmdeploy.config.canary import CanaryConfig, PhaseConfig
from pytest_llmdeploy.release.canary.calibration.cases import A_A
from pytest_llmdeploy.release.canary.calibration.figures import Figures
from pytest_llmdeploy.release.canary.calibration.policy import (
    BLIND,
    CATCH,
    TOLERATE,
    growths,
)
from pytest_llmdeploy.release.canary.calibration.results import SLIPS, CaseResult
from pytest_llmdeploy.release.canary.calibration.simulation import INCONCLUSIVE, PROMOTED
from pytest_llmdeploy.release.canary.judge import QUANTILES
from pytest_llmdeploy.verdicts.distance import difference_bounds, ratio_bounds
from pytest_llmdeploy.verdicts.sequences import Distribution

MOST = 10_000_000.0
_COUNTED = ("error_rate", "latency_p95", "latency_p99", "ttft_p95", "itl_p95", "truncated")
"""Limits that are judged by a number of requests."""
_WORTH = 0.005
"""Increases below are nobody's margin."""
_USUAL = 0.25
"""A margin of a latency that is worth proposing, where none is set."""
_VALUES = 20_000
"""Values that stand for a distribution; more are reckoned by ratio_bounds' factor."""


def advice(results: Sequence[CaseResult], config: CanaryConfig, figures: Figures) -> list[str]:
    """Return sentences, the most important first."""
    found = [*_of_no_worse(results, config, figures)]
    if not config.compare.signals or all(phase.weight == 100 for phase in config.phases):
        found.append(
            "Nothing is compared: only absolute limits judge a new version, so it may become as "
            "bad as they allow before anything is said; set compare.error_rate and "
            "compare.latency_p95, and give a phase a weight below 100."
        )
    for result in results:
        found += _of_case(result, config, figures)
    return found


def requests_needed(
    config: CanaryConfig, figures: Figures, signal: str, margin: float, weight: int
) -> int | None:
    """Return the requests of the new version at which one that is no worse is shown to be so.

    With counts as they are expected, so about half of all versions need more. None above ten
    million, and where buckets are too wide for the margin.
    """
    share, alpha = weight / 100, config.alpha_each
    ratio = (1 - share) / share
    if signal == "error_rate":
        rate = figures.error_rate

        def within(n: float) -> bool:
            stable = (rate * n * ratio, n * ratio)
            return difference_bounds(stable, (rate * n, n), alpha / 2)[1] <= margin

    else:
        what, q = QUANTILES[signal]
        bins = getattr(figures, what)
        if not bins:
            return None
        before, after = (
            Distribution.of(tuple((high, round(_VALUES * each * part)) for _, high, part in bins))
            for each in (ratio, 1.0)
        )

        def within(n: float) -> bool:
            high = ratio_bounds(before, after, q, alpha, factor=n / after.total)[1]
            return high is not None and high <= 1 + margin

    least = config.compare.min_requests * max(1.0, 1 / ratio)
    low, high = least - 1, least
    while not within(high):
        low, high = high, 2 * high
        if high > MOST:
            return None
    while high > least and high - low > 0.03 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if within(middle) else (middle, high)
    unit: int = 10 ** max(0, len(str(math.ceil(high))) - 2)
    return math.ceil(high / unit) * unit


def _of_no_worse(
    results: Sequence[CaseResult], config: CanaryConfig, figures: Figures
) -> Iterator[str]:
    found = next((each for each in results if each.case.name == A_A), None)
    if found is None:
        return
    simulated = found.simulated
    stuck = simulated is not None and simulated.promoted.share < 1 - SLIPS
    stuck = stuck or any(each.outcome == INCONCLUSIVE for each in found.measured)
    if simulated is not None and stuck:
        left = simulated.inconclusive
        word = "never promotes" if simulated.promoted.count == 0 else "seldom promotes"
        if simulated.promoted.share >= 0.5:
            word = "does not always promote"
        yield (
            f"This policy {word} a version that is no worse: {_percent(simulated.promoted.share)} "
            f"of {left.n} simulated ones were promoted, {_percent(left.share)} stayed inconclusive "
            f"until a phase's max_duration{_most(simulated.by)}."
        )
    if stuck:
        for phase in config.phases:
            yield from _too_few(phase, config, figures)
    if stuck and config.compare.promote_on == "non-inferior":
        for phase in config.phases:
            yield from _too_short(phase, config, figures)
    if simulated is not None and simulated.caught.low > config.compare.alpha:
        yield (
            f"False alarms: {_percent(simulated.caught.share)} of {simulated.caught.n} simulated "
            f"versions that are no worse were rolled back{_most(simulated.by)}, more than "
            f"compare.alpha ({config.compare.alpha:g}) allows comparisons: an absolute limit is "
            "too close to what the running version does; raise it, or sla.points, or "
            "sample_interval."
        )


def _too_few(phase: PhaseConfig, config: CanaryConfig, figures: Figures) -> Iterator[str]:
    """Yield what keeps a phase below min_requests, or without enough samples."""
    points, fewest = config.sla.points, config.compare.min_requests
    if not config.sla.limits:
        return
    window = points * config.sample_interval
    if window > phase.longest:
        yield (
            f"Phase {phase.name} ends after {_time(phase.longest)}, before it has the {points} "
            f"samples that sla.points wants, {_time(config.sample_interval)} apart: lower "
            f"sla.points or sample_interval, or raise max_duration."
        )
        return
    per_second = figures.rate * phase.weight / 100
    counted = any(getattr(config.sla, key) is not None for key in _COUNTED)
    if counted and per_second * window < 1.2 * fewest:
        yield (
            f"Phase {phase.name}: the last {points} samples of {_time(config.sample_interval)} "
            f"have about {per_second * window:.0f} requests of the new version, and limits of sla "
            f"are judged by {fewest} (compare.min_requests) or more: raise sample_interval to "
            f"{_time(1.5 * fewest / per_second / points)}, or sla.points, weight or traffic."
        )


def _too_short(phase: PhaseConfig, config: CanaryConfig, figures: Figures) -> Iterator[str]:
    """Yield what keeps a phase from passing, where its time is too short for it."""
    if not config.prove_from <= phase.weight < 100:
        return
    per_second = figures.rate * phase.weight / 100
    worst: tuple[float, str, float, int | None] | None = None
    for signal, margin in config.compare.signals.items():
        needed = requests_needed(config, figures, signal, margin, phase.weight)
        lasts = math.inf if needed is None else needed / per_second
        if lasts > 0.8 * phase.longest and (worst is None or lasts > worst[0]):
            worst = (lasts, signal, margin, needed)
    if worst is None:
        return
    lasts, signal, margin, needed = worst
    name = f"Phase {phase.name}: to show {signal} within {_margin(signal, margin)}"
    if needed is None:
        yield f"{name} no number of requests would do; the histogram's buckets are too wide for it."
        return
    enough = 1.5 * needed / phase.longest
    weight = math.ceil(100 * enough / figures.rate)
    ways = [
        f"max_duration {_time(1.5 * lasts)}",
        f"traffic of {_number(100 * enough / phase.weight)}/s",
    ]
    if phase.weight < weight <= 50:
        ways.insert(1, f"weight {weight}")
    yield (
        f"{name} takes about {needed} requests of the new version; at {_number(figures.rate)}/s, "
        f"{phase.weight} % of which are its own, that is {_time(lasts)}, and the phase ends after "
        f"{_time(phase.longest)}. One of these would do: {', '.join(ways)}, a wider margin, or "
        "compare.promote_on: no-regression, which proves less."
    )


def _of_case(result: CaseResult, config: CanaryConfig, figures: Figures) -> Iterator[str]:
    case, simulated, says = result.case, result.simulated, result.stance.says
    promoted = any(each.outcome == PROMOTED for each in result.measured)
    share = (
        f"{_percent(simulated.promoted.share)} of such versions would be promoted"
        if simulated
        else ""
    )
    what = f"{case.what[0].upper()}{case.what[1:]} ({case.name})"
    if says == CATCH and not result.held:
        seen = simulated is not None and simulated.promoted.low > SLIPS
        how = share if seen else "the real one was promoted"
        yield (
            f"{what}: the policy says it is too much ({result.stance.why}), and yet {how}: the "
            "requests do not suffice to see it; give phases more time, weight or traffic."
        )
    elif says == BLIND and (promoted or simulated is None):
        yield f"{what}: {_unseen(result)}"
    elif says == TOLERATE and simulated is not None and simulated.promoted.share >= SLIPS:
        yield f"{what}: {result.stance.why}; {share}. " + _to_catch(result, config, figures)


def _to_catch(result: CaseResult, config: CanaryConfig, figures: Figures) -> str:
    """Return which margin would catch what is tolerated, and what that costs."""
    assert result.case.effect is not None
    grown = {
        signal: value
        for signal, value in growths(figures, result.case.effect).items()
        if value >= _WORTH
    }
    if not grown:
        return "No comparison would tell it."
    signal = max(grown, key=lambda each: (grown[each], each in config.compare.signals))
    if signal in config.compare.signals:
        return _tighter(signal, grown[signal], config, figures)
    rise = f"{signal} grows by {100 * grown[signal]:.0f} %, and compare.{signal} is null. "
    return rise + _tighter(signal, min(grown[signal], _USUAL), config, figures)


def _unseen(result: CaseResult) -> str:
    name = result.case.name
    ends = {
        "leak": "set sla.memory_usage, and have a source tell it (canary.metrics); a leak that is "
        "slower than a phase is seen by no canary.",
        "worse-answers": "name a gate in canary.quality: its cases are asked of both versions.",
        "no-metrics": "a figure from the service's own metrics (canary.metrics) would tell.",
        "ttft-2x": "set compare.ttft_p95, and let canary.traffic stream.",
    }
    if name == "wrong-version":
        return f"not judged: {result.stance.why}."
    return f"not judged: {result.stance.why}; " + ends.get(name, "set a limit to have it judged.")


def _tighter(signal: str, value: float, config: CanaryConfig, figures: Figures) -> str:
    """Return what it costs to have a margin of that increase itself."""
    margin = math.floor(value * 1000 + 1e-6) / 1000
    proving = [p for p in config.phases if config.prove_from <= p.weight < 100]
    if margin <= 0 or not proving:
        return ""
    first = proving[0]
    needed = requests_needed(config, figures, signal, margin, first.weight)
    start = f"To have it caught, set compare.{signal}: {margin:g}"
    if needed is None:
        return f"{start}, which no number of requests up to ten million could show."
    seconds = needed / (figures.rate * first.weight / 100)
    then = "raise the weight or the traffic" if seconds > first.longest else "there is time"
    return (
        f"{start}, which takes about {needed} requests of the new version in {first.name}; at "
        f"{_number(figures.rate)}/s, {first.weight} % of which are its own, that is "
        f"{_time(seconds)}: {then}."
    )


def _most(by: object) -> str:
    names = list(by) if isinstance(by, dict) else []
    return f", mostly because of {names[0]}" if names else ""


def _margin(signal: str, margin: float) -> str:
    return f"{100 * margin:g} points" if signal == "error_rate" else f"{100 * margin:g} %"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %" if share < 0.995 or share == 1 else "> 99 %"


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
