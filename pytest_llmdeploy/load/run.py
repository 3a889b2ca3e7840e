"""One load run from its section to its summary, made once for all items and processes that ask."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pytest_llmdeploy.config.load import LoadConfig, LoadLimits
from pytest_llmdeploy.config.models import EnvironmentConfig
from pytest_llmdeploy.errors import LLMDeployError, NotBegunError, NotMeasuredError
from pytest_llmdeploy.load.alone import alone
from pytest_llmdeploy.load.capacity import MOST_PROBES, search
from pytest_llmdeploy.load.compare import comparable, compare_targets, compare_with_record
from pytest_llmdeploy.load.confirm import ABOVE, RUNS, Confirmation, confirm
from pytest_llmdeploy.load.controller import Progress, TrafficResult, run_traffic
from pytest_llmdeploy.load.files import LEDGER, LOG, SUMMARY
from pytest_llmdeploy.load.guards import check_host, check_limits
from pytest_llmdeploy.load.judging import plain
from pytest_llmdeploy.load.live import Live
from pytest_llmdeploy.load.plan import (
    CLOSED_LOOP_NOTE,
    LOCUSTFILE_NOTE,
    in_words,
    model_kind,
    traffic_of,
)
from pytest_llmdeploy.load.probing import Prober, longest_probe, most_repeats
from pytest_llmdeploy.load.selfcheck import (
    Check,
    advice,
    allowed_lag,
    check_generator,
    lateness,
)
from pytest_llmdeploy.load.spec import Step, Target, TrafficSpec
from pytest_llmdeploy.load.summary import Tally, tally
from pytest_llmdeploy.redaction import Redactor
from pytest_llmdeploy.verdicts import worst

FORMAT = 1
FOREIGN = ("error", "skipped", "notes", "versions")
"""What others wrote in a summary; a ledger's texts are hidden as they are recorded."""
NOWHERE = Target("http://nowhere.invalid", {}, "")
"""In place of targets, while none is needed."""
TRAFFIC = "traffic"
"""Folder of the traffic that was judged, below the run's."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What load is put on."""

    name: str
    """Of the service, for reports."""
    url: str
    scripted: bool
    targets: tuple[Target, ...]
    """The version under test, and the one that it is compared with."""


