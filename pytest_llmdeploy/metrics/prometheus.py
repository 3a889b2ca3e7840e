"""A Prometheus that watches the service: series of a preset, and queries of the user's own.

What a preset names is read as samples and counted here (`history.py` says why). Queries of the
user's own are evaluated by the Prometheus, at the end of the span that is asked for.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from pytest_llmdeploy.config.canary import PrometheusConfig
from pytest_llmdeploy.errors import ConfigError, NoDataError, NotMeasuredError, Problem
from pytest_llmdeploy.metrics import prometheus_own as own
from pytest_llmdeploy.metrics import templates
from pytest_llmdeploy.metrics.history import History
from pytest_llmdeploy.metrics.limits import Limits
from pytest_llmdeploy.metrics.presets import (
    INFO,
    PRESETS,
    Family,
    Match,
    Pick,
    quoted,
    subject_matches,
)
from pytest_llmdeploy.metrics.prometheus_api import Api
from pytest_llmdeploy.metrics.prometheus_series import (
    Series,
    counted_twice,
    history_of,
    idle,
    scraped,
    silent,
    target_of,
)
from pytest_llmdeploy.metrics.sampled import Found, SampledSource
from pytest_llmdeploy.ports import Reading, Subject

_KEPT = 64
"""Answers that are kept, for signals of one span that need the same samples."""


class PrometheusSource(SampledSource):
    """A MetricsSource of what a Prometheus has scraped."""

    name = "prometheus"

    def __init__(
        self,
        config: PrometheusConfig,
        preset: str,
        *,
        queries: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        namespace: str = "",
        service: str = "",
        forward: Callable[[str], AbstractContextManager[str]] | None = None,
        directory: Path | None = None,
    ) -> None:
        """Raise MissingExtraError, ConfigError (queries), NotMeasuredError (no way there)."""
        super().__init__(PRESETS[preset], limits or Limits())
        self._queries = dict(queries or {})
        problems = [
            Problem("llmdeploy.yaml", 0, f"canary.metrics.queries.{signal}", problem)
            for signal, query in self._queries.items()
            if (problem := templates.problem_of(query)) is not None
        ]
        if problems:
            raise ConfigError(problems)
        self._api = Api(config, forward=forward, directory=directory)
        self._stale_after = 2 * config.scrape_interval
        self._namespace, self._service = namespace, service
        self._pods: dict[str, dict[str, None]] = {}
        self._answers: OrderedDict[tuple[str, float], list[Series]] = OrderedDict()

    def offers(self, signal: str) -> bool:
        """Whether a query or the preset tells a signal."""
        return signal in self._queries or super().offers(signal)

    def look(self, subjects: Sequence[Subject]) -> None:
        """Take note of the replicas' names: what they counted counts when they are gone, too."""
        for subject in subjects:
            self._pods.setdefault(subject.color, {}).update(dict.fromkeys(subject.pods))

    def read(self, signal: str, subject: Subject, since: float, until: float) -> Reading:
        """Return a signal over a span of time."""
        query = self._queries.get(signal)
        if query is None:
            return super().read(signal, subject, since, until)
        if until <= since:
            raise NoDataError(f"prometheus: {signal}: the span is empty")
        place = {"namespace": self._namespace, "service": self._service}
        filled = own.filled(query, subject, until - since, place)
        return own.read(self._api, filled, until, self._stale_after)

    def close(self) -> None:
        """Release connections."""
        self._api.close()

    # What the preset names

    def _find(
        self, family: Family, subject: Subject, since: float, until: float, *, gauge: bool = False
    ) -> Found:
        window = templates.duration(until - since + self._stale_after + 1)
        picks: tuple[Pick, ...] = ("pod",) if family.container else self._preset.picks
        asked = []
        for pick in picks:
            for matches in self._alternatives(pick, subject, window, until):
                for name in family.names:
                    conditions = [match.promql() for match in (*matches, *family.where)]
                    query = f"{name}{{{', '.join(conditions)}}}"
                    asked.append(query)
                    if found := self._samples(query, window, until):
                        quiet: list[str] = []
                        # By anything but a replica's name, nothing tells whose samples these are.
                        if pick == "pod":
                            only = gauge or family.container
                            quiet = self._silent(subject, found, window, until, only=only)
                        return Found(
                            histories=self._histories(found, window, until, name, gauge=gauge),
                            names=(name,),
                            matches=(family.where,),
                            query=f"prometheus: {query}",
                            stale_after=self._stale_after,
                            silent=tuple(quiet),
                        )
        if not asked:
            raise NoDataError(
                f"prometheus: {family.names[0]}: nothing tells the {subject.role} version's "
                f"series: it has no replicas, and no {INFO} of its version or colour is scraped"
            )
        raise NoDataError(f"prometheus: {' or '.join(dict.fromkeys(asked))}: no such series")

    def _alternatives(
        self, pick: Pick, subject: Subject, window: str, until: float
    ) -> Iterable[tuple[Match, ...]]:
        if pick == "info":
            yield from self._by_info(subject, window, until)
            return
        pods = {**self._pods.get(subject.color, {}), **dict.fromkeys(subject.pods)}
        yield from subject_matches(pick, subject, tuple(pods), self._namespace, self._service)

    def _by_info(self, subject: Subject, window: str, until: float) -> Iterable[tuple[Match, ...]]:
        """Yield for the targets that said to be the version; its colour where it has no name."""
        label, value = ("version", subject.version)
        if value is None:
            label, value = ("color", subject.color)
        same = [Match(label, quoted(value))]
        if self._namespace:
            same.append(Match("namespace", f"{quoted(self._namespace)}|"))
        selector = f"{INFO}{{{', '.join(match.promql() for match in same)}}}"
        found = self._ask(f"last_over_time({selector}[{window}])", until)
        targets = [one["metric"] for one in found if "instance" in one["metric"]]
        if targets:
            yield tuple(
                Match(name, "|".join(sorted({quoted(one.get(name, "")) for one in targets})))
                for name in ("job", "instance")
            )

    def _samples(self, selector: str, window: str, until: float) -> list[Series]:
        found = self._ask(f"{selector}[{window}]", until)
        return [one for one in found if one.get("values")]

    def _ask(self, query: str, until: float) -> list[Series]:
        key = (query, until)
        if key not in self._answers:
            self._answers[key] = self._api.query(query, until)
            while len(self._answers) > _KEPT:
                self._answers.popitem(last=False)
        return self._answers[key]

    def _silent(
        self, subject: Subject, found: Sequence[Series], window: str, until: float, *, only: bool
    ) -> list[str]:
        """Return the replicas that are not scraped.

        A counter that has counted nothing is not there yet, so a scrape of the replica will do;
        not with `only`.
        """
        since = until - self._stale_after
        quiet = silent(subject.pods, found, since)
        if only or not quiet:
            return quiet
        jobs = sorted({quoted(one["metric"].get("job", "")) for one in found})
        same = (
            Match("job", "|".join(jobs)),
            Match("pod", "|".join(quoted(pod) for pod in quiet)),
            *((Match("namespace", f"{quoted(self._namespace)}|"),) if self._namespace else ()),
        )
        selector = f"up{{{', '.join(match.promql() for match in same)}}}"
        ups = self._samples(selector, window, until)
        return [pod for pod in quiet if not idle(pod, found, ups, since)]

    def _histories(
        self, found: Sequence[Series], window: str, until: float, name: str, *, gauge: bool
    ) -> dict[str, History]:
        targets: dict[str, list[Series]] = defaultdict(list)
        for series in found:
            targets[target_of(series["metric"])].append(series)
        ups: dict[str, list[Series]] = defaultdict(list)
        instances = sorted({quoted(i) for one in found if (i := one["metric"].get("instance"))})
        if instances and not gauge:
            selector = f"up{{{Match('instance', '|'.join(instances)).promql()}}}"
            for series in self._samples(selector, window, until):
                ups[target_of(series["metric"])].append(series)
        if twice := counted_twice(found, ups):
            raise NotMeasuredError(f"prometheus: {name}: {twice}")
        gauges = (name,) if gauge else ()
        return {
            target: history_of(series, scraped(ups.get(target, ())), gauges)
            for target, series in targets.items()
        }
