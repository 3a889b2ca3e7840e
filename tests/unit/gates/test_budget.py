"""A budget: kept over all processes, told when it is spent, and never without prices."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pytest_llmdeploy.config.gates import BudgetConfig, PriceConfig
from pytest_llmdeploy.errors import BudgetSpentError, NotMeasuredError
from pytest_llmdeploy.gates.budget import Budget, Prices, Used

PRICE = {"m": PriceConfig(input=2.0, output=8.0)}


def budget(path: Path, clock: list[float] | None = None, **limits: Any) -> Budget:
    now = clock or [0.0]
    return Budget(path / "r.sqlite", "b", BudgetConfig(**limits), lambda: now[0])


def test_processes_share_it_to_the_last_request(tmp_path: Path) -> None:
    def spend(_: int) -> int:
        mine = budget(tmp_path, requests=50)
        sent: list[int] = []
        with pytest.raises(BudgetSpentError, match=r"^the budget of 50 requests is spent$"):
            while len(sent) <= 50:
                mine.reserve()
                sent.append(1)
        mine.close()
        return len(sent)

    budget(tmp_path, requests=50).close()
    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(spend, range(4))) == 50


@pytest.mark.parametrize(
    ("limits", "used", "said"),
    [
        ({"requests": 3}, Used(requests=2), "the budget of 3 requests is spent"),
        ({"tokens": 10}, Used(tokens=12), "the budget of 10 tokens is spent (12 used)"),
        ({"dollars": 0.5}, Used(dollars=0.6), "the budget of 0.5 dollars is spent (0.6000 used)"),
    ],
)
def test_what_is_spent_is_told(
    tmp_path: Path, limits: dict[str, Any], used: Used, said: str
) -> None:
    mine = budget(tmp_path, **limits)
    mine.reserve()
    mine.charge(used)
    with pytest.raises(BudgetSpentError) as caught:
        mine.reserve()
    mine.close()
    assert str(caught.value) == said


def test_seconds_count_from_the_first_request(tmp_path: Path) -> None:
    clock = [100.0]
    mine = budget(tmp_path, clock, seconds=5)
    mine.reserve()
    clock[0] = 104.9
    mine.reserve()
    clock[0] = 105.5
    with pytest.raises(BudgetSpentError) as caught:
        mine.reserve()
    mine.close()
    assert str(caught.value) == "the budget of 5 s is spent (5.5 s passed)"


def test_a_cost_is_by_the_answering_models_name_or_the_files() -> None:
    prices = Prices(PRICE)
    assert prices.cost("m", "other", 1_000_000, 500_000) == 6.0
    assert prices.cost("m-2026", "m", 10, 0) == pytest.approx(2e-5)
    assert prices.cost("x", "y", 10, 10) is None
    assert prices.cost("m", "m", None, 3) is None


def test_a_budget_in_dollars_needs_every_price_and_every_token() -> None:
    prices = Prices(PRICE, needed=True)
    with pytest.raises(NotMeasuredError) as caught:
        prices.check("gpt")
    assert str(caught.value) == (
        "budget.dollars needs the price of 'gpt': add it to the file, as prices: "
        "{gpt: {input: …, output: …}} in dollars per million tokens"
    )
    with pytest.raises(NotMeasuredError) as caught:
        prices.cost("m", "m", None, 3)
    assert str(caught.value) == (
        "m does not tell how many tokens it used, so that budget.dollars cannot be kept:"
        " limit budget.requests instead"
    )
