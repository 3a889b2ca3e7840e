"""The versions that a policy is tried with: the running one itself, and worse ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pytest_llmdeploy.ports import Finding, Route, Router, Snapshot

VERSION = "calibration"
"""What a case's replicas call themselves, so that answers tell them from the running version."""
A_A = "a-a"


@dataclass(frozen=True, slots=True)
class Effect:
    """What a fault does to figures, for the simulation."""

    errors: float = 0.0
    """Share of the good requests that fail."""
    truncated: float = 0.0
    """Share of the good streams that are cut; they fail, too."""
    slower: float = 1.0
    """Factor of every latency and time to the first token."""
    tail: float = 0.0
    """Share of the answers that are slower still, by `tail_factor`."""
    tail_factor: float = 1.0
    ttft: float = 1.0
    """Factor of the time to the first token alone."""
    leak: float = 0.0
    """Megabytes that a replica keeps of each request."""
    leak_limit: float = 0.0
    """Megabytes at which that ends."""
    worse: float = 0.0
    """Share of the answers that are wrong."""


@dataclass(frozen=True, slots=True)
class Case:
    """One version to try."""

    name: str
    what: str
    faults: str = ""
    """What the reference service is told in LLM_FAULTS."""
    effect: Effect | None = Effect()
    """None where figures do not tell it, and nothing is simulated."""
    ignores_weights: bool = False
    """The router takes weights and does nothing."""
    may_be_error: bool = False
    """An ERROR is a right answer: it tells that figures cannot be trusted."""

    @property
    def variables(self) -> Mapping[str, str]:
        """Return the environment variables of its replicas."""
        return {"LLM_FAULTS": self.faults, "LLM_VERSION": VERSION}


_ALL = (
    Case(A_A, "no fault: the running version against itself"),
    Case("errors-1", "1 % of the requests fail", "error-500=0.01", Effect(errors=0.01)),
    Case("errors-2", "2 % of the requests fail", "error-500=0.02", Effect(errors=0.02)),
    Case("errors-5", "5 % of the requests fail", "error-500=0.05", Effect(errors=0.05)),
    Case("slower-20", "answers take 20 % longer", "latency-factor=1.2", Effect(slower=1.2)),
    Case("slower-50", "answers take 50 % longer", "latency-factor=1.5", Effect(slower=1.5)),
    Case(
        "slow-tail",
        "every tenth answer takes three times as long",
        "slow-tail=0.1,tail-factor=3",
        Effect(tail=0.1, tail_factor=3.0),
    ),
    Case("ttft-2x", "the first token takes twice as long", "ttft-factor=2", Effect(ttft=2.0)),
    Case("cut-streams", "3 % of the answers break off", "cut-stream=0.03", Effect(truncated=0.03)),
    Case(
        "leak",
        "each request leaks 1 MB, up to 512 MB a replica",
        "leak=1",
        Effect(leak=1.0, leak_limit=512.0),
    ),
    Case("crash-loop", "a replica ends at its 41st request", "crash-after=40", None),
    Case(
        "worse-answers", "a third of the answers is wrong", "worse-answers=0.33", Effect(worse=0.33)
    ),
    Case("no-metrics", "the service's metrics are missing", "no-metrics", None, may_be_error=True),
    Case(
        "wrong-version",
        "answers name a version that does not run",
        "wrong-version",
        None,
        may_be_error=True,
    ),
    Case(
        "weights-ignored",
        "the router takes weights and does nothing",
        "",
        None,
        ignores_weights=True,
        may_be_error=True,
    ),
)
CASES: Mapping[str, Case] = {case.name: case for case in _ALL}


def through_of(case: Case) -> Callable[[Router], Router]:
    """Return what the case does to a router."""
    return IgnoresWeights if case.ignores_weights else lambda router: router


class IgnoresWeights:
    """ports.Router: takes weights, says that they are in force, and does nothing."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._said: Mapping[str, int] | None = None

    @property
    def name(self) -> str:
        """The router's."""
        return self._router.name

    @property
    def has_header(self) -> bool:
        """The router's."""
        return self._router.has_header

    @property
    def splits_connections(self) -> bool:
        """The router's."""
        return self._router.splits_connections

    def preflight(self, stable: str, canary: str) -> Sequence[Finding]:
        """Return what the router says."""
        return self._router.preflight(stable, canary)

    def read(self) -> Route:
        """Return the weights that were taken, if any were."""
        route = self._router.read()
        return route if self._said is None else Route(self._said, route.header)

    def prepare(self, stable: str, canary: str) -> None:
        """Make a place for both colours."""
        self._router.prepare(stable, canary)

    def set_weight(self, stable: str, canary: str, weight: int) -> int:
        """Do nothing."""
        self._said = {stable: 100 - weight, canary: weight}
        return weight

    def lacks(self) -> str | None:
        """Return what the router says."""
        return self._router.lacks()

    def promote(self, stable: str) -> None:
        """Do it: what follows must find the truth."""
        self._said = None
        self._router.promote(stable)

    def snapshot(self) -> Snapshot:
        """Return the router's."""
        return self._router.snapshot()

    def restore_weights(self, snapshot: Snapshot) -> None:
        """Do it: the way back is real."""
        self._said = None
        self._router.restore_weights(snapshot)

    def restore(self, snapshot: Snapshot) -> None:
        """Do it."""
        self._said = None
        self._router.restore(snapshot)

    def differences(self, snapshot: Snapshot) -> Sequence[str]:
        """Return the router's."""
        return self._router.differences(snapshot)

    def commands(self, snapshot: Snapshot) -> Sequence[str]:
        """Return the router's."""
        return self._router.commands(snapshot)
