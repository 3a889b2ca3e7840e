"""What a canary's verdicts are worth: false alarms, and how fast a regression is found.

``python bench/canary_statistics.py [--canaries 2000] [--planted 100] [--rate 50]``

Both versions' requests are simulated: arrivals are Poisson, each goes to the canary with the
probability of the weight, and the seconds of an answer fall into buckets of 1/16 of an octave.
The phases are the default ones; ours watches at weights 5, 25 and 50, five signals, a look every
30 s, alpha 0.05 in total. The rivals see the same streams.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from common import table
from scipy import special, stats

from pytest_llmdeploy.verdicts import Verdict
from pytest_llmdeploy.verdicts.regression import compare_errors, compare_quantiles
from pytest_llmdeploy.verdicts.sequences import Buckets

PHASES = ((5, 300), (25, 600), (50, 600), (100, 300))
LOOK = 30
"""Seconds between two looks, and of one cell of a stream."""
SIGNALS = (("latency", 0.5), ("latency", 0.95), ("ttft", 0.5), ("ttft", 0.95))
ALPHA = 0.05
ALPHA_EACH = ALPHA / ((len(SIGNALS) + 1) * len(PHASES))
MARGIN_ERRORS, MARGIN_SECONDS = 0.02, 0.25
MIN_REQUESTS = 50
EDGES = 2.0 ** (np.arange(-96, 97) / 16)
BATCH = 250

Counts = np.ndarray
"""Whole numbers, by canary and by cell, and for latencies by bucket."""


@dataclass(frozen=True)
class World:
    """What the two versions do."""

    name: str
    rate: float = 50.0
    errors: float = 0.005
    more_errors: float = 0.0
    slower: float = 1.0
    """Factor of the canary's latencies."""
    slower_ttft: float = 1.0
    heavy: bool = False
    """One answer in ten has a Pareto tail with exponent 1.5."""
    incident: bool = False
    """For 120 s in each phase both fail ten times as often and take three times as long."""

    def buckets(self, factor: float, median: float, sigma: float) -> Counts:
        """Return the probability of each bucket."""
        inner = np.log(EDGES / (factor * median)) / sigma
        upto = special.ndtr(inner)
        if self.heavy:
            tail = np.clip(1 - (np.maximum(EDGES / (factor * median), 1)) ** -1.5, 0, 1)
            upto = 0.9 * upto + 0.1 * tail
        upto = np.concatenate([upto[:-1], [1.0]])
        return np.diff(upto, prepend=0.0)


@dataclass
class Side:
    """One version's requests in a phase; cells are not added up."""

    n: Counts
    errors: Counts
    seconds: dict[str, Counts] = field(default_factory=dict)


@dataclass
class Phase:
    """One phase of a batch of canaries, as long as its max_duration."""

    weight: int
    cells: int
    """Cells of its duration; the streams are twice as long."""
    stable: Side
    canary: Side


def simulate(world: World, canaries: int, seed: int) -> Iterator[list[Phase]]:
    """Yield batches of canaries, each as its phases."""
    for start in range(0, canaries, BATCH):
        chance = np.random.default_rng((seed, start))
        size = min(BATCH, canaries - start)
        yield [phase(world, weight, duration, size, chance) for weight, duration in PHASES]


def phase(
    world: World, weight: int, duration: int, size: int, chance: np.random.Generator
) -> Phase:
    """Return one phase of several canaries."""
    cells = duration // LOOK
    shape = (size, 2 * cells)
    bad = np.zeros(shape, dtype=bool)
    if world.incident:
        begin = chance.integers(0, cells - 3, size=size)
        bad = (np.arange(2 * cells) >= begin[:, None]) & (
            np.arange(2 * cells) < begin[:, None] + 120 // LOOK
        )
    sides = []
    for own, share in ((False, 1 - weight / 100), (True, weight / 100)):
        rate = world.errors + own * world.more_errors
        n = chance.poisson(world.rate * LOOK * share, size=shape)
        errors = chance.binomial(n, np.where(bad, min(1.0, 10 * rate), rate))
        side = Side(n, errors)
        factors = {
            "latency": own * (world.slower - 1) + 1,
            "ttft": own * (world.slower_ttft - 1) + 1,
        }
        if weight < 100:
            for name, median, sigma in (("latency", 1.0, 0.4), ("ttft", 0.1, 0.5)):
                usual = world.buckets(factors[name], median, sigma)
                slow = world.buckets(3 * factors[name], median, sigma)
                chances = np.where(bad[..., None], slow, usual)
                side.seconds[name] = chance.multinomial(n - errors, chances).astype(np.int32)
        sides.append(side)
    return Phase(weight, cells, sides[0], sides[1])


