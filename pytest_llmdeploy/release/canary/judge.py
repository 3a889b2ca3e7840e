"""From looks to the verdict of a phase. Pure: the same looks and limits, the same verdict.

Two questions, kept apart: does the new version keep its own limits (`sla`, on the mean of the last
samples), and is it no worse than the running one over the same time (`compare`, by tests that may
be looked at as often as one likes)? A phase passes where both are answered with yes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pytest_llmdeploy.config.canary import CanaryConfig, PhaseConfig
from pytest_llmdeploy.ports import Buckets, Tally
from pytest_llmdeploy.release.canary.looks import CANARY, NOT_MEASURED, STABLE, Look, Missing, Value
from pytest_llmdeploy.verdicts import Verdict
from pytest_llmdeploy.verdicts.paired import judge_paired
from pytest_llmdeploy.verdicts.regression import Comparison, compare_errors, compare_quantiles
from pytest_llmdeploy.verdicts.sequential import judge_share_anytime
from pytest_llmdeploy.verdicts.service_level import judge_points
from pytest_llmdeploy.verdicts.split import judge_split

SPLIT_ALPHA = 0.001
"""Probability of calling a right split wrong, in a whole phase."""
OWN_ALPHA = 0.001
"""Probability of calling a version that keeps its limit too bad by this run's own requests, in a
whole phase."""
OWN = "own_error_rate"
COUNTS_OWN = frozenset({"client", "simulated"})
"""Sources whose errors are those of this run's own requests."""
ALL = 100
QUANTILES = {
    "latency_p50": ("latency", 0.5),
    "latency_p95": ("latency", 0.95),
    "ttft_p50": ("ttft", 0.5),
    "ttft_p95": ("ttft", 0.95),
}
"""The compared quantiles: which distribution, and where in it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What is known about one signal."""

    signal: str
    rule: str
    """`sla`, `compare`, `split` or `quality`."""
    verdict: Verdict
    reason: str
    limit: float | None = None
    """Of the signal itself (sla), or of its increase (compare)."""
    estimate: float | None = None
    """Of the new version."""
    stable: float | None = None
    """Of the running version."""
    low: float | None = None
    high: float | None = None
    """Bounds of the increase."""
    e_value: float | None = None
    n: int | None = None
    """Requests of the new version behind it."""
    n_stable: int | None = None
    source: str = ""
    query: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return builtins."""
        return asdict(self) | {"verdict": str(self.verdict)}


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a phase's looks say, up to one of them."""

    verdict: Verdict
    reason: str
    findings: tuple[Finding, ...]

    @property
    def is_mismatch(self) -> bool:
        """Whether the served split is not the weight."""
        return any(finding.rule == "split" for finding in self.findings)

    @property
    def ends_at_once(self) -> bool:
        """Whether a phase ends with it, however long it was watched."""
        return self.verdict is Verdict.FAIL or self.is_mismatch

    def ends(self, phase: PhaseConfig, elapsed: float) -> bool:
        """Return whether a phase is over after so many seconds: passed, or nothing more to hope."""
        known = self.verdict is Verdict.PASS or elapsed >= phase.longest
        return elapsed >= phase.duration and known


