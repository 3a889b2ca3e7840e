"""What a gate's verdicts are worth: how often each rule passes or fails by chance alone.

``python bench/gate_statistics.py [--samples 4000]``

The tables of rules are exact: sums of binomial probabilities, no simulation. Those of clusters,
repeats, tags and early stops are simulated from fixed seeds; each says how far chance can move its
figures. The code that judges is the package's own.
"""

from __future__ import annotations

import argparse
from fractions import Fraction

import numpy as np
from common import table
from scipy import stats

from pytest_llmdeploy.config.gates import SuiteConfig
from pytest_llmdeploy.gates.case import Case
from pytest_llmdeploy.gates.decision import Decision
from pytest_llmdeploy.verdicts import Verdict
from pytest_llmdeploy.verdicts.clusters import worth
from pytest_llmdeploy.verdicts.pass_rate import AnyRule, Rate, RateRule, exact, judge_rates

RULES: tuple[AnyRule, ...] = ("point", "wilson", "exact", "bayes")
SIZES = (20, 50, 100, 300)
LIMIT = 0.9
CONFIDENCE = 0.95
PASS, FAIL, OPEN = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE


def rate_of(passed: int, n: int) -> Rate:
    return Rate(Fraction(passed, n), Fraction(passed, n), n, n)


def verdicts(rule: AnyRule, n: int, limit: float) -> list[Verdict]:
    """Return the verdict for each number of passes among n."""
    question = RateRule(rule, exact(limit), CONFIDENCE)
    return [judge_rates([(question, rate_of(x, n))])[0] for x in range(n + 1)]


def shares(by_count: list[Verdict], p: float) -> dict[Verdict, float]:
    """Return the probability of each verdict when each case passes with probability p."""
    chances = stats.binom.pmf(np.arange(len(by_count)), len(by_count) - 1, p)
    return {
        wanted: float(sum(c for c, v in zip(chances, by_count, strict=True) if v is wanted))
        for wanted in (PASS, FAIL, OPEN)
    }


def all_must_pass(n: int) -> list[Verdict]:
    return [FAIL] * n + [PASS]


def percent(number: float) -> str:
    return f"{100 * number:.1f}"


def by_rule() -> None:
    rows = []
    for n in SIZES:
        named = [(rule, verdicts(rule, n, LIMIT)) for rule in RULES]
        for rule, by_count in [*named, ("all pass", all_must_pass(n))]:
            at, better, best, worse = (shares(by_count, p) for p in (LIMIT, 0.95, 0.98, 0.80))
            rows.append(
                [
                    str(n),
                    rule,
                    *(percent(at[kind]) for kind in (PASS, FAIL, OPEN)),
                    percent(better[PASS]),
                    percent(best[PASS]),
                    percent(worse[FAIL]),
                    percent(worse[PASS]),
                ]
            )
    heads = ["n", "rule", "PASS at .90", "FAIL at .90", "open at .90", "PASS at .95", "PASS at .98"]
    print(f"min_pass_rate {LIMIT}, 95 %, per cent of runs, by the true rate (exact)\n")
    table([*heads, "FAIL at .80", "PASS at .80"], rows)


def worst_errors() -> None:
    """Print the largest error of each rule over all n: at the limit itself, errors are largest."""
    rows = []
    for limit in (0.8, 0.9, 0.95, 0.99):
        row = [f"{limit:g}"]
        for rule in RULES[1:]:
            passes, fails = [], []
            for n in range(20, 501):
                at = shares(verdicts(rule, n, limit), limit)
                passes.append(at[PASS])
                fails.append(at[FAIL])
            row += [f"{percent(max(passes))} ({percent(float(np.mean(passes)))})"]
            row += [f"{percent(max(fails))} ({percent(float(np.mean(fails)))})"]
        rows.append(row)
    print("\nwrong at the limit, per cent: most (mean) over n = 20 to 500 (exact)\n")
    heads = [f"{rule} {kind}" for rule in RULES[1:] for kind in ("PASS", "FAIL")]
    table(["min_pass_rate", *heads], rows)


def beta_shares(
    chance: np.random.Generator, mean: float, correlation: float, size: tuple[int, ...]
) -> np.ndarray:
    """Return pass probabilities of clusters whose cases correlate so much."""
    if correlation == 0:
        return np.full(size, mean)
    total = 1 / correlation - 1
    return chance.beta(mean * total, (1 - mean) * total, size=size)


