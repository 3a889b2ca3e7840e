"""Every report of a finished run."""

from __future__ import annotations

from pytest_llmdeploy.reports.github import write_github
from pytest_llmdeploy.reports.json_report import write_report
from pytest_llmdeploy.reports.result import RunResult


def write_reports(result: RunResult) -> None:
    """Write all reports; the terminal's comes with pytest's own summary."""
    write_report(result)
    write_github(result)