class PhaseJudge:
    """Judges one phase, look by look."""

    def __init__(self, config: CanaryConfig) -> None:
        self._config = config
        self._samples: dict[str, list[Value | Missing]] = defaultdict(list)
        self._answers: Mapping[str, Any] | None = None
        self._worse_since: dict[str, float] = {}
        """By signal, the seconds of the look from which on it has been shown to be worse."""

    def note(self, look: Look) -> None:
        """Take the next look without judging; tallies are sums, so nothing of it is lost."""
        for name, value in (look.sample or {}).items():
            self._samples[name].append(value)
        self._answers = look.answers or self._answers

    def add(self, look: Look) -> Judgement:
        """Take the next look, and return what all of them say."""
        self.note(look)
        found = tuple(self._findings(look))
        if not found:
            reason = "nothing is judged: the file sets no limit that this phase can be held to"
            return Judgement(Verdict.INCONCLUSIVE, reason, ())
        return Judgement(*_together(found), found)

    def _findings(self, look: Look) -> Iterator[Finding]:
        yield from self._service_levels(look)
        if look.weight < ALL:
            yield from self._comparisons(look)
        if look.source not in COUNTS_OWN and self._config.sla.error_rate is not None:
            fewest = self._config.compare.min_requests
            yield from _own_requests(look, self._config.sla.error_rate, fewest)
        yield from _split(look, self._config.split_tolerance)
        if self._config.quality is not None and self._answers is not None:
            yield self._quality(self._answers)

    def _service_levels(self, look: Look) -> Iterator[Finding]:
        for key, limit in self._config.sla.limits.items():
            signal = key.removeprefix("min_")
            found = self._service_level(signal, limit, at_most=signal == key)
            yield _with_unattributed(found, look) if signal == "error_rate" else found

    def _service_level(self, signal: str, limit: float, *, at_most: bool) -> Finding:
        wanted = self._config.sla.points
        latest = self._samples[signal][-wanted:]
        points = [each.value if isinstance(each, Value) else None for each in latest]
        judged = judge_points(points, limit, at_most=at_most, wanted=wanted)
        finding = Finding(signal, "sla", judged.verdict, judged.reason, limit, judged.mean)
        if latest and isinstance(last := latest[-1], Missing):
            verdict = Verdict.ERROR if last.kind == NOT_MEASURED else Verdict.INCONCLUSIVE
            return replace(finding, verdict=verdict, reason=last.why)
        values = [each for each in latest if isinstance(each, Value)]
        if not values:
            return finding
        finding = replace(finding, source=values[-1].source, query=values[-1].query)
        counts = [each.n for each in values if each.n is not None]
        if not counts:
            return finding
        n, fewest = sum(counts), self._config.compare.min_requests
        finding = replace(finding, n=n)
        if n < fewest and judged.verdict is not Verdict.INCONCLUSIVE:
            reason = f"only {n} requests are behind its last {wanted} samples, {fewest} are needed"
            return replace(finding, verdict=Verdict.INCONCLUSIVE, reason=reason)
        return finding

    def _comparisons(self, look: Look) -> Iterator[Finding]:
        for signal, margin in self._config.compare.signals.items():
            stable, canary = look.tallies.get(STABLE), look.tallies.get(CANARY)
            missing = next((t for t in (canary, stable) if t is None or isinstance(t, Missing)), 0)
            if missing != 0 or not (isinstance(stable, Tally) and isinstance(canary, Tally)):
                failed = isinstance(missing, Missing) and missing.kind == NOT_MEASURED
                why = missing.why if isinstance(missing, Missing) else "no source tells it"
                verdict = Verdict.ERROR if failed else Verdict.INCONCLUSIVE
                yield Finding(signal, "compare", verdict, why, margin)
                continue
            finding = self._compared(signal, margin, look, stable, canary)
            yield replace(self._lasting(finding, look), source=look.source, query=canary.query)

    def _lasting(self, found: Finding, look: Look) -> Finding:
        """Return the finding; one that it is worse counts once both tallies can tell of its time.

        Else an incident of both versions would be that one's whose replicas were scraped first.
        """
        if found.verdict is not Verdict.FAIL:
            self._worse_since.pop(found.signal, None)
            return found
        since = self._worse_since.setdefault(found.signal, look.elapsed)
        if look.elapsed - since >= look.lag:
            return found
        reason = (
            f"{found.reason}; it counts once it has been so for {look.lag:g} s, as the versions' "
            "figures may end so far apart"
        )
        return replace(found, verdict=Verdict.INCONCLUSIVE, reason=reason)

    def _compared(
        self, signal: str, margin: float, look: Look, stable: Tally, canary: Tally
    ) -> Finding:
        if signal == "error_rate":
            found = self._errors(margin, look, stable, canary, 0)
            if look.unattributed and found.verdict is Verdict.PASS:
                worst = self._errors(margin, look, stable, canary, look.unattributed)
                if worst.verdict is not Verdict.PASS:
                    reason = (
                        f"{look.unattributed} requests failed of which nobody is known to have "
                        "answered them; were they the new version's, this would not hold: "
                        f"{found.reason}"
                    )
                    found = replace(found, verdict=Verdict.INCONCLUSIVE, reason=reason)
            return _finding(signal, margin, found)
        which, q = QUANTILES[signal]
        before: Buckets = getattr(stable, which)
        after: Buckets = getattr(canary, which)
        found = compare_quantiles(
            before,
            after,
            q,
            margin=margin,
            alpha=self._config.alpha_each,
            min_requests=self._config.compare.min_requests,
            noninferior=self._must_prove(look),
        )
        return _finding(signal, margin, found)

    def _errors(
        self, margin: float, look: Look, stable: Tally, canary: Tally, more: int
    ) -> Comparison:
        return compare_errors(
            (stable.errors, stable.requests),
            (canary.errors + more, canary.requests + more),
            share=look.weight / ALL,
            margin=margin,
            alpha=self._config.alpha_each,
            min_requests=self._config.compare.min_requests,
            noninferior=self._must_prove(look),
        )

    def _must_prove(self, look: Look) -> bool:
        """Whether this phase has to show that the version is no worse, not only no sign of it."""
        weights = (phase.weight for phase in self._config.phases if phase.name == look.phase)
        return self._config.must_prove(next(weights, ALL))

    def _quality(self, answers: Mapping[str, Any]) -> Finding:
        quality = self._config.quality
        assert quality is not None
        if "missing" in answers:
            kind = Verdict.ERROR if answers["missing"] == NOT_MEASURED else Verdict.INCONCLUSIVE
            return Finding("answers", "quality", kind, answers["why"], quality.max_regression)
        counts = {key: answers[key] for key in ("both", "only_stable", "only_canary", "neither")}
        judged = judge_paired(**counts, max_regression=quality.max_regression, alpha=quality.alpha)
        n = sum(counts.values())
        return Finding(
            "answers",
            "quality",
            judged.verdict,
            judged.reason,
            limit=quality.max_regression,
            estimate=(counts["both"] + counts["only_canary"]) / n if n else None,
            stable=(counts["both"] + counts["only_stable"]) / n if n else None,
            low=judged.low,
            high=judged.high,
            n=n,
            n_stable=n,
            source=f"gate {quality.gate}",
        )


