"""One version beside another: an earlier record, or in turns."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_llmdeploy.config.load import CompareConfig
from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.load.compare import Compared, compare_targets, compare_with_record
from pytest_llmdeploy.load.ledger import Record
from pytest_llmdeploy.verdicts import Verdict
from tests.unit.load.records import answered, failed, write_ledger

SPEC = {"steps": [[10, 10, 40]], "seed": 0, "warmup": 0.0}
SUMMARY: dict[str, Any] = {"error": None, "skipped": None, "spec": SPEC, "window": [0.0, 40.0]}


def run(factor: float = 1.0, seed: int = 1, **changes: Any) -> list[Record]:
    """Return 400 requests in 40 s; their times to the first token vary between 0.1 and 0.2 s."""
    chance = random.Random(seed)
    records = []
    for number in range(400):
        at = number / 10
        first = at + factor * (0.1 + 0.1 * chance.random())
        records.append(answered(number, at, first=first, last=first, end=first + 0.1, **changes))
    return records


def baseline(folder: Path, records: Sequence[Record], **changes: Any) -> Path:
    write_ledger(folder / "ledger.jsonl.zst", records)
    summary = {**SUMMARY, "intended": len(records), **changes}
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def compared(
    tmp_path: Path, earlier: Sequence[Record], now: Sequence[Record], **keys: Any
) -> list[Compared]:
    folder = baseline(tmp_path / "earlier", earlier)
    ledger = write_ledger(tmp_path / "now.jsonl.zst", now)
    config = CompareConfig(baseline="earlier", **{"metrics": ["ttft_p95"], **keys})
    return compare_with_record(config, folder, ledger, SPEC, 0.95)


def test_a_version_that_is_as_fast_passes(tmp_path: Path) -> None:
    (found,) = compared(tmp_path, run(seed=1), run(seed=2))
    assert found.verdict is Verdict.PASS
    assert found.ratio == pytest.approx(1, abs=0.03)
    assert found.name == "ttft_p95"
    assert found.reason.endswith(": at most 1.1 times is certain")


def test_a_slower_version_fails_and_a_faster_one_passes(tmp_path: Path) -> None:
    """The ratio is this version's over the other's."""
    (slower,) = compared(tmp_path / "a", run(seed=1), run(1.5, seed=2))
    assert slower.verdict is Verdict.FAIL
    assert slower.ratio == pytest.approx(1.5, rel=0.03)
    assert slower.reason.startswith("ttft_p95: 29")
    assert ", the other version 19" in slower.reason
    assert slower.reason.endswith(": more than 1.1 times")
    (faster,) = compared(tmp_path / "b", run(1.5, seed=1), run(seed=2))
    assert faster.verdict is Verdict.PASS
    assert faster.ratio == pytest.approx(0.667, rel=0.03)


def test_a_difference_around_the_limit_is_inconclusive(tmp_path: Path) -> None:
    (found,) = compared(tmp_path, run(seed=1), run(1.1, seed=2))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.low is not None
    assert found.high is not None
    assert found.low < 1.1 < found.high
    assert found.reason.endswith("not enough to tell whether it is more than 1.1 times")


def test_each_metric_is_compared(tmp_path: Path) -> None:
    found = compared(tmp_path, run(), run(seed=2), metrics=["ttft_p50", "e2e_p99"], max_increase=0)
    assert [each.name for each in found] == ["ttft_p50", "e2e_p99"]
    assert {each.max_increase for each in found} == {0}
    json.dumps([each.to_json() for each in found], allow_nan=False)


def test_failures_are_slow_answers(tmp_path: Path) -> None:
    now = run(seed=2)
    for number in range(0, 400, 10):
        now[number] = failed(number, number / 10)
    (found,) = compared(tmp_path, run(), now)
    assert found.verdict is Verdict.FAIL
    assert (found.b, found.ratio) == (None, None), "infinite"
    assert "beyond all that ended well" in found.reason
    json.dumps(found.to_json(), allow_nan=False)


def test_few_requests_are_inconclusive(tmp_path: Path) -> None:
    (found,) = compared(tmp_path, run()[:30], run()[:30])
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.reason.endswith(": not enough to tell, a longer run would")


def test_what_was_cancelled_or_lies_outside_the_window_does_not_count(tmp_path: Path) -> None:
    now = run(seed=2)
    late = [failed(400 + n, 40 + n) for n in range(50)]
    cancelled = [failed(500 + n, n / 10, "cancelled") for n in range(200)]
    (found,) = compared(tmp_path, run(), [*now, *late, *cancelled])
    assert found.verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"spec": {**SPEC, "seed": 1, "steps": []}},
            "not comparable with FOLDER: seed, steps differed there; "
            "compare runs of the same traffic",
        ),
        (
            {"spec": {**SPEC, "block": 2.0}},
            "not comparable with FOLDER: block differed there; compare runs of the same traffic",
        ),
        (
            {"error": "generator saturated", "window": None},
            "the baseline in FOLDER was no measurement: generator saturated",
        ),
        (
            {"skipped": "smoke check 'models' fails"},
            "the baseline in FOLDER was no measurement: smoke check 'models' fails",
        ),
        (
            {"capacity": {"rate": 5}},
            "the baseline in FOLDER was no measurement: it was a search of the highest rate",
        ),
        ({"window": None}, "FOLDER is no record of a load run: "),
        ({"window": [5.0, 5.0]}, "FOLDER is no record of a load run: its window is empty"),
        (
            {"intended": 401},
            "FOLDER is no record of a load run: its ledger.jsonl.zst has 400 of 401 requests",
        ),
        ({"spec": None}, "FOLDER is no record of a load run: "),
    ],
)
def test_what_cannot_be_compared_is_no_measurement(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    folder = baseline(tmp_path / "earlier", run(), **changes)
    with pytest.raises(NotMeasuredError) as caught:
        compare_with_record(
            CompareConfig(baseline="earlier"), folder, folder / "ledger.jsonl.zst", SPEC, 0.95
        )
    assert str(caught.value).startswith(message.replace("FOLDER", str(folder)))


@pytest.mark.parametrize("content", [None, "", "[]", "5", '{"error": null}'])
def test_a_folder_without_a_record(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "summary.json").write_text(content)
    with pytest.raises(NotMeasuredError, match="is no record of a load run"):
        compare_with_record(CompareConfig(baseline="x"), tmp_path, tmp_path / "y", SPEC, 0.95)


def test_a_record_without_its_ledger(tmp_path: Path) -> None:
    folder = baseline(tmp_path, run())
    (folder / "ledger.jsonl.zst").unlink()
    with pytest.raises(NotMeasuredError, match="it has no ledger"):
        compare_with_record(CompareConfig(baseline="x"), folder, folder / "y", SPEC, 0.95)


@pytest.mark.parametrize("damage", [lambda whole: whole[:100], lambda _: b"no ledger"])
def test_a_record_whose_ledger_is_damaged(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    folder = baseline(tmp_path, run())
    ledger = folder / "ledger.jsonl.zst"
    ledger.write_bytes(damage(ledger.read_bytes()))
    with pytest.raises(NotMeasuredError, match="is no record of a load run: "):
        compare_with_record(CompareConfig(baseline="x"), folder, folder / "y", SPEC, 0.95)


def test_what_may_differ_between_comparable_runs(tmp_path: Path) -> None:
    folder = baseline(tmp_path / "earlier", run(), spec={**SPEC, "drain": 5, "objectives": ["x"]})
    ledger = write_ledger(tmp_path / "now.jsonl.zst", run(seed=2))
    config = CompareConfig(baseline="earlier")
    found = compare_with_record(config, folder, ledger, {**SPEC, "drain": 30}, 0.95)
    assert [each.verdict for each in found] == [Verdict.PASS, Verdict.PASS]


def in_turns(factor: float, drift: float = 0.0) -> list[Record]:
    """Return 800 requests in 80 s, in blocks of 2 s as A B B A: A is under test (target 0).

    Both slow down by `drift`, as a share, from the beginning to the end.
    """
    chance = random.Random(4)
    records = []
    for number in range(800):
        at = number / 10
        target = (0, 1, 1, 0)[int(at / 2) % 4]
        slow = (1 + drift * at / 80) * (factor if target == 0 else 1.0)
        first = at + slow * (0.1 + 0.1 * chance.random())
        records.append(answered(number, at, first=first, last=first, end=first, target=target))
    return records


def both(tmp_path: Path, records: Sequence[Record], warmup: float = 0.0, **keys: Any) -> Compared:
    ledger = write_ledger(tmp_path / "ledger.jsonl.zst", records)
    config = CompareConfig(
        url="http://127.0.0.1:2", **{"metrics": ["ttft_p95"], "blocks": 40, **keys}
    )
    (found,) = compare_targets(config, ledger, warmup, 2.0, 0.95)
    return found


def test_two_versions_in_turns(tmp_path: Path) -> None:
    slower = both(tmp_path / "a", in_turns(1.5))
    assert slower.verdict is Verdict.FAIL
    assert slower.ratio == pytest.approx(1.5, rel=0.05)
    alike = both(tmp_path / "b", in_turns(1.0))
    assert alike.verdict is Verdict.PASS
    assert alike.ratio == pytest.approx(1.0, abs=0.05)


def test_a_machine_that_slows_down_slows_both(tmp_path: Path) -> None:
    found = both(tmp_path, in_turns(1.0, drift=1.0))
    assert found.ratio == pytest.approx(1.0, abs=0.05)
    assert found.verdict is not Verdict.FAIL


def test_pairs_of_blocks_that_begin_in_the_warm_up_do_not_count(tmp_path: Path) -> None:
    records = in_turns(1.0)
    for number in range(100):  # the first 10 s: pairs 0 and 1, and half of pair 2
        records[number] = failed(number, number / 10, target=records[number]["target"])
    spoilt = both(tmp_path / "a", records)
    assert spoilt.a is None, "too many failed"
    found = both(tmp_path / "b", records, warmup=10.0)
    assert found.verdict is Verdict.PASS


def test_half_a_pair_at_the_end_does_not_count(tmp_path: Path) -> None:
    records = in_turns(1.0)
    for number in range(760, 800):  # the last pair, of which 39 blocks have half
        records[number] = failed(number, number / 10, target=records[number]["target"])
    assert both(tmp_path / "a", records).verdict is not Verdict.PASS
    assert both(tmp_path / "b", records, blocks=39).verdict is Verdict.PASS


def test_too_few_pairs_are_inconclusive(tmp_path: Path) -> None:
    found = both(tmp_path, in_turns(1.0), warmup=66.0)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.low is None


def test_time_per_token_needs_usage(tmp_path: Path) -> None:
    with pytest.raises(NotMeasuredError, match="tpot needs token counts"):
        compared(tmp_path, run(tokens=None), run(), metrics=["tpot_p95"])