@dataclass
class Outcome:
    """What became of each canary of a batch."""

    failed: Counts
    """Seconds of watching until it was rolled back as worse; NaN: it was not."""
    exposed: Counts
    """Requests of the canary until then."""
    inconclusive: Counts


def ours(phases: list[Phase], *, noninferior: bool, promote: bool) -> Outcome:
    """Judge each canary by `verdicts.regression`; at each look, a FAIL ends it.

    A phase ends with its duration where everything passes then, else with its max_duration (where
    `promote` is false, always then: more looks, more chances of a false alarm).
    """
    size = phases[0].canary.n.shape[0]
    outcome = Outcome(np.full(size, np.nan), np.zeros(size), np.zeros(size, dtype=bool))
    clock, requests = np.zeros(size), np.zeros(size)
    for at in phases:
        if at.weight == 100:
            continue
        judge = Judge(at, noninferior)
        for row in range(size):
            if not np.isnan(outcome.failed[row]) or outcome.inconclusive[row]:
                continue
            look = judge.first_fail(row)
            end = at.cells - 1 if promote and judge.passes(row, at.cells - 1) else 2 * at.cells - 1
            stop = min(end, look)
            clock[row] += (stop + 1) * LOOK
            requests[row] += at.canary.n[row, : stop + 1].sum()
            if look <= end:
                outcome.failed[row], outcome.exposed[row] = clock[row], requests[row]
            elif promote and end >= at.cells and not judge.passes(row, end):
                outcome.inconclusive[row] = True
    return outcome


class Judge:
    """The looks at one phase of a batch.

    Where the figures cannot FAIL (no e-value near 1, no estimate beyond the margin, which bounds
    around it would have to be beyond as well) the functions are not called.
    """

    def __init__(self, at: Phase, noninferior: bool) -> None:
        self.at, self.noninferior = at, noninferior
        self.n, self.errors = (
            [np.cumsum(getattr(side, name), axis=1) for side in (at.stable, at.canary)]
            for name in ("n", "errors")
        )
        self.seconds = {
            name: [np.cumsum(side.seconds[name], axis=1) for side in (at.stable, at.canary)]
            for name in ("latency", "ttft")
        }
        share = at.weight / 100
        k, f = self.errors[1], self.errors[0] + self.errors[1]
        log_e = special.betaln(k + 0.5, f - k + 0.5) - special.betaln(0.5, 0.5)
        log_e -= k * np.log(share) + (f - k) * np.log1p(-share)
        rates = [e / np.maximum(n, 1) for e, n in zip(self.errors, self.n, strict=True)]
        # Cut off at the share, the mixture is at most 1 / P(above) times as large.
        above = 1 - special.betainc(0.5, 0.5, share)
        self.candidates = [
            (log_e - np.log(above) > np.log(2 / ALPHA_EACH)) | (rates[1] - rates[0] > MARGIN_ERRORS)
        ]
        for name, q in SIGNALS:
            at_q = [quantile_bucket(side, q) for side in self.seconds[name]]
            # Estimates are inside their buckets: one bucket of slack on either side.
            ratio = EDGES[at_q[1]] / EDGES[np.maximum(at_q[0] - 1, 0)]
            self.candidates.append(ratio > 1 + MARGIN_SECONDS)

    def first_fail(self, row: int) -> int:
        """Return the first look with a FAIL; beyond all looks where there is none."""
        looks = self.n[0].shape[1]
        for signal, candidates in enumerate(self.candidates):
            for look in np.flatnonzero(candidates[row, :looks]):
                if self.verdict(signal, row, int(look)) is Verdict.FAIL:
                    looks = int(look)
                    break
        return looks if looks < self.n[0].shape[1] else 10**9

    def passes(self, row: int, look: int) -> bool:
        return all(
            self.verdict(signal, row, look) is Verdict.PASS
            for signal in range(len(self.candidates))
        )

    def verdict(self, signal: int, row: int, look: int) -> Verdict:
        common = {
            "alpha": ALPHA_EACH,
            "min_requests": MIN_REQUESTS,
            "noninferior": self.noninferior,
        }
        if signal == 0:
            counts = [
                (int(errors[row, look]), int(n[row, look]))
                for errors, n in zip(self.errors, self.n, strict=True)
            ]
            return compare_errors(
                *counts, share=self.at.weight / 100, margin=MARGIN_ERRORS, **common
            ).verdict
        name, q = SIGNALS[signal - 1]
        sides = [as_buckets(side[row, look]) for side in self.seconds[name]]
        return compare_quantiles(*sides, q, margin=MARGIN_SECONDS, **common).verdict


