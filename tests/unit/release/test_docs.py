"""The page about releases, held against the code."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest

from pytest_llmdeploy.assembly.releases import BLUE_GREEN
from pytest_llmdeploy.release.blue_green import STEPS
from pytest_llmdeploy.release.drills import DRILLS
from pytest_llmdeploy.release.record import FINAL, ReleaseResult, RollbackReport, StepRecord
from pytest_llmdeploy.release.zero_loss import (
    AFTER,
    BEFORE,
    CONFIDENCE,
    DEPLOYING,
    RETURNING,
    SWITCHING,
    Losses,
    Moments,
)
from pytest_llmdeploy.reports.audit import AUDIT
from pytest_llmdeploy.verdicts.shares import smallest_n


@pytest.fixture(scope="module")
def page(pytestconfig: pytest.Config) -> str:
    return (pytestconfig.rootpath / "docs" / "releases.md").read_text(encoding="utf-8")


def rows(page: str, head: str) -> list[list[str]]:
    """Return the cells of the table whose head line begins with `head`."""
    _, _, table = page.partition(f"\n| {head} |")[2].partition("\n")
    lines = table.split("\n\n", 1)[0].splitlines()[1:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def names(text: str) -> list[str]:
    return re.findall("`(.*?)`", text)


def test_every_step_has_a_row_in_order(page: str) -> None:
    assert [names(row[0]) for row in rows(page, "Item")] == [[step] for step in (*STEPS, FINAL)]


def test_every_drill_has_a_row_with_where_it_is_noticed(page: str) -> None:
    told = {names(row[0])[0]: tuple(names(row[2])) for row in rows(page, "Drill")}
    assert told == {name: drill.noticed for name, drill in DRILLS.items()}


def test_every_field_of_the_result_is_named(page: str) -> None:
    told = {names(row[0])[0]: set(names(row[1])) for row in rows(page, "Key of the result")}
    keys = [name for row in rows(page, "Key of the result") for name in names(row[0])]
    assert sorted(keys) == sorted(field.name for field in fields(ReleaseResult))
    assert {field.name for field in fields(StepRecord)} <= told["steps"]
    assert {field.name for field in fields(RollbackReport)} <= told["rollback"]


def test_every_field_of_the_traffic_is_named(page: str) -> None:
    table = rows(page, "Key of the traffic")
    assert sorted(name for row in table for name in names(row[0])) == sorted(
        Losses(Moments()).to_json()
    )
    told = {names(row[0])[0]: names(row[1]) for row in table}
    assert told["moments"] == list(Moments.__slots__)


def test_every_phase_is_named(page: str) -> None:
    assert {BEFORE, DEPLOYING, SWITCHING, AFTER, RETURNING} <= set(names(page))


def test_the_fewest_requests(page: str) -> None:
    for share, count in rows(page, "`max_loss`"):
        allowed = round(float(share.removesuffix(" %")) / 100, 12)
        assert int(count) == smallest_n(allowed, CONFIDENCE)


def test_the_files_are_named(page: str) -> None:
    paths = " ".join(row[0] for row in rows(page, "Path"))
    assert f"records/{BLUE_GREEN}/" in paths
    assert AUDIT in names(paths)