@dataclass(frozen=True, slots=True)
class LoadRun:
    """One section below ``load``, ready to be run."""

    name: str
    config: LoadConfig
    environment_name: str
    environment: EnvironmentConfig
    root: Path
    """Directory of the file."""
    folder: Path
    """Folder of the run's record."""
    subject: Callable[[], Subject]
    """Starts the service where need be; raises NotBegunError where it does not even work."""
    redact: Redactor
    waiting: Callable[[Callable[[], str]], None]
    """Called now and then with what makes a line about the run."""

    def check_files(self) -> None:
        """Raise ConfigError where a file that the section names cannot be used."""
        traffic_of(self.config, [NOWHERE], self.root)

    def summary(self) -> dict[str, Any]:
        """Return the run's summary, running it where no process has.

        One load run at a time on one machine: two generators would falsify each other. Raises
        NotMeasuredError, or NotBegunError, again for each item that asks.
        """
        path = self.folder / SUMMARY
        if not path.is_file():
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            lock = alone(self._wait)
            try:
                if not path.is_file():  # nobody made it meanwhile
                    self.folder.mkdir(exist_ok=True)
                    self._write(self._measure())
            finally:
                lock.release()
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if found["skipped"]:
            raise NotBegunError(found["skipped"])
        if found["error"]:
            raise NotMeasuredError(found["error"])
        return found

    def _wait(self) -> None:
        self.waiting(lambda: f"load {self.name}: waits for another load run to end")

    def _write(self, summary: dict[str, Any]) -> None:
        path = self.folder / SUMMARY
        partial = path.with_suffix(".partial")
        # Not our own words: a variable's value may be one of them.
        foreign = {key: self.redact.deep(summary[key]) for key in FOREIGN if key in summary}
        text = json.dumps({**summary, **foreign}, ensure_ascii=False, indent=1, allow_nan=False)
        partial.write_text(text, encoding="utf-8", errors="replace")
        partial.replace(path)

    def _measure(self) -> dict[str, Any]:
        """Return the summary of a run, or of why there is none."""
        summary: dict[str, Any] = {
            "format": FORMAT,
            "name": self.name,
            "environment": self.environment_name,
            "started": datetime.now(UTC).isoformat(),
            "error": None,
            "skipped": None,
            "notes": [],
        }
        try:
            self._fill(summary)
        except NotBegunError as error:
            summary["skipped"] = str(error)
        except LLMDeployError as error:
            summary["error"] = str(error)
        except Exception as error:  # noqa: BLE001 - else each item would send the traffic again
            last = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(last.filename).name}:{last.lineno}"
            summary["error"] = f"{type(error).__name__}: {error} ({place})"
        except BaseException:  # Ctrl-C, or a timeout of the test: what was sent stays on record
            summary["error"] = "interrupted"
            self._write(summary)
            raise
        return summary

    def _fill(self, summary: dict[str, Any]) -> None:
        config = self.config
        planned = traffic_of(config, [NOWHERE], self.root)
        limits = self._check_limits(planned)
        for url in (self.environment.url, config.compare.url if config.compare else None):
            if url is not None:
                check_host(url, self.environment_name, self.environment)
        subject = self.subject()
        traffic = replace(
            planned,
            targets=subject.targets,
            host=subject.url,
            max_tokens_total=limits.tokens if limits else None,
        )
        kind = model_kind(traffic)
        summary |= {
            "model": kind,
            "traffic": in_words(traffic),
            "service": {
                "name": subject.name,
                "url": self.redact(subject.url),
                "scripted": subject.scripted,
            },
            "spec": comparable(
                replace(traffic, parameters=self.redact.deep(dict(traffic.parameters)))
            ),
            "confidence": config.confidence,
            "events": [{"at": traffic.warmup, "label": "warm-up ends"}] if traffic.warmup else [],
        }
        notes = {"closed loop": CLOSED_LOOP_NOTE, "locustfile": LOCUSTFILE_NOTE}
        summary["notes"] = [notes[kind]] if kind in notes else []
        processes, check = self._checked_generator(traffic)
        summary["generator"] = {"processes": processes, "check": check and check.to_json()}
        if check is not None and check.reason:
            raise NotMeasuredError(
                f"generator saturated at {check.rate:.3g} req/s: {check.reason}; "
                + advice(check.cpu, processes)
            )
        if config.find:
            self._find_capacity(summary, traffic, processes)
        else:
            self._run(summary, traffic, processes, limits)

    def _check_limits(self, traffic: TrafficSpec) -> LoadLimits | None:
        config = self.config
        if config.find:
            # The search ends itself; what it may cost at most is known.
            step = Step(config.max_rate, config.max_rate, longest_probe(config))
            longest = replace(traffic, steps=(step,))
            probes = MOST_PROBES + most_repeats(config)
            probes += math.ceil(RUNS * ABOVE) if config.confirm else 0
            return check_limits(longest, self.environment_name, self.environment, probes=probes)
        return check_limits(traffic, self.environment_name, self.environment)

    def _checked_generator(self, traffic: TrafficSpec) -> tuple[int, Check | None]:
        """Return how many processes keep up with the traffic, and how they measured a mock."""
        config = self.config
        processes = config.processes
        if not config.self_check or traffic.locustfile:
            return processes, None
        again = True
        with tempfile.TemporaryDirectory(prefix="llmdeploy-selfcheck-") as folder:
            while True:
                self.waiting(lambda: f"load {self.name}: measures its own generator")
                where = Path(folder) / f"{processes}-{again}"
                check = check_generator(
                    traffic, config.self_check, where, processes, config.max_dispatch_lag
                )
                more = min(processes * 2, config.max_processes or processes)
                if check.verdict == "ok":
                    return processes, check
                if more > processes:
                    processes = more
                elif again:
                    again = False  # a moment's disturbance is not the generator's limit
                else:
                    return processes, check

    def _send(
        self,
        traffic: TrafficSpec,
        folder: Path,
        processes: int,
        decide: Callable[[Progress], str | None] = lambda _progress: None,
        interrupted: Callable[[TrafficResult], object] = lambda _result: None,
    ) -> TrafficResult:
        live = Live()

        def watch(progress: Progress) -> str | None:
            live.hear(progress)
            self.waiting(lambda: f"load {self.name}: {live.line(progress)}")
            return decide(progress)

        return run_traffic(
            traffic,
            folder,
            processes=processes,
            directory=self.root,
            redact=self.redact,
            watch=watch,
            interrupted=interrupted,
        )

    def _run(
        self,
        summary: dict[str, Any],
        traffic: TrafficSpec,
        processes: int,
        limits: LoadLimits | None,
    ) -> None:
        def decide(progress: Progress) -> str | None:
            if limits is not None and progress.intended > limits.requests:
                return f"the cap of {limits.requests} requests was reached"
            return None

        config = self.config
        folder = self.folder / TRAFFIC
        shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed in the midst

        def take(result: TrafficResult) -> tuple[Tally, str | None]:
            result.ledger = result.ledger.replace(self.folder / LEDGER)
            _keep_log(folder, self.folder)
            objectives, duration = config.parsed_objectives, traffic.traffic_duration
            whole = tally(result, objectives, traffic.good, traffic.warmup, duration)
            late = lateness(result, allowed_lag(traffic, config.max_dispatch_lag))
            self._describe(summary, result, whole, late)
            return whole, late

        result = self._send(traffic, folder, processes, decide, interrupted=take)
        whole, late = take(result)
        self._refuse(result, whole, late)
        judged = [
            whole.judge(each, config.confidence, result.gaps) for each in config.parsed_objectives
        ]
        summary["objectives"] = [each.to_json() for each in judged]
        if config.compare:
            self._compare(summary, traffic, result)

    def _describe(
        self, summary: dict[str, Any], result: TrafficResult, whole: Tally, late: str | None
    ) -> None:
        """Put what was measured into the summary, whatever it is worth."""
        summary["notes"] += result.notes
        lag = result.dispatch_lag
        summary |= whole.to_json(result.gaps, result.token_gaps)
        summary |= {
            "started": datetime.fromtimestamp(result.started, UTC).isoformat(),
            "duration": result.duration,
        }
        summary["generator"] |= {
            "verdict": "saturated" if late else "ok",
            "reason": late,
            "dispatch_lag_p50": lag.quantile(0.5),
            "dispatch_lag_p99": lag.quantile(0.99),
            "loop_lag_p99": result.loop_lag.quantile(0.99),
            "cpu": result.cpu,
            "memory_mb": result.memory_mb,
        }

    def _refuse(self, result: TrafficResult, whole: Tally, late: str | None) -> None:
        """Raise NotMeasuredError where the run is no measurement of the service."""
        accounted = sum(whole.classes.values())
        if accounted != result.intended:
            raise NotMeasuredError(
                f"the ledger has {accounted} of {result.intended} intended requests"
            )
        result.check_complete()
        if result.stopped:
            raise NotMeasuredError(
                f"the run ended after {result.duration:.1f} s, before its time: {result.stopped}"
            )
        if late:
            rate = whole.intended / max(whole.duration, 1e-9)
            raise NotMeasuredError(
                f"generator saturated at {rate:.3g} req/s: {late}; "
                + advice(result.cpu, result.processes)
            )
        if not whole.judged:
            raise NotMeasuredError("no request was judged: the traffic had none after its warm-up")

    def _compare(
        self, summary: dict[str, Any], traffic: TrafficSpec, result: TrafficResult
    ) -> None:
        config = self.config.compare
        assert config is not None
        confidence = self.config.confidence
        if config.baseline is not None:
            compared = compare_with_record(
                config, self.root / config.baseline, result.ledger, summary["spec"], confidence
            )
        else:
            assert traffic.block is not None
            compared = compare_targets(
                config, result.ledger, traffic.warmup, traffic.block, confidence
            )
        verdict = worst(each.verdict for each in compared)
        summary["comparison"] = {
            "kind": "baseline" if config.baseline is not None else "interleaved",
            "verdict": str(verdict),
            "reason": next(each.reason for each in compared if each.verdict is verdict),
            "metrics": [each.to_json() for each in compared],
        }

    def _find_capacity(self, summary: dict[str, Any], traffic: TrafficSpec, processes: int) -> None:
        config = self.config

        for left in self.folder.glob("probe-*"):  # of a process that was killed in the midst
            shutil.rmtree(left)
        prober = Prober(config, traffic, self.folder, self._send, processes)
        assert config.rate is not None
        found = search(prober, config.rate, config.max_rate, config.precision, config.min_rate)
        runs: Sequence[Confirmation] = ()
        if config.confirm:
            prober.whole = True
            found, runs = confirm(found, prober)
        confirmations = {"confirmations": [each.to_json() for each in runs]}
        summary["capacity"] = found.to_json() | confirmations
        summary["generator"]["processes"] = prober.processes
        best = prober.best
        assert best is not None
        self._describe(summary, best.result, best.counted, None)  # it was not late, or no probe
        shutil.copy(best.result.ledger, self.folder / LEDGER)
        summary["objectives"] = [each.to_json() for each in best.judged]
        summary["notes"].append(f"latencies are those at {plain(best.rate)} requests/s")


def _keep_log(source: Path, target: Path) -> None:
    """Keep what the generator said; a run's folder has no other leftovers."""
    log = source / LOG
    if log.is_file():
        log.replace(target / LOG)
    shutil.rmtree(source, ignore_errors=True)