def quantile_bucket(counts: Counts, q: float) -> Counts:
    """Return the bucket of the q-quantile."""
    upto = np.cumsum(counts, axis=-1)
    return np.argmax(upto >= q * upto[..., -1:], axis=-1)


def as_buckets(counts: Counts) -> Buckets:
    return tuple(zip(EDGES.tolist(), counts.tolist(), strict=True))


def z_test(phases: list[Phase]) -> Outcome:
    """Look every 30 s at the pooled two-proportion z-test, one-sided, 5 %, until it says worse.

    Of errors, and of answers slower than the stable version's 95th percentile. Each phase anew.
    """
    fails = []
    for at in phases:
        if at.weight == 100:
            continue
        cells = at.cells
        n = [np.cumsum(side.n[:, :cells], axis=1) for side in (at.stable, at.canary)]
        bad = [np.cumsum(side.errors[:, :cells], axis=1) for side in (at.stable, at.canary)]
        fail = worse(bad, n)
        for name in ("latency", "ttft"):
            upto = [
                np.cumsum(np.cumsum(side.seconds[name][:, :cells], axis=1), axis=-1)
                for side in (at.stable, at.canary)
            ]
            total = [side[..., -1] for side in upto]
            bucket = np.argmax(upto[0] >= 0.95 * total[0][..., None], axis=-1)[..., None]
            slow = [
                all_ - np.take_along_axis(side, bucket, axis=-1)[..., 0]
                for side, all_ in zip(upto, total, strict=True)
            ]
            fail |= worse(slow, total)
        fails.append(fail)
    return first(phases, fails, every=1)


def worse(bad: list[Counts], n: list[Counts]) -> Counts:
    """Return where the canary's share is larger at 5 %; at least five bad ones on both sides."""
    total, both = n[0] + n[1], bad[0] + bad[1]
    pooled = both / np.maximum(total, 1)
    variance = pooled * (1 - pooled) * (1 / np.maximum(n[0], 1) + 1 / np.maximum(n[1], 1))
    gap = bad[1] / np.maximum(n[1], 1) - bad[0] / np.maximum(n[0], 1)
    return (gap > stats.norm.ppf(0.95) * np.sqrt(variance)) & (both >= 5)


def threshold(phases: list[Phase], failures: int) -> Outcome:
    """Success rate >= 99 % of the canary's last 60 s, checked every 60 s; no data is a failure.

    So many failed checks of the whole canary, not in a row, roll it back. Flagger's default is the
    first; Argo Rollouts' failureLimit 0 too, and with failureLimit 3, as in its examples, the
    fourth.
    """
    fails, before = [], np.zeros(phases[0].canary.n.shape[0], dtype=int)
    for at in phases:
        n = at.canary.n[:, : at.cells].reshape(len(before), -1, 2).sum(axis=2)
        errors = at.canary.errors[:, : at.cells].reshape(len(before), -1, 2).sum(axis=2)
        failed = np.cumsum((n == 0) | (n - errors < 0.99 * n), axis=1) + before[:, None]
        before = failed[:, -1]
        fails.append(failed >= failures)
    return first(phases, fails, every=2)


