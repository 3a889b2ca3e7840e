"""Scraping without a Prometheus: each replica's metrics, or a proxy's, at each look.

Only the lines of the preset's metrics are read and kept. The way to a replica stays open from one
look to the next: opening a port-forward for each would cost more than what is read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import TYPE_CHECKING

from pytest_llmdeploy.errors import MissingExtraError, NoDataError, NotMeasuredError
from pytest_llmdeploy.metrics.history import History, Key
from pytest_llmdeploy.metrics.limits import Limits
from pytest_llmdeploy.metrics.presets import PRESETS, Family, Preset, subject_matches
from pytest_llmdeploy.metrics.sampled import Found, SampledSource
from pytest_llmdeploy.ports import Subject
from pytest_llmdeploy.untrusted import one_line

if TYPE_CHECKING:
    import httpx

LARGEST = 16 << 20
"""Bytes of one scrape; a gateway's Envoy with some thousand clusters has less."""
TIMEOUT = 3.0
"""Seconds for one scrape."""
KEEP_ALIVE = 2.0
"""Seconds: shorter than servers keep idle connections (uvicorn 5 s), so that none meets its end."""
ENVOY_PATH = "/stats/prometheus"
_HEADERS = {"accept": "text/plain;version=0.0.4", "user-agent": "pytest-llmdeploy"}


class _Target:
    """One address that is scraped, and what it said so far."""

    def __init__(self, open_: Callable[[], AbstractContextManager[str]], path: str) -> None:
        self._open = open_
        self._path = path
        self._stack = ExitStack()
        self._client: httpx.Client | None = None
        self.history = History()
        self.problem: str | None = "was not scraped yet"
        """Why the latest scrape has nothing; None where it has."""

    def scrape(self, preset: Preset, clock: Callable[[], float]) -> None:
        """Take a scrape, or note why there is none."""
        import httpx

        if self.history.latest is None:
            self.history = History(preset.memory.names if preset.memory else ())
        try:
            if self._client is None:
                address = self._stack.enter_context(self._open())
                self._client = self._stack.enter_context(
                    httpx.Client(
                        base_url=address,
                        timeout=TIMEOUT,
                        trust_env=False,
                        limits=httpx.Limits(keepalive_expiry=KEEP_ALIVE),
                    )
                )
            when, text = clock(), self._text(self._client)
            self.history.add(when, dict(read_text(text, _names(preset))))
            self.problem = None
        except (httpx.HTTPError, NotMeasuredError, ValueError) as error:
            self.problem = one_line(f"could not be scraped: {error or type(error).__name__}")
            self.close()

    def _text(self, client: httpx.Client) -> str:
        deadline = time.monotonic() + TIMEOUT
        with client.stream("GET", self._path, headers=_HEADERS) as response:
            if response.status_code != 200:
                raise ValueError(f"GET {self._path} was answered with {response.status_code}")
            body = bytearray()
            for piece in response.iter_bytes():
                body += piece
                if len(body) > LARGEST:
                    raise ValueError(f"GET {self._path}: more than {LARGEST >> 20} MiB")
                if time.monotonic() > deadline:
                    raise ValueError(f"GET {self._path} took more than {TIMEOUT:g} s")
        return body.decode("utf-8")

    def close(self) -> None:
        """Release the connection; the next scrape opens it again."""
        self._client = None
        stack, self._stack = self._stack, ExitStack()
        stack.close()


