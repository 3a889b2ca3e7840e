"""``report.html``: the run for people, in one file that asks nothing of a network or a script."""

from __future__ import annotations

from importlib.metadata import version

from pytest_llmdeploy.reports.html.canary_parts import canaries
from pytest_llmdeploy.reports.html.document import document
from pytest_llmdeploy.reports.html.gate_parts import gate_sections
from pytest_llmdeploy.reports.html.load_parts import profile, profile_name
from pytest_llmdeploy.reports.html.markup import tag
from pytest_llmdeploy.reports.html.release_parts import Section, releases
from pytest_llmdeploy.reports.html.run_parts import attention, banner, gates, run_facts, stages
from pytest_llmdeploy.reports.html.summary import read_summary
from pytest_llmdeploy.reports.html.svg import HATCH
from pytest_llmdeploy.reports.result import Event, RunResult


def page(result: RunResult) -> str:
    """Return the page; summaries of load items are read from the run's folder."""
    found = [
        *gate_sections(result),
        *releases(result.output),
        *canaries(result.output),
        *_loads(result),
    ]
    links = [tag("a", each.title, href=f"#{each.anchor}") for each in found]
    header = tag("header", tag("h1", f"llmdeploy run {result.run_id}"), banner(result))
    main = tag(
        "main",
        run_facts(result),
        tag("nav", *links, aria_label="Sections") if len(links) > 1 else "",
        stages(result),
        attention(result),
        gates(result),
        *(each.content for each in found),
    )
    about = (
        f"pytest-llmdeploy {version('pytest-llmdeploy')}; the same run for machines: report.json"
    )
    title = f"{result.verdict}: llmdeploy {result.run_id}"
    return document(title, HATCH, header, main, tag("footer", about))


def _loads(result: RunResult) -> list[Section]:
    """Return a section for each summary that load items name, which is read once."""
    named: dict[str, list[Event]] = {}
    for event in result.events:
        if event["stage"] != "load":
            continue
        name = event["detail"].get("summary")
        if isinstance(name, str):
            named.setdefault(name, []).append(event)
    found = []
    for number, (name, items) in enumerate(named.items(), 1):
        anchor, summary = f"load-{number}", read_summary(result.output, name)
        title = f"Load: {profile_name(summary, items)}"
        found.append(Section(anchor, title, profile(summary, items, anchor)))
    return found


def write_html(result: RunResult) -> None:
    """Write report.html into the output folder, whole or not at all."""
    path = result.output / "report.html"
    partial = path.with_suffix(".html.partial")
    partial.write_text(page(result), encoding="utf-8", errors="replace")
    partial.replace(path)