def kayenta(phases: list[Phase]) -> Outcome:
    """Mann-Whitney of one-minute points at the end of each phase, as NetflixACAJudge does it.

    Error rate and both p95: High where the 98 % interval of the Hodges-Lehmann shift begins above
    a quarter of the shift, and the means' ratio is at least 1. One High of three is a score of 67,
    below the 75 of the sample configuration. Points are the buckets' edges for p95.
    """
    fails = []
    for at in phases:
        if at.weight == 100:
            continue
        size, points = at.canary.n.shape[0], at.cells // 2
        high = np.zeros(size, dtype=bool)
        for name in ("errors", "latency", "ttft"):
            series = []
            for side in (at.stable, at.canary):
                if name == "errors":
                    e = side.errors[:, : at.cells].reshape(size, points, 2).sum(axis=2)
                    n = side.n[:, : at.cells].reshape(size, points, 2).sum(axis=2)
                    series.append(e / np.maximum(n, 1))
                else:
                    seconds = side.seconds[name][:, : at.cells]
                    minutes = seconds.reshape(size, points, 2, -1).sum(axis=2)
                    series.append(interpolated(minutes, 0.95))
            high |= is_high(*series)
        fail = np.zeros((size, points), dtype=bool)
        fail[:, -1] = high
        fails.append(fail)
    return first(phases, fails, every=2)


def interpolated(counts: Counts, q: float) -> Counts:
    """Return the q-quantile, by interpolation in its bucket as Prometheus does it."""
    upto = np.cumsum(counts, axis=-1)
    rank = q * upto[..., -1]
    at = np.argmax(upto >= rank[..., None], axis=-1)
    lower = np.maximum(at - 1, 0)
    before = np.take_along_axis(upto, lower[..., None], axis=-1)[..., 0]
    inside = np.take_along_axis(counts, at[..., None], axis=-1)[..., 0]
    part = (rank - before) / np.maximum(inside, 1)
    return EDGES[lower] + (EDGES[at] - EDGES[lower]) * part


def is_high(stable: Counts, canary: Counts) -> Counts:
    """Return whether the judge calls each canary's series High."""
    size, n = canary.shape
    shifts = np.sort((canary[:, :, None] - stable[:, None, :]).reshape(size, -1), axis=1)
    deviation = np.sqrt(n * n * (2 * n + 1) / 12)
    rank = max(0, int(np.floor(n * n / 2 - 0.5 - stats.norm.ppf(0.99) * deviation)))
    shift = np.median(shifts, axis=1)
    larger = canary.mean(axis=1) >= stable.mean(axis=1)
    _, p = stats.mannwhitneyu(canary, stable, axis=1, method="asymptotic", use_continuity=True)
    return (shifts[:, rank] > 0.25 * np.abs(shift)) & larger & (p < 0.02)


def first(phases: list[Phase], fails: list[Counts], *, every: int) -> Outcome:
    """Return when each canary was first rolled back; checks come every so many cells."""
    size = phases[0].canary.n.shape[0]
    outcome = Outcome(np.full(size, np.nan), np.zeros(size), np.zeros(size, dtype=bool))
    clock, requests = 0.0, np.zeros(size)
    for at, fail in zip(phases, fails, strict=False):
        own = np.cumsum(at.canary.n[:, : at.cells], axis=1)
        now = fail.any(axis=1) & np.isnan(outcome.failed)
        check = (np.argmax(fail, axis=1) + 1) * every - 1
        outcome.failed[now] = clock + (check[now] + 1) * LOOK
        outcome.exposed[now] = (requests + own[np.arange(size), check])[now]
        clock += at.cells * LOOK
        requests += own[:, -1]
    return outcome


