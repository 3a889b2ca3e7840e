"""Every report of a finished run."""

from __future__ import annotations

from pytest_llmdeploy.reports.github import write_github
from pytest_llmdeploy.reports.html_report import write_html
from pytest_llmdeploy.reports.json_report import write_report
from pytest_llmdeploy.reports.result import RunResult


def write_reports(result: RunResult) -> list[str]:
    """Write all reports but the terminal's; return what could not be written, and why."""
    problems = []
    for write in (write_report, write_html, write_github):
        try:
            write(result)
        except OSError as error:
            problems.append(f"a report was not written: {error}")
    return problems
