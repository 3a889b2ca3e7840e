"""Takes the looks of a phase: asks the sources, and keeps what they do not tell, too."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from pytest_llmdeploy.errors import NoDataError, NotMeasuredError
from pytest_llmdeploy.ports import MetricsSource, Subject, Tally
from pytest_llmdeploy.release.canary.answers import Answers
from pytest_llmdeploy.release.canary.looks import (
    CANARY,
    NO_DATA,
    NOT_MEASURED,
    STABLE,
    Look,
    Missing,
    Value,
)
from pytest_llmdeploy.release.canary.state import CanaryState, Figures

T = TypeVar("T")
SCRAPES = 4
"""Scrapes of Prometheus in the window of a sample, at least."""


class Observer:
    """Looks at both versions, from a phase's beginning on."""

    def __init__(self, canary: CanaryState, phase: str, weight: int, started: float) -> None:
        """`weight` is what the router made; `started` is a time.time()."""
        assert canary.figures is not None
        assert canary.stable is not None
        assert canary.canary is not None
        self._canary = canary
        self._figures: Figures = canary.figures
        self._subjects: dict[str, Subject] = {STABLE: canary.stable, CANARY: canary.canary}
        self._phase = phase
        self._weight = weight
        self._started = started
        self._trouble: dict[str, str] = {}
        self._answers: Answers | None = None
        # From here on what comes is kept apart from what came before.
        self._figures.client.unattributed(started, started)

    def look(self, elapsed: float, *, sample: bool, answers: bool) -> Look:
        """Return what is known now; with `sample` the signals of `sla`, too.

        With `answers` the cases of `quality` are asked from now on; later looks have what came.
        Raises NotMeasuredError where this run's own requests have ended: without them nothing tells
        how the traffic is split, whatever else the sources know.
        """
        self._trouble = self._figures.look(tuple(self._subjects.values()))
        client = self._figures.client
        if (trouble := self._trouble.get(client.name)) is not None:
            raise NotMeasuredError(f"the split that is served is not known any more: {trouble}")
        now = time.time()
        source = self._figures.source("tally")
        tallies: dict[str, Tally | Missing] = {}
        sent: dict[str, int] = {}
        failed: dict[str, int] = {}
        for role, subject in self._subjects.items():
            if source is not None:
                tallies[role] = self._tally(source, subject, now)
            own = self._tally(client, subject, now)
            sent[role] = own.requests if isinstance(own, Tally) else 0
            failed[role] = own.errors if isinstance(own, Tally) else 0
        nobody = client.unattributed(self._started, now)
        if answers:
            self._answers = Answers(self._compare_answers)
        return Look(
            phase=self._phase,
            weight=self._weight,
            at=now,
            elapsed=elapsed,
            tallies=tallies,
            source=source.name if source is not None else "",
            lag=self._lag(source),
            sent=sent,
            failed=failed,
            unattributed=nobody.errors,
            sample=dict(self._sampled(now)) if sample else None,
            answers=None if self._answers is None else self._answers.told,
        )

    def _sampled(self, now: float) -> Iterator[tuple[str, Value | Missing]]:
        for signal in self._canary.config.sla.signals:
            yield signal, self._sample(signal, now)

    def _sample(self, signal: str, now: float) -> Value | Missing:
        source = self._figures.source(signal)
        if source is None:
            return Missing(NOT_MEASURED, f"no source of canary.metrics tells {signal}")
        subject = self._subjects[CANARY]
        since = max(self._started, now - self._window(source))
        read = self._ask(source, lambda: source.read(signal, subject, since, now))
        if isinstance(read, Missing):
            return read
        # Windows overlap where they are longer than the time between two: a request counts once.
        once = min(1.0, self._canary.config.sample_interval / (now - since))
        n = None if read.n is None else int(once * read.n)
        return Value(read.value, read.query, source.name, n)

    def _window(self, source: MetricsSource) -> float:
        """Return the seconds of a sample: a rate over fewer than four scrapes is a guess."""
        config = self._canary.config
        prometheus = config.metrics.prometheus
        if prometheus is None or source.name != "prometheus":
            return config.sample_interval
        return max(config.sample_interval, SCRAPES * prometheus.scrape_interval)

    def _lag(self, source: MetricsSource | None) -> float:
        """Return the seconds between scrapes: replicas are not scraped at the same moment."""
        prometheus = self._canary.config.metrics.prometheus
        if prometheus is None or source is None or source.name != "prometheus":
            return 0.0
        return prometheus.scrape_interval

    def _tally(self, source: MetricsSource, subject: Subject, now: float) -> Tally | Missing:
        return self._ask(source, lambda: source.tally(subject, self._started, now))

    def _ask(self, source: MetricsSource, question: Callable[[], T]) -> T | Missing:
        """Return the answer; never an old one where the source could not look."""
        if (trouble := self._trouble.get(source.name)) is not None:
            return Missing(NOT_MEASURED, trouble)
        begun = time.monotonic()
        try:
            return question()
        except NoDataError as error:
            return Missing(NO_DATA, str(error))
        except NotMeasuredError as error:
            if time.monotonic() - begun > self._canary.config.look_interval:
                # It hangs: to wait for each figure would keep this from what else is to be seen.
                self._trouble[source.name] = str(error)
            return Missing(NOT_MEASURED, str(error))

    def _compare_answers(self) -> Mapping[str, Any]:
        compare = self._canary.compare_answers
        if compare is None:
            return {"missing": NOT_MEASURED, "why": "no gate's cases can be asked here"}
        pods = [self._subjects[role].pods for role in (STABLE, CANARY)]
        if not all(pods):
            return {"missing": NOT_MEASURED, "why": "one of the versions has no ready replica"}
        return compare(pods[0][0], pods[1][0])
