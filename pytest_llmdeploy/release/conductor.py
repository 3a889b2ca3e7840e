"""Performs a release, step by step; whatever goes wrong, the former state comes back."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

from pytest_llmdeploy.errors import LLMDeployError, NotMeasuredError, PlatformError
from pytest_llmdeploy.release.record import FINAL, ReleaseResult, RollbackReport, StepRecord
from pytest_llmdeploy.release.rollback import WayBack, roll_back
from pytest_llmdeploy.release.state import (
    Act,
    Held,
    InconclusiveError,
    Release,
    StepFailedError,
)
from pytest_llmdeploy.release.waiting import insist, patiently
from pytest_llmdeploy.verdicts import Verdict
from pytest_llmdeploy.waiting import wait_until

UNLOCK_TIMEOUT = 5.0
"""Seconds for which giving the lock back is tried."""
KeepEvidence = Callable[[str, Mapping[str, str]], str | None]
"""Keeps the files about a failed step; returns the folder that they are in."""


class Conductor:
    """One release. `run` performs it; `abort` ends it from another thread, by a rollback."""

    def __init__(
        self,
        release: Release,
        steps: Mapping[str, Act],
        on_step: Callable[[StepRecord], None] = lambda _record: None,
        evidence: KeepEvidence = lambda _step, _files: None,
    ) -> None:
        """`steps` are performed in their order; `on_step` hears of each once it has ended."""
        self._release = release
        self._acts = steps
        self._on_step = on_step
        self._evidence = evidence
        self._steps: list[StepRecord] = []
        self._rollback: RollbackReport | None = None

    @property
    def now_doing(self) -> str:
        """What goes on, in a line, for people who wait."""
        return self._release.now_doing

    def between(self, tell: Callable[[], None]) -> None:
        """Have `tell` called now and then while this waits."""
        self._release.patience.between = tell

    def abort(self, why: str) -> None:
        """End the release from another thread: what was changed is taken back first."""
        self._release.patience.abort(why)

    def run(self) -> ReleaseResult:
        """Perform the release; a failed one has been rolled back when this returns.

        Raises nothing of ours: what went wrong stands in the result. After Ctrl-C the way back is
        gone first, then KeyboardInterrupt goes on.
        """
        begun = time.time()
        failed: StepRecord | None = None
        interrupted: BaseException | None = None
        for name, act in self._acts.items():
            if failed is not None:
                self._tell(_skipped(name, failed))
                continue
            try:
                record = self._perform(name, act)
            except BaseException as error:  # noqa: BLE001 - Ctrl-C too: first the way back
                interrupted = error
                record = _told(name, Verdict.ERROR, f"interrupted: {_plainly(error)}")
            if record.verdict is Verdict.PASS or self._release.decided:
                self._tell(record)
            elif self._release.held is not None:
                failed = record
                self._tell(record)
            else:
                failed = record
                self._go_back(record)
        self._tell(self._final_state(failed))
        # Kept after a rollback that failed: nothing may be released over that.
        if self._rollback is None or self._rollback.succeeded:
            self._unlock()
        if self._release.canary is not None:
            with suppress(OSError, LLMDeployError):
                self._release.canary.close()
        if interrupted is not None:
            raise interrupted
        return self._result(begun, failed)

    def take_back(self) -> RollbackReport:
        """Undo a release that has succeeded; its journal is closed already."""
        return roll_back(self._way_back(moved=True), None)

    def _way_back(self, *, moved: bool, between: Callable[[], None] = lambda: None) -> WayBack:
        release = self._release
        assert release.snapshot is not None
        return WayBack(
            fleet=release.fleet,
            config=release.config,
            snapshot=release.snapshot,
            old_color=release.old,
            old=release.old_identity,
            old_image=release.old_image,
            moved=moved,
            whole=release.old_whole,
            who_answers=lambda: release.checks.identify(release.entry),
            between=between,
        )

    def _perform(self, name: str, act: Act) -> StepRecord:
        """Return what became of a step; lets only what is no error of ours through."""
        self._release.now_doing = name
        started, clock = time.time(), time.monotonic()
        detail: Mapping[str, object] = {}
        left_out = False
        try:
            self._release.patience.check()
            outcome = act(self._release)
            verdict, reason, detail = Verdict.PASS, outcome.reason, outcome.detail
            left_out = outcome.left_out
        except InconclusiveError as error:
            verdict, reason, detail = Verdict.INCONCLUSIVE, str(error), error.detail
        except StepFailedError as error:
            verdict, reason, detail = Verdict.FAIL, str(error), error.detail
        except LLMDeployError as error:
            verdict, reason = Verdict.ERROR, str(error)
        took = time.monotonic() - clock
        return StepRecord(name, verdict, reason, started, took, skipped=left_out, detail=detail)

    def _unlock(self) -> None:
        with suppress(PlatformError):
            insist(
                self._release.fleet.lock.release,
                what="the lock should be given back",
                timeout=UNLOCK_TIMEOUT,
                setting="a fixed limit",
                clock=time,
            )

    def _tell(self, record: StepRecord) -> None:
        self._steps.append(record)
        with suppress(OSError, LLMDeployError):  # a full disk must not stand in the way back
            self._on_step(record)

    def _go_back(self, failed: StepRecord) -> None:
        """Tell of the failed step, and bring back what was changed."""
        release = self._release
        detected = time.monotonic()
        telling = iter([failed])

        def tell() -> None:
            for record in telling:  # once
                self._tell(replace(record, evidence=self._collect(record.name)))

        if release.snapshot is None or release.moments.deploy is None:
            tell()
            self._stop_traffic()
            return
        release.now_doing = "goes back"
        moved = release.moments.switch is not None
        if moved:
            release.moments = replace(release.moments, back=detected)
        with suppress(OSError, LLMDeployError):
            release.on_action("rollback", {"because": failed.reason})
        report = roll_back(self._way_back(moved=moved, between=tell), release.journal)
        tell()
        if report.time_to_safe is not None:
            release.moments = replace(release.moments, safe=detected + report.time_to_safe)
        self._stop_traffic()
        self._rollback = self._timed(report, detected)

    def _timed(self, report: RollbackReport, detected: float) -> RollbackReport:
        """Return the report with its times counted from the switch."""
        release = self._release
        switched, safe = release.moments.switch, release.moments.safe
        if switched is None:
            return report
        return replace(
            report,
            time_to_detect=detected - switched,
            time_to_safe=None if safe is None else safe - switched,
            requests_exposed=release.losses.exposed if release.losses is not None else None,
        )

    def _collect(self, step: str) -> str | None:
        release = self._release
        colors = [color for color in (release.new, release.old) if color is not None]
        try:
            return self._evidence(step, release.fleet.evidence(colors))
        except (OSError, LLMDeployError):
            return None

    def _stop_traffic(self) -> None:
        """End the traffic of a release that failed; what it shows goes into the result."""
        if self._release.running is not None and self._release.losses is None:
            with suppress(NotMeasuredError):
                self._release.finish_traffic()

    def _final_state(self, failed: StepRecord | None) -> StepRecord:
        """Return the last step: what state everything was left in."""
        if self._release.held is not None:
            return self._held(self._release.held)
        if failed is None:
            return self._released()
        report = self._rollback
        if report is None:
            return _told(FINAL, Verdict.PASS, self._unchanged())
        detail = {"rollback": report.to_json()}
        if not report.succeeded:
            lines = [f"ROLLBACK FAILED: {report.reason}", "to bring the former state back, run:"]
            reason = "\n".join([*lines, *(f"  {command}" for command in report.commands)])
            return replace(_told(FINAL, Verdict.FAIL, reason), detail=detail)
        reason = f"rolled back: {report.reason}"
        if report.time_to_detect is not None and report.time_to_safe is not None:
            reason += (
                f"; the failure was seen {report.time_to_detect:.1f} s after the switch, and "
                f"{report.time_to_safe:.1f} s after it everybody met the former version again"
            )
        if report.requests_exposed is not None:
            reason += f"; {report.requests_exposed} requests of ours were exposed"
        return replace(_told(FINAL, Verdict.PASS, reason), detail=detail)

    def _unchanged(self) -> str:
        """Return what is so where the release ended before its first change."""
        release = self._release
        if release.canary is None or release.canary.resumed_at is None:
            return "nothing was changed: the release ended before its first change"
        return (
            f"nothing was changed: {release.new} ({release.order.image}) still has the "
            f"{release.canary.resumed_at} % of the traffic at which an earlier run held it; to "
            f"take it back, run `llmdeploy rollback --env {release.order.environment}`"
        )

    def _held(self, held: Held) -> StepRecord:
        """Leave the split as it is, for a later run to go on with, or a person to take back."""
        release = self._release
        self._stop_traffic()
        back = f"`llmdeploy rollback --env {release.order.environment}`"
        state = (
            f"{held.reason}: {release.new} ({release.order.image}) keeps {held.weight} % of the "
            f"traffic, {release.old} the rest"
        )
        try:
            release.journal.hold(held.weight, held.phase, held.reason, passed=held.passed)
        except PlatformError as error:
            reason = (
                f"{state}; that it is held could not be noted ({error}), so no run can go on with "
                f"it; to take it back, run {back}"
            )
            return _told(FINAL, Verdict.ERROR, reason)
        again = "" if held.passed else ", which watches that phase once more"
        reason = (
            f"{state}, and nobody watches it; to go on, release the same image again{again}; to "
            f"take it back, run {back}"
        )
        if release.order.ends_with_run:
            reason += ". All of it ends with this run, unless --llmdeploy-keep-cluster keeps it"
        return _told(FINAL, held.verdict, reason)

    def _released(self) -> StepRecord:
        release = self._release
        told: list[str] = []
        try:
            color, image = wait_until(
                patiently(lambda: (release.fleet.color(), release.fleet.image(release.new)), told),
                what="the state should be read",
                timeout=release.config.converge_timeout,
                setting="blue_green.converge_timeout",
                interval=0.5,
            )
        except LLMDeployError as error:
            command = f"llmdeploy rollback --env {release.order.environment}"
            reason = (
                f"the state cannot be read: {told[-1] if told else error}; to look at it, run:\n"
                f"  {command} --look\nand to let the new version stay:\n  {command} --keep-new"
            )
            return _told(FINAL, Verdict.ERROR, reason)
        state = f"the service leads to {color}, and {release.new} has {image}"
        if color != release.new or image != release.order.image:
            return _told(FINAL, Verdict.FAIL, f"{state}: somebody has changed it")
        release.journal.end("released")
        return _told(FINAL, Verdict.PASS, f"released: {state}")

    def _result(self, begun: float, failed: StepRecord | None) -> ReleaseResult:
        release, final = self._release, self._steps[-1]
        bad = failed or (None if final.verdict is Verdict.PASS else final)
        return ReleaseResult(
            success=bad is None,
            previous_color=release.old,
            new_color=release.new,
            previous_image=release.old_image,
            image=release.order.image,
            duration=time.time() - begun,
            timestamp=datetime.fromtimestamp(begun, UTC).isoformat(),
            steps=tuple(self._steps),
            health_checks=tuple(release.health),
            error=None if bad is None else f"{bad.name}: {bad.reason}",
            rollback=self._rollback,
            traffic=release.losses.to_json() if release.losses is not None else {},
            canary=release.canary.to_json() if release.canary is not None else {},
        )


def _told(name: str, verdict: Verdict, reason: str) -> StepRecord:
    return StepRecord(name, verdict, reason, time.time(), 0.0)


def _skipped(name: str, failed: StepRecord) -> StepRecord:
    reason = f"not done, for step '{failed.name}' did not pass"
    return replace(_told(name, Verdict.ERROR, reason), skipped=True)


def _plainly(error: BaseException) -> str:
    return "Ctrl-C" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {error}"
