"""What a policy says by itself about a case: to be caught, tolerated, or not looked at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pytest_llmdeploy.config.canary import CanaryConfig
from pytest_llmdeploy.release.canary.calibration.cases import A_A, Case, Effect
from pytest_llmdeploy.release.canary.calibration.figures import Figures, quantile
from pytest_llmdeploy.release.canary.calibration.model import worsened
from pytest_llmdeploy.release.canary.calibration.simulation import Place
from pytest_llmdeploy.release.canary.judge import QUANTILES

PROMOTE, CATCH, TOLERATE, BLIND = "promote", "catch", "tolerate", "not judged"
UNKNOWN = "unknown"
_LEAST = 1e-6
"""Increases below are rounding."""
_PROCESS = ("cpu_usage", "memory_usage")
"""Signals of the process, which its metrics tell however the service's own are."""


@dataclass(frozen=True, slots=True)
class Stance:
    """What the policy says, and why."""

    says: str
    why: str


@dataclass(frozen=True, slots=True)
class Increase:
    """How much worse a signal is by a case, and what the policy allows."""

    key: str
    """Setting, such as compare.error_rate."""
    signal: str
    value: float
    """The increase (compare), or the value itself (sla)."""
    limit: float

    @property
    def beyond(self) -> bool:
        """Whether it is more than allowed; a limit itself is allowed."""
        return self.value > self.limit * (1 + 1e-9)


def increases(case: Case, config: CanaryConfig, figures: Figures, place: Place) -> list[Increase]:
    """Return what the case changes, of what the policy limits."""
    return list(_increases(case, config, figures, place))


def _increases(
    case: Case, config: CanaryConfig, figures: Figures, place: Place
) -> Iterator[Increase]:
    effect = case.effect
    if effect is None:
        return
    worse = worsened(figures, effect)
    if any(phase.weight < 100 for phase in config.phases):
        grown = growths(figures, effect)
        for signal, margin in config.compare.signals.items():
            if grown[signal] > _LEAST:
                yield Increase(f"compare.{signal}", signal, grown[signal], margin)
    sla = config.sla
    if sla.error_rate is not None and worse.error_rate - figures.error_rate > _LEAST:
        yield Increase("sla.error_rate", "error_rate", worse.error_rate, sla.error_rate)
    for signal in ("latency_p95", "latency_p99", "ttft_p95"):
        limit = getattr(sla, signal)
        bins = worse.ttft if signal.startswith("ttft") else worse.latency
        changed = bins != (figures.ttft if signal.startswith("ttft") else figures.latency)
        if limit is not None and bins and changed:
            yield Increase(f"sla.{signal}", signal, quantile(bins, float(signal[-2:]) / 100), limit)
    if sla.truncated is not None and effect.truncated:
        yield Increase("sla.truncated", "truncated", effect.truncated, sla.truncated)
    memory = figures.gauges.get("memory_usage", ())
    if sla.memory_usage is not None and effect.leak and memory:
        requests = sum(
            figures.rate * phase.weight / 100 * phase.duration for phase in config.phases
        )
        leaked = min(effect.leak_limit, effect.leak * requests / place.replicas)
        value = max(memory) + leaked * 1e6 / place.memory_bytes
        yield Increase("sla.memory_usage", "memory_usage", value, sla.memory_usage)
    if config.quality is not None and effect.worse and figures.answers:
        right = figures.answers.get("both", 0) + figures.answers.get("only_canary", 0)
        lost = effect.worse * right / max(1, sum(figures.answers.values()))
        yield Increase("quality", "answers", lost, config.quality.max_regression)


def growths(figures: Figures, effect: Effect) -> dict[str, float]:
    """Return by how much each signal that can be compared grows."""
    worse = worsened(figures, effect)
    grown = {"error_rate": worse.error_rate - figures.error_rate}
    for signal, (what, q) in QUANTILES.items():
        before = quantile(getattr(figures, what), q)
        grown[signal] = quantile(getattr(worse, what), q) / before - 1 if before > 0 else 0.0
    return grown


def stance(case: Case, config: CanaryConfig, figures: Figures, place: Place) -> Stance:
    """Return what the policy says of a case, on a service with these figures."""
    if case.name == A_A:
        return Stance(PROMOTE, "it is no worse")
    if case.effect is None:
        return _without_figures(case, config, figures, place)
    found = increases(case, config, figures, place)
    if not found:
        return Stance(BLIND, f"no limit of the policy is about it ({_missing(case)})")
    beyond = [each for each in found if each.beyond]
    if beyond:
        return Stance(CATCH, "; ".join(_said(each) for each in beyond))
    return Stance(TOLERATE, "; ".join(_said(each) for each in found))


def _without_figures(case: Case, config: CanaryConfig, figures: Figures, place: Place) -> Stance:
    if case.name == "crash-loop":
        return Stance(CATCH, "replicas are watched in each phase")
    if case.name == "wrong-version" and place.names_colors:
        return Stance(BLIND, "the router tells whose a request is; no name in an answer is needed")
    if case.name != "no-metrics":
        return Stance(CATCH, "who answers is proven at each weight, and counted")
    served = [
        signal
        for signal, source in figures.sources.items()
        if source != "client" and signal not in _PROCESS
    ]
    if served and config.metrics.preset == "reference":
        return Stance(CATCH, f"{', '.join(served)} come from the service's metrics")
    return Stance(BLIND, "no figure that is judged comes from the service's own metrics")


def _missing(case: Case) -> str:
    effect = case.effect
    assert effect is not None
    if effect.leak:
        return "sla.memory_usage is null, or nothing tells it"
    if effect.worse:
        return "there is no quality section"
    if effect.ttft != 1:
        return "compare.ttft_p50 and ttft_p95 are null, or nothing streams"
    if effect.errors or effect.truncated:
        return "compare.error_rate and sla.error_rate are null"
    return "compare.latency_p50 and latency_p95 are null"


def _said(each: Increase) -> str:
    word = "more than" if each.beyond else "within"
    if each.key.startswith("compare."):
        if each.signal == "error_rate":
            return f"{100 * each.value:+.3g} points, {word} {each.key} {each.limit:g}"
        return f"{each.signal} {100 * each.value:+.0f} %, {word} {each.key} {each.limit:g}"
    if each.key == "quality":
        return f"{100 * each.value:.0f} points of the answers, {word} quality {each.limit:g}"
    return f"{each.signal} {each.value:.3g}, {word} {each.key} {each.limit:g}"
