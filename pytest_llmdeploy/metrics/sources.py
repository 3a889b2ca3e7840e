"""Sources as the file names them, and the choice among them for each signal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from pytest_llmdeploy.config.canary import MetricsConfig
from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.metrics.client import ClientSource
from pytest_llmdeploy.metrics.limits import Limits
from pytest_llmdeploy.ports import MetricsSource, Reading, RequestOutcome, Subject, Tally

Reach = Callable[[str], AbstractContextManager[str]]
"""Leads to what it is given the name of, and yields an address: as `Fleet.direct` does."""


def make_sources(
    config: MetricsConfig,
    *,
    drain: Callable[[], Sequence[RequestOutcome]] | None = None,
    reach: Reach | None = None,
    forward: Reach | None = None,
    addresses: Callable[[], Sequence[str]] | None = None,
    limits: Limits | None = None,
    namespace: str = "",
    service: str = "",
    directory: Path | None = None,
    look_interval: float = 5.0,
) -> list[MetricsSource]:
    """Return the sources of a configuration, in the order in which they are asked.

    `drain` hands over this run's requests; `reach` leads to a replica by its name (`Fleet.direct`);
    `forward` leads to ``NAMESPACE/SERVICE:PORT``; `addresses` returns addresses to scrape beside
    the replicas (root addresses of Envoys' admin interfaces). `ca_file` is relative to `directory`.
    Sources look every `look_interval` seconds. A source that the file names and that lacks its part
    raises NotMeasuredError; one that it does not name is left out. Raises MissingExtraError,
    ConfigError for queries that cannot be.
    """
    made: list[MetricsSource] = []
    for name in config.order:
        if name == "client" and drain is not None:
            made.append(ClientSource(drain))
        elif name == "scrape" and (reach is not None or addresses is not None):
            from pytest_llmdeploy.metrics.scrape import ScrapeSource

            made.append(
                ScrapeSource(
                    config.preset,
                    path=config.path,
                    reach=reach,
                    addresses=addresses,
                    limits=limits or Limits(),
                    namespace=namespace,
                    service=service,
                    look_interval=look_interval,
                )
            )
        elif name == "prometheus" and config.prometheus is not None:
            from pytest_llmdeploy.metrics.prometheus import PrometheusSource

            made.append(
                PrometheusSource(
                    config.prometheus,
                    config.preset,
                    queries=config.queries,
                    limits=limits or Limits(),
                    namespace=namespace,
                    service=service,
                    forward=forward,
                    directory=directory,
                )
            )
        elif config.sources is not None:
            raise NotMeasuredError(
                f"metrics.sources names {name}, which this run has no part for: "
                + {
                    "client": "it sends no requests of its own",
                    "scrape": "its platform does not lead to single replicas",
                    "prometheus": "metrics.prometheus is not given",
                }[name]
            )
    return made


class Sources:
    """For each signal, the first source that offers it."""

    def __init__(self, sources: Sequence[MetricsSource]) -> None:
        self.all = tuple(sources)

    def offers(self, signal: str) -> bool:
        """Whether any source can tell a signal, or ``tally``."""
        return any(source.offers(signal) for source in self.all)

    def of(self, signal: str) -> MetricsSource:
        """Return the source of a signal; raise NotMeasuredError where there is none."""
        for source in self.all:
            if source.offers(signal):
                return source
        names = ", ".join(source.name for source in self.all) or "none"
        raise NotMeasuredError(
            f"no source of metrics tells {signal}; sources: {names}. Give canary.metrics another "
            "preset, source or query, or set the signal's limit to null"
        )

    def look(self, subjects: Sequence[Subject]) -> None:
        """Let every source take note of what is now; then raise the first error, if any."""
        errors: list[NotMeasuredError] = []
        for source in self.all:
            try:
                source.look(subjects)
            except NotMeasuredError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def read(self, signal: str, subject: Subject, since: float, until: float) -> Reading:
        """Return a signal of its source."""
        return self.of(signal).read(signal, subject, since, until)

    def tally(self, subject: Subject, since: float, until: float) -> Tally:
        """Return what happened to the requests, as the first source that counts them has it."""
        return self.of("tally").tally(subject, since, until)

    def close(self) -> None:
        """Release all connections."""
        for source in self.all:
            source.close()
