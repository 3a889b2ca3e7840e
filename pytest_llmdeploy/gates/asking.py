"""How a suite is asked: who answers, what it costs, when enough is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_llmdeploy.config.gates import BudgetConfig, PriceConfig
from pytest_llmdeploy.gates.decision import Decision


@dataclass(frozen=True, slots=True)
class Party:
    """One of those who are asked."""

    name: str | None = None
    """Its model as the file names it; None: the endpoint chooses."""
    address: str = ""
    """What shares a limit of requests in flight: its base URL, or a word for the service."""
    free: bool = False
    """It runs here: no budget is spent on it."""


@dataclass(frozen=True, slots=True)
class Asking:
    """What the engine needs to know of a suite besides its cases."""

    model: Party = Party()
    judge: Party = Party()
    embedder: Party = Party()
    prices: Mapping[str, PriceConfig] = field(default_factory=dict)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    budget_name: str = ""
    """Suites of one name share their budget."""
    enough: Decision | None = None
    """Stop asking once this is settled; None: ask every case."""