def clusters(samples: int) -> None:
    rows = []
    question = RateRule("wilson", exact(LIMIT), CONFIDENCE)
    for number, size in ((20, 10), (40, 5), (100, 5)):
        for correlation in (0.0, 0.1, 0.4):
            chance = np.random.default_rng((1, number, size, int(100 * correlation)))
            p = beta_shares(chance, LIMIT, correlation, (samples, number))
            passed = chance.binomial(size, p)
            counts = {"alone": [0, 0], "clustered": [0, 0]}
            n = number * size
            labels = [c for c in range(number) for _ in range(size)]
            for row in passed:
                x = int(row.sum())
                values = [float(i < k) for k in row for i in range(size)]
                got = worth(values, [1.0] * n, labels, CONFIDENCE)
                mean = Fraction(x, n)
                clustered = Rate(mean, mean, got.size, got.size, got.clusters)
                for name, rate in (("alone", rate_of(x, n)), ("clustered", clustered)):
                    verdict = judge_rates([(question, rate)])[0]
                    counts[name][0] += verdict is PASS
                    counts[name][1] += verdict is FAIL
            figures = [percent(c / samples) for name in counts for c in counts[name]]
            rows.append([f"{number} x {size}", f"{correlation:g}", *figures])
    print(f"\nclusters, true rate at the limit {LIMIT}, per cent of runs ({bound(samples)})\n")
    heads = ["PASS, cases alone", "FAIL, cases alone", "PASS, cluster_by", "FAIL, cluster_by"]
    table(["clusters x cases", "correlation", *heads], rows)


def repeats(samples: int) -> None:
    rows = []
    question = RateRule("wilson", exact(LIMIT), CONFIDENCE)
    for n, k, correlation in ((50, 5, 0.3), (50, 5, 0.8), (200, 5, 0.8)):
        chance = np.random.default_rng((2, n, k, int(100 * correlation)))
        answers = chance.binomial(k, beta_shares(chance, LIMIT, correlation, (samples, n)))
        sums = answers.sum(axis=1)
        counts = [0, 0, 0, 0]
        for x in map(int, sums):
            mean = Fraction(x, n * k)
            for place, size in ((0, n * k), (2, n)):
                verdict = judge_rates([(question, Rate(mean, mean, size, size))])[0]
                counts[place] += verdict is PASS
                counts[place + 1] += verdict is FAIL
        rows.append([f"{n} x {k}", f"{correlation:g}", *(percent(c / samples) for c in counts)])
    print(f"\nrepeats, true rate at the limit {LIMIT}, per cent of runs ({bound(samples)})\n")
    heads = ["PASS, answers as cases", "FAIL, answers as cases", "PASS, by case", "FAIL, by case"]
    table(["cases x answers", "correlation", *heads], rows)


def tags(samples: int) -> None:
    rows = []
    for rule in RULES:
        question = RateRule(rule, exact(LIMIT), CONFIDENCE)
        chance = np.random.default_rng((3, RULES.index(rule)))
        wrong = [0, 0]
        for row in chance.binomial(100, LIMIT, size=(samples, 5)):
            rates = [rate_of(int(row.sum()), 500), *(rate_of(int(x), 100) for x in row)]
            several = judge_rates([(question, rate) for rate in rates])
            wrong[0] += FAIL in several
            wrong[1] += any(judge_rates([(question, rate)])[0] is FAIL for rate in rates)
        rows.append([rule, percent(wrong[1] / samples), percent(wrong[0] / samples)])
    print(f"\na gate with five tags of 100 cases, all rates at the limit ({bound(samples)})\n")
    table(["rule", "any FAIL, each by itself", "any FAIL, as we judge"], rows)


def early(runs: int = 40) -> None:
    cases = {f"c{n}": Case(f"c{n}", {}, "?", (), (), 1.0, None, 1, "cases:1") for n in range(300)}
    rows = []
    outcomes = {
        True: {"verdict": "PASS", "samples": []},
        False: {"verdict": "FAIL", "samples": []},
    }
    for rule in ("point", "wilson"):
        for p in (0.7, 0.85, 0.9, 0.95, 1.0):
            config = SuiteConfig.model_validate(
                {"cases": "x", "min_pass_rate": LIMIT, "decision": {"rule": rule}}
            )
            decision = Decision(config, cases)
            chance = np.random.default_rng((4, int(100 * p)))
            asked, different = [], 0
            for _ in range(runs):
                passed = chance.random(300) < p
                standing = decision.standing()
                seen = {}
                for case_id, right in zip(cases, passed, strict=True):
                    if standing.settled:
                        break
                    seen[case_id] = outcomes[bool(right)]
                    standing.add(case_id, seen[case_id])
                whole = {c: outcomes[bool(r)] for c, r in zip(cases, passed, strict=True)}
                different += decision.judge(whole).verdict is not decision.judge(seen).verdict
                asked.append(len(seen))
            rows.append([rule, f"{p:g}", f"{np.mean(asked):.0f} of 300", str(different)])
    print(f"\nstop_early: cases asked, mean of {runs} runs, and verdicts that differ\n")
    table(["rule", "true rate", "asked", "different verdicts"], rows)


def bound(samples: int) -> str:
    """Return how far a simulated share near 5 % is from the true one, with 99.9 %."""
    reach = stats.norm.isf(0.0005) * np.sqrt(0.05 * 0.95 / samples)
    return f"{samples} runs: a figure of 5 is within {100 * reach:.1f} points, with 99.9 %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=4000)
    samples = parser.parse_args().samples
    by_rule()
    worst_errors()
    clusters(samples)
    repeats(samples)
    tags(samples)
    early()


if __name__ == "__main__":
    main()
