"""From the records of a traffic to a verdict about losses."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmdeploy.release.zero_loss import Losses, Moments, count_losses, judge_losses
from pytest_llmdeploy.verdicts import Verdict

MOMENTS = Moments(deploy=1.0, switch=3.0, converged=4.0)
BACK = Moments(deploy=1.0, switch=3.0, converged=4.0, back=6.0, safe=7.0)
UNTOLD = [None, "1", "2", "another"]


def ended(
    at: float, end: float, kind: str = "ok", version: str | None = "1", **more: Any
) -> dict[str, Any]:
    """Return the record of a request."""
    return {
        "at": at,
        "sent": at,
        "end": end,
        "class": kind,
        "client": "c",
        "version": version,
    } | more


def steadily(n: int, seconds: float = 10.0) -> list[dict[str, Any]]:
    """Return n answered requests, the later ones by version 2."""
    times = [seconds * number / n for number in range(n)]
    return [ended(at, at + 0.01, version="1" if at < 3.0 else "2") for at in times]


@pytest.mark.parametrize(
    ("lost", "verdict", "reason"),
    [
        (
            [],
            Verdict.PASS,
            "0 of 100 requests lost: at most 2.95% of them can be lost unseen; "
            "longest gap between answers 100 ms",
        ),
        (
            [ended(0.5, 0.9, "reset", None)],
            Verdict.ERROR,
            "1 of 101 requests lost, all of them before anything was changed: "
            "the running version fails",
        ),
        (
            [ended(0.5, 1.5, "reset", None)],
            Verdict.FAIL,
            "1 of 101 requests lost (1 before; 1 reset)",
        ),
        (
            [ended(2.0, 2.1, "reset", None)],
            Verdict.FAIL,
            "1 of 101 requests lost (1 deploying; 1 reset)",
        ),
        (
            [ended(0.5, 0.9, "reset", None), ended(3.1, 3.2, "http_5xx"), ended(5.0, 5.1, "reset")],
            Verdict.FAIL,
            "3 of 103 requests lost (1 before, 1 switching, 1 after; 2 reset, 1 http_5xx)",
        ),
        ([ended(5.0, 5.1, "cancelled", None)], Verdict.PASS, None),
    ],
)
def test_judge_losses(lost: list[dict[str, Any]], verdict: Verdict, reason: str | None) -> None:
    records = sorted([*steadily(100), *lost], key=lambda record: record["end"])
    found = judge_losses(count_losses(records, MOMENTS, "1", "2"), 0.05)
    assert found.verdict is verdict
    if reason is not None:
        assert re.sub("(before|deploying|switching|after), ", r"\1, ", found.reason) == reason
    assert found.bound is not None


def test_no_request_at_all_tells_nothing() -> None:
    found = judge_losses(count_losses([], MOMENTS), 0.05)
    assert (found.verdict, found.bound) == (Verdict.ERROR, None)
    assert found.reason == "no request was sent: nothing is known about losses"


def test_all_losses_are_in_the_sentence_however_many() -> None:
    lost = [ended(5.0, 5.0 + number / 100, "reset", None) for number in range(30)]
    lost += [ended(5.0, 5.5, "http_5xx", None) for _ in range(12)]
    losses = count_losses([*steadily(100), *lost], MOMENTS, "1", "2")
    assert len(losses.losses) == 20
    assert judge_losses(losses, 0.05).reason == (
        "42 of 142 requests lost (42 after; 30 reset, 12 http_5xx)"
    )


@given(st.floats(0.001, 0.5), st.integers(1, 50))
def test_as_many_requests_as_are_said_to_be_needed_pass(max_loss: float, n: int) -> None:
    found = judge_losses(count_losses(steadily(n), MOMENTS), max_loss)
    if found.verdict is Verdict.PASS:
        return
    assert found.verdict is Verdict.INCONCLUSIVE
    said = re.search(r"about (\d+) would be needed", found.reason)
    assert said is not None, found.reason
    needed = int(said[1])
    assert judge_losses(count_losses(steadily(needed), MOMENTS), max_loss).verdict is Verdict.PASS
    fewer = judge_losses(count_losses(steadily(needed - 1), MOMENTS), max_loss)
    assert fewer.verdict is Verdict.INCONCLUSIVE


@st.composite
def moments(draw: st.DrawFn) -> Moments:
    """Draw the moments of a release that came so far."""
    known = sorted(draw(st.lists(st.floats(0, 10), min_size=5, max_size=5)))
    count = draw(st.integers(0, 5))
    return Moments(*[*known[:count], *([None] * (5 - count))])


REQUESTS = st.lists(
    st.tuples(
        st.floats(0, 12),
        st.floats(0, 3),
        st.floats(0, 5),
        st.sampled_from(["ok", "ok", "ok", "reset", "http_5xx", "truncated", "cancelled"]),
        st.sampled_from(UNTOLD),
    ),
    max_size=60,
)


def counted(drawn: list[Any], when: Moments, old: str | None, new: str | None) -> Losses:
    records = [
        ended(at, at + waits + takes, kind, version, sent=at + waits)
        for at, waits, takes, kind, version in drawn
    ]
    return count_losses(sorted(records, key=lambda each: each["end"]), when, old, new)


@given(REQUESTS, moments(), st.sampled_from(UNTOLD), st.sampled_from(UNTOLD))
def test_every_request_is_counted_once(
    drawn: list[Any], when: Moments, old: str | None, new: str | None
) -> None:
    losses = counted(drawn, when, old, new)
    n = sum(kind != "cancelled" for *_, kind, _ in drawn)
    good = sum(kind == "ok" for *_, kind, _ in drawn)
    assert losses.n == n
    assert losses.lost == n - good
    assert sum(sum(ends.values()) for ends in losses.phases.values()) == n
    assert sum(sum(ends.values()) for ends in losses.clients.values()) == n
    assert sum(sum(bins.values()) for bins in losses.timeline.values()) == n
    assert sum(losses.lost_in(phase) for phase in [*losses.phases]) == losses.lost
    assert 0 <= losses.lost_unchanged <= losses.lost_unmoved <= losses.lost
    assert 0 <= losses.exposed <= n
    assert sum(losses.straddling.values()) <= n
    assert losses.longest_gap >= 0
    if when.switch is None:
        assert (losses.exposed, losses.straddling, losses.first_new, losses.last_old) == (
            *(0, {}, None, None),
        )
    json.dumps(losses.to_json(), allow_nan=False)

    verdict = judge_losses(losses, 0.05).verdict
    if losses.lost:
        only_before = losses.lost_unchanged == losses.lost
        assert verdict is (Verdict.ERROR if only_before else Verdict.FAIL)
    elif n >= 59:
        assert verdict is Verdict.PASS
    else:
        assert verdict is (Verdict.INCONCLUSIVE if n else Verdict.ERROR)


@given(REQUESTS, moments(), st.sampled_from(["1", "2", None]))
def test_versions_of_one_name_are_not_told_apart(
    drawn: list[Any], when: Moments, name: str | None
) -> None:
    losses = counted(drawn, when, name, name)
    assert (losses.old_version, losses.new_version) == (None, None)
    assert (losses.first_new, losses.last_old) == (None, None)
    assert not {"old", "new"} & {*losses.timeline}


def test_the_router_knows_better_than_the_answer_who_gave_it() -> None:
    records = [
        ended(3.5, 3.6, version="misnamed", color="green"),
        ended(3.5, 3.6, version=None, kind="http_5xx", color="green"),
        ended(3.5, 3.6, version="1", color="blue"),
        ended(3.5, 3.6, version="2"),
    ]
    losses = count_losses(records, MOMENTS, "1", "2", ("blue", "green"))
    assert losses.exposed == 3
    assert losses.to_json()["versions"] == {"switching": {"1": 1, "2": 3}}
    unnamed = count_losses(records[:3], MOMENTS, None, None, ("blue", "green"))
    assert unnamed.exposed == 2


def test_what_happened_around_the_switch_and_back() -> None:
    records = [
        ended(0.0, 0.1),
        ended(2.9, 3.4),  # open at the switch, answered by the former version
        ended(3.1, 3.5, version="2"),
        ended(3.2, 3.6, "reset", None),  # lost while the new version could answer
        ended(5.0, 5.1, version="2"),
        ended(6.5, 6.9, version="2"),  # on the way back
        ended(7.5, 7.6, "reset", None),  # after everybody met the former version again
        ended(7.7, 7.9),
    ]
    losses = count_losses(records, BACK, "1", "2")
    assert losses.phases == {
        "before": {"ok": 1},
        "deploying": {"ok": 1},
        "switching": {"ok": 1, "reset": 1},
        "after": {"ok": 1},
        "returning": {"ok": 2, "reset": 1},
    }
    assert losses.straddling == {"ok": 1}
    assert losses.exposed == 4
    assert losses.first_new == pytest.approx(0.5)
    assert losses.last_old is None  # it answers again
    assert losses.longest_gap == pytest.approx(3.3)
    assert losses.gap_at == pytest.approx(0.1)
    assert losses.to_json()["moments"] == asdict(BACK)
