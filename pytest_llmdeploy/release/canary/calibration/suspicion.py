"""Both versions of a simulated phase, and cheap bounds that tell where the judge can matter."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from pytest_llmdeploy.config.canary import CanaryConfig
from pytest_llmdeploy.ports import Tally
from pytest_llmdeploy.release.canary.calibration.figures import Figures
from pytest_llmdeploy.release.canary.calibration.model import Drawn
from pytest_llmdeploy.release.canary.judge import QUANTILES
from pytest_llmdeploy.release.canary.looks import CANARY, NO_DATA, STABLE, Missing, Value
from pytest_llmdeploy.verdicts.distance import difference_bounds, ratio_bounds
from pytest_llmdeploy.verdicts.error_split import error_split_e_value
from pytest_llmdeploy.verdicts.sequences import Distribution

ALL = 100


class Sides:
    """Both versions, with what one phase has drawn of them."""

    def __init__(self, stable: Figures, canary: Figures) -> None:
        self.figures = {STABLE: stable, CANARY: canary}
        self.latency = {role: Drawn(each.latency) for role, each in self.figures.items()}
        self.ttft = {role: Drawn(each.ttft) for role, each in self.figures.items()}
        self.clear()

    def clear(self) -> None:
        """Forget what was drawn: a phase begins."""
        self.requests = {STABLE: 0, CANARY: 0}
        self.errors = {STABLE: 0, CANARY: 0}
        for drawn in (*self.latency.values(), *self.ttft.values()):
            drawn.clear()

    def tally(self, role: str) -> Tally | Missing:
        """Return a version's requests, as a source tells them."""
        if not self.requests[role]:
            return Missing(NO_DATA, "no request was answered by it")
        return Tally(
            self.requests[role],
            self.errors[role],
            self.latency[role].buckets(),
            self.ttft[role].buckets(),
        )


class Suspicion:
    """Cheap bounds that tell where the judge may say FAIL."""

    def __init__(self, config: CanaryConfig, weight: int, sides: Sides) -> None:
        self._sides = sides
        self._share = weight / ALL
        self._compared = config.compare.signals if weight < ALL else {}
        self._alpha = config.alpha_each
        self._threshold = 2 / config.alpha_each
        self._lenient = not config.must_prove(weight)
        self._seen = 0
        self._limits = {
            key.removeprefix("min_"): (limit, key.startswith("min_"))
            for key, limit in config.sla.limits.items()
        }
        self._latest: deque[bool] = deque(maxlen=config.sla.points)

    def surely(self, sample: Mapping[str, Value | Missing] | None) -> bool:
        """Return whether to ask now: a sample beyond its limit among the latest, or an e-value."""
        if sample is not None:
            self._latest.append(any(self._beyond(name, each) for name, each in sample.items()))
            if any(self._latest):
                return True
        errors = self._sides.errors
        failures = errors[STABLE] + errors[CANARY]
        if "error_rate" not in self._compared or failures == self._seen:
            return False
        self._seen = failures
        if errors[CANARY] <= self._share * failures:
            return False
        return error_split_e_value(errors[CANARY], failures, self._share) >= self._threshold

    def _beyond(self, name: str, value: Value | Missing) -> bool:
        limit, at_least = self._limits[name]
        if isinstance(value, Missing):
            return False
        return bool(value.value < limit if at_least else value.value > limit)

    def maybe(self) -> bool:
        """Return whether an estimate lies beyond its margin, as it must for a FAIL."""
        sides = self._sides
        if not all(sides.requests.values()):
            return False
        for signal, margin in self._compared.items():
            if signal == "error_rate":
                rates = {role: sides.errors[role] / sides.requests[role] for role in sides.requests}
                if rates[CANARY] - rates[STABLE] > margin:
                    return True
                continue
            what, q = QUANTILES[signal]
            drawn = sides.latency if what == "latency" else sides.ttft
            if drawn[CANARY].around(q)[1] > (1 + margin) * drawn[STABLE].around(q)[0]:
                return True
        return False

    def is_decided(self, *, over: bool) -> bool:
        """Return whether the bounds, which cost more, say FAIL, or PASS where that would do.

        What the judge adds to them is what would decide later, which costs most of its time.
        """
        sides = self._sides
        if over and (self._lenient or not self._compared):
            return True
        if not all(sides.requests.values()):
            return False
        all_within = True
        for signal, margin in self._compared.items():
            if signal == "error_rate":
                counts = {role: (sides.errors[role], sides.requests[role]) for role in sides.errors}
                low, high = difference_bounds(counts[STABLE], counts[CANARY], self._alpha / 2)
                beyond, within = low > margin, high <= margin
            else:
                what, q = QUANTILES[signal]
                drawn = sides.latency if what == "latency" else sides.ttft
                stable, canary = (Distribution.of(drawn[r].buckets()) for r in (STABLE, CANARY))
                least, most = ratio_bounds(stable, canary, q, self._alpha)
                beyond = least is not None and least > 1 + margin
                within = most is not None and most <= 1 + margin
            if beyond:
                return True
            all_within &= within
        return over and all_within
