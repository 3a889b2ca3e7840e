"""The verdict of a phase: a truth table of what is there, missing, at the limit, or too little."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmdeploy.config.canary import CanaryConfig
from pytest_llmdeploy.ports import Buckets
from pytest_llmdeploy.release.canary.judge import Finding, Judgement, PhaseJudge, _together
from pytest_llmdeploy.release.canary.looks import NOT_MEASURED, Missing, Value
from pytest_llmdeploy.verdicts import Verdict
from tests.unit.release.canary.looks_of import (
    DOWN,
    EMPTY,
    NOTHING,
    UNEQUALLED,
    look,
    section,
    tally,
    value,
)

PASS, FAIL = Verdict.PASS, Verdict.FAIL
ERROR, INCONCLUSIVE = Verdict.ERROR, Verdict.INCONCLUSIVE
ONE_LIMIT = section(sla=NOTHING | {"error_rate": 0.05}, compare=UNEQUALLED)
"""The mean of the last five samples of one signal is judged."""
FAST: Buckets = ((0.09, 100), (0.1, 700), (0.11, 100), (0.2, 100))
SLOW: Buckets = ((0.1, 100), (0.4, 50), (0.5, 700), (0.6, 150))


def judged(config: CanaryConfig, *samples: Value | Missing, weight: int = 10) -> Judgement:
    """Return what a phase says after these samples of the share of failures."""
    judge = PhaseJudge(config)
    for sample in samples:
        found = judge.add(look(weight=weight, sample={"error_rate": sample}))
    return found


GOOD, LIMIT, BAD = value(0.01, 100), value(0.05, 100), value(0.2, 100)
NAN, FEW = value(math.nan, 100), value(0.0, 9)


@pytest.mark.parametrize(
    ("samples", "verdict"),
    [
        ([GOOD] * 5, PASS),
        ([LIMIT] * 5, PASS),  # at the limit is within it
        ([value(math.nextafter(0.05, 1), 100)] * 5, FAIL),
        ([BAD] * 5, FAIL),
        ([BAD] * 4, INCONCLUSIVE),
        ([GOOD] * 4, INCONCLUSIVE),
        ([BAD] + [GOOD] * 5, PASS),  # the last five
        ([GOOD] * 9 + [BAD] * 5, FAIL),
        ([GOOD] * 4 + [NAN], INCONCLUSIVE),
        ([NAN] * 5, INCONCLUSIVE),
        ([value(math.inf, 100)] * 5, INCONCLUSIVE),
        ([GOOD] * 4 + [EMPTY], INCONCLUSIVE),
        ([EMPTY] * 5, INCONCLUSIVE),
        ([GOOD] * 2 + [EMPTY] + [GOOD] * 2, INCONCLUSIVE),
        ([GOOD] * 2 + [EMPTY] + [GOOD] * 5, PASS),
        ([GOOD] * 4 + [DOWN], ERROR),
        ([BAD] * 4 + [DOWN], ERROR),
        ([DOWN] + [GOOD] * 4, INCONCLUSIVE),
        ([FEW] * 5, INCONCLUSIVE),  # 45 requests, 50 are needed
        ([value(0.0, 10)] * 5, PASS),
        ([value(1.0, 9)] * 5, INCONCLUSIVE),
        ([value(0.01)] * 5, PASS),  # a figure that is not about requests
    ],
)
@pytest.mark.parametrize("weight", [10, 100])
def test_limits_on_the_mean_of_the_last_samples(
    samples: list[Value | Missing], verdict: Verdict, weight: int
) -> None:
    found = judged(ONE_LIMIT, *samples, weight=weight)
    assert found.verdict is verdict, found.reason
    assert [(each.signal, each.rule) for each in found.findings] == [("error_rate", "sla")]


def test_a_least_throughput() -> None:
    config = section(sla=NOTHING | {"min_throughput": 50, "points": 1}, compare=UNEQUALLED)
    for number, verdict in [(50.0, PASS), (49.9, FAIL), (math.nan, INCONCLUSIVE)]:
        found = PhaseJudge(config).add(look(sample={"throughput": value(number, 100)}))
        assert found.verdict is verdict, found.reason
    found = PhaseJudge(config).add(look(sample={"min_throughput": value(60.0, 100)}))
    assert found.verdict is INCONCLUSIVE  # a signal of another name


def test_a_look_between_two_samples_forgets_none() -> None:
    judge = PhaseJudge(ONE_LIMIT)
    for _ in range(5):
        judge.add(look(sample={"error_rate": GOOD}))
        found = judge.add(look(sample=None))
    assert found.verdict is PASS


COMPARED = section(sla=NOTHING | {"cpu_usage": 0.85, "points": 1}, compare={"latency_p95": None})


@pytest.mark.parametrize(
    ("stable", "canary", "verdict"),
    [
        (tally(9000), tally(1000), PASS),
        (tally(9000), tally(1000, 200), FAIL),
        (tally(9000), tally(49), INCONCLUSIVE),
        (tally(49), tally(1000), INCONCLUSIVE),
        (tally(0), tally(0), INCONCLUSIVE),
        (tally(9000), tally(0), INCONCLUSIVE),
        (tally(9000), EMPTY, INCONCLUSIVE),
        (EMPTY, tally(1000), INCONCLUSIVE),
        (tally(9000), DOWN, ERROR),
        (DOWN, tally(1000), ERROR),
        (None, tally(1000), INCONCLUSIVE),
        (None, None, INCONCLUSIVE),
    ],
)
def test_failures_beside_the_running_version(
    stable: object, canary: object, verdict: Verdict
) -> None:
    sample = {"cpu_usage": value(0.5)}
    found = PhaseJudge(COMPARED).add(look(stable=stable, canary=canary, sample=sample))  # type: ignore[arg-type]
    assert found.verdict is verdict, found.reason
    (finding,) = [each for each in found.findings if each.rule == "compare"]
    assert finding.limit == 0.02
    if verdict in (PASS, FAIL):
        assert (finding.n, finding.n_stable) == (1000, 9000)


@pytest.mark.parametrize(
    ("stable", "canary", "verdict"),
    [
        (tally(9000, latency=FAST), tally(1000, latency=FAST), PASS),
        (tally(9000, latency=FAST), tally(1000, latency=SLOW), FAIL),
        (tally(9000, latency=FAST), tally(1000), INCONCLUSIVE),
        (tally(9000), tally(1000, latency=FAST), INCONCLUSIVE),
    ],
)
def test_a_quantile_beside_the_running_version(
    stable: object, canary: object, verdict: Verdict
) -> None:
    compare = {"error_rate": None, "latency_p50": 1.5, "latency_p95": None}
    config = section(sla=NOTHING | {"cpu_usage": 0.85, "points": 1}, compare=compare)
    sample = {"cpu_usage": value(0.5)}
    found = PhaseJudge(config).add(look(stable=stable, canary=canary, sample=sample))  # type: ignore[arg-type]
    assert found.verdict is verdict, found.reason


def test_at_weight_100_nothing_is_compared() -> None:
    found = PhaseJudge(COMPARED).add(look(weight=100, sample={"cpu_usage": value(0.5)}))
    assert [each.rule for each in found.findings] == ["sla"]
    assert found.verdict is PASS


@pytest.mark.parametrize("weight", [10, 100])
def test_nothing_that_is_judged_never_passes(weight: int) -> None:
    config = section(sla=NOTHING, phases=[{"weight": 10, "duration": 60}])
    config = config.model_copy(update={"compare": config.compare.model_copy(update=UNEQUALLED)})
    found = PhaseJudge(config).add(look(weight=weight, sent=(0, 0)))
    assert (found.verdict, found.findings) == (INCONCLUSIVE, ())
    assert found.reason == (
        "nothing is judged: the file sets no limit that this phase can be held to"
    )


@pytest.mark.parametrize(
    ("weight", "sent", "wrong"),
    [
        (10, (0, 0), False),
        (10, (100, 900), False),
        (10, (900, 100), True),
        (10, (0, 1000), True),
        (10, (0, 5), False),  # too few to tell
        (100, (1000, 0), False),
        (100, (1000, 1), True),
        (100, (0, 1), True),
    ],
)
@pytest.mark.parametrize("sample", [GOOD, BAD, DOWN, EMPTY])
def test_a_wrong_split_is_an_error_whatever_the_figures_say(
    weight: int, sent: tuple[int, int], sample: Value | Missing, *, wrong: bool
) -> None:
    judge = PhaseJudge(ONE_LIMIT)
    for _ in range(5):
        found = judge.add(look(weight=weight, sent=sent, sample={"error_rate": sample}))
    assert ("split" in [each.rule for each in found.findings]) is wrong
    if wrong:
        assert found.verdict is ERROR
        assert found.reason.startswith("split (split): the traffic is not split as it should be: ")


@pytest.mark.parametrize(
    ("weight", "nobody", "verdict"),
    [
        (100, 0, PASS),
        (100, 10, PASS),  # (0.01 * 1000 + 10) of 1010: 2 %
        (100, 42, PASS),  # 4.99 %
        (100, 43, INCONCLUSIVE),
        (100, 500, INCONCLUSIVE),
        (10, 42, PASS),
        (10, 500, INCONCLUSIVE),
    ],
)
def test_failures_of_nobody_may_be_the_new_versions(
    weight: int, nobody: int, verdict: Verdict
) -> None:
    """A version that hangs answers nothing by which it could be told."""
    judge = PhaseJudge(ONE_LIMIT)
    sent = (1000, 0) if weight == 100 else (1000, 9000)
    for _ in range(5):
        sample = {"error_rate": GOOD}
        found = judge.add(look(weight=weight, sent=sent, sample=sample, unattributed=nobody))
    assert found.verdict is verdict, found.reason
    if verdict is INCONCLUSIVE:
        assert found.reason.startswith(
            f"error_rate (sla): {nobody} requests failed of which nobody is known to have answered"
        )


@pytest.mark.parametrize(
    ("weight", "sent", "nobody", "wrong"),
    [
        (50, (300, 700), 0, True),
        (50, (300, 700), 400, False),  # 400 that a hanging version was sent
        (50, (700, 300), 400, False),
        (50, (0, 700), 700, False),
        (50, (0, 700), 100, True),
        (100, (0, 700), 700, True),  # the other version has answered
        (100, (500, 0), 700, False),
        (10, (900, 100), 500, True),
    ],
)
def test_a_version_that_hangs_is_no_wrong_split(
    weight: int, sent: tuple[int, int], nobody: int, *, wrong: bool
) -> None:
    sample = {"error_rate": GOOD}
    found = PhaseJudge(ONE_LIMIT).add(
        look(weight=weight, sent=sent, unattributed=nobody, sample=sample)
    )
    assert ("split" in [each.rule for each in found.findings]) is wrong
    assert found.verdict is (ERROR if wrong else INCONCLUSIVE)


def test_failures_of_nobody_beside_the_running_version() -> None:
    sample = {"cpu_usage": value(0.5)}
    for nobody, verdict in [(0, PASS), (5, PASS), (500, INCONCLUSIVE)]:
        found = PhaseJudge(COMPARED).add(
            look(stable=tally(9000), canary=tally(1000), sample=sample, unattributed=nobody)
        )
        assert found.verdict is verdict, (nobody, found.reason)


def test_what_is_shown_to_be_worse_is_so_whatever_else_is_missing() -> None:
    def finding(verdict: Verdict, rule: str = "sla") -> Finding:
        return Finding(str(verdict), rule, verdict, "why")

    for order in permutations([FAIL, ERROR, INCONCLUSIVE, PASS]):
        left = list(order)
        for wanted in (FAIL, ERROR, INCONCLUSIVE, PASS):
            assert _together([finding(each) for each in left])[0] is wanted
            left.remove(wanted)
    split = finding(ERROR, "split")
    assert _together([finding(FAIL), split])[0] is ERROR
    assert _together([finding(FAIL), split])[1] == "ERROR (split): why"


VALUES = st.one_of(
    st.floats(min_value=0, max_value=1).map(lambda number: value(number, 100)),
    st.sampled_from([NAN, EMPTY, DOWN, FEW]),
)


@given(st.lists(VALUES, min_size=1, max_size=12), st.sampled_from([10, 100]))
def test_whatever_comes_only_five_good_samples_pass(
    samples: list[Value | Missing], weight: int
) -> None:
    found = judged(ONE_LIMIT, *samples, weight=weight)
    last = samples[-5:]
    values = [each.value for each in last if isinstance(each, Value) and each is not NAN]
    n = sum(each.n or 0 for each in last if isinstance(each, Value))
    whole = len(values) == 5
    good = whole and math.fsum(values) / 5 <= 0.05 + 1e-12 and n >= 50
    assert found.verdict is not PASS or good
    last_one = samples[-1]
    down = isinstance(last_one, Missing) and last_one.kind == NOT_MEASURED
    assert (found.verdict is ERROR) is down


def test_alpha_is_divided_among_signals_and_phases() -> None:
    compare = {"alpha": 0.06, "ttft_p95": 0.2}
    phases = [{"weight": weight, "duration": 1} for weight in (5, 50, 100)]
    assert section(compare=compare, phases=phases).alpha_each == pytest.approx(0.06 / 6)
    assert section(compare=compare, phases=phases[2:]).alpha_each == pytest.approx(0.06)
    assert section(compare=UNEQUALLED, phases=phases).alpha_each == pytest.approx(0.05)


def test_answers_that_differ() -> None:
    quality = {"gate": "capitals"}
    config = section(
        sla=NOTHING | {"error_rate": 0.05, "points": 1}, compare=UNEQUALLED, quality=quality
    )
    counts = {"both": 200, "only_stable": 0, "only_canary": 0, "neither": 0}
    for answers, verdict in [
        (counts, PASS),
        (counts | {"only_stable": 100}, FAIL),
        (dict.fromkeys(counts, 0), INCONCLUSIVE),
        ({"missing": "no-data", "why": "no case"}, INCONCLUSIVE),
        ({"missing": NOT_MEASURED, "why": "refused"}, ERROR),
    ]:
        judge = PhaseJudge(config)
        judge.add(look(sample={"error_rate": GOOD}, answers=answers))
        found = judge.add(look(sample={"error_rate": GOOD}))  # told once
        assert found.verdict is verdict, found.reason


def test_an_incident_that_one_version_s_replicas_were_scraped_after() -> None:
    """Which alone is no evidence: the other one's are scraped within the lag."""
    judge = PhaseJudge(section(sla=NOTHING | {"latency_p95": 5}))
    early = replace(look(canary=tally(330, 5), stable=tally(6000, 2)), lag=15.0)
    both = replace(look(canary=tally(340, 6), stable=tally(6200, 110)), lag=15.0, elapsed=15.0)
    found = judge.add(early)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "it counts once it has been so for 15 s" in found.reason
    assert judge.add(both).verdict is not Verdict.FAIL
    again = replace(early, elapsed=20.0)
    assert judge.add(again).verdict is Verdict.INCONCLUSIVE  # it begins anew
    assert judge.add(replace(early, elapsed=34.9)).verdict is Verdict.INCONCLUSIVE
    assert judge.add(replace(early, elapsed=35.0)).verdict is Verdict.FAIL
    assert PhaseJudge(section()).add(replace(early, lag=0.0)).verdict is Verdict.FAIL


def own(n: int, bad: int, source: str = "prometheus") -> Verdict:
    """Return what a phase is, in which a source that counts statuses finds nothing wrong."""
    seen = look(canary=tally(1000), stable=tally(9000), sent=(n, 9 * n), failed={"canary": bad})
    sample = {"error_rate": value(0.0, 1000)}
    config = section(sla=NOTHING | {"error_rate": 0.05, "points": 1}, compare={"latency_p95": None})
    return PhaseJudge(config).add(replace(seen, source=source, sample=sample)).verdict


def test_streams_that_break_off_are_no_errors_of_a_server_and_no_success() -> None:
    assert own(100, 5) is Verdict.PASS
    assert own(100, 6) is Verdict.INCONCLUSIVE
    assert own(100, 40) is Verdict.FAIL
    # A few are enough where all of them fail, and one of a few says little.
    assert own(8, 8) is Verdict.FAIL
    assert own(8, 1) is Verdict.PASS
    assert own(0, 0) is Verdict.PASS
    # The client's own are judged already.
    assert own(100, 40, source="client") is Verdict.PASS
