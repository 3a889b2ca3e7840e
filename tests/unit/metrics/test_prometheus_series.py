"""Which replicas a Prometheus has scraped, told by series that a real one has rarely."""

from __future__ import annotations

from pytest_llmdeploy.metrics.prometheus_series import Series, idle, silent


def series(*samples: tuple[float, str], **labels: str) -> Series:
    return {"metric": labels, "values": [list(sample) for sample in samples]}


FOUND = [
    series((80.0, "1"), (100.0, "2"), job="app", instance="one", pod="a"),
    series((80.0, "1"), job="app", instance="two", pod="b"),
]


def test_each_replica_needs_a_sample_of_its_own() -> None:
    assert silent(("a", "b", "c"), FOUND, 70.0) == ["c"]
    assert silent(("a", "b", "c"), FOUND, 90.0) == ["b", "c"]
    assert silent(("a", "b"), [*FOUND, series((95.0, "1"), pod="b")], 90.0) == []
    assert silent((), FOUND, 90.0) == []


def test_a_process_that_began_anew_has_counted_nothing_yet() -> None:
    ups = [series((80.0, "1"), (100.0, "1"), job="app", instance="two", pod="b")]
    assert idle("b", FOUND, ups, 90.0)
    assert not idle("b", FOUND, ups, 101.0)


def test_another_of_its_targets_does_not_stand_for_it() -> None:
    sidecar = series((100.0, "1"), job="app", instance="two:9", pod="b")
    assert not idle("b", FOUND, [sidecar], 90.0)
    down = series((100.0, "0"), job="app", instance="two", pod="b")
    assert not idle("b", FOUND, [sidecar, down], 90.0)
    once = series((95.0, "1"), (100.0, "0"), job="app", instance="two", pod="b")
    assert idle("b", FOUND, [once], 90.0)  # a scrape may fail, as long as the one before is fresh
    # One that never had the series: all its targets must be there.
    one = series((100.0, "1"), job="app", instance="three", pod="c")
    other = series((100.0, "0"), job="app", instance="three:9", pod="c")
    assert idle("c", FOUND, [one], 90.0)
    assert not idle("c", FOUND, [one, other], 90.0)


def test_the_target_of_many_does_not_stand_for_one() -> None:
    many = [series((80.0, "1"), job="all", instance="x", pod=pod) for pod in "ab"]
    assert not idle("a", many, [series((100.0, "1"), job="all", instance="x")], 90.0)
    assert not idle("a", many, [], 90.0)
