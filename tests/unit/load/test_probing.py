"""Probes of a capacity search, sent to simulated services."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_llmdeploy.config.load import LoadConfig
from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.load.capacity import GeneratorLimitError, search
from pytest_llmdeploy.load.controller import Progress, TrafficResult
from pytest_llmdeploy.load.counts import Count, Counts
from pytest_llmdeploy.load.ledger import Record
from pytest_llmdeploy.load.probing import DECIDED, Prober, longest_probe, most_repeats
from pytest_llmdeploy.load.schedule import arrivals
from pytest_llmdeploy.load.spec import Step, Target, TrafficSpec
from pytest_llmdeploy.verdicts import Verdict
from tests.unit.load.records import write_ledger


class Service:
    """Answers request `number`, intended `at` some time, as `answer` says."""

    def __init__(self) -> None:
        self.sent: list[TrafficSpec] = []
        self.processes: list[int] = []
        self.stopped: str | None = None
        self.lag = 0.0
        """Of one process."""
        self.lost: tuple[str, ...] = ()
        self.tokens = 0
        self.hasty = True
        """Ends a probe that is decided."""

    def answer(self, number: int, at: float) -> tuple[float, str]:
        """Return when it ends, and how."""
        raise NotImplementedError

    def __call__(
        self,
        traffic: TrafficSpec,
        folder: Path,
        processes: int,
        decide: Callable[[Progress], str | None],
    ) -> TrafficResult:
        self.sent.append(traffic)
        self.processes.append(processes)
        whole: list[Record] = []
        for number, at in enumerate(arrivals(traffic)):
            end, how = self.answer(number, at)
            whole.append(
                {"i": number, "at": at, "sent": at, "end": end, "class": how, "stream": False}
            )
        records, stopped = whole, self.stopped
        duration = max(record["end"] for record in whole)
        samples = []
        for tick in range(int(traffic.traffic_duration * 4)):
            now = tick / 4
            begun = [record for record in whole if record["at"] <= now]
            ended = [record for record in begun if record["end"] <= now]
            samples.append((now, len(begun) - len(ended)))
            counts = Counts(traffic.parsed_objectives(), {}, traffic.warmup)
            for record in ended:
                counts.add(record)
            progress = Progress(now, intended=len(begun), ended=len(ended), counts=counts)
            if self.hasty and (stopped := decide(progress)):
                given_up = {"class": "cancelled", "end": now}
                records = [each if each in ended else {**each, **given_up} for each in begun]
                duration = now
                break
        result = TrafficResult(
            ledger=write_ledger(folder / "ledger.jsonl.zst", records),
            started=0.0,
            duration=duration,
            intended=len(records),
            processes=processes,
            stopped=stopped,
            lost=self.lost,
            tokens=self.tokens,
            in_flight=samples,
        )
        result.dispatch_lag.add(self.lag / processes)
        return result


class Queue(Service):
    """One server whose answers take 1/capacity seconds each, in the order of arrival."""

    def __init__(self, capacity: float) -> None:
        super().__init__()
        self.capacity = capacity
        self.hasty = False
        self._free = 0.0

    def answer(self, number: int, at: float) -> tuple[float, str]:
        self._free = max(self._free if number else 0.0, at) + 1 / self.capacity
        return self._free, "ok"


class Steady(Service):
    """Answers each request after the same time, however many there are; the first ones fail."""

    def __init__(self, takes: float, failures: int = 0) -> None:
        super().__init__()
        self.takes = takes
        self.failures = failures

    def answer(self, number: int, at: float) -> tuple[float, str]:
        if number < self.failures:
            return at + 0.001, "http_5xx"
        return at + self.takes, "ok"


def prober(
    tmp_path: Path, send: Service, max_tokens_total: int | None = None, **keys: Any
) -> Prober:
    config = LoadConfig(
        **{
            "find": "max_rate",
            "rate": 5,
            "duration": 30,
            "streamed": 0,
            "objectives": ["e2e_p95 <= 2", "error_rate <= 5%"],
            **keys,
        }
    )
    traffic = TrafficSpec(
        targets=(Target("http://127.0.0.1:1", {}, "m"),),
        seed=3,
        steps=(Step(5, 5, 30),),
        warmup=config.warmup,
        objectives=config.objectives,
        max_tokens_total=max_tokens_total,
    )
    return Prober(config, traffic, tmp_path, send, config.processes)


def test_a_queue_with_known_capacity(tmp_path: Path) -> None:
    """A server of 40/s: its limit lies below, where waiting takes 2 s, and never above."""
    queue = Queue(40)
    ask = prober(tmp_path, queue)
    result = search(ask, 5, 300, 0.1, None)
    assert result.rate is not None
    assert result.high is not None
    assert 30 <= result.rate <= 44
    assert 36 <= result.high <= 60
    assert result.verdict is Verdict.PASS
    assert ask.best is not None
    assert ask.best.counted.duration == 30
    rates = [each.rate for each in result.probes if each.met]
    assert ask.best.counted.intended == pytest.approx(max(rates) * 30, abs=1)
    assert len({spec.seed for spec in queue.sent}) == len(queue.sent)
    assert [spec.seed for spec in queue.sent][:3] == [3, 4, 5]


def test_a_backlog_that_grows_is_a_fail_however_fast_the_answers_still_are(tmp_path: Path) -> None:
    found_one = prober(tmp_path, Queue(40), objectives=["e2e_p95 <= 60", "error_rate <= 5%"])(60)
    assert (found_one.verdict, found_one.met, found_one.stable) == (Verdict.FAIL, False, False)
    assert found_one.in_flight_slope == pytest.approx(20, abs=4)
    assert found_one.reason.startswith("not stable: ")


def test_a_low_rate_is_asked_for_longer(tmp_path: Path) -> None:
    """A p95 needs 59 requests at least; twice as many are sent, in five times the time at most."""
    queue = Queue(40)
    ask = prober(tmp_path, queue, duration=10)
    for rate in (100, 5, 0.5):
        ask(rate)
    assert [spec.traffic_duration for spec in queue.sent] == [10, pytest.approx(23.6), 50]
    assert longest_probe(LoadConfig(duration=10, warmup=3)) == 53


def test_a_probe_may_be_told_to_take_its_whole_time(tmp_path: Path) -> None:
    ask = prober(tmp_path, Steady(0.1))
    assert ask(100).duration < 30
    ask.whole = True
    assert ask(100).duration == 30


def test_too_few_requests_are_met_and_not_certain(tmp_path: Path) -> None:
    asked = prober(tmp_path, Queue(40), duration=10)(0.5)
    assert (asked.verdict, asked.met, asked.n) == (Verdict.INCONCLUSIVE, True, 25)


def test_what_a_warm_up_sends_is_not_judged(tmp_path: Path) -> None:
    asked = prober(tmp_path, Queue(40), warmup=10, duration=20, objectives=["e2e_p50 <= 2"])(10)
    assert asked.n == pytest.approx(200, abs=45)
    assert asked.verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lag": 3.0}, r"generator saturated at 10 req/s: requests were sent late"),
        ({"stopped": "the cap of 9 completion tokens"}, "the probe at 10/s was stopped: the cap"),
        ({"lost": ("process 1 was lost",)}, "process 1 was lost"),
    ],
)
def test_what_was_no_measurement_ends_the_search(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    queue = Queue(40)
    for name, value in changes.items():
        setattr(queue, name, value)
    with pytest.raises(NotMeasuredError, match=message):
        prober(tmp_path, queue)(10)


def progress(ask: Prober, elapsed: float, n: int, bad: int, in_flight: int = 0) -> str | None:
    """Return what the search does with a probe that has come so far."""
    counts = Counts((), {}, 0.0)
    counts.of = {name: Count(n, bad) for name in ("e2e_p95", "error_rate")}
    return ask._decided(Progress(elapsed, intended=n + in_flight, ended=n, counts=counts))


def test_a_probe_ends_as_soon_as_it_is_decided(tmp_path: Path) -> None:
    ask = prober(tmp_path, Queue(40))
    assert progress(ask, 1, 50, 0) is None
    assert progress(ask, 1, 50, 30) == DECIDED, "it fails, however short"
    assert progress(ask, 14.9, 5000, 0) is None, "a queue takes its time"
    assert progress(ask, 15, 5000, 0) == DECIDED
    assert progress(ask, 15, 60, 0) is None, "many looks need more than the 59 of one"
    assert progress(ask, 15, 5000, 0, in_flight=1000) is None, "what is open may still fail"


def test_a_probe_with_rates_or_gaps_runs_its_time(tmp_path: Path) -> None:
    ask = prober(
        tmp_path, Queue(40), objectives=["e2e_p95 <= 2", "error_rate <= 5%", "throughput >= 1"]
    )
    assert progress(ask, 20, 5000, 0) is None
    assert progress(ask, 20, 5000, 4000) == DECIDED


def test_what_fails_at_once_does_not_stand_for_what_is_open(tmp_path: Path) -> None:
    """Two instant errors end before any good answer of 4 s; 2 of 11 sent would be too many."""
    service = Steady(4.0, failures=2)
    asked = prober(tmp_path, service, duration=12, objectives=["error_rate <= 5%"])(20)
    assert (asked.n, asked.verdict, asked.met) == (240, Verdict.PASS, True)


def test_a_probe_that_is_missed_for_certain_ends_and_says_why(tmp_path: Path) -> None:
    service = Steady(4.0, failures=100)
    ask = prober(tmp_path, service, streamed=1, objectives=["e2e_p95 <= 60", "itl_p95 <= 1"])
    asked = ask(20)
    assert (asked.verdict, asked.met) == (Verdict.FAIL, False)
    assert asked.duration < 2
    assert asked.reason.startswith("e2e_p95 is beyond all that ended well; ")
    assert asked.reason.endswith(": e2e_p95 <= 60 is missed")
    assert ask.best is not None
    assert [each.verdict for each in ask.best.judged] == [Verdict.FAIL]


def test_a_missed_probe_does_not_ask_for_what_had_no_time_to_end(tmp_path: Path) -> None:
    """Nothing of what had ended was a stream: for the gaps that alone would be an error."""
    ask = prober(
        tmp_path,
        Steady(4.0, failures=100),
        streamed=1,
        objectives=["itl_p95 <= 1", "error_rate <= 5%"],
    )
    asked = ask(20)
    assert asked.verdict is Verdict.FAIL
    assert asked.reason.endswith("error_rate <= 0.05 is missed")


@pytest.mark.parametrize(
    ("takes", "duration"), [(0.5, 6), (3, 6), (3, 10), (5, 30), (20, 30), (5, 12)]
)
def test_a_service_that_fills_is_none_whose_backlog_grows(
    tmp_path: Path, takes: float, duration: float
) -> None:
    ask = prober(tmp_path, Steady(takes), duration=duration, objectives=["e2e_p95 <= 60"])
    for _ in range(20):  # each with arrivals of its own
        asked = ask(20)
        assert asked.met, asked.reason
        assert asked.stable is not False
        if duration - takes >= 6:
            assert asked.verdict is Verdict.PASS, asked.reason


def test_a_probe_too_short_for_its_answers_says_so(tmp_path: Path) -> None:
    ask = prober(tmp_path, Steady(3.0), duration=6, objectives=["e2e_p95 <= 60"])
    asked = ask(20)
    assert (asked.verdict, asked.met) == (Verdict.INCONCLUSIVE, True)
    assert asked.reason == (
        "too short to see whether a backlog grows: answers take 3 s, and the probe was over after "
        "6 s"
    )


@pytest.mark.parametrize("rate", [50, 60, 100, 200])
def test_a_growing_backlog_is_seen_beside_the_filling(tmp_path: Path, rate: float) -> None:
    asked = prober(tmp_path, Queue(40), objectives=["e2e_p95 <= 300"])(rate)
    assert (asked.verdict, asked.stable) == (Verdict.FAIL, False)


def test_a_generator_that_is_too_slow_gets_more_processes(tmp_path: Path) -> None:
    service = Queue(1000)
    service.lag = 0.16
    ask = prober(tmp_path, service, max_processes=6)
    assert ask(10).verdict is Verdict.PASS
    assert service.processes == [1, 2, 4]
    assert ask.processes == 4
    ask(20)
    assert service.processes[3:] == [4], "it needs not be found out again"
    service.lag = 0.6
    with pytest.raises(GeneratorLimitError, match=r"generator saturated at 40 req/s"):
        ask(40)
    assert service.processes[4:] == [4, 6]
    folders = sorted(path.name for path in tmp_path.iterdir())
    assert folders == [f"probe-{number:02}" for number in range(1, 7)]


@pytest.mark.parametrize(
    ("processes", "most", "repeats"), [(1, None, 0), (1, 1, 0), (1, 8, 3), (2, 5, 2)]
)
def test_the_probes_that_may_have_to_be_sent_again(
    processes: int, most: int | None, repeats: int
) -> None:
    assert most_repeats(LoadConfig(processes=processes, max_processes=most)) == repeats


def test_a_search_that_has_used_up_its_tokens_says_so(tmp_path: Path) -> None:
    service = Queue(1000)
    ask = prober(tmp_path, service, max_tokens_total=1000)
    service.tokens = 600
    ask(10)
    assert [each.max_tokens_total for each in service.sent] == [1000]
    service.stopped = "the cap of 400 completion tokens was reached"
    with pytest.raises(NotMeasuredError) as caught:
        ask(20)
    assert service.sent[1].max_tokens_total == 400
    assert str(caught.value) == (
        "the cap of 1000 completion tokens for the whole search was reached in probe 2, at 20/s"
    )
    with pytest.raises(NotMeasuredError, match="for the whole search was reached in probe 2"):
        ask(40)
    assert len(service.sent) == 2, "nothing more is sent"
