"""The page about canaries, held against the code that it tells of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from functools import partial

import pytest

from pytest_llmdeploy.assembly.canaries import CONTROL
from pytest_llmdeploy.config.canary import CanaryConfig
from pytest_llmdeploy.release.canary import steering
from pytest_llmdeploy.release.canary.judge import Finding
from pytest_llmdeploy.release.canary.phase import LOOKS
from pytest_llmdeploy.release.canary.steps import canary_steps
from pytest_llmdeploy.release.record import FINAL
from pytest_llmdeploy.verdicts import Verdict
from pytest_llmdeploy.verdicts.regression import Comparison, compare_errors
from tests.unit.release.test_docs import names, rows

CLOSE = 0.05
"""What figures of the page may be off by: they are there to plan with."""


@pytest.fixture(scope="module")
def page(pytestconfig: pytest.Config) -> str:
    return (pytestconfig.rootpath / "docs" / "canary.md").read_text(encoding="utf-8")


def compared(n: int, failing: float, others: float, weight: int, margin: float) -> Comparison:
    """Compare n requests of the new version with what the running one had meanwhile."""
    defaults = CanaryConfig()
    stable = round(n * (100 - weight) / weight)
    return compare_errors(
        (round(others * stable), stable),
        (round(failing * n), n),
        share=weight / 100,
        margin=margin,
        alpha=defaults.alpha_each,
        min_requests=defaults.compare.min_requests,
        noninferior=True,
    )


def test_every_step_has_a_row_in_order(page: str) -> None:
    config = CanaryConfig.model_validate(
        {
            "phases": [
                {"weight": 10, "duration": 1, "approve": "file"},
                {"weight": 100, "duration": 1},
            ]
        }
    )
    wanted = [name for name in (*canary_steps(config), FINAL) if name != "weight-100"]
    told = [name for row in rows(page, "Item") for name in names(row[0])]
    assert told == [name.replace("-10", "-N") for name in wanted]


def test_every_field_of_a_finding_is_named(page: str) -> None:
    told = [name for row in rows(page, "Key of a finding") for name in names(row[0])]
    assert sorted(told) == sorted(field.name for field in fields(Finding))


def test_files_and_words_of_people_are_named(page: str) -> None:
    assert LOOKS in names(rows(page, "Path")[0][0])
    for word in (steering.PROMOTE, steering.HOLD, steering.ABORT):
        assert f"/{CONTROL}/{word} " in page
    assert {steering.APPROVE_VARIABLE, steering.REJECT} <= {
        word for name in names(page) for word in (name, name.partition("=")[0])
    }


def needed(page: str) -> Iterator[tuple[float, float, int]]:
    for margin, *cells in rows(page, "`compare.error_rate`"):
        for failing, cell in zip((0.0, 0.005, 0.01), cells, strict=True):
            yield float(margin), failing, int(cell)


def test_so_many_requests_prove_it_and_fewer_do_not(page: str) -> None:
    found = list(needed(page))
    assert len(found) == 9
    for margin, failing, count in found:
        at = partial(compared, failing=failing, others=failing, weight=50, margin=margin)
        assert at(round(count * (1 + CLOSE))).verdict is Verdict.PASS, (margin, failing)
        assert at(round(count * (1 - CLOSE) ** 2)).verdict is Verdict.INCONCLUSIVE, (
            margin,
            failing,
        )


def test_so_many_requests_catch_a_bad_version(page: str) -> None:
    table = rows(page, "It fails")
    assert [row[0] for row in table] == ["5 %", "10 %", "50 %"]
    for share, *cells in table:
        failing = float(share.removesuffix(" %")) / 100
        for weight, cell in zip((5, 25, 50), cells, strict=True):
            at = partial(compared, failing=failing, others=0.0, weight=weight, margin=0.02)
            count = int(cell)
            assert at(count + 1 + round(count * CLOSE)).verdict is Verdict.FAIL, (share, weight)
            assert at(count // 2).verdict is Verdict.INCONCLUSIVE, (share, weight)


def test_the_thresholds_that_are_named(page: str) -> None:
    assert "its threshold is 240" in page
    assert 2 / CanaryConfig().alpha_each == pytest.approx(240)
