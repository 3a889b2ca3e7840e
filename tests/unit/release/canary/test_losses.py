"""Which requests a change of the weight has lost."""

from __future__ import annotations

from typing import Any

from pytest_llmdeploy.release.canary.losses import ShiftLosses, count_shift_losses

SPANS = [(10.0, 12.0), (20.0, 20.0)]


def record(sent: float, end: float, ended: str = "ok", **more: Any) -> dict[str, Any]:
    return {"at": sent, "sent": sent, "end": end, "class": ended, "version": "1", **more}


def counted(*records: dict[str, Any]) -> tuple[int, int, int]:
    """Return open, lost and unattributed."""
    found = count_shift_losses(records, SPANS)
    return found.open, len(found.lost), found.unattributed


def test_requests_that_were_open_at_a_change() -> None:
    assert counted(record(9.0, 9.9)) == (0, 0, 0)
    assert counted(record(9.0, 10.0)) == (1, 0, 0)
    assert counted(record(12.0, 13.0)) == (1, 0, 0)
    assert counted(record(12.1, 13.0)) == (0, 0, 0)
    assert counted(record(10.5, 11.5)) == (1, 0, 0)
    assert counted(record(5.0, 30.0)) == (1, 0, 0)  # at both, but one request
    assert counted(record(19.9, 20.1)) == (1, 0, 0)


def test_what_nobody_answered_is_lost_by_the_move_only_while_it_lasts() -> None:
    assert counted(record(10.5, 11.0, "timeout", version=None)) == (1, 1, 0)
    assert counted(record(15.0, 16.0, "timeout", version=None)) == (0, 0, 1)
    # Envoy names the colour that it chose, in its own errors, too: that is no answer of a version.
    assert counted(record(10.5, 11.0, "http_5xx", version=None, color="green")) == (1, 1, 0)
    assert counted(record(10.5, 11.0, "truncated", version=None)) == (1, 1, 0)


def test_a_failure_that_a_version_answered_with_is_no_loss() -> None:
    assert counted(record(10.5, 11.0, "http_5xx", version="2")) == (1, 0, 0)
    assert counted(record(15.0, 16.0, "http_5xx", version="2")) == (0, 0, 0)


def test_an_answer_without_a_name_is_an_answer() -> None:
    assert counted(record(10.5, 11.0, version=None)) == (1, 0, 0)


def test_what_was_given_up_by_the_client_counts_nowhere() -> None:
    assert counted(record(10.5, 11.0, "cancelled", version=None)) == (0, 0, 0)


def test_a_request_that_was_never_sent_counts_from_its_time() -> None:
    never = {"at": 10.5, "end": 11.0, "class": "connect_error"}
    assert counted(never) == (1, 1, 0)


def test_none() -> None:
    assert count_shift_losses([], SPANS) == ShiftLosses(0, (), 0)
    assert count_shift_losses([record(1, 2, "timeout", version=None)], []) == ShiftLosses(0, (), 1)
