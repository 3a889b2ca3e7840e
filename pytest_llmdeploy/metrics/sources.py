"""Sources as the file names them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from pytest_llmdeploy.config.canary import MetricsConfig
from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.metrics.client import ClientSource
from pytest_llmdeploy.metrics.limits import Limits
from pytest_llmdeploy.ports import MetricsSource, RequestOutcome

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
