"""The page about load, held against the code."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pytest_llmdeploy.config.objectives import LATENCIES, RATES, SHARES, parse_objective
from pytest_llmdeploy.load.ledger import EndClass
from pytest_llmdeploy.verdicts import Verdict
from pytest_llmdeploy.verdicts.shares import judge_share, smallest_n


@pytest.fixture(scope="module")
def page(pytestconfig: pytest.Config) -> str:
    return (pytestconfig.rootpath / "docs" / "load.md").read_text(encoding="utf-8")


def rows(page: str, head: str) -> list[list[str]]:
    """Return the cells of the table whose head line begins with `head`."""
    _, _, table = page.partition(f"\n| {head} |")[2].partition("\n")
    lines = table.split("\n\n", 1)[0].splitlines()[1:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def names(cells: list[list[str]]) -> list[str]:
    return [name for row in cells for name in re.findall("`(.*?)`", row[0])]


def test_every_metric_is_defined(page: str) -> None:
    assert sorted(names(rows(page, "Metric"))) == sorted((*LATENCIES, *SHARES, *RATES))


def test_every_class_is_told(page: str) -> None:
    assert sorted(names(rows(page, "Class"))) == sorted(EndClass)


def test_every_verdict_is_told(page: str) -> None:
    assert sorted(row[0] for row in rows(page, "Verdict")) == sorted(Verdict)


def test_the_fewest_requests(page: str) -> None:
    found = rows(page, "Percentile")
    assert [row[0] for row in found] == ["p50", "p90", "p95", "p99", "p99.9"]
    for name, *cells in found:
        allowed = round(1 - float(name[1:]) / 100, 12)
        none, one, five, sure = map(int, cells)
        assert (none, sure) == (smallest_n(allowed, 0.95), smallest_n(allowed, 0.99))
        for late, n in ((0, none), (1, one), (5, five)):
            assert judge_share(late, n, allowed, 0.95).verdict is Verdict.PASS
            assert judge_share(late, n - 1, allowed, 0.95).verdict is Verdict.INCONCLUSIVE


def test_objectives_in_the_text_are_objectives(page: str) -> None:
    """Those in code marks and those in examples, with their operators and units."""
    texts = re.findall(r"[a-z]\w+(?:_p[\d.]+)? [<>]= [\d.]+(?: ?(?:ms\b|s\b|%|/s\b))?", page)
    parsed: list[Any] = [parse_objective(text) for text in texts]
    assert len(parsed) >= 8
