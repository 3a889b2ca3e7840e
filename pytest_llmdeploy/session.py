"""pytest's side of a run: one object per process that the hooks of plugin.py delegate to."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmdeploy import options
from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.markers import stages_of
from pytest_llmdeploy.run import OUTPUT_ROOT, Run, claim_folder, new_run_id

if TYPE_CHECKING:
    from pytest_llmdeploy.assembly import Assembly
    from pytest_llmdeploy.config.loader import LoadedConfig
    from pytest_llmdeploy.reports.progress import LiveProgress
    from pytest_llmdeploy.reports.result import RunResult
    from pytest_llmdeploy.reports.spool import Spool

SESSION: pytest.StashKey[LLMDeploySession] = pytest.StashKey()


class LLMDeploySession:
    """State of the plugin in this process. Cheap until a llmdeploy.yaml or a fixture is used."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.run = _run(config)
        self.events: list[dict[str, Any]] = []
        """The verdicts so far, in the controller, as builtins; details of cases may be on disk."""
        self.others_failed = False
        """A test that has no verdict of ours failed."""
        self.not_collected = False
        """Something could not be collected."""
        self._result: RunResult | None = None
        self._warnings: list[str] = []
        self._assembly: Assembly | None = None
        self._progress: LiveProgress | None = None
        self._spool: Spool | None = None
        self._old_sigterm: Any = None
        self._started = time.time()

    @property
    def is_controller(self) -> bool:
        """Whether this process owns the run: it stops what was started, and writes the reports."""
        return self.run.worker is None

    @property
    def assembly(self) -> Assembly:
        """Stages plugged to adapters; made on first use."""
        if self._assembly is None:
            from pytest_llmdeploy.assembly import Assembly

            def register(registry: Any) -> None:
                self.config.hook.pytest_llmdeploy_assertions(registry=registry)

            self._assembly = Assembly(self.run, register)
            self.end_with_sigterm()
            if self.is_controller:
                from pytest_llmdeploy.reports.progress import LiveProgress

                self._assembly.while_waiting = self._progress = LiveProgress(self.config)
            else:
                self._assembly.while_waiting = self._leave_when_announced
        return self._assembly

    def _leave_when_announced(self, *_: object) -> None:
        """Stop waiting in a worker: xdist gives an interrupted run 10 s, and then kills."""
        if self.run.end_announced():
            pytest.exit("the run was interrupted", returncode=pytest.ExitCode.INTERRUPTED)

    def note_selected(self, items: Sequence[pytest.Item]) -> None:
        """Tell the gates which of their cases this run asks."""
        if self._assembly is not None:
            from pytest_llmdeploy.collection import release, selection

            selection.note_selected(items)
            release.note_selected(items)

    def refuse_change(self, item: pytest.Item) -> None:
        """Stop a test of a changing stage from touching a protected environment."""
        if stages_of(item):
            from pytest_llmdeploy.collection.guard import refuse_change

            def load(path: Path) -> LoadedConfig:
                return self.assembly.load(path)  # made only where the guard needs it

            refuse_change(item, load, self.run.image)

    def attach_verdict(
        self, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport
    ) -> None:
        """Put the verdict of a test on its report."""
        if self._assembly is not None:
            from pytest_llmdeploy.collection.verdicts import attach_verdict

            attach_verdict(self._assembly, item, call, report)

    def note_report(self, report: pytest.TestReport) -> None:
        """Keep the verdict that a report carries."""
        if self._progress is not None:
            self._progress.erase()
        event: dict[str, Any] | None = getattr(report, "llmdeploy", None)
        if event is not None and report.outcome == "rerun":  # type: ignore[comparison-overlap]
            return  # a plugin repeats the test: the last attempt counts
        if report.failed and (event is None or event["verdict"] == "PASS"):
            self.others_failed = True
        if event is not None and self.is_controller:
            from pytest_llmdeploy.events import VerdictEvent
            from pytest_llmdeploy.reports.spool import Spool

            self._spool = self._spool or Spool()
            self.events.append(self._spool.slim(event))
            self.config.hook.pytest_llmdeploy_verdict(event=VerdictEvent.from_dict(event))

    @staticmethod
    def forget_report(report: pytest.TestReport) -> None:
        """Take the verdict off a report that everybody has seen: pytest keeps it to the end."""
        if hasattr(report, "llmdeploy"):
            del report.llmdeploy

    def note_collection(self, report: pytest.CollectReport) -> None:
        """Remember that something could not be collected."""
        self.not_collected |= report.failed

    def finish(self, session: pytest.Session) -> None:
        """End the run: stop what was started, decide the exit code, write the reports."""
        code = int(session.exitstatus)
        said: list[str] = []
        if self._assembly is not None:
            said = self._assembly.close(lambda: code in (0, 1) and self._others_wait())
        # Under xdist this process loads no file: the folder tells that a worker began something.
        used = self.events or self._assembly is not None or self._output_exists()
        if not self.is_controller or not used or self.config.option.collectonly:
            return
        if not self.events and code in (0, 1) and not self.not_collected:
            return  # only tests of the user's own, which no stage's marker claims
        if code == pytest.ExitCode.INTERRUPTED:
            self.run.announce_end()
        from pytest_llmdeploy.reports.finish import write_reports
        from pytest_llmdeploy.reports.result import EXIT_ERROR, RunResult, exit_code

        warnings = self._stop_services()
        if not (self.others_failed or self.not_collected):
            refined = exit_code(code, self.events)
            # pytest or another plugin counts a failure that no report of ours tells of.
            self.others_failed = refined == code == pytest.ExitCode.TESTS_FAILED and not any(
                event["verdict"] != "PASS" for event in self.events
            )
            code = refined
        try:
            self.run.prepare()
        except NotMeasuredError as error:
            warnings.append(str(error))
        self._result = RunResult(
            run_id=self.run.id,
            output=self.run.output,
            started=self._started,
            duration=time.time() - self._started,
            events=self.events,
            exit_code=code,
            interrupted=code == pytest.ExitCode.INTERRUPTED and not self.not_collected,
            others_failed=self.others_failed,
            not_collected=self.not_collected,
        )
        self._warnings = [*said, *warnings, *write_reports(self._result)]
        if code == 0 and not (self.run.output / "report.json").is_file():
            code = EXIT_ERROR  # a verdict that nobody can look up
        session.exitstatus = code
        self._repeat_missed_cases(self._result)

    def _repeat_missed_cases(self, result: RunResult) -> None:
        """Let --lf repeat, with a gate that did not pass, the cases that it counted."""
        last_failed = self.config.pluginmanager.get_plugin("lfplugin")
        if last_failed is not None and any(gate["verdict"] != "PASS" for gate in result.gates):
            missed = [event["nodeid"] for event in result.events if event["counted"]]
            last_failed.lastfailed.update(dict.fromkeys(missed, True))

    def write_summary(self, terminalreporter: Any) -> None:
        """Print the verdict and what needs attention."""
        if self._result is not None:
            from pytest_llmdeploy.reports.terminal import write_summary

            write_summary(terminalreporter, self._result, self._warnings)

    def close(self) -> None:
        """End what is left, should the run not have come to its end."""
        if self._assembly is not None:
            self._assembly.close()
        if self.is_controller:
            self._stop_services()
        if self._spool is not None:
            self._spool.close()
        if self._old_sigterm is not None:
            signal.signal(signal.SIGTERM, self._old_sigterm)
            self._old_sigterm = None

    def _others_wait(self) -> bool:
        """Return whether another process may wait for what this one is asking."""
        return not self.is_controller and not self.run.end_announced()

    def _stop_services(self) -> list[str]:
        """End what was started; return a line for each service that would not end."""
        if not self._output_exists():
            return []
        from pytest_llmdeploy.assembly import end_run

        return end_run(self.run)

    def _output_exists(self) -> bool:
        try:
            return any(self.run.output.iterdir())
        except OSError:
            return False

    def end_with_sigterm(self) -> None:
        """Let SIGTERM end the run as Ctrl-C does: with reports, and nothing left behind."""
        if (
            self.is_controller
            and threading.current_thread() is threading.main_thread()
            and self._old_sigterm is None
            and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        ):
            self._old_sigterm = signal.signal(signal.SIGTERM, signal.default_int_handler)


