"""Did a change of the weight lose a request? And the step that ends the traffic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.release.canary.shifting import canary_of
from pytest_llmdeploy.release.state import Outcome, Release, StepFailedError
from pytest_llmdeploy.release.zero_loss import CANCELLED, OK
from pytest_llmdeploy.verdicts.shares import upper_bound

CONFIDENCE = 0.95
LONGEST_SHOWN = 20


@dataclass(frozen=True, slots=True)
class ShiftLosses:
    """Requests that were open while a weight was changed."""

    open: int
    lost: tuple[Mapping[str, Any], ...]
    """Those of them that nobody answered: not a failure that a version answered with."""
    unattributed: int
    """Requests at other times that nobody answered."""


def count_shift_losses(
    records: Iterable[Mapping[str, Any]], spans: Sequence[tuple[float, float]]
) -> ShiftLosses:
    """Count over a ledger; `spans` are from each change until it was proven, on its own clock.

    An answer of a version, a failure too, is that version's, and judged elsewhere. What no version
    answered while the traffic was moving is lost by the move.
    """
    count = unattributed = 0
    lost = []
    for record in records:
        if record["class"] == CANCELLED:
            continue
        begun, ended = record.get("sent", record["at"]), record["end"]
        moving = any(begun <= until and ended >= since for since, until in spans)
        count += moving
        if record["class"] == OK or record.get("version") is not None:
            continue
        if moving:
            lost.append(record)
        else:
            unattributed += 1
    return ShiftLosses(count, tuple(lost), unattributed)


def prove_no_shift_loss(release: Release) -> Outcome:
    """End the traffic, and judge what became of the requests at each change of the weight."""
    if release.running is None:
        raise NotMeasuredError("no traffic was sent: nothing is known about losses")
    canary = canary_of(release)
    ledger = release.running.finish()
    detail = release.count_traffic(ledger)
    ends = [(each.at, each.proven or each.at) for each in canary.shifts]
    spans = [(since - ledger.zero, until - ledger.zero) for since, until in ends]
    found = count_shift_losses(ledger.records(), spans)
    told = {"open": found.open, "lost": len(found.lost), "unattributed": found.unattributed}
    detail = {"traffic": {**detail, "shifts": told}}
    if not found.open:
        raise NotMeasuredError(
            f"no request was open at any of {len(spans)} changes of the weight: nothing is known "
            "about losses; more traffic (canary.traffic.rate) would tell"
        )
    if found.lost:
        kinds = sorted({str(each["class"]) for each in found.lost[:LONGEST_SHOWN]})
        raise StepFailedError(
            f"{len(found.lost)} of {found.open} requests that were open while a weight was "
            f"changed were answered by nobody ({', '.join(kinds)})",
            detail,
        )
    bound = upper_bound(0, found.open, CONFIDENCE)
    other = ""
    if found.unattributed:
        other = f"; {found.unattributed} requests at other times were answered by nobody"
    return Outcome(
        f"0 of {found.open} requests that were open at {len(spans)} changes of the weight were "
        f"lost: at most {bound:.2%} can be, unseen{other}",
        detail,
    )
