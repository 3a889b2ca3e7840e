"""One gate of one file, with who is asked for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_llmdeploy.config.gates import ModelEndpoint, SuiteConfig
from pytest_llmdeploy.config.loader import LoadedConfig
from pytest_llmdeploy.models.openai_chat import Endpoint, OpenAIChatModel
from pytest_llmdeploy.ports import Embedder, Model, Service
from pytest_llmdeploy.verdicts import Verdict

if TYPE_CHECKING:
    from pytest_llmdeploy.assembly import Assembly
    from pytest_llmdeploy.gates.baseline import Compared
    from pytest_llmdeploy.gates.engine import GateEngine
    from pytest_llmdeploy.gates.progress import Progress
    from pytest_llmdeploy.gates.store import Result
    from pytest_llmdeploy.gates.suite import Suite


class GatePlan:
    """One gate of one file, ready to be asked."""

    def __init__(
        self,
        assembly: Assembly,
        loaded: LoadedConfig,
        name: str,
        config: SuiteConfig,
        *,
        key: str | None = None,
        service: Service | None = None,
        where: Callable[..., tuple[str, int]] | None = None,
    ) -> None:
        """`key` tells suites of one name apart; `service` replaces the environment's.

        `where` returns file and line of a key of `config`.
        """
        from pytest_llmdeploy.assembly.asked import asking_of, check_prices
        from pytest_llmdeploy.gates.suite import Clients, build_suite

        self.loaded = loaded
        self.name = name
        self.config = config
        self.wanted: Sequence[str] = ()
        """Ids of the cases that this run asks."""
        self.decides = False
        """The gate's own item is selected."""
        self._assembly = assembly
        self._service = service
        self._noted = False
        self.suite: Suite = build_suite(
            key=key or f"{loaded.path}::{name}",
            name=name,
            config=config,
            root=loaded.root,
            where=where or loaded.where,
            registry=assembly.registry,
            timeout=config.timeout or loaded.service.timeout,
            clients=Clients(self._model, self._judge, self._embedder),
            redact=loaded.redactor.deep,
        )
        self.asking = asking_of(loaded, config, service)
        if loaded.budget.dollars is not None and not assembly.run.replay.strict:
            check_prices(config, self.asking, (where or loaded.where)("budget", "dollars"))

    def _model(self) -> Model:
        return OpenAIChatModel(self._at(self.config.endpoint), retries=self.config.retries)

    def _judge(self) -> Model:
        own = self.config.judge.endpoint
        if own is None:  # the judged model judges itself, which the evidence tells
            return self._model()
        return OpenAIChatModel(self._at(own), retries=self.config.retries)

    def _at(self, own: ModelEndpoint | None) -> Endpoint:
        """Return an endpoint of the file; without one the service that is judged."""
        if own is not None:
            return Endpoint(own.base_url, own.model, own.api_key, own.headers)
        service = self._service or self._assembly.service(self.loaded)
        return self._assembly.endpoint(self.loaded, service)

    def _embedder(self) -> Embedder:
        from pytest_llmdeploy.models.openai_embeddings import OpenAIEmbedder

        config = self.config.embeddings
        if config is not None and config.local is not None:
            from pytest_llmdeploy.models.local_embeddings import LocalEmbedder

            return LocalEmbedder(config.local, self.loaded.root)
        endpoint = self._at(config.endpoint if config is not None else None)
        return OpenAIEmbedder(endpoint, retries=self.config.retries)

    @property
    def _asks_the_service(self) -> bool:
        here = self.config.endpoint is None and self._service is None
        return here and not self._assembly.run.replay.strict

    def _ready(self) -> GateEngine:
        if self._asks_the_service:
            self._assembly.service(self.loaded)  # here, not on the loop: starting it takes a while
        engine = self._assembly.engine
        if not self._noted:
            asking = self.asking
            # What a baseline is compared with is every case, and not those that decided.
            everything = self._assembly.run.baseline is not None
            if self.config.decision.stop_early and self.decides and not everything:
                from pytest_llmdeploy.gates.decision import Decision

                asking = replace(asking, enough=Decision(self.config, self.suite.cases))
            engine.want(self.suite, self.wanted or list(self.suite.cases), asking)
            self._noted = True
        return engine

    def result(self, case_id: str) -> Result:
        """Return the result of one case, asking the wanted cases when that has not begun."""
        result = self._ready().result(self.suite.key, case_id, self._wait)
        if result["verdict"] == Verdict.ERROR and self._asks_the_service:
            self._assembly.service(self.loaded)  # raises where the service has ended
        return result

    def results(self) -> Mapping[str, Result]:
        """Return the results of all cases of the suite."""
        return self._ready().results(self.suite.key, self._wait)

    def compared(self, results: Mapping[str, Result]) -> Compared | None:
        """Return the gate beside the run's baseline; None without one; raise NotMeasuredError."""
        baseline = self._assembly.baseline(self.loaded)
        if baseline is None:
            return None
        from pytest_llmdeploy.gates.baseline import compare

        return compare(baseline, self.name, results, self.config.baseline)

    def _wait(self, progress: Progress) -> None:
        self._assembly.while_waiting(lambda: f"gate {self.name}: {progress.line()}")
