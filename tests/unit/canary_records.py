"""Records as a canary leaves them, without one: counts in, judged by the real judge, written."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pytest_llmdeploy.config.canary import CanaryConfig
from pytest_llmdeploy.ports import Tally
from pytest_llmdeploy.release.canary.judge import Judgement, PhaseJudge
from pytest_llmdeploy.release.canary.looks import CANARY, STABLE, Look, LookWriter, Value
from pytest_llmdeploy.release.canary.state import PhaseRecord
from pytest_llmdeploy.release.record import FINAL
from pytest_llmdeploy.verdicts import Verdict

BEGAN = 1_795_730_000.0
_STEPS = 50
IMAGE = "llm-service:2.0.0"
CONFIG: dict[str, Any] = {
    "phases": [
        {"weight": 10, "duration": 10, "max_duration": 20},
        {"weight": 50, "duration": 5, "max_duration": 10},
        {"weight": 100, "duration": 3, "max_duration": 6},
    ],
    "sample_interval": 1,
    "look_interval": 1,
    "sla": {"cpu_usage": None, "memory_usage": None, "points": 3},
    "compare": {"error_rate": 0.05, "latency_p95": 0.5, "min_requests": 20},
}
Failures = Callable[[int], int]
"""Failed requests of the new version by the number of the look, in all of its phase until then."""


def none_failed(look: int) -> int:
    """Return 0: a good version."""
    return 0


class Maker:
    """Makes the looks of one canary, 400 requests a second, and writes what it would leave."""

    def __init__(self, folder: Path, config: Mapping[str, Any] | None = None) -> None:
        self.folder = folder
        self.config = CanaryConfig.model_validate(CONFIG if config is None else config)
        self.records: list[PhaseRecord] = []
        self.shifts: list[dict[str, Any]] = []
        self.judgements: list[Judgement] = []
        self._writer = LookWriter(folder / "looks.jsonl")
        self._now = BEGAN + 5

    def watch(
        self,
        failures: Failures = none_failed,
        shared: Failures = none_failed,
        *,
        held: int = 0,
        slower: float = 1,
    ) -> None:
        """Watch the next phase to its end, or `held` looks longer.

        `shared` are failed requests of the running version; `slower` is a factor.
        """
        phase = self.config.phases[len(self.records)]
        judge, started, number = PhaseJudge(self.config), self._now, 0
        while True:
            number += 1
            judgement = judge.add(
                self._look(phase.weight, number, failures(number), shared(number), slower)
            )
            known = judgement.verdict is Verdict.PASS or number >= phase.longest
            over = number >= phase.duration and known
            held -= over
            if judgement.verdict is Verdict.FAIL or (over and held < 0):
                break
        self._writer.close()
        self.note(str(judgement.verdict), judgement.reason, judgement, started, number)

    def note(
        self,
        verdict: str,
        reason: str,
        judgement: Judgement | None = None,
        started: float | None = None,
        duration: float = 0.0,
    ) -> None:
        """Note how the next phase ended; without a judgement by something else than figures."""
        phase = self.config.phases[len(self.records)]
        findings = tuple(each.to_json() for each in judgement.findings) if judgement else ()
        began = self._now if started is None else started
        self.records.append(
            PhaseRecord(
                phase.name, phase.weight, phase.weight, began, duration, verdict, reason, findings
            )
        )
        times = {"at": began - 0.5, "converged": began - 0.1}
        split = {"connections": 300, "share": phase.weight / 100}
        self.shifts.append({"weight": phase.weight, "made": phase.weight, **times, **split})
        self._now = began + duration + 2

    def write(self, **more: Any) -> Path:
        """Write the result; return the folder."""
        success = all(record.verdict == "PASS" for record in self.records)
        ended = self._now - BEGAN
        bins = range(int(ended))
        traffic = {
            "n": 400 * len(bins),
            "lost": 0,
            "moments": {"deploy": 1.0, "switch": 4.5, "back": None if success else ended - 1},
            "timeline": {"bin": 1.0, "old": [350 for _ in bins], "new": [50 for _ in bins]},
        }
        steps = [
            _step("deploy", BEGAN + 1),
            _step("route", BEGAN + 3),
            *(
                _step(record.name, record.started, record.verdict, record.reason)
                for record in self.records
            ),
            _step(FINAL, self._now),
        ]
        back = {"succeeded": True, "reason": "as before", "time_to_detect": 3.5}
        result = {
            "success": success,
            "previous_color": "blue",
            "new_color": "green",
            "previous_image": "llm-service:1.0.0",
            "image": IMAGE,
            "duration": ended,
            "timestamp": "2026-11-26T21:55:01+00:00",
            "steps": steps,
            "error": None if success else f"{self.records[-1].name}: did not pass",
            "rollback": None if success else {**back, "time_to_safe": 4, "requests_exposed": 77},
            "traffic": traffic,
            "canary": {
                "router": "Envoy of local",
                "config": self.config.model_dump(mode="json", exclude={"metrics": True}),
                "phases": [record.to_json() for record in self.records],
                "shifts": self.shifts,
                "looks": "elsewhere/looks.jsonl",
            },
            **more,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
        return self.folder

    def _look(self, weight: int, number: int, failed: int, others: int, slower: float) -> Look:
        sent = {CANARY: 4 * weight * number, STABLE: (400 - 4 * weight) * number}
        query = "requests of this run answered by 2.0.0"
        tallies = {
            CANARY: _tally(sent[CANARY], failed, slower, query),
            STABLE: _tally(sent[STABLE], others, 1.0, "requests of this run answered by 1.0.0"),
        }
        n = min(3, number) * 4 * weight
        sample = {
            "error_rate": Value(failed / sent[CANARY], "error_rate of this run", "client", n),
            "latency_p95": Value(0.2 * slower, "latency_p95 of this run", "client", n),
        }
        at = self._now + number
        return self._written(
            Look(f"weight-{weight}", weight, at, float(number), tallies, "client", sent, 0, sample)
        )

    def _written(self, look: Look) -> Look:
        self._writer.write(look)
        return look


def _tally(requests: int, errors: int, slower: float, query: str) -> Tally:
    """Return a tally whose latencies are spread evenly, in steps of 3 %, from 50 ms on."""
    share, rest = divmod(requests - errors, _STEPS)
    edges = (0.05 * slower * 1.03**step for step in range(_STEPS))
    buckets = tuple((edge, share + (step < rest)) for step, edge in enumerate(edges))
    known = tuple(each for each in buckets if each[1])
    return Tally(requests, errors, known, known, query)


def _step(
    name: str, started: float, verdict: str = "PASS", reason: str = "as it should be"
) -> dict[str, Any]:
    return {
        "name": name,
        "verdict": verdict,
        "reason": reason,
        "started": started,
        "duration": 1.0,
    }