def join(outcomes: list[Outcome]) -> Outcome:
    return Outcome(
        *(
            np.concatenate([getattr(outcome, name) for outcome in outcomes])
            for name in ("failed", "exposed", "inconclusive")
        )
    )


RIVALS = {
    "repeated z-test, 5 %": z_test,
    "success >= 99 %, 1 failed check": lambda phases: threshold(phases, 1),
    "success >= 99 %, 4 failed checks": lambda phases: threshold(phases, 4),
    "Mann-Whitney (Kayenta)": kayenta,
}


def false_alarms(worlds: list[World], canaries: int) -> None:
    """Print how often versions that are the same are told apart."""
    rows = []
    for world in worlds:
        found: dict[str, list[Outcome]] = {name: [] for name in ("ours", *RIVALS)}
        for phases in simulate(world, canaries, seed=1):
            found["ours"].append(ours(phases, noninferior=True, promote=False))
            for name, rival in RIVALS.items():
                found[name].append(rival(phases))
        rates = [np.isfinite(join(outcomes).failed) for outcomes in found.values()]
        low, high = stats.beta.interval(0.95, rates[0].sum() + 0.5, canaries - rates[0].sum() + 0.5)
        rows.append(
            [world.name, f"{100 * rates[0].mean():.2f} ({100 * low:.2f}-{100 * high:.2f})"]
            + [f"{100 * rate.mean():.1f}" for rate in rates[1:]]
        )
    print(f"\nFalse alarms, % of {canaries} canaries that are the same as the stable version\n")
    table(["world", "ours (95 % interval)", *RIVALS], rows)


def planted(worlds: list[World], canaries: int) -> None:
    """Print how often, and how fast, versions that are worse are found out."""
    rows: list[list[object]] = []
    for world in worlds:
        found: dict[str, list[Outcome]] = {}
        for phases in simulate(world, canaries, seed=2):
            for name, noninferior in (("ours, non-inferior", True), ("ours, no-regression", False)):
                judged = ours(phases, noninferior=noninferior, promote=True)
                found.setdefault(name, []).append(judged)
            for name, rival in RIVALS.items():
                found.setdefault(name, []).append(rival(phases))
        for name, outcomes in found.items():
            outcome = join(outcomes)
            failed = np.isfinite(outcome.failed)
            promoted = ~failed & ~outcome.inconclusive
            rows.append(
                [
                    world.name,
                    name,
                    f"{100 * failed.mean():.0f}",
                    f"{100 * outcome.inconclusive.mean():.0f}",
                    f"{100 * promoted.mean():.0f}",
                    f"{np.median(outcome.failed[failed]):.0f}" if failed.any() else "",
                    f"{np.median(outcome.exposed[failed]):.0f}" if failed.any() else "",
                ]
            )
    print(f"\nPlanted regressions, {canaries} canaries each: % and medians\n")
    table(
        ["world", "judge", "found", "inconclusive", "promoted", "s until", "exposed"],
        rows,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--canaries", type=int, default=2000)
    parser.add_argument("--planted", type=int, default=100)
    parser.add_argument("--rate", type=float, default=50.0, help="Requests per second, both")
    parser.add_argument("--only", default="aa,planted")
    args = parser.parse_args()
    same = World("the same", rate=args.rate)
    if "aa" in args.only:
        false_alarms(
            [
                same,
                replace(same, name="shared incident", incident=True),
                replace(same, name="heavy tail", heavy=True),
            ],
            args.canaries,
        )
    if "planted" in args.only:
        planted(
            [
                same,
                *(
                    replace(same, name=f"errors +{points} points", more_errors=points / 100)
                    for points in (1, 2, 5)
                ),
                replace(same, name="latency +20 %", slower=1.2),
                replace(same, name="latency +50 %", slower=1.5),
                replace(same, name="TTFT x2", slower_ttft=2.0),
            ],
            args.planted,
        )


if __name__ == "__main__":
    main()
