"""Who is asked for a gate, by which name, and at which price."""

from __future__ import annotations

from pytest_llmdeploy.config.gates import SuiteConfig
from pytest_llmdeploy.config.loader import LoadedConfig
from pytest_llmdeploy.errors import ConfigError, Problem
from pytest_llmdeploy.gates.asking import Asking, Party
from pytest_llmdeploy.gates.budget import missing_price
from pytest_llmdeploy.ports import Service


def asking_of(loaded: LoadedConfig, config: SuiteConfig, service: Service | None) -> Asking:
    """Return who is asked for a gate; `service` is asked instead of the environment's."""
    address = service.api_url if service else f"the service of {loaded.path}"
    here = Party(loaded.service.model, address)
    own, judge, vectors = config.endpoint, config.judge.endpoint, config.embeddings
    model = Party(own.model, own.base_url) if own else here
    embedder = here
    if vectors is not None and vectors.endpoint is not None:
        embedder = Party(vectors.endpoint.model, vectors.endpoint.base_url)
    elif vectors is not None:
        embedder = Party(vectors.local, "this machine", free=True)
    return Asking(
        model=model,
        judge=Party(judge.model, judge.base_url) if judge else model,
        embedder=embedder,
        prices=loaded.prices,
        budget=loaded.budget,
        budget_name=str(loaded.path),
    )


def check_prices(config: SuiteConfig, asking: Asking, place: tuple[str, int]) -> None:
    """Raise ConfigError for a model whose name is known and whose price is not."""
    parties = [asking.model, asking.judge, *([asking.embedder] if config.embeddings else [])]
    names = [
        party.name
        for party in parties
        if party.name and not party.free and party.name not in asking.prices
    ]
    problems = [Problem(*place, "budget.dollars", missing_price(name)) for name in names]
    if problems:
        raise ConfigError(problems)
