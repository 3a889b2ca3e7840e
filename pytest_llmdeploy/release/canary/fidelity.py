"""Proof that the served split is the weight: by fresh connections, never by what an API says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from pytest_llmdeploy.errors import NotMeasuredError, PlatformError
from pytest_llmdeploy.release.convergence import Identity, WhoAnswers
from pytest_llmdeploy.verdicts import Verdict
from pytest_llmdeploy.verdicts.split import judge_split
from pytest_llmdeploy.waiting import Clock, WaitTimeoutError, wait_until

ALPHA = 0.01
"""Probability of taking a wrong split for right, and the other way round, in one sample."""
PROBE_INTERVAL = 0.005
SETTING = "canary.converge_timeout"


@dataclass(frozen=True, slots=True)
class Served:
    """The split that fresh connections met."""

    share: float
    """Of the new version."""
    low: float
    high: float
    connections: int
    """Those that proved it."""
    since: float
    """When the first of them was made, on time.monotonic: from here on the split was right."""


def wait_for_split(
    who_answers: WhoAnswers,
    stable: Identity,
    canary: Identity,
    *,
    weight: int,
    tolerance: float,
    timeout: float,
    clock: Clock,
    check: Callable[[], None] = lambda: None,
) -> Served:
    """Make connections until their split agrees with the weight (percent).

    A sample that excludes the weight is thrown away and another begun: a change takes a moment to
    arrive. Both versions must have answered where both are to: a tolerance as wide as the weight
    would take a router that does nothing for right. `check` is called before each connection; what
    it raises ends the waiting. Raises WaitTimeoutError where no sample agreed in time: what is
    served is not what was asked for, and no figure of either version means anything.
    """
    sample = _Sample(clock)
    last = ""

    def agrees() -> Served | None:
        nonlocal last
        check()
        try:
            answered = who_answers()
        except NotMeasuredError as error:
            last = f"no answer: {error}"
            return None
        sample.add(_is_canary(answered, stable, canary))
        judged = judge_split(sample.canary, sample.n, weight, tolerance, ALPHA)
        if judged.verdict is Verdict.PASS and (weight in (0, 100) or 0 < sample.canary < sample.n):
            return Served(judged.share or 0.0, judged.low, judged.high, sample.n, sample.since)
        last = judged.reason
        if judged.verdict is Verdict.FAIL:
            sample.restart()
        return None

    try:
        return wait_until(
            agrees,
            what=f"{weight} % of new connections should be answered by {canary}",
            timeout=timeout,
            setting=SETTING,
            interval=PROBE_INTERVAL,
            clock=clock,
        )
    except WaitTimeoutError as error:
        raise WaitTimeoutError(f"{error}; last: {last or 'nothing'}") from error


def wait_for_one(
    who_answers: WhoAnswers,
    wanted: Identity,
    *,
    what: str,
    connections: int,
    timeout: float,
    clock: Clock,
) -> None:
    """Make connections until so many in a row were answered by `wanted`.

    Raises WaitTimeoutError, which tells who answered instead.
    """
    row = 0
    others: Counter[str] = Counter()

    def all_right() -> bool:
        nonlocal row
        try:
            answered = who_answers()
        except NotMeasuredError as error:
            row = 0
            others[f"nobody ({error})"] += 1
            return False
        if answered.is_same(wanted):
            row += 1
            return row >= connections
        row = 0
        others[str(answered)] += 1
        return False

    try:
        wait_until(
            all_right,
            what=f"{connections} {what} in a row should be answered by {wanted}",
            timeout=timeout,
            setting=SETTING,
            interval=PROBE_INTERVAL,
            clock=clock,
        )
    except WaitTimeoutError as error:
        told = ", ".join(f"{count} by {who}" for who, count in others.most_common(3))
        raise WaitTimeoutError(f"{error}; answered otherwise: {told or 'none'}") from error


class _Sample:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.restart()

    def restart(self) -> None:
        self.n = self.canary = 0
        self.since = self._clock.monotonic()

    def add(self, is_canary: bool) -> None:
        self.n += 1
        self.canary += is_canary


def _is_canary(answered: Identity, stable: Identity, canary: Identity) -> bool:
    if answered.is_same(canary):
        return True
    if answered.is_same(stable):
        return False
    raise PlatformError(
        f"cannot tell who answers ({answered}, neither {stable} nor {canary}): let /health name "
        "its color, or set service.version_header and give versions different names; where a third "
        "version answers, somebody else routes to it"
    )
