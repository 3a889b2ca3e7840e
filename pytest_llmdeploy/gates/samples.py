"""The samples of one case: taken side by side, left out by a budget, or brought along."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from pytest_llmdeploy.errors import BudgetSpentError
from pytest_llmdeploy.gates.suite import Sample
from pytest_llmdeploy.ports import Answer


async def all_samples(samples: Sequence[Coroutine[Any, Any, Sample]]) -> list[Sample]:
    """Return all samples; where one raises, the others are given up first."""
    if len(samples) == 1:
        return [await samples[0]]
    tasks = [asyncio.ensure_future(sample) for sample in samples]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def spent_on(samples: Sequence[Sample]) -> str | None:
    """Return what the budget left out of a case; None where it left out nothing."""
    return next(
        (str(one.score) for one in samples if isinstance(one.score, BudgetSpentError)), None
    )


def canned_answer(text: str) -> Answer:
    """Return the answer that a case brings along."""
    return Answer(text, None, None, None, 0.0, "(the case's own answer)", replayed=True)