def _run(config: pytest.Config) -> Run:
    """Return the run that this process is part of."""
    environment = options.environment_name(config)
    image: str | None = config.getoption("llmdeploy_image")
    keep: bool = config.getoption("llmdeploy_keep_cluster")
    weight: int | None = config.getoption("llmdeploy_weight")
    duration: float | None = config.getoption("llmdeploy_duration")
    baseline: str | None = config.getoption("llmdeploy_baseline")
    replay = options.replay(config)
    if duration is not None and weight is None:
        raise pytest.UsageError("--llmdeploy-duration belongs to --llmdeploy-weight: give both")
    shared: dict[str, Any] | None = getattr(config, "workerinput", {}).get("llmdeploy")
    if shared is not None:
        return Run(
            id=shared["id"],
            output=Path(shared["output"]),
            owner=shared["owner"],
            environment=environment,
            image=image,
            weight=weight,
            duration=duration,
            baseline=baseline,
            replay=replay,
            keep=keep,
            worker=os.environ.get("PYTEST_XDIST_WORKER", "worker"),
            worker_count=int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")),
        )
    run_id = new_run_id()
    chosen: Path | None = config.getoption("llmdeploy_output")
    if chosen is not None:
        try:
            claim_folder(chosen, run_id)
        except ValueError as error:
            raise pytest.UsageError(f"--llmdeploy-output: {error}") from None
    output = chosen or config.rootpath / OUTPUT_ROOT / run_id
    return Run(
        id=run_id,
        output=output.absolute(),
        environment=environment,
        image=image,
        weight=weight,
        duration=duration,
        baseline=baseline,
        replay=replay,
        keep=keep,
    )