class ScrapeSource(SampledSource):
    """A MetricsSource of what replicas, or proxies before them, expose."""

    name = "scrape"

    def __init__(
        self,
        preset: str,
        *,
        path: str = "/metrics",
        reach: Callable[[str], AbstractContextManager[str]] | None = None,
        addresses: Callable[[], Sequence[str]] | None = None,
        limits: Limits | None = None,
        namespace: str = "",
        service: str = "",
        look_interval: float = 5.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`reach` leads to a replica; `addresses` returns proxies' root addresses.

        Which of the two is scraped, the preset tells: a proxy's metrics are at /stats/prometheus.
        Raises MissingExtraError.
        """
        try:
            import prometheus_client.parser  # noqa: F401 - is it there?
        except ModuleNotFoundError:
            raise MissingExtraError(
                "the source 'scrape' of canary.metrics", "prometheus", "prometheus-client"
            ) from None
        super().__init__(PRESETS[preset], limits or Limits())
        self._path = path
        self._reach = reach
        self._addresses = addresses
        self._namespace, self._service = namespace, service
        self._stale_after = 2 * look_interval + TIMEOUT
        self._clock = clock
        self._targets: dict[str, _Target] = {}
        self._colors: dict[str, set[str]] = {}

    def offers(self, signal: str) -> bool:
        """Whether the preset names it, and what is to be scraped for it can be reached."""
        preset = self._preset
        family = {"cpu_usage": preset.cpu, "memory_usage": preset.memory}.get(signal)
        if family is not None and family.container:
            return False
        reached = self._reach if preset.from_replicas else self._addresses
        return reached is not None and super().offers(signal)

    def look(self, subjects: Sequence[Subject]) -> None:
        """Scrape all targets; what fails is told by whoever reads."""
        for target in self._wanted(subjects):
            target.scrape(self._preset, self._clock)

    def _wanted(self, subjects: Sequence[Subject]) -> Iterator[_Target]:
        names: dict[str, Callable[[], AbstractContextManager[str]]] = {}
        if self._preset.from_replicas:
            path = self._path
            for subject in subjects:
                for pod in subject.pods:
                    self._colors.setdefault(subject.color, set()).add(pod)
                    names[pod] = _opening(self._reach, pod)
        else:
            path = ENVOY_PATH
            for address in self._addresses() if self._addresses is not None else ():
                names[address] = _opening(None, address)
        for name, target in self._targets.items():
            if name not in names:
                target.problem = "is gone"
                target.close()
        for name, open_ in names.items():
            if name not in self._targets:
                self._targets[name] = _Target(open_, path)
            yield self._targets[name]

    def _find(
        self,
        family: Family,
        subject: Subject,
        since: float,  # noqa: ARG002 - all is kept
        until: float,  # noqa: ARG002
        *,
        gauge: bool = False,
    ) -> Found:
        """Return a version's replicas, those too that are gone: what they counted, was."""
        preset = self._preset
        if preset.from_replicas:
            present = set(subject.pods)
            seen = self._colors.get(subject.color, set()) | present
            alternatives = [family.where]
            query = f"{family.names[0]} of {', '.join(sorted(present)) or subject.role}"
        else:
            present = {name for name, one in self._targets.items() if one.problem != "is gone"}
            seen = set(self._targets)
            picked = subject_matches(
                preset.picks[0], subject, subject.pods, self._namespace, self._service
            )
            alternatives = [(*matches, *family.where) for matches in picked]
            query = f"{family.names[0]} of {subject.color} at {', '.join(sorted(present))}"
        query = f"scrape: {query}"
        if not present:
            raise NoDataError(f"{query}: the {subject.role} version has nothing to scrape")
        for name in sorted(present):
            target = self._targets.get(name)
            problem = "was not scraped yet" if target is None else target.problem
            if problem is not None:
                raise NoDataError(f"{query}: {name} {problem}")
        kept = present if gauge else seen
        return Found(
            histories={n: one.history for n, one in self._targets.items() if n in kept},
            names=family.names,
            matches=tuple(alternatives),
            query=query,
            stale_after=self._stale_after,
        )

    def close(self) -> None:
        """Release all connections."""
        for target in self._targets.values():
            target.close()


def read_text(text: str, names: frozenset[str]) -> Iterator[tuple[Key, float]]:
    """Yield the samples of the named series of an exposition; raise ValueError."""
    from prometheus_client.parser import text_string_to_metric_families

    wanted = [line for line in text.splitlines() if _name(line) in names]
    for family in text_string_to_metric_families("\n".join(wanted) + "\n"):
        for sample in family.samples:
            yield (sample.name, tuple(sorted(sample.labels.items()))), sample.value


def _name(line: str) -> str:
    return line.partition("{")[0].partition(" ")[0]


def _names(preset: Preset) -> frozenset[str]:
    plain = (preset.requests, preset.tokens, preset.cpu, preset.memory)
    distributions = (preset.latency, preset.ttft, preset.itl)
    return frozenset(
        name
        for family in (*plain, *(one.buckets() if one else None for one in distributions))
        if family is not None
        for name in family.names
    )


def _opening(
    reach: Callable[[str], AbstractContextManager[str]] | None, name: str
) -> Callable[[], AbstractContextManager[str]]:
    return (lambda: nullcontext(name)) if reach is None else (lambda: reach(name))