def _with_unattributed(found: Finding, look: Look) -> Finding:
    """Return the finding about failures, as far as it holds whoever failed.

    A version that gives no answer at all cannot be told from its failures.
    """
    nobody, known = look.unattributed, look.sent.get(CANARY, 0)
    if found.verdict is not Verdict.PASS or not nobody:
        return found
    assert found.estimate is not None
    assert found.limit is not None
    worst = (found.estimate * known + nobody) / (known + nobody)
    if worst <= found.limit:
        return found
    reason = (
        f"{nobody} requests failed of which nobody is known to have answered them; were they the "
        f"new version's, {worst:.1%} of its requests would have failed: {found.reason}"
    )
    return replace(found, verdict=Verdict.INCONCLUSIVE, reason=reason)


def _finding(signal: str, margin: float, found: Comparison) -> Finding:
    return Finding(
        signal,
        "compare",
        found.verdict,
        found.reason,
        limit=margin,
        estimate=found.canary,
        stable=found.stable,
        low=found.low,
        high=found.high,
        e_value=found.e_value,
        n=found.n_canary,
        n_stable=found.n_stable,
    )


def _own_requests(look: Look, limit: float, fewest: int) -> Iterator[Finding]:
    """Yield whether this run's own requests to the new version fail within the limit.

    What servers count, and so a Prometheus, are statuses: a stream that breaks off after its 200 is
    none of their errors.
    """
    n, bad = look.sent.get(CANARY, 0), look.failed.get(CANARY, 0)
    if not n or limit >= 1:
        return
    verdict, said = Verdict.PASS, "not more"
    if judge_share_anytime(bad, n, limit, OWN_ALPHA).verdict is Verdict.FAIL:
        verdict, said = Verdict.FAIL, "shown to be more"
    elif n >= fewest and bad > limit * n:
        verdict, said = Verdict.INCONCLUSIVE, "more, but not shown to be"
    reason = f"{bad} of {n} requests of this run's own failed: {said} than {100 * limit:g} %"
    yield Finding(OWN, "sla", verdict, reason, limit, bad / n, n=n, source="client")


def _split(look: Look, tolerance: float) -> Iterator[Finding]:
    """Yield an ERROR where the served split is not the weight: then nothing is known."""
    canary, total = look.sent.get(CANARY, 0), sum(look.sent.values())
    if not total:
        return
    # What nobody answered may have been sent to either: a version that hangs is no wrong split.
    due = round((total + look.unattributed) * look.weight / ALL) - canary
    to_canary = min(max(due, 0), look.unattributed)
    judged = judge_split(
        canary + to_canary,
        total + look.unattributed,
        look.weight,
        tolerance,
        SPLIT_ALPHA,
    )
    if judged.verdict is Verdict.FAIL:
        reason = f"the traffic is not split as it should be: {judged.reason}"
        yield Finding(
            "split",
            "split",
            Verdict.ERROR,
            reason,
            limit=look.weight / ALL,
            estimate=judged.share,
            low=judged.low,
            high=judged.high,
            n=canary,
            n_stable=total - canary,
            source="client",
        )


_ORDER = (Verdict.ERROR, Verdict.INCONCLUSIVE, Verdict.PASS)
"""What decides where nothing is shown to be worse."""


def _together(findings: Sequence[Finding]) -> tuple[Verdict, str]:
    """Return the verdict of a phase, and why.

    A wrong split says that the figures are not what they seem, so it comes first. Otherwise what is
    shown to be worse is so, whatever else could not be measured.
    """
    split = [each for each in findings if each.rule == "split"]
    bad = [each for each in findings if each.verdict is Verdict.FAIL]
    chosen = split or bad
    for verdict in _ORDER:
        chosen = chosen or [each for each in findings if each.verdict is verdict]
    verdict = chosen[0].verdict
    if verdict is Verdict.PASS:
        return verdict, "; ".join(f"{each.signal}: {each.reason}" for each in chosen)
    return verdict, "; ".join(f"{each.signal} ({each.rule}): {each.reason}" for each in chosen)
