"""Proof that a switch has arrived: at the platform's endpoints, and at fresh connections.

An API that accepted a change says nothing about the data plane; only answers do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from pytest_llmdeploy.errors import ConflictError, NotMeasuredError, PlatformError
from pytest_llmdeploy.ports import Fleet
from pytest_llmdeploy.waiting import Clock, WaitTimeoutError, wait_until

PROBE_INTERVAL = 0.05

WhoAnswers = Callable[[], "Identity"]
"""Asks the service over a new connection; raises NotMeasuredError where nobody answers."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who answered: as far as the answer tells."""

    color: str | None
    version: str | None

    def is_known(self) -> bool:
        """Whether the answer tells anything."""
        return self.color is not None or self.version is not None

    def is_same(self, other: Identity) -> bool | None:
        """Return whether both are one version; None where they cannot be told apart."""
        if self.color is not None and other.color is not None:
            return self.color == other.color
        if self.version is not None and other.version is not None:
            return self.version == other.version
        return None

    def __str__(self) -> str:
        parts = [part for part in (self.color, self.version) if part]
        return " ".join(parts) or "somebody who does not say who"


@dataclass(frozen=True, slots=True)
class Converged:
    """When the data plane had changed; seconds from the moment that was given."""

    endpoints: float
    """The platform's endpoints were exactly the wanted replicas."""
    first: float
    """The wanted version answered a fresh connection for the first time."""
    all: float
    """It had answered all of so many fresh connections in a row, the first of them here."""
    probes: int
    answers: dict[str, int]
    """Fresh connections by who answered."""


def wait_until_converged(
    fleet: Fleet,
    color: str,
    wanted: Identity,
    who_answers: WhoAnswers,
    *,
    connections: int,
    since: float,
    timeout: float,
    clock: Clock,
    setting: str = "blue_green.converge_timeout",
    check: Callable[[], None] = lambda: None,
) -> Converged:
    """Wait until `color` alone is behind the service's name, and answers as many connections.

    `check` is called before each connection; what it raises ends the waiting. Raises
    WaitTimeoutError that tells what was seen last.
    """
    seen: Counter[str] = Counter()
    row = _Row()
    reached: dict[str, float] = {}

    def endpoints_right() -> bool:
        try:
            missing = endpoints_lack(fleet, color)
        except ConflictError:
            raise
        except PlatformError as error:  # the control plane; what users meet is another matter
            missing = str(error)
        row.last = missing or row.last
        if missing is None:
            reached.setdefault("endpoints", clock.monotonic() - since)
            return True
        reached.pop("endpoints", None)
        return False

    def all_answer() -> bool:
        try:
            answered = who_answers()
        except NotMeasuredError as error:
            seen["no answer"] += 1
            row.broken(f"no answer: {error}")
            return False
        seen[str(answered)] += 1
        same = answered.is_same(wanted)
        if same is None:
            raise PlatformError(
                f"cannot tell who answers ({answered} for {wanted}): let /health name its color, "
                "or set service.version_header and give versions different names"
            )
        if not same:
            row.broken(f"{answered} answered")
            return False
        now = clock.monotonic() - since
        reached.setdefault("first", now)
        row.good(now)
        return row.length >= connections

    def converged() -> bool:
        check()
        # Probes go on while endpoints change: what users meet is what counts.
        answered = all_answer()
        return endpoints_right() and answered

    try:
        wait_until(
            converged,
            what=f"{connections} new connections in a row should be answered by {wanted}",
            timeout=timeout,
            setting=setting,
            interval=PROBE_INTERVAL,
            clock=clock,
        )
    except WaitTimeoutError as error:
        raise WaitTimeoutError(f"{error}; last: {row.last or 'nothing'}") from error
    return Converged(
        endpoints=reached["endpoints"],
        first=reached["first"],
        all=row.since,
        probes=sum(seen.values()),
        answers=dict(seen),
    )


def endpoints_lack(fleet: Fleet, color: str) -> str | None:
    """Return what the endpoints lack of being all ready replicas of `color`, and no others."""
    found = [endpoint for endpoint in fleet.endpoints() if endpoint.ready]
    others = sorted({endpoint.color or endpoint.pod for endpoint in found} - {color})
    if others:
        return f"the service still leads to {', '.join(others)}"
    ready = {pod.name for pod in fleet.pods(color) if pod.ready and not pod.terminating}
    missing = ready - {endpoint.pod for endpoint in found}
    if missing or not found:
        return f"the service leads to {len(found)} of {len(ready)} ready replicas of {color}"
    return None


class _Row:
    """Right answers in a row, and what interrupted them last."""

    def __init__(self) -> None:
        self.length = 0
        self.since = 0.0
        self.last = ""

    def good(self, now: float) -> None:
        if self.length == 0:
            self.since = now
        self.length += 1

    def broken(self, why: str) -> None:
        self.length = 0
        self.last = why
